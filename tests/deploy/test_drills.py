"""Incidents, from the alert to recovery, by the runbook's own commands: a real Prometheus fires, Alertmanager tells somebody, who reads and does what the page says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from deploy.plant import FIRE_S, SITE, plant
from deploy.runbook import drilled, section
from docs.pages import DOCS, anchors, read
from esa_preload import PreloadClient
from esa_preload_worker.sandbox import Fault, ForeignJob, SandboxConfig
from processes import finish
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from redis.asyncio import Redis

    from deploy.plant import Plant

RUN = ("esa-preload-worker", "run")
DRILLS = {"EsaPreloadWorkersAbsent", "EsaPreloadSiteBlocked", "EsaPreloadNoProgress", "EsaPreloadJobCapFull"}


@pytest.fixture
async def running(redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Plant]:
    """A plant whose sandbox has one site; something was submitted for it already."""
    del redis
    config = SandboxConfig(sites={SITE: ("example.com",)})
    async with plant(redis_url, tmp_path, config=config) as one:
        await _submitted(redis_url, await _enqueue(redis_url, "before"))
        yield one


def test_the_page_says_what_is_drilled() -> None:
    """Each section with the mark has a drill here, and no other."""
    assert drilled() == DRILLS


@pytest.mark.slow
async def test_all_workers_are_killed(running: Plant, redis_url: str) -> None:
    """The page's `run` brings one back: it submits what waited, and the alert ends."""
    await running.kill_workers()
    request = await _enqueue(redis_url, "killed")

    async def is_missed() -> bool:
        async with PreloadClient(redis_url) as client:
            return (await client.explain(site_id=SITE)).reasons[0].code == "no_worker"

    # The rules are sixty times as quick, the ledger is not: it misses a worker after fifteen seconds.
    await wait_until_async(is_missed, timeout_s=FIRE_S, every_s=0.2)

    async def nothing() -> None:
        """Nobody but the page's commands is needed."""

    said = await _drill(running, "EsaPreloadWorkersAbsent", mended_outside=nothing)
    assert "no worker is alive" in said
    await _submitted(redis_url, request)


@pytest.mark.slow
async def test_credentials_are_refused(running: Plant, redis_url: str) -> None:
    """ESA does not know the key; once it does, `resume` has it tried at once, long before the next probe."""
    refuse = Fault(kind="refuse", probability=1, status=404, code="InvalidAccessKeyId.NotFound")
    running.sandbox.reconfigure(faults=(refuse,))
    request = await _enqueue(redis_url, "blocked")

    async def mend() -> None:
        running.sandbox.reconfigure(faults=())

    said = await _drill(running, "EsaPreloadSiteBlocked", mended_outside=mend)
    assert "InvalidAccessKeyId.NotFound" in said
    await _submitted(redis_url, request)


@pytest.mark.slow
async def test_esa_throttles_every_call(running: Plant, redis_url: str) -> None:
    """Nothing gets through; once ESA answers again, the pace is learnt anew and all is submitted."""
    refuse = Fault(kind="refuse", probability=1, status=429, code="Throttling.User")
    running.sandbox.reconfigure(faults=(refuse,))
    request = await _enqueue(redis_url, "throttled")

    async def mend() -> None:
        running.sandbox.reconfigure(faults=())

    said = await _drill(running, "EsaPreloadNoProgress", mended_outside=mend)
    assert "throttle" in said
    await _submitted(redis_url, request)


@pytest.mark.slow
async def test_a_site_is_full_of_jobs(running: Plant, redis_url: str) -> None:
    """Others took the places; once they are gone, `resume` has the site tried at once, not after a minute."""
    running.sandbox.add_foreign_job(ForeignJob(site_id=SITE, name="somebody else's"))
    running.sandbox.reconfigure(max_jobs_per_site=2)
    request = await _enqueue(redis_url, "full")

    async def mend() -> None:
        running.sandbox.reconfigure(max_jobs_per_site=None)

    said = await _drill(running, "EsaPreloadJobCapFull", mended_outside=mend)
    assert "job_cap" in said
    await _submitted(redis_url, request)


async def _drill(running: Plant, alert: str, *, mended_outside: Callable[[], Awaitable[None]]) -> str:
    """Wait for *alert*, do what its section says, and wait until it is over. Returns what the commands that look said."""
    message = await running.told(alert, "firing")
    _is_told_well(message)
    page = section(alert)
    said = ""
    for command in page.look:
        done = await finish(*command, env=running.env)
        assert done.code in (0, 1), (command, done)
        assert "Traceback" not in done.err, done.err
        said += done.out + done.err
    await mended_outside()
    for command in page.mend:
        if command == RUN:
            await running.start_workers(1)
            continue
        done = await finish(*command, env=running.env)
        assert done.code == 0, (command, done)
    await running.told(alert, "resolved")

    async def is_over() -> bool:
        return not await running.is_firing(alert)

    await wait_until_async(is_over, timeout_s=FIRE_S, every_s=0.2)
    return said


def _is_told_well(message: dict[str, Any]) -> None:
    """Whoever is called learns how urgent it is, what it is, and where the page is."""
    path = {"critical": "/now", "warning": "/today"}[message["labels"]["severity"]]
    assert message["path"] == path
    assert "runbook_base" not in message["labels"]
    page, _, anchor = message["annotations"]["runbook_url"].partition("#")
    assert page == "docs/how-to/runbook.md"
    assert anchor in anchors(read(DOCS / "how-to" / "runbook.md"))
    assert "<no value>" not in json.dumps(message)
    if "site" in message["labels"]:
        assert str(SITE) in message["annotations"]["summary"]


async def _enqueue(redis_url: str, name: str) -> str:
    async with PreloadClient(redis_url) as client:
        receipt = await client.enqueue(SITE, [f"https://www.example.com/{name}/{i}" for i in range(120)])
    return receipt.request_id


async def _submitted(redis_url: str, request_id: str) -> None:
    async with PreloadClient(redis_url) as client:
        status = await client.wait(request_id, timeout=FIRE_S)
    assert status.submitted == status.accepted == 120
