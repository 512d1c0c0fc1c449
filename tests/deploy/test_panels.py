"""Each panel's query is answered by a real Prometheus that scrapes two workers and the HTTP API at work, and is drawn for a person to look at."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest

from deploy.dashboards import DASHBOARDS
from deploy.pictures import PANELS_DIR, draw, lines
from deploy.plant import SITE, plant
from esa_preload import PreloadClient, http
from esa_preload_worker.sandbox import BucketLimit, Fault, SandboxConfig

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from deploy.panels import Query
    from deploy.plant import Plant

OTHER_SITE = 2
BLOCKED_SITE = 3
ROUNDS = 12
"""Of a second and a half each: rates are taken over ten seconds."""
FAULTS = (
    Fault(kind="lost_after", operation="CreateScheduledPreloadJob", probability=0.1),
    Fault(kind="refuse", operation="CreateScheduledPreloadJob", calls=(7, 19), code="Site.ServiceBusy"),
)
CONFIG = SandboxConfig(
    sites={SITE: ("example.com",), OTHER_SITE: ()},
    limits={"*": BucketLimit(rate_per_s=8, burst=4)},
    faults=FAULTS,
)


@pytest.mark.slow
async def test_each_panel_is_answered_and_drawn(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Every query is answered with data, but for those that are empty while all is well."""
    del redis
    began = time.time()
    async with plant(redis_url, tmp_path, config=CONFIG) as running:
        await _work(redis_url, running.api)
        empty: list[str] = []
        for file, page in DASHBOARDS.items():
            for panel in page.panels:
                shown = [
                    line for q in panel.queries for line in lines(q.legend, await _answer(running, q, began))
                ]
                assert draw(file.removesuffix(".json"), panel, shown).stat().st_size > 5_000
                if not shown and not panel.is_empty_when_healthy:
                    empty.append(f"{page.title}: {panel.title}")
    assert empty == []
    assert len(list(PANELS_DIR.glob("*.png"))) >= sum(len(page.panels) for page in DASHBOARDS.values())


async def _work(redis_url: str, api_url: str) -> None:
    """Enqueue for three sites, for one of them by HTTP: some URLs are refused, some merged, some expire, and one site is blocked."""
    async with PreloadClient(redis_url) as client, http.PreloadClient(api_url) as by_http:
        await client.enqueue(BLOCKED_SITE, ["https://www.example.org/"])
        for number in range(ROUNDS):
            mine = [f"https://www.example.com/{number}/{i}" for i in range(350)]
            foreign = [f"https://www.example.net/{number}/{i}" for i in range(5)]
            await client.enqueue(SITE, [*mine, *foreign])
            await client.enqueue(SITE, mine[-50:])
            await by_http.enqueue(OTHER_SITE, [f"https://www.example.com/{number}/{i}" for i in range(80)])
            await client.enqueue(BLOCKED_SITE, [f"https://www.example.org/{number}"], expires_in=1)
            await asyncio.sleep(1.5)  # the time that the pictures show, not one that is waited for


async def _answer(running: Plant, asked: Query, began: float) -> list[dict[str, Any]]:
    expr = asked.expr.replace("$__rate_interval", "10s").replace("$job", ".*").replace("$site", str(SITE))
    assert "$" not in expr
    answer = await running.ask(
        "query_range", query=expr, start=f"{began:.3f}", end=f"{time.time():.3f}", step="1"
    )
    # What divides by nothing is no data.
    results = answer["result"]
    for result in results:
        result["values"] = [pair for pair in result["values"] if pair[1] != "NaN"]
    return [result for result in results if result["values"]]
