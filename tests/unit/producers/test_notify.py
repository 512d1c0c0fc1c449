"""What is told to systemd, and when nothing is."""

from __future__ import annotations

import asyncio
import os
import socket
import tempfile
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esa_preload.cancellation import end_tasks
from esa_preload.notify import Notifier
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator


@contextmanager
def systemd(address: str) -> Generator[socket.socket]:
    """Listen where systemd would; an address that begins with a zero is abstract."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.setblocking(False)
        yield listener


def received(listener: socket.socket) -> list[str]:
    """Return what has come in."""
    found: list[str] = []
    while True:
        try:
            found.append(listener.recv(1_000).decode())
        except BlockingIOError:
            return found


@pytest.fixture
def address() -> Iterator[str]:
    """A short path: the name of a socket has room for 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="esap-") as directory:
        yield str(Path(directory) / "notify")


@asynccontextmanager
async def reporting(
    notifier: Notifier, *, alive: Callable[[], str] = str, ready: Callable[[], str] = str
) -> AsyncGenerator[None]:
    """Report while inside."""
    task = asyncio.create_task(notifier.report(why_not_alive=alive, why_not_ready=ready))
    yield
    await end_tasks(task)


def test_a_state_reaches_a_socket_by_its_path_and_by_an_abstract_name(address: str) -> None:
    """Both forms of ``NOTIFY_SOCKET`` are understood."""
    abstract = f"esap-{os.getpid()}-notify"
    for name, bound in ((address, address), (f"@{abstract}", f"\0{abstract}")):
        with systemd(bound) as listener:
            Notifier.of({"NOTIFY_SOCKET": name}).send("STOPPING=1")
            assert received(listener) == ["STOPPING=1"]


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "@esap-nobody", "x" * 200])
def test_nobody_who_listens_is_no_failure(name: str) -> None:
    """Not under systemd, or under one that is gone, a worker runs on."""
    Notifier.of({"NOTIFY_SOCKET": name}).send("READY=1")


def test_a_socket_that_is_full_does_not_hold_up(address: str) -> None:
    """systemd that reads nothing costs a message, not the loop."""
    with systemd(address) as listener:
        notifier = Notifier.of({"NOTIFY_SOCKET": address})
        for _ in range(10_000):
            notifier.send("WATCHDOG=1")
        assert 0 < len(received(listener)) < 10_000


@pytest.mark.parametrize(
    ("environ", "watchdog_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
    ],
)
def test_the_watchdog_is_the_one_asked_of_this_process(
    environ: dict[str, str], watchdog_s: float | None
) -> None:
    """A parent's watchdog, inherited with its environment, is not ours."""
    assert Notifier.of(environ).watchdog_s == watchdog_s


async def test_ready_is_said_once_and_each_status_when_it_changes(address: str) -> None:
    """Not ready before it is; then once, however often that comes and goes."""
    reason = "no poll of the queue"
    with systemd(address) as listener:
        seen: list[str] = []

        def told(message: str) -> bool:
            seen.extend(received(listener))
            return seen.count(message) > 0

        notifier = Notifier(address=address, watchdog_s=0.02)
        async with reporting(notifier, ready=lambda: reason):
            await wait_until(lambda: told(f"STATUS={reason}") and told("WATCHDOG=1"))
            assert not told("READY=1")
            reason = ""
            await wait_until(lambda: told("STATUS=ready"))
            reason = "redis unavailable: ConnectionError"
            await wait_until(lambda: told(f"STATUS={reason}"))
            seen.remove("STATUS=ready")
            reason = ""
            await wait_until(lambda: told("STATUS=ready"))
    assert [message for message in seen if message == "READY=1"] == ["READY=1"]


async def test_no_sign_of_life_without_progress(address: str) -> None:
    """While the loops do not tick, the loop that reports turns on and says nothing; it says so again when they do."""
    reason = "no progress for 31 s"
    looks = 0

    def alive() -> str:
        nonlocal looks
        looks += 1
        return reason

    with systemd(address) as listener:
        async with reporting(Notifier(address=address, watchdog_s=0.02), alive=alive):
            await wait_until(lambda: looks > 10)
            assert "WATCHDOG=1" not in received(listener)
            reason = ""
            await wait_until(lambda: "WATCHDOG=1" in received(listener))
