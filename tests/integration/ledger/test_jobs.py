"""The jobs on record: what a settlement notes, who may look when, and what a cap of jobs does to a site's turn."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.claims import Batch, Exemption, SiteWait, Watch, WatchedJob
from esa_preload_worker.ledger import CREATE_JOB
from integration.ledger.driver import KEYS, PUT_BACK, SUBMITTED, LedgerDriver, read_all
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload_worker.claims import Settlement

QUIET_MS, AGE_MS, PLAN_MS, LAG_MS = 5_000, 60_000, 30_000, 5_000
FULL = replace(PUT_BACK, outcome="job_cap", site_wait=SiteWait(reason="job_cap", ms=60_000))


@pytest.fixture
async def ledger(redis: Redis) -> LedgerDriver:
    """Batches of two, four at a time, visits at 5 calls/s at most while a site is short, at 1.25 else."""
    driver = LedgerDriver(redis)
    limits = {
        "batch_max_urls": 2,
        "batch_quiet_ms": QUIET_MS,
        "batch_max_age_ms": AGE_MS,
        "site_concurrency": 4,
    }
    await driver.publish(**limits, list_lag_ms=LAG_MS)
    await driver.redis_does("HSET", KEYS.rate(CREATE_JOB), "v", 2, "fixed", 5, "rate", 5, "next", 0)
    return driver


def planned(driver: LedgerDriver, batch: Batch, *, starts_in_ms: int = 0) -> Settlement:
    """Return the settlement of a batch whose job has its plan."""
    starts_ms = driver.now_ms + starts_in_ms
    watch = Watch(job_id=f"j{batch.batch_id}", plan_id="p", starts_ms=starts_ms, done_ms=starts_ms + PLAN_MS)
    return replace(SUBMITTED, planned=True, watch=watch)


async def settle(driver: LedgerDriver, batch: Batch, *, starts_in_ms: int = 0) -> str:
    """Settle a batch as submitted; returns its job."""
    await driver.workers.record_job(batch, job_id=f"j{batch.batch_id}", job={}, plan_follows=False)
    await driver.settle(batch, planned(driver, batch, starts_in_ms=starts_in_ms))
    return f"j{batch.batch_id}"


async def submit(driver: LedgerDriver, count: int = 2, **options: object) -> str:
    """Enqueue and submit one batch of *count* URLs; returns its job."""
    await driver.accept(urls(count), **options)  # type: ignore[arg-type]
    driver.advance(QUIET_MS)
    return await settle(driver, await driver.take_batch())


async def visit(driver: LedgerDriver) -> WatchedJob:
    """Visit the next job; it must be due."""
    found = await driver.workers.visit(token=driver.new_id())
    assert isinstance(found, WatchedJob), found
    return found


async def wait(driver: LedgerDriver) -> int:
    """Return how long there is nothing to visit; there must not be."""
    found = await driver.workers.visit(token=driver.new_id())
    assert isinstance(found, int), found
    return found


async def take_batches(driver: LedgerDriver, count: int) -> list[Batch]:
    """Take some batches, as fast as the pace allows."""
    found: list[Batch] = []
    for _ in range(count):
        found.append(await driver.take_batch())
        driver.advance(200)
    return found


async def test_counts_follow_the_plan(ledger: LedgerDriver) -> None:
    """Warming from the settlement on, finished or failed by what a visit says; each owner's own URLs, once."""
    await ledger.accept(urls(2), request_id="a")
    await ledger.accept(urls(1), request_id="b")
    batch = await ledger.take_batch()
    await settle(ledger, batch)
    assert (await ledger.counts("a"))["warming"] == 2
    ledger.advance(PLAN_MS)
    job = await visit(ledger)
    assert (job.batch_id, job.plan_id, job.urls, job.state) == (batch.batch_id, "p", 2, "warming")
    for _ in range(2):  # the reply was lost, and the call repeated
        assert await ledger.workers.visited(job, state="finished", then=1_000, ended_ms=ledger.now_ms)
    assert await ledger.counts("a") == {"accepted": 2, "submitted": 2, "finished": 2}
    assert await ledger.counts("b") == {"accepted": 1, "merged": 1, "submitted": 1, "finished": 1}
    assert await ledger.workers.visited(job, state="finished", then="gone")
    assert not await ledger.workers.visited(job, state="failed", then="gone")
    assert (await ledger.counts("a"))["finished"] == 2
    assert not [
        key for key in (await read_all(ledger.redis)).ttl_ms if "job" in key.removeprefix(KEYS.prefix)[:4]
    ]


