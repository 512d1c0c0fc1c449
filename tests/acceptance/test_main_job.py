"""The main job: 50,000 URLs, enqueued by the public command, submitted by two workers, planned, each accounted for."""

from __future__ import annotations

import signal
from functools import partial
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from esa_preload_worker.sandbox import BucketLimit, Sandbox, SandboxConfig
from processes import environment, finish, started, worker_environment
from shared_data import asset_urls
from waiting import wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

SITE = "190007158391808"
COUNT = 50_000


async def test_every_one_of_50_000_urls_is_submitted_once_and_planned(redis: Redis, redis_url: str) -> None:
    """The receipt, the status, the metrics, the log and the endpoint's own books agree; batches are full; throttling costs nothing."""
    del redis
    urls = asset_urls()
    limits = {"*": BucketLimit(rate_per_s=150, burst=20)}
    async with Sandbox(SandboxConfig(limits=limits, latency_s=0.005)) as sandbox:
        env = worker_environment(
            redis_url,
            sandbox.url,
            ESA_PRELOAD_RATE_INITIAL="100",
            ESA_PRELOAD_RATE_MAX="1000",
            ESA_PRELOAD_SITE_CONCURRENCY="16",
        )
        async with (
            started("esa-preload-worker", "run", env=env) as one,
            started("esa-preload-worker", "run", env=env) as two,
        ):
            producer = environment(ESA_PRELOAD_REDIS_URL=redis_url)
            enqueued = await finish(
                "esa-preload",
                "enqueue",
                "--site",
                SITE,
                "--file",
                str(urls),
                "--wait",
                "--json",
                env=producer,
                timeout_s=120,
            )
            assert enqueued.code == 0, enqueued.err
            receipt = enqueued.json()
            assert (
                receipt["accepted"],
                receipt["merged"],
                receipt["duplicates"],
                receipt["rejected_count"],
            ) == (COUNT, 0, 0, 0)

            status = (
                await finish("esa-preload", "status", receipt["request_id"], "--json", env=producer)
            ).json()
            assert (status["state"], status["submitted"], status["pending"], status["in_flight"]) == (
                "done",
                COUNT,
                0,
                0,
            )

            workers = [one, two]
            scraped: list[dict[str, float]] = []
            for worker in workers:
                began = await wait_until(partial(worker.events, "worker.started"))
                scraped.append(await _scrape(began[0]["ops_url"]))
            for worker in workers:
                worker.process.send_signal(signal.SIGTERM)
                assert await worker.ended() == 0

    logged = [event for worker in workers for event in worker.events("batch.submitted")]
    assert sum(event["url_submitted"] for event in logged) == COUNT
    assert max(event["url_count"] for event in logged) <= 100
    assert all(event["job_id"] and event["plan_id"] for event in logged)
    fill = COUNT / (100 * len(logged))
    assert fill >= 0.99, f"batches are filled to {fill:.1%}"
    assert sum(metrics["esa_preload_urls_submitted_total"] for metrics in scraped) == COUNT
    assert {metrics["esa_preload_urls_accepted_total"] for metrics in scraped} == {COUNT}

    jobs = sandbox.jobs()
    planned = [url for job in jobs if job["plans_made"] for url in job["urls"]]
    assert len(jobs) == len(logged)
    assert all(job["plans_made"] == 1 for job in jobs)
    assert len(planned) == len(set(planned)) == COUNT
    books = sandbox.stats()
    assert books["jobs_forgotten"] == 0
    throttled = sum(codes.get("TooManyRequests", 0) for codes in books["calls"].values())
    assert sum(metrics.get("esa_preload_throttled_total", 0) for metrics in scraped) == throttled


async def _scrape(ops_url: str) -> dict[str, float]:
    """Return each sample's sum over its labels."""
    async with httpx.AsyncClient() as client:
        text = (await client.get(f"{ops_url}/metrics")).text
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0) + sample.value
    return sums
