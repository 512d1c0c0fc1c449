"""A worker's insides, its ledger and the sandbox on one clock, which only waiting moves."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from esa_preload_worker.pump import Pump
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from esa_preload_worker.submit import Submitter
from esa_preload_worker.watcher import Watcher
from integration.worker.rig import SITE, Rig, rig

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from esa_preload.model import RequestStatus

LOOPS = 4


@dataclass
class VirtualRig:
    """A worker's insides, its ledger and the sandbox on one clock, which waiting moves on."""

    rig: Rig
    clock: Clock

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.now_s += seconds
        self.rig.ledger.now_ms = self.rig.reader.now_ms = round(self.clock.now_s * 1000)

    async def sleep(self, seconds: float) -> None:
        """Let time pass, and the others go on."""
        self.advance(seconds)
        await asyncio.sleep(0)

    async def turn(self) -> None:
        """Take and submit what is due, look at the jobs that are due, and let a second pass."""
        await asyncio.gather(*(self.rig.pump.run() for _ in range(LOOPS)))
        await self.look()
        self.advance(1)

    async def look(self) -> None:
        """Visit the jobs that are due, as fast as that may be."""
        while True:
            await self.rig.watcher.step()
            if self.rig.watcher.pause_s >= 0.5:
                return
            self.advance(self.rig.watcher.pause_s)

    async def status(self, request_id: str) -> RequestStatus:
        """Return the counts of a request."""
        return await self.rig.reader.status(request_id)

    def calls(self, operation: str, code: str = "") -> int:
        """Return how many calls of an operation came to *code*, or how many there were."""
        codes: dict[str, int] = self.rig.sandbox.stats()["calls"].get(operation, {})
        return codes.get(code, 0) if code else sum(codes.values())

    def jobs(self, *, foreign: bool = False) -> list[dict[str, Any]]:
        """Return the jobs that were not deleted."""
        return [
            job for job in self.rig.sandbox.jobs() if job["is_foreign"] == foreign and not job["is_deleted"]
        ]


@dataclass
class Clock:
    """The one clock."""

    now_s: float = field(default_factory=time.time)

    def __call__(self) -> float:
        return self.now_s


@asynccontextmanager
async def virtual_rig(
    redis: Redis,
    redis_url: str,
    config: SandboxConfig | None = None,
    *,
    has_shelf: bool = False,
    **changes: object,
) -> AsyncGenerator[VirtualRig]:
    """Build a worker and a sandbox on one virtual clock; *config* is of the sandbox, *changes* of the settings."""
    clock = Clock()
    config = replace(config or SandboxConfig(), sites={SITE: ("example.com",)}, verify_signatures=False)
    values = {
        "lease": 600,
        "call_timeout": 10,
        "list_lag": 0.05,
        "job_retention": 0.05,
        "plan_interval": 10,
    } | changes
    async with (
        Sandbox(config, clock=clock) as sandbox,
        rig(redis, redis_url, sandbox, has_shelf=has_shelf, **values) as built,
    ):
        virtual = VirtualRig(built, clock)
        virtual.advance(0)
        parts: dict[str, Any] = {"ledger": built.ledger, "metrics": built.metrics, "sleep": virtual.sleep}
        submitter = Submitter(
            ledger=built.ledger,
            esa=built.between,
            leases=built.leases,
            settings=built.settings,
            lists=built.lists,
            sleep=virtual.sleep,
        )
        built.pump = Pump(submitter=submitter, leases=built.leases, **parts)
        built.watcher = Watcher(
            esa=built.between, settings=built.settings, lists=built.lists, clock=clock, **parts
        )
        yield virtual
