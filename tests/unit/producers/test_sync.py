"""The client without ``await``: whose thread does what, who may call, and what a fork leaves alone."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload import InvalidRequestError, QueueUnavailableError, RequestStatus
from esa_preload.sync import SyncPreloads
from esa_preload.testing import RecordingClient

if TYPE_CHECKING:
    from collections.abc import Iterator

SITE = 190007158391808
URL = "https://www.example.com/"

trace = contextvars.ContextVar[str]("trace", default="")


class Slow(RecordingClient):
    """Takes turns with itself, and tells who was there together."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = self.most = 0
        self.traces: list[str] = []

    async def status(self, request_id: str) -> RequestStatus:
        self.traces.append(trace.get())
        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.001)
        self.inside -= 1
        return RequestStatus(request_id=request_id, site_id=SITE, state="done")


def is_in_a_loop() -> bool:
    """Tell whether an event loop seems to run in this thread: what Django's database asks."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def test_urls_and_progress_run_in_the_caller_s_thread_and_in_no_event_loop() -> None:
    """An iterable may use what belongs to the thread, and to code without ``await``: a database's transaction."""
    seen: list[tuple[int, bool]] = []

    def look(_: object = None) -> None:
        seen.append((threading.get_ident(), is_in_a_loop()))

    def urls() -> Iterator[str]:
        for number in range(3):
            look()
            yield f"{URL}{number}"

    with SyncPreloads(RecordingClient) as client:
        receipt = client.enqueue(SITE, urls(), progress=look)
    assert receipt.accepted == 3
    assert seen == [(threading.get_ident(), False)] * 4


def test_what_an_iterable_raises_comes_out_as_it_is() -> None:
    """The client passes on what is not its own, and can be used after it."""

    def urls() -> Iterator[str]:
        yield URL
        raise KeyError("row")

    with SyncPreloads(RecordingClient) as client:
        with pytest.raises(KeyError, match="row"):
            client.enqueue(SITE, urls())
        assert client.enqueue(SITE, [URL]).accepted == 1


def test_threads_take_turns() -> None:
    """Twenty threads share a client: each gets its own answer, and never two are inside at once."""
    slow = Slow()
    with SyncPreloads(lambda: slow) as client, ThreadPoolExecutor(20) as pool:
        names = [f"r{number}" for number in range(100)]
        assert [status.request_id for status in pool.map(client.status, names)] == names
    assert slow.most == 1


def test_a_wait_does_not_hold_up_other_threads() -> None:
    """While one thread waits for a request, another enqueues, and ends the wait."""
    recording = RecordingClient()
    with SyncPreloads(lambda: recording) as client, ThreadPoolExecutor(1) as pool:
        request_id = client.enqueue(SITE, [URL]).request_id
        waiting = threading.Event()
        waiter = pool.submit(client.wait, request_id, timeout=20, progress=lambda _: waiting.set())
        assert waiting.wait(10)
        assert client.enqueue(SITE, [f"{URL}2"]).accepted == 1
        recording.finish(request_id)
        assert waiter.result(10).submitted == 1


def test_what_the_caller_has_set_is_seen_inside() -> None:
    """A context variable, such as the trace of a request, travels with each call."""
    slow = Slow()
    with SyncPreloads(lambda: slow) as client:
        for name in ("one", "two"):
            trace.set(name)
            client.status("r")
    assert slow.traces == ["one", "two"]


async def test_it_refuses_to_stop_a_running_event_loop() -> None:
    """Where an event loop runs, the client with ``await`` is named; nothing is left behind."""
    client = SyncPreloads(RecordingClient)
    with pytest.raises(InvalidRequestError, match="event loop") as caught:
        client.enqueue(SITE, [URL])
    assert "PreloadClient" in caught.value.hint
    with pytest.raises(InvalidRequestError, match="event loop"):
        client.close()


def test_a_call_from_within_a_call_is_refused() -> None:
    """An iterable that calls the client that reads it would wait for ever."""
    with SyncPreloads(RecordingClient) as client:

        def urls() -> Iterator[str]:
            client.sites()
            yield URL

        with pytest.raises(InvalidRequestError, match="at work in this thread"):
            client.enqueue(SITE, urls())


def test_a_closed_client_says_so() -> None:
    """Closing twice does nothing; a verb after it is refused."""
    client = SyncPreloads(RecordingClient)
    client.close()
    client.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        client.sites()


def test_errors_of_the_client_come_out() -> None:
    """They are the same as with ``await``, with what they carry."""
    recording = RecordingClient()
    recording.fail_next(QueueUnavailableError("away"))
    with SyncPreloads(lambda: recording) as client:
        with pytest.raises(QueueUnavailableError, match="away") as caught:
            client.enqueue(SITE, [URL], request_id="r")
        assert caught.value.request_id == "r"
        assert client.enqueue(SITE, [URL], request_id="r").accepted == 1


def test_after_a_fork_the_child_has_a_client_of_its_own() -> None:
    """Also when another thread's call was under way: the child's does not wait for it, and the parent's goes on."""
    clients: list[Slow] = []

    def make() -> Slow:
        clients.append(Slow())
        return clients[-1]

    with SyncPreloads(make) as client:
        assert client.status("parent").request_id == "parent"
        reads, writes = os.pipe()
        pid = os.fork()
        if not pid:
            _in_child(lambda: f"{client.status('child').request_id} {len(clients)}", writes)
        os.close(writes)
        with os.fdopen(reads) as pipe:
            assert pipe.read() == "child 2"
        os.waitpid(pid, 0)
        assert client.status("parent").request_id == "parent"
    assert len(clients) == 1


def _in_child(act: Any, writes: int) -> None:
    try:
        os.write(writes, str(act()).encode())
    except BaseException as exc:  # noqa: BLE001 - told to the parent, which compares
        os.write(writes, repr(exc).encode())
    finally:
        os._exit(0)
