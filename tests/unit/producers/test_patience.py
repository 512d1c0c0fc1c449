"""Which errors are outages, and how long they are waited for."""

from __future__ import annotations

import asyncio

import pytest
from redis import exceptions

from esa_preload import EsaPreloadError, QueueUnavailableError, UnsupportedRecordError, patience
from esa_preload.outages import redis_errors


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pause for milliseconds."""
    monkeypatch.setattr(patience, "PAUSE_S", (0.001, 0.004))


@pytest.mark.parametrize(
    ("raised", "is_outage"),
    [
        (exceptions.ConnectionError("Error 111"), True),
        (exceptions.TimeoutError("Timeout reading"), True),
        (TimeoutError(), True),
        (ConnectionResetError("reset"), True),
        (exceptions.BusyLoadingError("loading the dataset in memory"), True),
        (exceptions.ReadOnlyError("You can't write against a read only replica."), True),
        (exceptions.MasterDownError("Link with MASTER is down"), True),  # type: ignore[no-untyped-call]  # redis-py
        (exceptions.ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (exceptions.ResponseError("BUSY Redis is busy running a script."), True),
        (exceptions.ResponseError("UNBLOCKED force unblock from blocking operation"), True),
        (exceptions.OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), False),
        (exceptions.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"), False),
        (exceptions.NoPermissionError("User u has no permissions"), False),
        (exceptions.AuthenticationError("invalid password"), False),
        (exceptions.ResponseError("ERR unknown command"), False),
        (exceptions.InvalidResponse("odd"), False),
    ],
)
def test_an_outage_is_what_passes_by_itself(raised: Exception, *, is_outage: bool) -> None:
    """Memory, disk, rights and passwords need somebody; each error names its request and says something."""
    with pytest.raises(QueueUnavailableError, match=r"^Redis .+: .+") as caught, redis_errors("r"):
        raise raised
    assert (caught.value.is_outage, caught.value.request_id) == (is_outage, "r")


def test_a_login_that_was_refused_while_connecting_is_no_outage() -> None:
    """redis-py wraps it as a connection that failed."""
    with pytest.raises(QueueUnavailableError, match="refused the login") as caught, redis_errors():
        raise exceptions.ConnectionError("x") from exceptions.AuthenticationError("Authentication required.")
    assert not caught.value.is_outage


def test_a_record_of_a_later_release_is_not_waited_for() -> None:
    """It is an error of its own."""
    with pytest.raises(UnsupportedRecordError), redis_errors():
        raise exceptions.ResponseError("UNSUPPORTED request r has version 2, this release reads 1")


class Act:
    """Raises *errors* one after the other, the last of them for ever; without any left it returns."""

    def __init__(self, *errors: EsaPreloadError, for_ever: bool = False) -> None:
        self.errors = list(errors)
        self.for_ever = for_ever
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors[0] if self.for_ever else self.errors.pop(0)
        return "done"


OUTAGE = QueueUnavailableError("away", is_outage=True)


async def test_an_outage_that_ends_in_time_is_not_noticed() -> None:
    """What comes in the end is returned."""
    act = Act(OUTAGE, OUTAGE, OUTAGE)
    assert await patience.patiently(act, patience_s=30) == "done"
    assert act.calls == 4


async def test_without_patience_nothing_is_tried_twice() -> None:
    """The first error is raised as it is."""
    act = Act(OUTAGE)
    with pytest.raises(QueueUnavailableError, match="away"):
        await patience.patiently(act, patience_s=0)
    assert act.calls == 1


@pytest.mark.parametrize("first", [(), (OUTAGE, OUTAGE)])
async def test_what_is_no_outage_ends_the_wait_at_once(first: tuple[EsaPreloadError, ...]) -> None:
    """Also when it comes after an outage."""
    act = Act(*first, QueueUnavailableError("full memory"))
    async with asyncio.timeout(5):
        with pytest.raises(QueueUnavailableError, match="full memory"):
            await patience.patiently(act, patience_s=60)


async def test_the_deadline_ends_a_call_that_hangs() -> None:
    """A later call that gets no answer does not outlast the deadline; the error is the last one that was seen."""
    act = Act(OUTAGE)
    hung = asyncio.Event()

    async def hangs_the_second_time() -> str:
        if act.calls:
            hung.set()
            await asyncio.get_running_loop().create_future()
        return await act()

    async with asyncio.timeout(5):
        with pytest.raises(QueueUnavailableError, match="away"):
            await patience.patiently(hangs_the_second_time, patience_s=0.5)
    assert hung.is_set()


async def test_the_deadline_ends_the_tries() -> None:
    """An outage that lasts is raised when the time is over, with what caused it."""
    error = QueueUnavailableError("away", is_outage=True)
    error.__cause__ = OSError("refused")
    act = Act(error, for_ever=True)
    with pytest.raises(QueueUnavailableError, match="away") as caught:
        await patience.patiently(act, patience_s=0.5)
    assert act.calls > 3
    assert isinstance(caught.value.__cause__, OSError)
