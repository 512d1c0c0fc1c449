"""Each fault of the sandbox as the worker's client of ESA meets it: its class, and what was committed."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import pytest

from esa_preload_worker.esa import (
    EsaClient,
    EsaError,
    FailedFileError,
    PlanOrder,
    RefusedError,
    SiteBusyError,
    UncertainError,
)
from esa_preload_worker.esa.credentials import Credential
from esa_preload_worker.sandbox import DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET, Fault, Sandbox
from integration.sandbox.official import SITE_ID
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from esa_preload_worker.sandbox.faults import FaultKind

URL = "https://a.example/1"
CREATE = "CreateScheduledPreloadJob"
CREATE_PLANS = "CreateScheduledPreloadExecutions"
PLAN = PlanOrder(start=None, end=None, interval_s=30, slice_len=100)


class Known:
    """The sandbox's own key."""

    async def get(self) -> Credential:
        return Credential(
            access_key_id=DEFAULT_ACCESS_KEY_ID,
            access_key_secret=DEFAULT_ACCESS_KEY_SECRET,
            security_token="",
        )

    async def refresh(self) -> Credential:
        return await self.get()


@asynccontextmanager
async def client_of(sandbox: Sandbox, *, timeout_s: float = 5.0) -> AsyncGenerator[EsaClient]:
    async with EsaClient(sandbox.url, Known(), timeout_s, environ={}) as client:
        yield client


async def create(client: EsaClient, *urls: str) -> str:
    return (await client.create_job(site_id=SITE_ID, name="n", urls=urls or (URL,))).job_id


@pytest.mark.parametrize(
    ("kind", "code", "commits"),
    [
        ("lost_before", "uncertain.reset", False),
        ("lost_after", "uncertain.reset", True),
        ("reset_before", "uncertain.reset", False),
        ("reset_after", "uncertain.reset", True),
        ("error_before", "ServiceUnavailable", False),
        ("error_after", "ServiceUnavailable", True),
        ("html_before", "uncertain.unreadable", False),
        ("html_after", "uncertain.unreadable", True),
        ("half", "uncertain.incomplete", True),
        ("garbage", "uncertain.unreadable", True),
    ],
)
async def test_a_create_that_breaks(sandbox: Sandbox, kind: FaultKind, code: str, *, commits: bool) -> None:
    """Nobody who sees the outcome can tell whether the job was made: it is uncertain; the next call is whole again."""
    sandbox.reconfigure(faults=(Fault(kind=kind, operation=CREATE, first=1),))
    async with client_of(sandbox) as client:
        with pytest.raises(UncertainError) as broken:
            await create(client)
        assert broken.value.code == code
        assert len(sandbox.jobs()) == commits
        assert await create(client)
    assert sandbox.stats()["faults"] == {kind: 1}


@pytest.mark.parametrize("kind", ["html_before", "html_after"])
async def test_a_page_with_503(sandbox: Sandbox, kind: FaultKind) -> None:
    """The page of a proxy that says 503 is as uncertain as one that says 200."""
    sandbox.reconfigure(faults=(Fault(kind=kind, probability=1, status=503),))
    async with client_of(sandbox) as client:
        with pytest.raises(UncertainError) as broken:
            await create(client)
    assert (broken.value.code, broken.value.http_status) == ("uncertain.http_5xx", 503)


@pytest.mark.parametrize(
    ("kind", "delay_s", "at_once"),
    [("slow_before", 0.4, False), ("slow_after", 30, True), ("drip", 0.1, True)],
)
async def test_a_create_that_takes_too_long(
    sandbox: Sandbox, kind: FaultKind, delay_s: float, *, at_once: bool
) -> None:
    """The caller gives up in time, and the job is made all the same: before that, or after."""
    sandbox.reconfigure(faults=(Fault(kind=kind, first=1, delay_s=delay_s),))
    async with client_of(sandbox, timeout_s=0.2) as client:
        with pytest.raises(UncertainError) as broken:
            await create(client)
    assert broken.value.code == "uncertain.timeout"
    assert len(sandbox.jobs()) == at_once
    assert len(await wait_until(sandbox.jobs)) == 1


async def test_a_reply_that_drips_in_time(sandbox: Sandbox) -> None:
    """A byte at a time is a reply like any other, for who has the time."""
    sandbox.reconfigure(faults=(Fault(kind="drip", first=1),))
    async with client_of(sandbox) as client:
        assert await create(client) == sandbox.jobs()[0]["id"]


async def test_refusals(sandbox: Sandbox) -> None:
    """Any code of ESA's can be had, for one operation and so many calls; nothing is committed."""
    sandbox.reconfigure(
        faults=(
            Fault(kind="refuse", operation=CREATE, calls=(1,)),
            Fault(kind="refuse", operation=CREATE, calls=(2,), status=403, code="InvalidParameter.Made.Up"),
        )
    )
    async with client_of(sandbox) as client:
        with pytest.raises(SiteBusyError):
            await create(client)
        with pytest.raises(RefusedError) as refused:
            await create(client)
    assert (refused.value.code, refused.value.http_status) == ("InvalidParameter.Made.Up", 403)
    assert sandbox.jobs() == []