async def test_only_submitted_urls_are_counted(ledger: LedgerDriver) -> None:
    """Of a batch that was refused in part, the rest."""
    await ledger.accept(urls(2), request_id="a")
    batch = await ledger.take_batch()
    refused = (Exemption(index=0, verdict="refused", reason="invalid_url", code="InvalidUrl"),)
    await ledger.settle(batch, replace(planned(ledger, batch), exemptions=refused))
    assert await ledger.counts("a") == {"accepted": 2, "submitted": 1, "refused": 1, "warming": 1}


async def test_a_plan_of_later_is_not_warming_yet(ledger: LedgerDriver) -> None:
    """It is looked at when it starts."""
    await ledger.accept(urls(2), request_id="a")
    await settle(ledger, await ledger.take_batch(), starts_in_ms=PLAN_MS)
    assert await ledger.counts("a") == {"accepted": 2, "submitted": 2}
    assert await wait(ledger) == PLAN_MS
    ledger.advance(PLAN_MS)
    assert (await visit(ledger)).state == "waiting"


async def test_a_request_that_is_gone_stays_gone(ledger: LedgerDriver) -> None:
    """Its record ended before the plan did: no count brings it back."""
    await ledger.accept(urls(2), request_id="a")
    await settle(ledger, await ledger.take_batch())
    await ledger.redis_does("DEL", KEYS.request("1"))
    ledger.advance(PLAN_MS)
    assert await ledger.workers.visited(await visit(ledger), state="finished", then=1_000)
    assert not await ledger.redis_does("EXISTS", KEYS.request("1"))


async def test_a_job_is_handed_to_one_worker(ledger: LedgerDriver) -> None:
    """For half a minute; then to another, after which the first one settles nothing."""
    await submit(ledger)
    ledger.advance(PLAN_MS)
    first = await visit(ledger)
    ledger.advance(29_999)
    assert await wait(ledger) == 1
    ledger.advance(1)
    second = await visit(ledger)
    assert second.job_id == first.job_id
    assert not await ledger.workers.visited(first, state="failed", then="gone")
    assert await ledger.workers.visited(second, state="finished", then=1_000)


async def test_visits_leave_room_for_creates(ledger: LedgerDriver) -> None:
    """A quarter of the pace of Create, over all workers; as fast as Create while the site is short of places."""
    jobs = [await submit(ledger) for _ in range(4)]
    ledger.advance(PLAN_MS + 10_000)
    first = await visit(ledger)
    assert first.job_id == jobs[0]
    assert await wait(ledger) == 800
    ledger.advance(800)
    await visit(ledger)
    await ledger.accept(urls(2))
    ledger.advance(800)
    await ledger.settle(await ledger.take_batch(), FULL)
    await visit(ledger)
    assert await wait(ledger) == 200


async def test_jobs_of_a_short_site_go_first(ledger: LedgerDriver) -> None:
    """Though those of another site have waited for longer."""
    await submit(ledger, site=1)
    job = await submit(ledger, site=2)
    await ledger.accept(urls(2), site=2)
    await ledger.settle(await ledger.take_batch(), FULL)
    ledger.advance(PLAN_MS + 10_000)
    assert (await visit(ledger)).job_id == job


