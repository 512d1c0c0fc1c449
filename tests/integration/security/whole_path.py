"""What a producer, an operator and a worker do in a day, short enough to be done again for each right that somebody lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from esa_preload import Plan
from esa_preload.client import PreloadClient
from esa_preload.connection import connect
from esa_preload.errors import NotDurableError, UnknownSiteError
from esa_preload.keys import Keys
from esa_preload.scripts import command
from esa_preload_worker.check import probe
from integration.check.damage import DAMAGE, plant
from integration.check.queue_content import Queue
from integration.worker.rig import NAMESPACE, SITE, urls_of
from integration.worker.running import running
from integration.worker.virtual import virtual_rig

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload_worker.sandbox import Sandbox

REFUSED = "https://x.example.net/"
"""Its host does not belong to the site."""
BROKEN = (
    "an agenda of nothing",
    "a part without a turn",
    "a turn of nothing",
    "a held part of nothing",
    "a pack not listed",
    "a request that would go",
    "a request not marked done",
    "an id that leads nowhere",
    "a band lost",
    "a lane's age",
    "no wake-up",
)
"""One kind of damage for each way to mend any."""


async def produce(url: str, *, has_waitaof: bool) -> None:
    """
    Enqueue in every way, ask, and cancel; needs no worker.

    Args:
        has_waitaof: the server can say what is on its disk; else nobody who may not read its configuration knows.
    """
    async with PreloadClient(url, namespace=NAMESPACE) as client:
        nothing = await client.enqueue(SITE, ["ftp://www.example.com/"])
        for start in (300, 400):
            await client.enqueue(SITE, urls_of(100, start=start))
        enqueued = client.enqueue(SITE, urls_of(300), durable=True, expires_in=3_600)
        if has_waitaof:
            receipt = await enqueued
        else:
            with pytest.raises(NotDurableError) as caught:
                await enqueued
            assert caught.value.receipt is not None
            receipt = caught.value.receipt
        again = await client.enqueue(SITE, urls_of(10, start=300), priority="high")
        later = await client.enqueue(SITE, urls_of(10), plan=Plan(interval_s=30))
        lists = await client.enqueue_oss(SITE, "https://bucket.oss-cn-hangzhou.aliyuncs.com/list", count=5)
        receipts = (nothing, receipt, again, later, lists)
        assert [each.accepted for each in receipts] == [0, 300, 10, 10, 5]
        for place in (310, 410, 150):
            assert (await client.explain(site_id=SITE, url=urls_of(1, start=place)[0])).state == "pending"
        assert (await client.status(receipt.request_id)).pending == 300
        assert [site.pending for site in await client.sites()] == [515]
        assert await client.failures(SITE) == []
        assert await client.limits() == []
        with pytest.raises(UnknownSiteError):
            await client.site_id("www.example.com")
        assert len((await client.requests(SITE, state="active")).items) == 6
        assert len((await client.request_urls(later.request_id, "pending")).items) == 10
        assert [info.status.request_id for info in (await client.requests(site_id=SITE, limit=1)).items]
        assert len((await client.request_urls(receipt.request_id, "pending")).items) == 300
        for each in receipts:
            assert await client.cancel(each.request_id) == (each.accepted, 0)
        assert (await client.wait(receipt.request_id, timeout=1)).cancelled == 300


async def operate(url: str) -> None:
    """Pause, resume, set limits, and bring back what failed: there is one failure."""
    async with PreloadClient(url, namespace=NAMESPACE) as client:
        assert await client.pause(SITE, reason="by a test")
        [failure] = await client.failures(SITE)
        assert (await client.explain(site_id=SITE, url=failure.url)).state == "ended"
        [named] = (await client.failure_page(SITE)).items
        [receipt] = await client.requeue(SITE, ids=[named.id])
        assert await client.failures(SITE) == []
        assert [site.state for site in await client.sites()] == ["paused"]
        assert await client.resume(SITE)
        await client.cancel(receipt.request_id)
        operation = (await client.limits())[0].operation
        await client.set_limit(operation, 50)
        await client.reset_limits(operation)
        assert [entry.action for entry in (await client.audit(limit=3)).items] == [
            "limit_reset",
            "limit_set",
            "cancelled",
        ]
        assert sum(point.urls_submitted for point in await client.traffic()) == 20


async def work(url: str, sandbox: Sandbox, admin: Redis) -> None:
    """Run a worker until all that somebody else enqueues has ended, one URL of it as refused, beside a job that another worker runs."""
    keys, elsewhere = Keys(NAMESPACE), f"esa-preload:{NAMESPACE}:1-1"
    await command(admin, "SET", f"arq:in-progress:{elsewhere}", "1", "PX", 60_000)
    await command(admin, "ZADD", keys.queue, 1, elsewhere)
    client = PreloadClient(admin, namespace=NAMESPACE)
    with capture_logs() as lines:
        async with running(url, sandbox, rate_initial=100):
            receipt = await client.enqueue(SITE, [*urls_of(20), REFUSED])
            status = await client.wait(receipt.request_id, timeout=4)
        assert (status.submitted, status.refused) == (20, 1)
    assert not [line for line in lines if line["event"] == "redis.unavailable"]


async def carry(url: str) -> None:
    """Carry URLs as a list in a bucket, until their plan has ended."""
    redis = connect(url)
    try:
        async with virtual_rig(
            redis, url, has_shelf=True, oss_min_urls=20, batch_max_urls=10, job_retention=100
        ) as worker:
            request_id = await worker.rig.enqueue(urls_of(50))
            worker.advance(1)
            await worker.turn()
            assert (await worker.status(request_id)).warming == 50
            for _ in range(20):
                worker.advance(10)
                await worker.look()
            assert (await worker.status(request_id)).finished == 50
    finally:
        await redis.aclose()


async def check(url: str, admin: Redis) -> None:
    """Let every state of the ledger come about, look at it, break it in many ways, and mend it: `esa-preload-worker check`."""
    redis, keys = connect(url), Keys(NAMESPACE)
    try:
        await probe.reach(redis)
        facts = await probe.server_facts(redis)
        assert facts.info is not None, "INFO is refused"
        assert facts.has_waitaof is not None, "WAITAOF is refused"
        await probe.namespace_facts(redis, keys)
        queue = Queue(redis, keys)
        await queue.everything()
        assert (await queue.audit()).violations == []
        for name in BROKEN:
            await plant(Queue(admin, keys), DAMAGE[name])
        await queue.repair(await queue.audit())
        assert (await queue.audit()).violations == []
    finally:
        await redis.aclose()
