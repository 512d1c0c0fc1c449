"""Wake-ups: arq's own jobs, written by the scripts; one at a time, for the next moment that counts."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from arq.jobs import deserialize_job
from arq.worker import Worker

from conftest import NAMESPACE
from esa_preload.errors import QueueUnavailableError, RequestConflictError
from esa_preload.scripts import as_text, command
from esa_preload_worker.claims import Batch, Settlement, Turn, Wait
from esa_preload_worker.settings import Settings
from esa_preload_worker.supervisor import arq_pool, worker_options
from integration.ledger.driver import (
    JOB_PREFIX,
    KEYS,
    PUT_BACK,
    RUNNING_PREFIX,
    SUBMITTED,
    LedgerDriver,
    read_all,
)
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from arq.connections import ArqRedis

DAY_MS = 86_400_000


@pytest.fixture
def settings(redis_url: str) -> Settings:
    """The settings of a worker on the tests' server."""
    return Settings.model_validate({"redis_url": redis_url, "namespace": NAMESPACE})


async def wakes(ledger: LedgerDriver) -> list[float]:
    """Return the moments of the wake-ups that nobody has begun, from now."""
    return [at - ledger.now_ms for at in (await read_all(ledger.redis)).waiting_wakes()]


async def begin(ledger: LedgerDriver) -> str:
    """Begin the wake-up as arq does: it stays in the queue until it ends."""
    (job,) = [as_text(job) for job in await ledger.redis_does("ZRANGE", KEYS.queue, 0, -1)]
    await ledger.redis_does("SET", RUNNING_PREFIX + job, "1", "PX", 300_000)
    return job


async def described(pool: ArqRedis, job_id: str) -> dict[str, Any]:
    """Describe a queued job by everything that arq may look at."""
    raw = cast("bytes", await command(pool, "GET", JOB_PREFIX + job_id))
    job = deserialize_job(raw, deserializer=pool.job_deserializer)
    score = float(cast("bytes", await command(pool, "ZSCORE", KEYS.queue, job_id)))
    enqueued_ms = round(job.enqueue_time.timestamp() * 1000)
    lasts_ms = int(await command(pool, "PTTL", JOB_PREFIX + job_id))
    return {
        "keys": list(json.loads(raw)),
        "record": {**json.loads(raw), "et": 0},
        "bytes but for the time": raw.replace(str(enqueued_ms).encode(), b"T"),
        "call": (job.function, job.args, job.kwargs, job.job_try),
        "types": [as_text(await command(pool, "TYPE", key)) for key in (JOB_PREFIX + job_id, KEYS.queue)],
        "score is whole": score == int(score),
        "from now, in s": round((score - time.time() * 1000) / 1000),
        "enqueued just now": abs(enqueued_ms - time.time() * 1000) < 5_000,
        "kept after its moment, in minutes": round((lasts_ms - (score - time.time() * 1000)) / 60_000),
    }


@pytest.mark.parametrize("defer_s", [0, 5])
async def test_a_wake_up_is_what_arq_itself_would_write(
    ledger: LedgerDriver, settings: Settings, defer_s: int
) -> None:
    """The scripts' two keys equal those of arq's enqueue_job in type, content, score and time to live."""
    ledger.producers.now_ms = None
    await ledger.publish(batch_quiet_ms=defer_s * 1000)
    await ledger.accept(urls(1))
    pool = arq_pool(settings)
    try:
        (ours,) = [as_text(job) for job in await command(pool, "ZRANGE", KEYS.queue, 0, -1)]
        until = datetime.now(UTC) + timedelta(seconds=defer_s)
        theirs = await pool.enqueue_job("wake", _defer_until=until)
        assert theirs is not None
        assert await described(pool, ours) == await described(pool, theirs.job_id)
        jobs = await pool.queued_jobs()
        assert {job.function for job in jobs} == {"wake"}
    finally:
        await pool.aclose()
    await ledger.redis_does("FLUSHALL")


