"""What recovery is measured on: Valkey, the sandbox and two workers, all real processes, at the default settings."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from chaos.machines import Machine, SandboxProcess, Valkey, start_worker
from esa_preload import PreloadClient, QueueUnavailableError
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import as_text, command
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from esa_preload import RequestStatus

SITE = 101
BATCH = 100
LATENCY_S = 0.05
LIST_LAG_S = 4.0
"""Of the sandbox: within the default of what is assumed of ESA."""
KEYS = Keys("default")
CREATE_JOB = "CreateScheduledPreloadJob"
CREATE_PLANS = "CreateScheduledPreloadExecutions"
_LONG_S = 60.0


@dataclass(slots=True, kw_only=True)
class Stage:
    """
    The processes, and what a scenario asks of them.

    Attributes:
        settings: of workers started from now on, beside the defaults.
    """

    directory: Path
    valkey: Valkey
    sandbox: SandboxProcess
    client: PreloadClient
    workers: list[Machine] = field(default_factory=list[Machine])
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    _started: int = 0

    async def start_worker(self) -> Machine:
        """Start a worker and wait until it is at work."""
        name = f"worker-{self._started}"
        self._started += 1
        worker = start_worker(
            name,
            redis_url=self.valkey.url,
            endpoint=self.sandbox.url,
            directory=self.directory,
            settings={"LOG_LEVEL": "debug", **self.settings},
        )
        self.workers.append(worker)
        await wait_until(worker.ops_url, timeout_s=_LONG_S)
        return worker

    async def enqueue(self, urls: int = BATCH) -> str:
        """Enqueue so many URLs; full batches are due at once. Returns the request id."""
        stem = f"https://www.example.com/{time.monotonic_ns()}"
        receipt = await self.client.enqueue(SITE, [f"{stem}/{i}.js" for i in range(urls)])
        assert receipt.accepted == urls
        return receipt.request_id

    async def strike(self, kind: str, operation: str, delay_s: float) -> None:
        """Have the next call of *operation* go wrong."""
        fault = {"kind": kind, "operation": operation, "first": 1, "delay_s": delay_s}
        await self.sandbox.configure(faults=[fault])

    async def jobs(self) -> list[dict[str, Any]]:
        """Return the jobs that ESA has, or had."""
        return cast("list[dict[str, Any]]", await self.sandbox.read("jobs"))

    async def batch(self) -> dict[str, str]:
        """Return the record of the one batch in the ledger; empty when there is none."""
        redis = connect(self.valkey.url)
        try:
            ids = await command(redis, "ZRANGE", KEYS.leases, 0, -1)
            if not ids:
                return {}
            record = await command(redis, "HGETALL", KEYS.batch(as_text(ids[0])))
            return {as_text(name): as_text(value) for name, value in record.items()}
        finally:
            await redis.aclose()

    async def until_state(self, state: str) -> dict[str, str]:
        """Wait until the one batch is in *state*; returns its record."""

        async def look() -> dict[str, str]:
            record = await self.batch()
            return record if record.get("state") == state else {}

        return await wait_until_async(look, timeout_s=_LONG_S)

    async def holder(self) -> Machine:
        """Return the worker that holds the one batch."""

        async def look() -> Machine | None:
            for worker in self.workers:
                if worker.exit_code is None and await _in_flight(worker):
                    return worker
            return None

        found = await wait_until_async(look, timeout_s=_LONG_S)
        assert found is not None
        return found

    async def until_done(self, request_id: str) -> RequestStatus:
        """Wait until a request is done: every batch of it settled."""

        async def look() -> RequestStatus | None:
            with contextlib.suppress(QueueUnavailableError):
                status = await self.client.status(request_id)
                return status if status.state == "done" else None
            return None

        status = await wait_until_async(look, timeout_s=_LONG_S)
        assert status is not None
        return status

    async def until_more_submitted(self, request_id: str) -> None:
        """Wait until more of a request is submitted than is now."""
        before = (await self.client.status(request_id)).submitted

        async def look() -> bool:
            with contextlib.suppress(QueueUnavailableError):
                return (await self.client.status(request_id)).submitted > before
            return False

        await wait_until_async(look, timeout_s=_LONG_S)

    async def assert_planned_once(self, jobs_at_most: int = 1) -> None:
        """Make sure that of the jobs of each name one was planned, once."""
        plans: dict[str, list[int]] = {}
        for job in await self.jobs():
            plans.setdefault(job["name"], []).append(job["plans_made"])
        assert plans
        assert all(sum(made) == 1 and len(made) <= jobs_at_most for made in plans.values()), plans


def events(worker: Machine, name: str) -> list[dict[str, Any]]:
    """Return the log lines of event *name* of a worker."""
    lines = [cast("dict[str, Any]", json.loads(line)) for line in worker.lines() if line.startswith("{")]
    return [line for line in lines if line["event"] == name]


@contextlib.asynccontextmanager
async def staged(directory: Path, settings: Mapping[str, str] | None = None) -> AsyncGenerator[Stage]:
    """Start everything, two workers among it, and end it."""
    valkey = Valkey(directory, is_killed=False)
    await valkey.start()
    try:
        async with (
            SandboxProcess(directory, latency_s=LATENCY_S, list_lag_s=LIST_LAG_S) as sandbox,
            PreloadClient(valkey.url) as client,
        ):
            stage = Stage(
                directory=directory, valkey=valkey, sandbox=sandbox, client=client, settings=settings or {}
            )
            try:
                await asyncio.gather(stage.start_worker(), stage.start_worker())
                yield stage
            finally:
                for worker in stage.workers:
                    worker.thaw()
                    await worker.kill()
    finally:
        await valkey.stop()


async def _in_flight(worker: Machine) -> bool:
    async with aiohttp.ClientSession() as http, http.get(f"{worker.ops_url()}/metrics") as reply:
        text = await reply.text()
    line = next(line for line in text.splitlines() if line.startswith("esa_preload_in_flight_batches "))
    return float(line.rpartition(" ")[2]) > 0
