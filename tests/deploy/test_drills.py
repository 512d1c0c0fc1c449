"""Incidents, from the alert to recovery, by the runbook's own commands: a real Prometheus fires, Alertmanager tells somebody, who reads and does what the page says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from deploy.plant import FIRE_S, SITE, plant
from deploy.runbook import drilled, section
from docs.pages import DOCS, anchors, read
from esa_preload import PreloadClient
from esa_preload_worker.sandbox import Fault, SandboxConfig
from processes import finish
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from deploy.plant import Plant

RUN = ("esa-preload-worker", "run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """
    What ESA does to us.

    Attributes:
        alert: that fires.
        strike: changes of the sandbox that bring it about; ``relief``: those that stand for what a person does beside the page's commands.
        word: by which the commands that look name the cause.
    """

    alert: str
    strike: dict[str, Any]
    relief: dict[str, Any]
    word: str


def refused(code: str, status: int) -> dict[str, Any]:
    """Return that ESA refuses every call."""
    return {"faults": (Fault(kind="refuse", probability=1, status=status, code=code),)}


INCIDENTS = (
    Incident(
        alert="EsaPreloadSiteBlocked",
        strike=refused("InvalidAccessKeyId.NotFound", 404),
        relief={"faults": ()},
        word="InvalidAccessKeyId.NotFound",
    ),
    Incident(
        alert="EsaPreloadNoProgress",
        strike=refused("Throttling.User", 429),
        relief={"faults": ()},
        word="throttle",
    ),
    Incident(
        alert="EsaPreloadJobCapFull",
        strike={"max_jobs_per_site": 2},  # as many as it holds by then
        relief={"max_jobs_per_site": None},
        word="job_cap",
    ),
)


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
    assert drilled() == {"EsaPreloadWorkersAbsent", *(incident.alert for incident in INCIDENTS)}


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

    said = await _drill(running, "EsaPreloadWorkersAbsent", relief={})
    assert "no worker is alive" in said
    await _submitted(redis_url, request)


@pytest.mark.slow
@pytest.mark.parametrize("incident", INCIDENTS, ids=lambda incident: incident.alert)
async def test_an_incident_at_esa(running: Plant, redis_url: str, incident: Incident) -> None:
    """Once its cause is gone, the page's commands have it tried at once, and all that waited is submitted."""
    running.sandbox.reconfigure(**incident.strike)
    request = await _enqueue(redis_url, "struck")
    said = await _drill(running, incident.alert, relief=incident.relief)
    assert incident.word in said
    await _submitted(redis_url, request)


async def _drill(running: Plant, alert: str, *, relief: dict[str, Any]) -> str:
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
    running.sandbox.reconfigure(**relief)
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