async def test_a_deletion_frees_the_site_at_once(ledger: LedgerDriver) -> None:
    """The site that waits for a place has its turn when one of its jobs is gone, and not before."""
    await submit(ledger)
    await ledger.accept(urls(2), request_id="a")
    await ledger.settle(await ledger.take_batch(), FULL)
    (site,) = await ledger.producers.site_statuses()
    assert (site.state, site.reason, site.jobs, site.job_cap) == ("waiting", "job_cap", 1, 1)
    ledger.advance(PLAN_MS)
    await ledger.take_nothing()
    job = await visit(ledger)
    await ledger.workers.visited(job, state="finished", then=30_000, ended_ms=ledger.now_ms)
    await ledger.take_nothing()
    await ledger.workers.visited(job, state="finished", then="gone")
    assert (await ledger.take_batch()).urls == tuple(urls(2))


async def test_a_job_that_is_left_frees_nothing(ledger: LedgerDriver) -> None:
    """It is followed no longer, but ESA still has it."""
    await submit(ledger)
    await ledger.accept(urls(2))
    await ledger.settle(await ledger.take_batch(), FULL)
    ledger.advance(PLAN_MS)
    await ledger.workers.visited(await visit(ledger), state="failed", then="left")
    await ledger.take_nothing()


async def test_one_free_place_is_one_batch(ledger: LedgerDriver) -> None:
    """Where four could be at work, as many are as the site has places; with the last one filled it waits without asking ESA."""
    for _ in range(3):
        await submit(ledger)
    await ledger.accept(urls(20))
    await ledger.settle(await ledger.take_batch(), FULL)
    ledger.advance(PLAN_MS)
    await ledger.workers.visited(await visit(ledger), state="finished", then="gone")
    batch = await ledger.take_batch()
    await ledger.take_nothing()
    await settle(ledger, batch)
    (site,) = await ledger.producers.site_statuses()
    assert (site.state, site.reason, site.jobs, site.job_cap) == ("waiting", "job_cap", 3, 3)
    await ledger.take_nothing()
    ledger.advance(60_000)
    probe = await ledger.take_batch()
    await ledger.take_nothing()
    await settle(ledger, probe)  # the cap is higher than we thought
    (site,) = await ledger.producers.site_statuses()
    assert (site.state, site.jobs, site.job_cap) == ("active", 4, 5)


async def test_a_resume_forgets_how_many_jobs_there_may_be(ledger: LedgerDriver) -> None:
    """Somebody made room: the site goes on at full speed, and not by one batch a minute until its cap is learnt anew."""
    for _ in range(3):
        await submit(ledger)
    await ledger.accept(urls(8), request_id="a")
    await ledger.accept(urls(1, start=20), lane="1700003600000,,,", request_id="b")
    ledger.advance(QUIET_MS)
    await ledger.settle(await ledger.take_batch(), FULL)
    await ledger.take_nothing()
    assert await ledger.producers.switch_site(1, "resume") == (True, False)
    (site,) = await ledger.producers.site_statuses()
    assert (site.state, site.jobs, site.job_cap) == ("active", 3, None)
    batches = await take_batches(ledger, 4)
    # The quiet lane, too: places are not short.
    assert sorted(len(batch.urls) for batch in batches) == [1, 2, 2, 2]
    for batch in batches:
        await settle(ledger, batch)
    assert (await ledger.take_batch()).urls
    assert await ledger.producers.switch_site(1, "resume") == (False, False)


async def test_what_was_sent_before_the_site_was_full_counts(ledger: LedgerDriver) -> None:
    """Of four batches at once two were taken: the cap is two, whether their jobs were on record or not when the others were refused."""
    await ledger.accept(urls(8))
    batches = await take_batches(ledger, 4)
    await ledger.workers.record_job(batches[0], job_id="x", job={}, plan_follows=False)
    ledger.advance(1)
    for batch in batches[2:]:
        await ledger.settle(batch, FULL)
    (site,) = await ledger.producers.site_statuses()
    assert site.job_cap == 1
    for batch in batches[:2]:
        await ledger.settle(batch, planned(ledger, batch))
    (site,) = await ledger.producers.site_statuses()
    assert (site.jobs, site.job_cap, site.reason) == (2, 2, "job_cap")


