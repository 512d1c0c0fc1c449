"""Plans that end before ESA has them: nothing is sent, nothing is planned, no job stays, and every URL ends as expired, by name."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from esa_preload.ledger import Header
from esa_preload_worker.esa import BlockedError, RefusedError
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.sandbox import Fault, Sandbox
from integration.worker.answers import Logged, names, refusing
from integration.worker.rig import SITE, Rig, rig, urls_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from esa_preload_worker.esa import EsaError
    from esa_preload_worker.sandbox.faults import FaultKind


async def enqueue_until(worker: Rig, urls: Sequence[str], seconds: float) -> str:
    """Enqueue *urls* with a plan that ends in *seconds*, which no client would: its plans end on a minute."""
    lane = f",{round((time.time() + seconds) * 1000)},,"
    header = Header(request_id="r", site_id=SITE, plan=lane, lane=lane, band=1)
    await worker.reader.accept(header, urls, number=0, digest="d", total=1)
    return "r"


async def assert_expired(worker: Rig, urls: Sequence[str]) -> None:
    """All of *urls* are named, and nothing of them is at ESA."""
    failures = await worker.client.failures(SITE)
    assert sorted(failure.url for failure in failures) == sorted(urls)
    assert {(f.reason, f.code, f.batch_id) for f in failures} == {("window_passed", "", "")}
    assert worker.planned() == 0
    assert all(job["is_deleted"] for job in worker.sandbox.jobs())
    (site,) = await worker.client.sites()
    assert (site.pending, site.in_flight) == (0, 0)


async def test_a_job_whose_plan_would_come_too_late_is_deleted(
    redis: Redis, redis_url: str, sandbox: Sandbox, logged: Logged
) -> None:
    """The plan was put off past its end: the URLs expire, and the log and the metrics say so."""
    sandbox.reconfigure(faults=refusing("QuotaExcess", operation=CREATE_PLANS))
    async with rig(redis, redis_url, sandbox, quota_retry_after=1) as worker:
        await enqueue_until(worker, urls_of(3), 0.9)
        assert (await worker.work("r")).expired == 3
        assert worker.calls(CREATE_PLANS) == 1
        await assert_expired(worker, urls_of(3))
        assert worker.count("urls_expired_total", site=str(SITE)) == 3
        assert worker.count("batches_total", outcome="expired") == 1
    (line,) = (entry for entry in logged if entry["event"] == "batch.refused")
    assert (line["reason"], line["ended"]) == ("window_passed", {"expired": 3})
    assert "job.deleted" in names(logged, "job.")


async def test_a_part_of_a_split_batch_expires_without_a_call(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """Refused as a whole, then kept waiting by the quota: its parts end at their next turn, nothing is sent for them."""
    errors: list[EsaError] = [
        RefusedError("", code="Odd"),
        *[BlockedError("", scope="site", code="QuotaExcess")] * 2,
    ]
    async with rig(redis, redis_url, sandbox, quota_retry_after=1) as worker:
        worker.between.refuse = lambda _: errors.pop(0) if errors else None
        await enqueue_until(worker, urls_of(2), 0.9)
        assert (await worker.work("r")).expired == 2
        assert worker.between.calls.count("create_job") <= 3
        assert not worker.sandbox.jobs()
        await assert_expired(worker, urls_of(2))


@pytest.mark.parametrize("kind", ["lost_before", "lost_after"])
async def test_an_uncertain_batch_is_looked_up_and_then_expires(
    redis: Redis, redis_url: str, sandbox: Sandbox, kind: FaultKind
) -> None:
    """Not found: not created again. Found: its job is deleted instead of planned."""
    sandbox.reconfigure(faults=(Fault(kind=kind, operation=CREATE_JOB, first=1),))
    async with rig(redis, redis_url, sandbox) as worker:
        await enqueue_until(worker, urls_of(2), 0.5)
        assert (await worker.work("r")).expired == 2
        assert worker.calls(CREATE_JOB) == 1
        assert len(worker.sandbox.jobs()) == (kind == "lost_after")
        await assert_expired(worker, urls_of(2))
