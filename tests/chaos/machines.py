"""The processes of a run: workers, producers, Valkey and the sandbox, each ended by its own id."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import aiohttp
from redis import Redis

from chaos.esa import ANNOUNCED
from chaos.options import WORKER_SETTINGS
from esa_preload_worker.embedded import ValkeyProcess
from processes import BIN, environment, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

START_S = 60.0
_WORKER = (str(BIN / "esa-preload-worker"),)
_TESTS = str(Path(__file__).resolve().parents[1])


class Machine:
    """A command that runs as a process of its own, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log_path = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                command,
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

    def wait(self, timeout_s: float) -> int:
        """Wait for its end; returns its exit code."""
        return self._process.wait(timeout_s)

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


def start_worker(
    name: str,
    *,
    redis_url: str,
    endpoint: str,
    directory: Path,
    settings: Mapping[str, str] = WORKER_SETTINGS,
) -> Machine:
    """Start one worker, with the short settings of a run unless others are given."""
    variables = {f"ESA_PRELOAD_{key}": value for key, value in settings.items()}
    env = worker_environment(redis_url, endpoint, **variables)
    return Machine(name, [*_WORKER, "run"], env=env, log=directory / f"{name}.log")


def start_producer(name: str, *, order: Path, record: Path, directory: Path) -> Machine:
    """Start a producer that follows *order* and notes in *record* what it was told."""
    command = [sys.executable, "-m", "chaos.producers", str(order), str(record)]
    return Machine(name, command, env=_environment(), log=directory / f"{name}.log")


async def check_ledger(*, redis_url: str, endpoint: str, directory: Path) -> list[str]:
    """Have the installed command verify the ledger; returns what it says when that is not that all is well."""
    env = worker_environment(redis_url, endpoint)
    machine = Machine("check", [*_WORKER, "check", "--ledger"], env=env, log=directory / "check.log")
    code = await asyncio.to_thread(machine.wait, START_S)
    return [f"check --ledger ends with {code}: {' / '.join(machine.lines())}"] if code else []


def _environment() -> dict[str, str]:
    known = os.environ.get("PYTHONPATH", "")
    return environment(PYTHONPATH=os.pathsep.join(filter(None, (_TESTS, known))))


class Valkey:
    """
    A Valkey of the run's own, which can be restarted, killed and frozen.

    Args:
        is_killed: it may be killed, so nothing may be answered that is not on disk: ``appendfsync always``.
    """

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
        """Start it."""
        await asyncio.to_thread(self._process.start, START_S)
        await asyncio.to_thread(self._settle)

    async def end(self, *, at_once: bool) -> None:
        """End it: in order, or by SIGKILL."""
        await asyncio.to_thread(self._process.kill if at_once else self._process.stop)

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
            client.config_set("appendfsync", "always" if self._is_killed else "everysec")
            self.pid = int(client.info("server")["process_id"])


class SandboxProcess:
    """
    The sandbox in a process of its own, driven by its control routes; what it committed outlives it.

    Attributes:
        url: where it is, in all its lives.
    """

    def __init__(self, directory: Path, *, seed: int = 0, **config: Any) -> None:
        self._directory = directory
        self._seed = seed
        self._config = config
        self._machine: Machine | None = None
        self._lives = 0
        self._calls: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self.url = ""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.thaw()
        await self._life.kill()

    @property
    def pid(self) -> int:
        """The process id of this life."""
        return self._life.pid

    @property
    def exit_code(self) -> int | None:
        """How this life ended, or ``None`` while it lasts."""
        return self._life.exit_code

    async def start(self) -> None:
        """Start it, or start it again, on the same port and with all that it had committed."""
        self._lives += 1
        files = {name: str(self._directory / f"sandbox.{name}") for name in ("config", "journal")}
        self._write_config()
        port = self.url.rpartition(":")[2] or "0"
        command = [sys.executable, "-m", "chaos.esa", "--port", port, "--seed", str(self._seed + self._lives)]
        for name, path in files.items():
            command += [f"--{name}", path]
        log = self._directory / f"sandbox.{self._lives}.log"
        self._machine = machine = Machine("sandbox", command, env=_environment(), log=log)

        def announced() -> str:
            assert machine.exit_code is None, machine.lines()
            return next((line for line in machine.lines() if line.startswith(ANNOUNCED)), "")

        try:
            line = await wait_until(announced, timeout_s=START_S)
        except BaseException:
            await machine.kill()
            raise
        self.url = line.removeprefix(ANNOUNCED)

    async def end(self, *, at_once: bool) -> None:
        """End it: in order, or by SIGKILL; its counts are read before."""
        await self._keep_counts()
        await self.kill() if at_once else await self._life.stop()

    async def kill(self) -> None:
        """End it at once, frozen or not; what it counted since it was asked last is not known."""
        await self._life.kill()

    async def freeze(self, *, forever: bool = False) -> None:
        """Stop it where it stands; its counts are read before if it is to be killed then."""
        if forever:
            await self._keep_counts()
        self._life.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        self._life.thaw()

    async def configure(self, **changes: Any) -> None:
        """Change its configuration, in this life and those to come."""
        self._config |= changes
        self._write_config()
        async with (
            aiohttp.ClientSession() as http,
            http.put(f"{self.url}/_sandbox/config", data=json.dumps(changes)) as reply,
        ):
            assert reply.status == 200, await reply.text()

    async def read(self, name: str) -> Any:
        """Return one of its control documents; counts of calls and faults are those of this life."""
        timeout = aiohttp.ClientTimeout(total=60)
        async with (
            aiohttp.ClientSession(timeout=timeout) as http,
            http.get(f"{self.url}/_sandbox/{name}") as reply,
        ):
            assert reply.status == 200, await reply.text()
            return await reply.json()

    async def counts(self) -> tuple[int, dict[str, int]]:
        """Return the calls of all its lives, and its faults by kind."""
        calls, faults = await self._counts()
        return (self._calls + calls).total(), dict(self._faults + faults)

    @property
    def _life(self) -> Machine:
        assert self._machine is not None
        return self._machine

    def _write_config(self) -> None:
        (self._directory / "sandbox.config").write_text(json.dumps(self._config))

    async def _keep_counts(self) -> None:
        calls, faults = await self._counts()
        self._calls += calls
        self._faults += faults

    async def _counts(self) -> tuple[Counter[str], Counter[str]]:
        stats = cast("dict[str, Any]", await self.read("stats"))
        calls = Counter({operation: sum(codes.values()) for operation, codes in stats["calls"].items()})
        return calls, Counter(stats["faults"])