async def test_plans_fail(sandbox: Sandbox) -> None:
    """A plan can fail within a success, or be refused; a plan whose reply was lost was made."""
    sandbox.reconfigure(
        faults=(
            Fault(kind="plan_failed", operation=CREATE_PLANS, calls=(1,)),
            Fault(kind="refuse", operation=CREATE_PLANS, calls=(2,), code="InvalidEndTime.Mismatch"),
            Fault(kind="lost_after", operation=CREATE_PLANS, calls=(3,)),
        )
    )
    async with client_of(sandbox) as client:
        job_id = await create(client)
        made = await client.create_plans(job_id, [PLAN])
        assert (made.created, made.failed_count) == ((), 1)
        with pytest.raises(EsaError):
            await client.create_plans(job_id, [PLAN])
        assert sandbox.jobs()[0]["plans_made"] == 0
        with pytest.raises(UncertainError):
            await client.create_plans(job_id, [PLAN])
        assert len(await client.list_plans(job_id)) == sandbox.jobs()[0]["plans_made"] == 1


@pytest.mark.parametrize("kind", ["error_before", "lost_before", "reset_after", "slow_before", "half"])
async def test_a_list_of_refused_urls_that_cannot_be_read(sandbox: Sandbox, kind: FaultKind) -> None:
    """Away, closed, too slow or cut off: the list behind a partial failure is unreadable while the fault is in force."""
    sandbox.reconfigure(
        faults=(Fault(kind=kind, operation="FailedFile", probability=1, status=404, delay_s=0.5),),
        sites={SITE_ID: ("a.example",)},
    )
    async with client_of(sandbox, timeout_s=0.3) as client:
        job = await client.create_job(site_id=SITE_ID, name="n", urls=[URL, "https://b.example/1"])
        with pytest.raises(FailedFileError):
            await client.read_failed_file(job.failed_file_url)
        sandbox.reconfigure(faults=())
        assert [line.url for line in await client.read_failed_file(job.failed_file_url)] == [
            "https://b.example/1"
        ]


async def test_a_list_of_refused_urls_elsewhere(sandbox: Sandbox) -> None:
    """A list at a host that is neither ESA's nor ours is not read: nobody is asked for it."""
    sandbox.reconfigure(
        faults=(Fault(kind="file_elsewhere", operation=CREATE, first=1),), sites={SITE_ID: ("b.example",)}
    )
    async with client_of(sandbox) as client:
        job = await client.create_job(site_id=SITE_ID, name="n", urls=[URL])
        with pytest.raises(FailedFileError, match="not at https"):
            await client.read_failed_file(job.failed_file_url)


async def test_a_list_that_lags(sandbox: Sandbox) -> None:
    """A job whose reply was lost is found by its name, though not before the lag is over; so is its plan."""
    sandbox.reconfigure(list_lag_s=0.3, faults=(Fault(kind="lost_after", first=1),))
    async with client_of(sandbox) as client:
        with pytest.raises(UncertainError):
            await create(client)
        now_ms = round(datetime.now(UTC).timestamp() * 1000)

        async def find() -> tuple[str, ...]:
            jobs = await client.find_jobs(
                site_id=SITE_ID, name="n", since_ms=now_ms - 60_000, until_ms=now_ms + 60_000
            )
            return tuple(job.job_id for job in jobs)

        assert await find() == ()
        sandbox.reconfigure(list_lag_s=0.0)
        (job_id,) = await find()
        sandbox.reconfigure(list_lag_s=30.0)
        await client.create_plans(job_id, [PLAN])
        assert await client.list_plans(job_id) == ()


async def test_a_clock_that_is_off(sandbox: Sandbox) -> None:
    """Twenty minutes off, a call is refused once; the client learns by how much from the reply and is let in."""
    sandbox.reconfigure(clock_offset_s=-1_200.0)
    async with client_of(sandbox) as client:
        assert await create(client)
        assert client.clock_offset_s == pytest.approx(-1_200, abs=2)
    codes = sandbox.stats()["calls"][CREATE]
    assert codes == {"InvalidTimeStamp.Expired": 1, "OK": 1}


async def test_by_the_control_route(sandbox: Sandbox) -> None:
    """A driver in another process puts faults into force and takes them away, and reads how many struck."""
    fault = {"kind": "reset_after", "operation": CREATE, "probability": 1}
    async with aiohttp.ClientSession() as http, client_of(sandbox) as client:
        config_url = f"{sandbox.url}/_sandbox/config"
        async with http.put(config_url, data=json.dumps({"faults": [fault], "list_lag_s": 1})) as reply:
            assert reply.status == 200
        with pytest.raises(UncertainError):
            await create(client)
        async with http.put(config_url, data=json.dumps({"faults": []})) as reply:
            shown = await reply.json()
        assert (shown["faults"], shown["list_lag_s"]) == ([], 1)
        assert await create(client)
        async with http.get(f"{sandbox.url}/_sandbox/stats") as reply:
            assert (await reply.json())["faults"] == {"reset_after": 1}


async def test_nothing_that_lingers_holds_up_the_end(sandbox: Sandbox) -> None:
    """A sandbox that is told to stop does not wait for a reply that comes in an hour."""
    async with asyncio.timeout(10):
        async with Sandbox(sandbox.config) as other:
            other.reconfigure(faults=(Fault(kind="slow_after", probability=1, delay_s=3_600),))
            async with client_of(other, timeout_s=0.1) as client:
                with pytest.raises(UncertainError):
                    await create(client)