class CountingPump:
    """Counts how often it is run."""

    def __init__(self) -> None:
        self.runs = 0

    async def run(self) -> int:
        """Do as if nothing was due."""
        self.runs += 1
        return 0


async def test_arqs_worker_runs_it_and_leaves_nothing(ledger: LedgerDriver, settings: Settings) -> None:
    """A real arq worker with our options picks the wake-up, calls the pump once, and removes its keys."""
    ledger.producers.now_ms = None
    await ledger.publish(batch_quiet_ms=0)
    await ledger.accept(urls(1))
    pump, pool = CountingPump(), arq_pool(settings)
    options: dict[str, Any] = worker_options(settings)
    worker = Worker(
        redis_pool=pool, burst=True, handle_signals=False, ctx={"pump": pump, "health": None}, **options
    )
    async with asyncio.timeout(10):
        await worker.async_run()
    await pool.aclose()
    assert (pump.runs, worker.jobs_complete, worker.jobs_failed) == (1, 1, 0)
    after = await read_all(ledger.redis)
    assert not after.zset_of("queue")
    assert not [key for key in after.ttl_ms if key.startswith((JOB_PREFIX, RUNNING_PREFIX, "arq:result"))]
    await ledger.redis_does("FLUSHALL")


async def test_one_wake_up_is_armed_and_moved_to_an_earlier_moment(ledger: LedgerDriver) -> None:
    """What falls due sooner moves the wake-up; what falls due later needs none of its own."""
    await ledger.accept(urls(1), site=1)
    assert await wakes(ledger) == [5_000]
    ledger.advance(1_000)
    await ledger.accept(urls(1), site=2)
    assert await wakes(ledger) == [4_000]
    await ledger.accept(urls(100), site=3)
    assert await wakes(ledger) == [0]


async def test_a_wake_up_that_was_begun_does_not_count(ledger: LedgerDriver) -> None:
    """Its pump may have looked already, or be dead: what falls due from now on arms another one."""
    await ledger.accept(urls(100))
    await begin(ledger)
    await ledger.settle(await ledger.take_batch())
    assert await ledger.take_nothing() is None
    await ledger.accept(urls(1, "b"))
    assert await wakes(ledger) == [5_000]


async def test_a_wake_up_begun_too_early_by_a_fast_clock_is_armed_again(ledger: LedgerDriver) -> None:
    """arq goes by the clock of its host: who comes before the moment arms it anew before it leaves."""
    await ledger.accept(urls(1))
    await begin(ledger)
    ledger.advance(2_000)
    assert isinstance(await ledger.take(), Wait)
    assert await wakes(ledger) == [3_000]


async def test_an_outage_of_all_workers_piles_up_nothing(ledger: LedgerDriver) -> None:
    """Producers that go on for hours leave one wake-up, however long it is overdue."""
    for _ in range(50):
        await ledger.accept(urls(1))
        ledger.advance(600_000)
    assert len(await wakes(ledger)) == 1


async def test_a_site_that_waits_for_hours_piles_up_nothing(ledger: LedgerDriver) -> None:
    """Busy traffic beside a site that waits for its quota leaves one wake-up."""
    await ledger.accept(urls(1), site=1)
    ledger.advance(5_000)
    await ledger.settle(await ledger.take_batch(), PUT_BACK)
    await ledger.redis_does("HSET", KEYS.site(1), "wait_until", ledger.now_ms + 3_600_000)
    for number in range(30):
        await ledger.accept(urls(1, start=number), site=2)
        ledger.advance(5_000)
        job = await begin(ledger)
        while isinstance(taken := await ledger.take(), Batch):
            await ledger.settle(taken)
        await ledger.redis_does("ZREM", KEYS.queue, job)
        assert len(await wakes(ledger)) == 1


