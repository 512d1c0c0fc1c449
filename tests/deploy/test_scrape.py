"""What a real worker serves is what rules and dashboards are held to, and what Prometheus's own linter accepts."""

from __future__ import annotations

import asyncio
import subprocess
from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from deploy.programs import PROMTOOL, program
from esa_preload import PreloadClient
from esa_preload_worker.check.environment import SERVER_CHECKS
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from metric_families import series
from processes import started, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from redis.asyncio import Redis

SITE = 190007158391808
QUICK = {"ESA_PRELOAD_BATCH_QUIET": "0.1"}
EVENTS = (
    "unknown",
    "expired",
    "jobs_deleted",
    "plans_ended",
    "reconciled",
    "throttled",
    "blocked",
    "waiting",
    "cap",
    "http",
)
"""Series that come only with what does not happen here."""


async def test_a_real_scrape_has_the_series_of_the_code_and_no_other(redis: Redis, redis_url: str) -> None:
    """Names and labels agree, and `promtool check metrics` finds nothing to say."""
    promtool = program(PROMTOOL)
    del redis
    async with (
        Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as sandbox,
        started(
            "esa-preload-worker", "run", env=worker_environment(redis_url, sandbox.url, **QUICK)
        ) as worker,
        PreloadClient(redis_url) as client,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        ops_url = (await wait_until(lambda: worker.events("worker.started"), timeout_s=30))[0]["ops_url"]
        urls = [*(f"https://www.example.com/{i}" for i in range(20)), "https://www.example.net/"]
        receipt = await client.enqueue(SITE, urls)
        await client.wait(receipt.request_id, timeout=30)

        async def scrape() -> str:
            text = (await http.get(f"{ops_url}/metrics")).text
            return text if "esa_preload_redis_unfit{" in text and "_urls_submitted_total{" in text else ""

        page = await wait_until_async(scrape, every_s=0.1)
    said = await asyncio.to_thread(
        subprocess.run,
        [promtool, "check", "metrics"],
        input=page,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert (said.returncode, said.stdout + said.stderr) == (0, "")
    samples = [s for family in text_string_to_metric_families(page) for s in family.samples]
    known = series()
    found = {sample.name: frozenset(sample.labels) for sample in samples}
    assert {name: known.get(name) for name in found} == found
    missing = known.keys() - found.keys()
    assert all(any(event in name for event in EVENTS) for name in missing), missing
    checks = {sample.labels["check"]: sample.value for sample in samples if "redis_unfit" in sample.name}
    assert checks.keys() <= set(SERVER_CHECKS)
    assert checks["version"] == checks["eviction"] == 0
    assert {s.value for s in samples if "unaccounted" in s.name} == {0}