async def test_near_the_cap_a_lane_waits_to_fill(ledger: LedgerDriver) -> None:
    """From four fifths on only age or a full batch releases it; below them quiet does again, at once."""
    for _ in range(5):
        await submit(ledger)
    await ledger.accept(urls(2), request_id="a")
    await ledger.accept(urls(1, start=9), lane="1700003600000,,,", request_id="b")
    await ledger.settle(await ledger.take_batch(), FULL)
    ledger.advance(PLAN_MS)
    await ledger.workers.visited(await visit(ledger), state="finished", then="gone")
    assert len((await ledger.take_batch()).urls) == 2  # full
    ledger.advance(800)
    await ledger.take_nothing()  # quiet for long, but four fifths are used
    await ledger.workers.visited(await visit(ledger), state="finished", then="gone")
    assert len((await ledger.take_batch()).urls) == 1


async def test_age_releases_a_lane_near_the_cap(ledger: LedgerDriver) -> None:
    """No URL waits longer than BATCH_MAX_AGE for its batch to fill."""
    for _ in range(4):
        await submit(ledger)
    await ledger.redis_does("HSET", KEYS.site(1), "job_cap", 5, "job_cap_until", ledger.now_ms + 10**9)
    await submit(ledger)
    await ledger.redis_does("HDEL", KEYS.site(1), "wait_until", "wait_reason")
    await ledger.accept(urls(1))
    ledger.advance(AGE_MS - 1)
    await ledger.take_nothing()
    ledger.advance(1)
    assert len((await ledger.take_batch()).urls) == 1


async def test_a_cap_is_forgotten_after_a_day(ledger: LedgerDriver) -> None:
    """Jobs of others may have gone: four batches at a time again."""
    await submit(ledger)
    await ledger.accept(urls(8))
    await ledger.settle(await ledger.take_batch(), FULL)
    ledger.advance(86_400_000)
    assert len(await take_batches(ledger, 4)) == 4


async def test_jobs_that_nobody_looks_at_are_forgotten(ledger: LedgerDriver) -> None:
    """Every key of a job ends REQUEST_TTL after it should have; an entry without its record is dropped by the next visit."""
    job = await submit(ledger)
    names = {KEYS.prefix + name for name in ("agenda", "jobs:1", f"job:{job}")}
    found = (await read_all(ledger.redis)).ttl_ms
    assert all(found[name] > 604_800_000 for name in names)
    await ledger.redis_does("DEL", KEYS.job(job))
    ledger.advance(PLAN_MS)
    assert await wait(ledger) == 60_000
    assert not names & (await read_all(ledger.redis)).ttl_ms.keys()


async def test_a_job_of_a_later_release_is_left_alone(ledger: LedgerDriver) -> None:
    """It stays on record; those after it are looked at."""
    job = await submit(ledger)
    other = await submit(ledger)
    await ledger.redis_does("HSET", KEYS.job(job), "v", 2)
    ledger.advance(PLAN_MS)
    assert (await visit(ledger)).job_id == other
    assert await ledger.redis_does("EXISTS", KEYS.job(job))


async def test_jobs_that_were_kept_are_looked_at(ledger: LedgerDriver) -> None:
    """One that will never have a plan, and could not be deleted: a minute later, and it counts for no request."""
    await ledger.accept(urls(2), request_id="a")
    refused = replace(SUBMITTED, outcome="refused", verdict="refused", reason="plan_failed", kept=("x",))
    await ledger.settle(await ledger.take_batch(), refused)
    assert await wait(ledger) == 60_000
    ledger.advance(60_000)
    assert (await visit(ledger)).state == "unplanned"
    assert await ledger.counts("a") == {"accepted": 2, "refused": 2}