@pytest.mark.parametrize("lost", ["the queue", "the job's record", "the waiters"])
async def test_the_sweep_arms_what_was_lost(ledger: LedgerDriver, lost: str) -> None:
    """arq may forget its job in any way, and a loop that waited may die: one sweep sets it right, from the ledger alone."""
    await ledger.publish(rate_initial=10, rate_max=10)
    await ledger.accept(urls(1_000))
    while isinstance(await ledger.take(), Batch):
        pass
    match lost:
        case "the queue":
            await ledger.redis_does("DEL", KEYS.queue, KEYS.prefix + "waiters")
        case "the job's record":
            # arq finds no record, says that the job expired, and removes it.
            (job,) = [as_text(job) for job in await ledger.redis_does("ZRANGE", KEYS.queue, 0, -1)]
            await ledger.redis_does("DEL", JOB_PREFIX + job, KEYS.prefix + "waiters")
            await ledger.redis_does("ZREM", KEYS.queue, job)
        case _:
            await ledger.redis_does("DEL", KEYS.queue)
            ledger.advance(1_300)
    swept = await ledger.workers.sweep("w", turn_ms=3_000)
    assert (swept.mine, swept.armed) == (True, 1)
    assert max(await wakes(ledger)) <= 10_000
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).armed == 0


async def test_a_dead_workers_claims_wake_somebody(ledger: LedgerDriver) -> None:
    """After a SIGKILL of all workers the first sweep arms the moment at which the lease runs out."""
    await ledger.accept(urls(100))
    await begin(ledger)
    await ledger.take_batch()
    ledger.advance(1_000)
    await ledger.workers.sweep("w2", turn_ms=3_000)
    assert await wakes(ledger) == [9_000]


async def test_one_sweeps_at_a_time(ledger: LedgerDriver) -> None:
    """While one worker has the turn, another one's sweep does nothing."""
    assert (await ledger.workers.sweep("w1", turn_ms=30_000)).mine
    assert not (await ledger.workers.sweep("w2", turn_ms=30_000)).mine
    assert (await ledger.workers.sweep("w1", turn_ms=30_000)).mine


async def test_expiry_is_by_request_and_to_the_ms(ledger: LedgerDriver) -> None:
    """What is pending of a request expires; what is in flight goes on; who shares a URL keeps it."""
    await ledger.accept(urls(3), request_id="short", expires_in_ms=8_000)
    await ledger.accept(urls(1), request_id="long")
    ledger.advance(7_999)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).expired == {}
    ledger.advance(1)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).expired == {1: 3}
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).expired == {}
    assert [list(batch.urls) for batch in await ledger.drain()] == [urls(1)]
    assert await ledger.counts("short") == {"accepted": 3, "expired": 3}
    assert await ledger.counts("long") == {"accepted": 1, "merged": 1, "submitted": 1}
    assert int(await ledger.redis_does("TTL", KEYS.request("1"))) > 6 * 86_400


async def test_what_has_expired_is_not_claimed_before_the_sweep_has_said_so(ledger: LedgerDriver) -> None:
    """A URL is not submitted after its expiry because a sweep is late: its request ends there, and the sweep reports it once."""
    await ledger.accept(urls(3), request_id="r", expires_in_ms=5_000)
    ledger.advance(5_000)
    assert await ledger.take_nothing() is None
    assert (await ledger.hash(KEYS.site(1)))["expired"] == "3"
    assert await ledger.counts("r") == {"accepted": 3, "expired": 3}
    assert await ledger.producers.end_request("r", "cancelled") == (0, 0)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).expired == {1: 3}
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).expired == {}


async def test_a_request_takes_nothing_after_its_expiry(ledger: LedgerDriver) -> None:
    """A chunk that comes too late is told so, also before the sweep."""
    await ledger.accept(urls(1), request_id="r", total=None, expires_in_ms=5_000)
    ledger.advance(5_000)
    with pytest.raises(RequestConflictError, match="has expired"):
        await ledger.accept(urls(1, "b"), request_id="r", number=1, total=2, expires_in_ms=5_000)
    assert await ledger.counts("r") == {"accepted": 1, "expired": 1}
    await ledger.drain()


