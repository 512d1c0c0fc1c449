"""Worker and API under systemd's protocol, with a socket in systemd's place: ready, alive, stopping."""

from __future__ import annotations

import signal
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import api_environment, started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

WATCHDOG_S = 0.4


class Systemd:
    """What systemd would hear."""

    def __init__(self, listener: socket.socket, address: str) -> None:
        self.address = address
        self.heard: list[str] = []
        self._listener = listener

    def hears(self, message: str) -> bool:
        """Take in what has come, and tell whether *message* is among all of it."""
        while True:
            try:
                self.heard.append(self._listener.recv(1_000).decode())
            except BlockingIOError:
                return message in self.heard

    def environment(self) -> dict[str, str]:
        """Return what it adds to the environment of a unit of Type=notify with WatchdogSec."""
        return {"NOTIFY_SOCKET": self.address, "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}


@pytest.fixture
def systemd() -> Iterator[Systemd]:
    """A socket in systemd's place."""
    with (
        tempfile.TemporaryDirectory(prefix="esap-") as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener,
    ):
        address = str(Path(directory) / "notify")
        listener.bind(address)
        listener.setblocking(False)
        yield Systemd(listener, address)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A simulated ESA."""
    async with Sandbox(SandboxConfig()) as running:
        yield running


@pytest.mark.parametrize("component", ["worker", "api"])
async def test_a_daemon_is_ready_alive_and_stopping(
    redis: Redis, redis_url: str, sandbox: Sandbox, systemd: Systemd, component: str
) -> None:
    """READY once it works, signs of life while it runs and none while it is frozen, STOPPING at SIGTERM."""
    del redis
    command, subcommand, env = {
        "worker": ("esa-preload-worker", "run", worker_environment(redis_url, sandbox.url)),
        "api": (
            "esa-preload",
            "serve",
            api_environment(redis_url),
        ),
    }[component]
    async with started(command, subcommand, env={**env, **systemd.environment()}) as daemon:
        await wait_until(lambda: systemd.hears("READY=1"))
        assert any("started" in line for line in daemon.lines)
        assert systemd.hears("STATUS=ready")
        systemd.heard.clear()
        await wait_until(lambda: systemd.hears("WATCHDOG=1"))

        daemon.process.send_signal(signal.SIGSTOP)
        await wait_until(lambda: _is_stopped(daemon.process.pid))
        systemd.hears("")
        systemd.heard.clear()
        with pytest.raises(AssertionError, match="not true within"):
            await wait_until(lambda: systemd.hears("WATCHDOG=1"), timeout_s=3 * WATCHDOG_S)

        daemon.process.send_signal(signal.SIGCONT)
        await wait_until(lambda: systemd.hears("WATCHDOG=1"))
        assert not systemd.hears("STOPPING=1")
        daemon.process.send_signal(signal.SIGTERM)
        assert await daemon.ended() == 0
    assert systemd.hears("STOPPING=1")


async def test_a_worker_that_cannot_sign_calls_is_not_ready_but_alive(
    redis: Redis, redis_url: str, sandbox: Sandbox, systemd: Systemd
) -> None:
    """Without credentials its start does not count as done, its status says why, and its watchdog is content."""
    del redis
    env = worker_environment(redis_url, sandbox.url, **systemd.environment())
    del env["ALIBABA_CLOUD_ACCESS_KEY_SECRET"]
    async with started("esa-preload-worker", "run", env=env):
        await wait_until(lambda: systemd.hears("STATUS=no usable credentials"))
        systemd.heard.clear()
        await wait_until(lambda: systemd.hears("WATCHDOG=1"))
        assert not systemd.hears("READY=1")


def _is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].startswith("T")
