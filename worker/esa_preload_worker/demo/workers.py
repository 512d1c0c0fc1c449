"""Two worker processes as an operator would start them, each with its log in a file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Self, cast
from urllib.parse import quote

from esa_preload.errors import EsaPreloadError
from esa_preload.urls import printable
from esa_preload_worker.sandbox import DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

NAMESPACE = "demo"
COMMAND = (sys.executable, "-P", "-m", "esa_preload_worker", "run")
"""``-P``: what lies in the caller's directory is not imported."""

START_S = 60.0
STOP_S = 8.0
"""Beyond the workers' own SHUTDOWN_GRACE; then they are killed."""

_LAST_LINES = 8
_POLL_S = 0.05

SETTINGS = {
    "NAMESPACE": NAMESPACE,
    "BATCH_QUIET": "1",  # the last, partial batch leaves soon
    "RATE_INITIAL": "40",  # faster than the sandbox allows, so that there is throttling to see
    "MAX_PENDING_PER_SITE": "100000000",
    "SHUTDOWN_GRACE": "5",
    "OPS_HOST": "127.0.0.1",
    "OPS_PORT": "0",
    "LOG_FORMAT": "json",
    "LOG_LEVEL": "info",
}


class WorkerDiedError(EsaPreloadError):
    """A worker ended before it was told to; ``hint`` holds the last lines of its log."""


def environment(inherited: Mapping[str, str], *, socket: Path, endpoint: str) -> dict[str, str]:
    """Return a worker's environment: what is *inherited*, but no setting, credential or proxy of the caller's."""
    kept = {
        name: value
        for name, value in inherited.items()
        if not name.startswith(("ESA_PRELOAD_", "ALIBABA_CLOUD_")) and not name.lower().endswith("_proxy")
    }
    return {
        **kept,
        **{f"ESA_PRELOAD_{name}": value for name, value in SETTINGS.items()},
        "ESA_PRELOAD_REDIS_URL": redis_url(socket),
        "ESA_PRELOAD_ENDPOINT": endpoint,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": DEFAULT_ACCESS_KEY_ID,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": DEFAULT_ACCESS_KEY_SECRET,
    }


def redis_url(socket: Path) -> str:
    """Return the address of a Valkey's socket."""
    return f"unix://{quote(os.fspath(socket))}"


class WorkerProcess:
    """
    One worker process.

    Attributes:
        name: ``worker-1``, for people.
        log_path: where its standard error goes.
        ops_url: of its ops port, once it has started.
    """

    def __init__(self, name: str, *, directory: Path, environ: Mapping[str, str]) -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self.ops_url = ""
        with self.log_path.open("wb") as log:
            # A session of its own: Ctrl-C reaches the demo alone, which then stops its workers in order.
            self._process = subprocess.Popen(  # noqa: S603 - ourselves
                COMMAND,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.name} pid={self.pid}>"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How it ended (minus the signal's number for one that ended it), or ``None`` while it runs."""
        return self._process.poll()

    def require_alive(self) -> None:
        """Raise ``WorkerDiedError`` if it has ended."""
        code = self.exit_code
        if code is None:
            return
        how = f"with exit code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"
        last = self.last_log_lines()
        raise WorkerDiedError(
            f"{self.name} (pid {self.pid}) ended {how} in the middle of its work",
            hint="\n  ".join([f"the last lines of {self.log_path}:", *last]) if last else "its log is empty",
        )

    def read_ops_url(self) -> bool:
        """Look into its log for the address of its ops port; returns whether it is known."""
        with self.log_path.open("rb") as log:
            for line in log:
                if b'"worker.started"' in line and line.endswith(b"\n"):
                    event = cast("dict[str, object]", json.loads(line))
                    self.ops_url = str(event["ops_url"])
        return bool(self.ops_url)

    def last_log_lines(self) -> list[str]:
        """Return the end of its log, safe for a terminal."""
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return [printable(line) for line in text.splitlines()[-_LAST_LINES:]]

    def terminate(self) -> None:
        """Ask it to stop, by its pid."""
        if self.exit_code is None:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self.exit_code is None:
            self._process.kill()
            self._process.wait()


class Workers:
    """A number of worker processes, for the length of an ``async with``; none outlives it."""

    def __init__(self, count: int, *, directory: Path, environ: Mapping[str, str]) -> None:
        self._count, self._directory, self._environ = count, directory, environ
        self.processes: list[WorkerProcess] = []

    async def __aenter__(self) -> Self:
        """
        Start them, and wait until each serves its metrics.

        Raises:
            WorkerDiedError: one ends at its start.
            EsaPreloadError: one takes too long.
        """
        try:
            for number in range(1, self._count + 1):
                self.processes.append(
                    WorkerProcess(f"worker-{number}", directory=self._directory, environ=self._environ)
                )
            await self._wait_started()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def metrics_urls(self) -> list[str]:
        """Where their metrics are."""
        return [f"{worker.ops_url}/metrics" for worker in self.processes]

    def require_alive(self) -> None:
        """Raise ``WorkerDiedError`` if one of them has ended."""
        for worker in self.processes:
            worker.require_alive()

    async def stop(self) -> Sequence[int | None]:
        """Stop them by SIGTERM, each by its pid, and kill what does not follow; returns their exit codes."""
        for worker in self.processes:
            worker.terminate()
        try:
            await self._wait_ended(time.monotonic() + STOP_S)
        finally:
            for worker in self.processes:
                worker.kill()
        return [worker.exit_code for worker in self.processes]

    async def _wait_ended(self, until: float) -> None:
        while any(worker.exit_code is None for worker in self.processes):
            if time.monotonic() > until:
                return
            await asyncio.sleep(_POLL_S)

    async def _wait_started(self) -> None:
        until = time.monotonic() + START_S
        while not all(worker.read_ops_url() for worker in self.processes):
            self.require_alive()
            if time.monotonic() > until:
                raise EsaPreloadError(f"the workers did not start within {START_S:.0f} s")
            await asyncio.sleep(_POLL_S)