async def test_what_a_forgotten_request_left_behind_is_dropped(ledger: LedgerDriver) -> None:
    """URLs of a request whose record has ended with its TTL, in a lane that waited all that time, are nobody's."""
    await ledger.accept(urls(3), request_id="r")
    await ledger.producers.end_request("r", "cancelled")
    await ledger.redis_does("DEL", KEYS.request("1"), KEYS.chunks("1"), KEYS.request_number("r"))
    ledger.advance(5_000)
    assert await ledger.take_nothing() is None
    site = await ledger.hash(KEYS.site(1))
    assert (site["pending"], site["cancelled"]) == ("0", "3")


async def test_what_is_in_flight_when_its_request_expires_ends_as_it_ends(ledger: LedgerDriver) -> None:
    """A URL in flight is submitted though its request expired, or expires when it would have to go back."""
    await ledger.accept(urls(200), request_id="r", expires_in_ms=1_000)
    first, second = await ledger.take_batch(), await ledger.take_batch()
    ledger.advance(1_000)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).expired == {}
    await ledger.settle(first, SUBMITTED)
    await ledger.settle(second, PUT_BACK)
    assert await ledger.counts("r") == {"accepted": 200, "submitted": 100, "expired": 100}


async def test_a_request_left_open_is_sealed_as_it_is(ledger: LedgerDriver) -> None:
    """A producer that died between chunks leaves no record without an end; one that is only slow is not cut off."""
    await ledger.accept(urls(1), request_id="r", total=None)
    ledger.advance(3_599_999)
    await ledger.accept(urls(1, "b"), request_id="r", number=1, total=None)
    ledger.advance(3_599_999)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).sealed_requests == 0
    ledger.advance(1)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).sealed_requests == 1
    await ledger.drain()
    assert (await ledger.producers.status("r")).state == "done"


async def test_without_memory_nothing_is_taken_in_and_everything_goes_out(ledger: LedgerDriver) -> None:
    """When Redis is full an enqueue is refused and changes nothing, while claims and settlements go on and make room."""
    await ledger.accept(urls(300), request_id="r")
    await ledger.redis_does("CONFIG", "SET", "maxmemory", 1, "maxmemory-policy", "noeviction")
    try:
        before = await read_all(ledger.redis)
        with pytest.raises(QueueUnavailableError, match="maxmemory"):
            await ledger.accept(urls(1, "late"), request_id="late")
        assert (await read_all(ledger.redis)).hashes == before.hashes
        batch = await ledger.take_batch()
        assert await ledger.workers.renew("w", {batch.batch_id: batch.token}) == set()
        assert await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=True) == Turn(
            sent_ms=ledger.now_ms
        )
        await ledger.settle(batch)
        await ledger.settle(
            await ledger.take_batch(),
            Settlement(what="end", outcome="refused", verdict="refused", reason="x"),
        )
        assert (await ledger.workers.sweep("w", turn_ms=3_000)).mine
        assert await ledger.producers.end_request("r", "cancelled") == (100, 0)
    finally:
        await ledger.redis_does("CONFIG", "SET", "maxmemory", 0)
    await ledger.accept(urls(1, "late"), request_id="late")
    await ledger.drain()
    assert await ledger.counts("r") == {"accepted": 300, "submitted": 100, "refused": 100, "cancelled": 100}


async def test_large_numbers_stay_whole(ledger: LedgerDriver) -> None:
    """Site ids of 64 bits, request numbers and times beyond 2**40 are never written as floats."""
    site = 2**63 - 1
    await ledger.redis_does("HSET", KEYS.meta, "requests", 10**15, "seq", 10**15)
    ledger.advance(10 * 365 * DAY_MS)
    await ledger.accept(urls(2), request_id="r", site=site, expires_in_ms=5 * 365 * DAY_MS)
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    assert (batch.site_id, batch.now_ms) == (site, ledger.now_ms)
    await ledger.settle(batch, PUT_BACK)
    assert (await ledger.producers.status("r")).pending == 2
    snapshot = await read_all(ledger.redis)
    assert KEYS.request(str(10**15 + 1)) in snapshot.hashes
    assert all("e+" not in key for key in snapshot.ttl_ms)
    await ledger.drain()
    assert await ledger.counts("r") == {"accepted": 2, "submitted": 2}
