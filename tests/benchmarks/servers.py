"""The servers that a measure runs on: the packaged Valkey, and the Redis of the system if there is one."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chaos.machines import Machine
from esa_preload_worker.embedded import MALLOC, valkey_binary
from processes import environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

EVERYSEC, ALWAYS = "everysec", "always"
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One that runs."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """Return the processor time that its threads have used."""
        return sum(float(times[0]) for times in self._schedules()) / 1e9

    def waited_s(self) -> float:
        """Return for how long its main thread had work, and no processor."""
        return float(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9

    def _schedules(self) -> Iterator[list[str]]:
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            yield (thread / "schedstat").read_text().split()


def binaries() -> Iterator[tuple[str, str]]:
    """Yield name and program of each."""
    yield "Valkey 9", str(valkey_binary())
    if redis := shutil.which("redis-server"):
        yield "Redis 7", redis


@contextlib.asynccontextmanager
async def serving(binary: str, *, appendfsync: str = EVERYSEC) -> AsyncGenerator[Server]:
    """Run a server with its append-only file while inside."""
    with tempfile.TemporaryDirectory(prefix="esap-bench-") as directory:
        socket = Path(directory) / "s"
        settings = {
            "port": "0",
            "unixsocket": str(socket),
            "dir": directory,
            "save": "",
            "appendonly": "yes",
            "appendfsync": appendfsync,
        }
        command = [binary, *(part for name, value in settings.items() for part in (f"--{name}", value))]
        machine = Machine("server", command, env=environment(**MALLOC), log=Path(directory) / "log")
        try:
            await wait_until(socket.exists, timeout_s=_START_S)
            yield Server(url=f"unix://{socket}", pid=machine.pid)
        finally:
            await machine.kill()
