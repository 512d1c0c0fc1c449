"""What a URL costs from enqueue to settled with many sites and with many worker processes: real workers, an ESA that takes no time."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import slowlog
from benchmarks.calls import FAST, cpu_s, quick_esa, worker
from benchmarks.measures import urls_of
from benchmarks.page import Section
from benchmarks.quick_esa import CREATE_PLANS
from benchmarks.servers import serving
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload_worker.embedded import valkey_binary
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.calls import QuickEsa

BATCHES = 1_000
ROUNDS = 3
SETTINGS = {
    "RATE_INITIAL": str(FAST),
    "RATE_MAX": str(FAST),
    "SITE_CONCURRENCY": "256",
    "WAIT_AOF": "false",
    "LOG_LEVEL": "info",
}
_RUN_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """So many sites, each with as many full batches as make ``BATCHES`` in all, or one; and so many worker processes."""

    sites: int = 1
    workers: int = 1

    @property
    def batches_a_site(self) -> int:
        """How many each site has."""
        return max(1, BATCHES // self.sites)

    def __str__(self) -> str:
        return f"{self.sites:,} site{'s' * (self.sites > 1)}, {self.workers} worker{'s' * (self.workers > 1)}"


FIRST = Crowd()
CROWDS = (FIRST, Crowd(sites=100), Crowd(sites=10_000), Crowd(workers=4), Crowd(workers=16))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of a URL, in us: on the wall, enqueue and submission together; of the server's and of the workers' processors while it is submitted."""

    wall: float
    server: float
    workers: float
    slow: slowlog.Slow

    @property
    def cpu(self) -> float:
        """Of server and workers."""
        return self.server + self.workers


async def measure(crowds: Sequence[Crowd] = CROWDS, *, rounds: int = ROUNDS) -> Section:
    """Run each crowd in turn, time and again; ratios are to the first one of the same round."""
    costs: dict[Crowd, list[Cost]] = {crowd: [] for crowd in crowds}
    for _ in range(rounds):
        for crowd in crowds:
            costs[crowd].append(await _run(crowd))
    rows = [
        [
            str(crowd),
            f"{statistics.median(cost.wall for cost in found):.0f} us",
            _ratio([cost.wall / first.wall for cost, first in zip(found, costs[FIRST], strict=True)]),
            f"{statistics.median(cost.server for cost in found):.1f} us",
            _ratio([cost.server / first.server for cost, first in zip(found, costs[FIRST], strict=True)]),
            f"{statistics.median(cost.workers for cost in found):.0f} us",
            _ratio([cost.cpu / first.cpu for cost, first in zip(found, costs[FIRST], strict=True)]),
            str(max((cost.slow for cost in found), key=lambda slow: slow.ms)),
        ]
        for crowd, found in costs.items()
    ]
    return Section(
        name="crowds",
        columns=(
            "full batches of 100",
            "time a URL",
            "to the first",
            "server's CPU a URL",
            "to the first",
            "workers' CPU a URL",
            "both, to the first",
            "slowest script",
        ),
        rows=rows,
        note=(
            f"{rounds} rounds, in turns; {os.cpu_count()} processors, load of the machine at the end {os.getloadavg()[0]:.1f}."
        ),
        document=[
            {
                "what": str(crowd),
                "wall_us": [cost.wall for cost in found],
                "server_us": [cost.server for cost in found],
                "workers_us": [cost.workers for cost in found],
            }
            for crowd, found in costs.items()
        ],
    )


def _ratio(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f} x ({min(values):.2f} to {max(values):.2f})"


async def _run(crowd: Crowd) -> Cost:
    with tempfile.TemporaryDirectory(prefix="esap-crowd-") as name:
        async with quick_esa(Path(name)) as esa, serving(str(valkey_binary())) as server:
            redis = connect(server.url)
            enqueue_s = await _enqueue(server.url, crowd)
            if crowd.workers > 1:
                await _hold(server.url, crowd)
            await slowlog.watch(redis)
            directories = [Path(name) / str(number) for number in range(crowd.workers)]
            for directory in directories:
                directory.mkdir()
            machines = [worker(directory, server.url, esa.url, SETTINGS) for directory in directories]
            try:
                for machine in machines:
                    await wait_until(machine.ops_url, timeout_s=_RUN_S)
                if crowd.workers > 1:
                    await _release(server.url, crowd)
                marks: list[tuple[float, int, float, float]] = []
                for share in (0.25, 0.9):
                    at, done = await _until(esa, share * BATCHES)
                    marks.append((at, done, server.cpu_s(), sum(cpu_s(machine.pid) for machine in machines)))
                wall_s, batches, server_s, workers_s = (
                    after - before for before, after in zip(*marks, strict=True)
                )
                urls = batches * 100
                return Cost(
                    wall=1e6 * (enqueue_s + wall_s / urls),
                    server=1e6 * server_s / urls,
                    workers=1e6 * workers_s / urls,
                    slow=await slowlog.slowest(redis),
                )
            finally:
                for machine in machines:
                    await machine.kill()
                await redis.aclose()


async def _enqueue(redis_url: str, crowd: Crowd) -> float:
    """Enqueue everything; returns the seconds a URL."""
    urls = urls_of(crowd.batches_a_site * 100)
    begun = time.perf_counter()
    async with PreloadClient(redis_url) as client:
        for site in range(1, crowd.sites + 1):
            await client.enqueue(site, urls)
    return (time.perf_counter() - begun) / (crowd.sites * len(urls))


async def _hold(redis_url: str, crowd: Crowd) -> None:
    """Let nothing be taken while the workers start: what that costs is not measured."""
    async with PreloadClient(redis_url) as client:
        for site in range(1, crowd.sites + 1):
            await client.pause(site)


async def _release(redis_url: str, crowd: Crowd) -> None:
    async with PreloadClient(redis_url) as client:
        for site in range(1, crowd.sites + 1):
            await client.resume(site)


async def _until(esa: QuickEsa, batches: float) -> tuple[float, int]:
    """Wait until so many are planned; returns when, and how many are."""

    async def look() -> tuple[float, int] | None:
        counts = await esa.counts()
        done = int(counts["calls"].get(CREATE_PLANS.decode(), 0))
        return (float(counts["at"]), done) if done >= batches else None

    found = await wait_until_async(look, timeout_s=_RUN_S, every_s=0.05)
    assert found
    return found
