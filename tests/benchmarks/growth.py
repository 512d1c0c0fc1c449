"""What a URL costs while few, and while millions, are pending: real scripts on Valkey and on Redis, shallow beside deep, in turns."""

from __future__ import annotations

import contextlib
import os
import secrets
import statistics
import time
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import slowlog
from benchmarks.measures import SITE, URL_CHARS, url_of
from benchmarks.page import Section
from benchmarks.servers import binaries, serving
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import command
from esa_preload_worker.claims import Batch, Call, LostClaim, Settlement, Wait, Watch
from esa_preload_worker.ids import new_id
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS, WorkerLedger
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from redis.asyncio import Redis

    from benchmarks.servers import Server

KEYS = Keys("bench")
_REWRITE_S = 300.0
SHALLOW = 1_000
DEPTHS = (10_000, 100_000, 1_000_000)
DEPTHS_FULL = (*DEPTHS, 10_000_000)
TURNS = 12
TURN_URLS = 2_000
LIMITS = {
    "rate_initial": 1_000_000,
    "rate_max": 1_000_000,
    "site_concurrency": 1_000,
    "max_pending_per_site": 100_000_000,
}
_MB = 1 << 20


@dataclass(slots=True, kw_only=True)
class Stage:
    """A server, both sides of the ledger on it, and how many URLs it was given."""

    redis: Redis
    server: Server
    client: PreloadClient
    workers: WorkerLedger
    given: int = 0

    async def fill(self, pending: int, progress: Callable[[int], object] | None = None) -> None:
        """Enqueue until so many are pending."""
        more = pending - await self.pending()
        urls = (url_of(number) for number in range(self.given, self.given + more))
        await self.client.enqueue(SITE, urls, progress=progress)
        self.given += more

    async def pending(self) -> int:
        """Return how many URLs are."""
        return int(await command(self.redis, "HGET", KEYS.site(SITE), "pending") or 0)

    async def turn(self) -> Cost:
        """Enqueue some URLs and settle as many."""
        marks = [(time.perf_counter(), self.server.cpu_s())]
        await self.client.enqueue(SITE, (url_of(self.given + number) for number in range(TURN_URLS)))
        self.given += TURN_URLS
        marks.append((time.perf_counter(), self.server.cpu_s()))
        await settle(self.workers, TURN_URLS // 100)
        marks.append((time.perf_counter(), self.server.cpu_s()))
        (in_s, in_cpu_s), (out_s, out_cpu_s) = ((b[0] - a[0], b[1] - a[1]) for a, b in pairwise(marks))
        return Cost(wall_s=in_s + out_s, enqueue_cpu_s=in_cpu_s, settle_cpu_s=out_cpu_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Of one turn: time on the wall, and of the server's processor."""

    wall_s: float
    enqueue_cpu_s: float
    settle_cpu_s: float

    @property
    def cpu_s(self) -> float:
        """Of the server, in all."""
        return self.enqueue_cpu_s + self.settle_cpu_s


async def settle(ledger: WorkerLedger, batches: int) -> None:
    """Take so many batches to their end as a worker does, but for the calls of ESA."""
    taken: Batch | Wait | None = None
    settled = 0
    while settled < batches:
        if not isinstance(taken, Batch):
            taken = await ledger.take(**_claim())
            continue
        job_id = new_id()
        created = Call(operation=CREATE_JOB, sent_ms=taken.now_ms, outcome="ok")
        recorded = await ledger.record_job(
            taken, job_id=job_id, job={"job_id": job_id}, plan_follows=True, calls=[created]
        )
        assert not isinstance(recorded, LostClaim)
        watch = Watch(job_id=job_id, plan_id=job_id, starts_ms=taken.now_ms, done_ms=taken.now_ms + 3_600_000)
        planned = Call(operation=CREATE_PLANS, sent_ms=recorded.sent_ms, outcome="ok")
        end = Settlement(
            what="end",
            outcome="submitted",
            verdict="submitted",
            site_ok=True,
            planned=True,
            watch=watch,
            calls=(planned,),
        )
        settled += 1
        if settled < batches:
            _, taken = await ledger.settle_and_take(taken, end, children=(), roll=0.5, **_claim())
        else:
            await ledger.settle(taken, end, children=(), roll=0.5)


def _claim() -> dict[str, str]:
    return {"token": secrets.token_hex(8), "pump": secrets.token_hex(6), "new_batch_id": new_id()}


@contextlib.asynccontextmanager
async def stage(binary: str) -> AsyncGenerator[Stage]:
    """Run a server while inside."""
    async with serving(binary) as server:
        redis = connect(server.url)
        ledger = WorkerLedger(redis, KEYS)
        await ledger.publish(LIMITS)
        async with PreloadClient(redis, namespace=KEYS.namespace) as client:
            yield Stage(redis=redis, server=server, client=client, workers=ledger)
        await redis.aclose()


@dataclass(slots=True)
class Filling:
    """How fast a long enqueue went on: URLs/s of each tenth, and the memory of this process before and after."""

    urls: int
    began_mb: float = field(default_factory=lambda: resident_mb(os.getpid()))
    times: list[float] = field(default_factory=lambda: [time.perf_counter()])

    def __call__(self, handled: int) -> None:
        """Note the time at each tenth."""
        while handled * 10 >= len(self.times) * self.urls:
            self.times.append(time.perf_counter())

    @property
    def rates(self) -> list[float]:
        """URLs/s of each tenth."""
        return [self.urls / 10 / (b - a) for a, b in pairwise(self.times)]


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


async def measure(depths: Sequence[int] = DEPTHS) -> Section:
    """Measure at each depth, on each server."""
    rows: list[list[str]] = []
    documents: list[dict[str, Any]] = []
    fillings: list[str] = []
    for name, binary in binaries():
        async with stage(binary) as shallow, stage(binary) as deep:
            await shallow.fill(SHALLOW)
            for depth in depths:
                filling = Filling(depth - await deep.pending())
                waited_s = deep.server.waited_s()
                await slowlog.watch(deep.redis)
                await deep.fill(depth, filling)
                held = await command(deep.redis, "INFO", "memory")
                at_fill = await slowlog.slowest(deep.redis)
                waited = (deep.server.waited_s() - waited_s) / (filling.times[-1] - filling.times[0])
                fillings.append(
                    f"{name} to {depth:,} at {filling.rates[0]:,.0f} to {filling.rates[-1]:,.0f} URLs/s, "
                    f"producer {filling.began_mb:.0f} to {resident_mb(os.getpid()):.0f} MB, "
                    f"the server without a processor for {waited:.0%} of the time"
                )
                await _rewritten(deep.redis)
                beside = await _in_turns(shallow, deep)
                rows.append(
                    [
                        name,
                        f"{depth:,}",
                        *_ratios(beside),
                        f"{statistics.median(b.cpu_s for _, b in beside) / TURN_URLS * 1e6:.1f} us",
                        f"{int(held['used_memory_dataset']) / depth:.0f} bytes",
                        str(at_fill),
                        str(await slowlog.slowest(deep.redis)),
                    ]
                )
                documents.append(
                    {
                        "server": name,
                        "depth": depth,
                        "cpu_ratios": [b.cpu_s / a.cpu_s for a, b in beside],
                        "wall_ratios": [b.wall_s / a.wall_s for a, b in beside],
                        "rates": filling.rates,
                        "waited": waited,
                    }
                )
    return Section(
        name="growth",
        columns=(
            "server",
            "pending",
            "time a URL, to 1,000 pending",
            "spread",
            "its CPU a URL, to 1,000",
            "enqueue",
            "settle",
            "its CPU a URL",
            "memory a URL",
            "slowest while it fills",
            "slowest while it flows",
        ),
        rows=rows,
        note=(
            f"{TURNS} turns of {TURN_URLS:,} URLs of {URL_CHARS} bytes each, enqueued and settled, without ESA's calls; load of the machine at the end "
            f"{os.getloadavg()[0]:.1f}. Filling, first and last tenth: {'; '.join(fillings)}."
        ),
        document=documents,
    )


async def _rewritten(redis: Redis) -> None:
    """Wait until the server has written its append-only file anew: until then each page that it touches is copied."""

    async def at_rest() -> bool:
        told: dict[str, Any] = await command(redis, "INFO", "persistence")
        return not (told["aof_rewrite_in_progress"] or told["aof_rewrite_scheduled"])

    await wait_until_async(at_rest, timeout_s=_REWRITE_S, every_s=0.5)


async def _in_turns(shallow: Stage, deep: Stage) -> list[tuple[Cost, Cost]]:
    await shallow.turn()
    await deep.turn()
    await slowlog.watch(deep.redis)
    costs = [(await shallow.turn(), await deep.turn()) for _ in range(TURNS)]
    for place in (1, 2, 3):  # what people ask: about URLs in the middle, and about all sites
        await deep.client.explain(site_id=SITE, url=url_of(deep.given - place * await deep.pending() // 4))
    await deep.client.sites()
    return costs


def _ratios(beside: Sequence[tuple[Cost, Cost]]) -> list[str]:
    def of(cost: Callable[[Cost], float]) -> list[float]:
        return [cost(deep) / cost(shallow) for shallow, deep in beside]

    wall = of(lambda cost: cost.wall_s)
    return [
        f"{statistics.median(wall):.2f} x",
        f"{min(wall):.2f} to {max(wall):.2f}",
        f"{statistics.median(of(lambda cost: cost.cpu_s)):.2f} x",
        f"{statistics.median(of(lambda cost: cost.enqueue_cpu_s)):.2f} x",
        f"{statistics.median(of(lambda cost: cost.settle_cpu_s)):.2f} x",
    ]
