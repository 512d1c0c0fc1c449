"""The processes of a run: workers, Valkey and the sandbox, each ended by its own id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
from redis import Redis

from chaos.options import WORKER_SETTINGS
from esa_preload_worker.embedded import ValkeyProcess
from processes import BIN, environment, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

START_S = 60.0


class Machine:
    """A command that runs as a process of its own, its output in a file."""

    def __init__(self, name: str, arguments: list[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log_path = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                [str(BIN / "esa-preload-worker"), *arguments],
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._is_frozen = False

    def __repr__(self) -> str:
        return f"<Machine {self.name} pid={self.pid}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended, or ``None`` while it runs."""
        return self._process.poll()

    def freeze(self) -> None:
        """Stop it where it stands."""
        self._process.send_signal(signal.SIGSTOP)
        self._is_frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        if self._is_frozen:
            self._is_frozen = False
            self._process.send_signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it at once."""
        if self.exit_code is None:
            self._process.kill()
        await asyncio.to_thread(self._process.wait)

    async def stop(self, timeout_s: float = 15.0) -> int | None:
        """End it in order; returns its exit code, or ``None`` when it had to be killed."""
        self.thaw()
        if self.exit_code is None:
            self._process.terminate()
        try:
            return await asyncio.to_thread(self._process.wait, timeout_s)
        except subprocess.TimeoutExpired:
            await self.kill()
            return None

    def ops_url(self) -> str:
        """Return where its metrics are, once it has said so."""
        started = next((line for line in self.lines() if '"worker.started"' in line), "")
        return str(json.loads(started)["ops_url"]) if started else ""

    def lines(self) -> list[str]:
        """Return what it has written."""
        return self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()


def start_worker(name: str, *, redis_url: str, endpoint: str, directory: Path) -> Machine:
    """Start one worker with the short settings of a run."""
    settings = {f"ESA_PRELOAD_{key}": value for key, value in WORKER_SETTINGS.items()}
    env = worker_environment(redis_url, endpoint, **settings)
    return Machine(name, ["run"], env=env, log=directory / f"{name}.log")


class Valkey:
    """A Valkey of the run's own, which can be restarted, killed and frozen."""

    def __init__(self, directory: Path, *, is_killed: bool) -> None:
        self._process = ValkeyProcess(directory, socket=directory / "valkey.sock")
        self._socket = directory / "valkey.sock"
        self._is_killed = is_killed
        self.pid = 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"unix://{self._socket}"

    async def start(self) -> None:
        """Start it; before it is killed, nothing may be answered that is not on disk."""
        await asyncio.to_thread(self._process.start, START_S)
        await asyncio.to_thread(self._settle)

    async def end(self) -> None:
        """End it, as the run has it: in order, or at once."""
        await asyncio.to_thread(self._process.kill if self._is_killed else self._process.stop)

    def freeze(self) -> None:
        """Stop it where it stands."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> None:
        """End it for good."""
        await asyncio.to_thread(self._process.kill)

    def _settle(self) -> None:
        with Redis(unix_socket_path=str(self._socket), socket_timeout=10) as raw:
            client = cast("Any", raw)
            if self._is_killed:
                client.config_set("appendfsync", "always")
            self.pid = int(client.info("server")["process_id"])


class SandboxProcess:
    """The sandbox in a process of its own, so that it outlives all that is broken; driven by its control routes."""

    def __init__(self, directory: Path) -> None:
        env = environment()
        self._machine = Machine("sandbox", ["sandbox", "--port", "0"], env=env, log=directory / "sandbox.log")
        self.url = ""

    async def __aenter__(self) -> Self:
        try:
            line = await wait_until(self._address, timeout_s=START_S)
        except BaseException:
            await self._machine.kill()
            raise
        self.url = line.partition("ESA_PRELOAD_ENDPOINT=")[2].split()[0]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._machine.stop()

    async def configure(self, **changes: Any) -> None:
        """Change its configuration."""
        async with (
            aiohttp.ClientSession() as http,
            http.put(f"{self.url}/_sandbox/config", data=json.dumps(changes)) as reply,
        ):
            assert reply.status == 200, await reply.text()

    async def read(self, name: str) -> Any:
        """Return one of its control documents."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{self.url}/_sandbox/{name}") as reply,
        ):
            assert reply.status == 200, await reply.text()
            return await reply.json()

    def _address(self) -> str:
        assert self._machine.exit_code is None, self._machine.lines()
        return next((line for line in self._machine.lines() if "ESA_PRELOAD_ENDPOINT=" in line), "")
