"""A site that may hold few jobs: its places are used, others' jobs are left alone. In virtual time, over the sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING

from conftest import NAMESPACE
from esa_preload_worker.decisions import LIST_PLANS
from esa_preload_worker.ledger import CREATE_JOB
from esa_preload_worker.sandbox import ForeignJob, SandboxConfig
from esa_preload_worker.submit import DELETE_JOB
from integration.worker.rig import SITE, urls_of
from integration.worker.virtual import virtual_rig

if TYPE_CHECKING:
    from redis.asyncio import Redis

FULL = "InvalidJob.JobCountOfSiteFull"

NAMES = (
    "somebody-1",
    "preload-other-00000001",
    f"preload-{NAMESPACE}2-00000001",
    f"preload-{NAMESPACE}-00000001",
    "",
)
"""Of jobs that are not ours: the namespace is another's, or it is ours, and this ledger knows of no such batch."""
FOREIGN = tuple(ForeignJob(site_id=SITE, name=name, is_planned=bool(i % 2)) for i, name in enumerate(NAMES))


async def test_a_cap_of_20_jobs_and_20_000_urls(redis: Redis, redis_url: str) -> None:
    """200 batches go through 15 places: all submitted and fetched, 5 jobs of others untouched, however they are named, and ESA is hardly ever asked in vain."""
    config = SandboxConfig(max_jobs_per_site=20, foreign_jobs=FOREIGN)
    async with virtual_rig(redis, redis_url, config) as virtual:
        urls = 20_000
        request = await virtual.rig.enqueue(urls_of(urls))
        turns = 0
        while (status := await virtual.status(request)).finished < urls:
            await virtual.turn()
            turns += 1
            assert turns < 2_000, (status, virtual.rig.sandbox.stats()["calls"])
            assert len(virtual.jobs()) <= 15
        assert (status.submitted, status.warming, status.failed) == (urls, 0, 0)
        assert virtual.rig.planned() == urls
        assert (len(virtual.jobs(foreign=True)), virtual.jobs()) == (5, [])
        assert virtual.calls(CREATE_JOB) - virtual.calls(CREATE_JOB, FULL) == 200
        assert virtual.calls(CREATE_JOB, FULL) <= 10
        assert virtual.calls(DELETE_JOB) == 200
        assert virtual.calls(LIST_PLANS) <= 2 * 200 + 10
