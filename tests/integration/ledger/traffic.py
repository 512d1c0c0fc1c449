"""Sites with traffic in virtual time: the real scripts at a fixed pace, an ESA that takes everything after a while."""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from esa_preload_worker.claims import Batch, Wait
from integration.ledger.driver import START_MS, SUBMITTED, LedgerDriver
from integration.ledger.outcomes import call_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

CALLS_S = 5
LATENCY_MS = 300
LARGE, SMALL = 1, 2
CHUNK = 1_000
QUIET_MS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallSite:
    """What a small site waited for, from the moment it was due: calls for the other site, and seconds."""

    calls: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trickle:
    """What became of one URL a second: jobs used, and the age of the URLs when they were sent, in seconds."""

    jobs: int
    max_age_s: float
    mean_age_s: float


def url_of(number: int) -> str:
    """Return a URL."""
    return f"https://a.example/{number}"


async def start(redis: Redis) -> LedgerDriver:
    """Return a ledger with the default batches, and ESA's limit known."""
    driver = LedgerDriver(redis)
    await driver.workers.publish({"rate_initial": CALLS_S, "rate_max": CALLS_S})
    return driver


async def small_beside_large(redis: Redis, *, large: int, small: int, after_calls: int) -> list[SmallSite]:
    """
    Enqueue *small* URLs for a site each time that another one, with *large* URLs, had *after_calls* more of its calls.

    Returns:
        how long each lot of the small site waited; five of them.
    """
    ledger = await start(redis)
    for first in range(0, large, CHUNK):
        some = [url_of(n) for n in range(first, min(first + CHUNK, large))]
        await ledger.accept(some, request_id="large", site=LARGE, number=first // CHUNK, total=None)
    waited: list[SmallSite] = []
    ends: list[tuple[int, int, Batch]] = []
    ids, calls, due_ms, due_calls = itertools.count(), 0, 0, 0
    while len(waited) < 5:
        if not due_ms and calls >= after_calls * (len(waited) + 1):
            await ledger.accept([url_of(n) for n in range(small)], site=SMALL)
            due_ms = ledger.now_ms + QUIET_MS
        taken = await ledger.take()
        if isinstance(taken, Batch):
            heapq.heappush(ends, (ledger.now_ms + LATENCY_MS, next(ids), taken))
            calls += 1
            due_calls += ledger.now_ms >= due_ms > 0
            if taken.site_id == SMALL:
                waited.append(SmallSite(calls=due_calls - 1, seconds=(ledger.now_ms - due_ms) / 1000))
                due_ms = due_calls = 0
            continue
        wait_ms = taken.ms if isinstance(taken, Wait) else LATENCY_MS
        at_ms = min(ledger.now_ms + wait_ms, ends[0][0] if ends else ledger.now_ms + wait_ms)
        ledger.advance(max(0, at_ms - ledger.now_ms))
        while ends and ends[0][0] <= ledger.now_ms:
            _, _, batch = heapq.heappop(ends)
            await ledger.settle(batch, replace(SUBMITTED, calls=(call_of(batch, "ok"),)))
    return waited


async def trickle(redis: Redis, *, seconds: int, each: int = 1) -> Trickle:
    """Enqueue *each* URLs a second for one site, each second a request of its own."""
    ledger = await start(redis)
    ages: list[float] = []
    jobs, sent = 0, 0
    while sent < seconds * each or len(ages) < sent:
        if sent < seconds * each:
            await ledger.accept([url_of(n) for n in range(sent, sent + each)])
            sent += each
        taken = await ledger.take()
        if isinstance(taken, Batch):
            jobs += 1
            accepted_ms = (START_MS + 1_000 * (int(url.rpartition("/")[2]) // each) for url in taken.urls)
            ages += [(ledger.now_ms - at_ms) / 1000 for at_ms in accepted_ms]
            await ledger.settle(taken, replace(SUBMITTED, calls=(call_of(taken, "ok"),)))
        ledger.advance(1_000)
    return Trickle(jobs=jobs, max_age_s=max(ages), mean_age_s=sum(ages) / len(ages))
