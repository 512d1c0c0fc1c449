"""Real workers at a limit that falls and rises again: how much of it they use, and what share of their calls is refused for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.page import Section
from chaos.machines import Machine, SandboxProcess, Valkey, start_worker
from esa_preload import PreloadClient
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

CREATE_JOB = "CreateScheduledPreloadJob"
WORKERS = 4
SITES = tuple(range(101, 109))
FAST, SLOW, BURST = 20, 8, 10
LATENCY_S, JITTER_S = 0.05, 0.1
STEPS = (
    (FAST, 160.0, "from nothing known"),
    (SLOW, 100.0, "after the fall"),
    (FAST, 160.0, "after the rise"),
)
NEW_S = 40.0
"""With new workers."""
SETTINGS = {"BATCH_MAX_URLS": "1", "LOG_LEVEL": "info"}
"""The defaults, but for batches of one URL, so that a backlog of calls is soon made."""
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """
    What came of some seconds at one limit.

    Attributes:
        rate: calls/s of the limit; ``learnt``: calls/s that the pace allowed at the end.
        accepted: Creates; ``refused``: Creates too, each for the rate.
    """

    name: str
    rate: float
    seconds: float
    accepted: int
    refused: int
    learnt: float

    @property
    def used(self) -> float:
        """The share of what flowed into the bucket, what it held at the start taken off."""
        return (self.accepted - BURST) / (self.rate * self.seconds)

    @property
    def throttled(self) -> float:
        """The share of the calls."""
        return self.refused / max(1, self.accepted + self.refused)


@dataclass(slots=True, kw_only=True)
class Stage:
    """Valkey, the sandbox and the workers, each a process."""

    directory: Path
    valkey: Valkey
    sandbox: SandboxProcess
    client: PreloadClient
    workers: list[Machine] = field(default_factory=list[Machine])
    _started: int = 0

    async def start_workers(self) -> None:
        """Start all workers, and wait until each is at work."""
        for _ in range(WORKERS):
            self._started += 1
            worker = start_worker(
                f"worker-{self._started}",
                redis_url=self.valkey.url,
                endpoint=self.sandbox.url,
                directory=self.directory,
                settings=SETTINGS,
            )
            self.workers.append(worker)
        for worker in self.workers:
            await wait_until(worker.ops_url, timeout_s=_START_S)

    async def restart_workers(self) -> None:
        """End all workers in order, and start as many others."""
        assert set(await asyncio.gather(*(worker.stop() for worker in self.workers))) == {0}
        self.workers.clear()
        await self.start_workers()

    async def enqueue(self, calls: int) -> None:
        """Have so many Creates to make, in turns of the sites."""
        for site in SITES:
            urls = [f"https://www.example.com/{time.monotonic_ns()}/{i}" for i in range(calls // len(SITES))]
            await self.client.enqueue(site, urls)

    async def limit(self, rate: float) -> None:
        """Let in *rate* calls/s of each operation from now on."""
        await self.sandbox.configure(limits={"*": {"rate_per_s": rate, "burst": BURST}})

    async def learnt(self) -> float:
        """Return the pace of Create, calls/s."""
        return next((each.rate for each in await self.client.limits() if each.operation == CREATE_JOB), 0.0)

    async def phase(self, name: str, rate: float, seconds: float) -> Phase:
        """Let some time pass, and count."""
        begun, before = time.monotonic(), await self._counts()
        await asyncio.sleep(seconds)
        after = await self._counts()
        assert any(site.pending for site in await self.client.sites()), "the backlog ran out"
        return Phase(
            name=name,
            rate=rate,
            seconds=time.monotonic() - begun,
            accepted=after[0] - before[0],
            refused=after[1] - before[1],
            learnt=await self.learnt(),
        )

    async def _counts(self) -> tuple[int, int]:
        stats = cast("dict[str, Any]", await self.sandbox.read("stats"))
        codes = cast("dict[str, int]", stats["calls"].get(CREATE_JOB, {}))
        return codes.get("OK", 0), sum(count for code, count in codes.items() if code != "OK")


@contextlib.asynccontextmanager
async def staged(directory: Path) -> AsyncGenerator[Stage]:
    """Start everything but the workers, and end it all."""
    valkey = Valkey(directory, is_killed=False)
    await valkey.start()
    limits = {"*": {"rate_per_s": FAST, "burst": BURST}}
    try:
        async with (
            SandboxProcess(directory, latency_s=LATENCY_S, jitter_s=JITTER_S, limits=limits) as sandbox,
            PreloadClient(valkey.url) as client,
        ):
            stage = Stage(directory=directory, valkey=valkey, sandbox=sandbox, client=client)
            try:
                yield stage
            finally:
                for worker in stage.workers:
                    await worker.kill()
    finally:
        await valkey.stop()


async def phases(stage: Stage) -> list[Phase]:
    """Run the workers at the fast limit, the slow one, the fast one again, and new workers at that."""
    await stage.start_workers()
    await stage.enqueue(round(1.2 * (FAST * NEW_S + sum(rate * seconds for rate, seconds, _ in STEPS))))
    found: list[Phase] = []
    for rate, seconds, name in STEPS:
        if found:
            await stage.limit(rate)
        found.append(await stage.phase(name, rate, seconds))
    await stage.restart_workers()
    await stage.limit(FAST)
    found.append(await stage.phase("all workers are new", FAST, NEW_S))
    return found


async def measure() -> Section:
    """Run the phases."""
    with tempfile.TemporaryDirectory(prefix="esap-limits-") as directory:
        async with staged(Path(directory)) as stage:
            found = await phases(stage)
    in_all = found[: len(STEPS)]
    offered = sum(phase.rate * phase.seconds for phase in in_all)
    accepted, refused = sum(phase.accepted for phase in in_all), sum(phase.refused for phase in in_all)
    rows = [
        *(
            (
                f"{phase.rate:.0f} calls/s, {phase.name}",
                f"{phase.seconds:.0f} s",
                f"{phase.used:.1%}",
                f"{phase.throttled:.1%}",
                f"{phase.learnt:.1f} calls/s",
            )
            for phase in found
        ),
        (
            f"{FAST} - {SLOW} - {FAST} in all",
            f"{sum(phase.seconds for phase in in_all):.0f} s",
            f"{(accepted - len(in_all) * BURST) / offered:.1%}",
            f"{refused / (accepted + refused):.1%}",
            "",
        ),
    ]
    return Section(
        name="limits",
        columns=("limit of each operation", "for", "used", "refused", "pace at the end"),
        rows=rows,
        note=(
            f"Creates; 16 slots a worker, load of the machine at the end {os.getloadavg()[0]:.1f}. "
            "What the bucket held when a phase began is taken off."
        ),
        document=[[phase.name, phase.rate, phase.seconds, phase.accepted, phase.refused] for phase in found],
    )
