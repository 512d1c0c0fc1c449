"""Each operation over a real connection, beside the official client."""

from __future__ import annotations

import asyncio
import importlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload_worker.esa.errors import UncertainError
from esa_preload_worker.esa.model import Job, PlanOrder, PlanState, Site
from integration.esa.loopback import (
    JOB,
    KEY_ID,
    PLAN,
    SECRET,
    TOKEN,
    Recorded,
    Reply,
    Source,
    assert_signed,
    client_of,
    credential,
    recording_server,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload_worker.esa.client import EsaClient

# The official client asks the clock in a way that later Pythons deprecate.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

SITE = 190007158391808
JOB_ID = "665d3af3621bccf3fe29e1a4"
WHEN = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
URLS = ["http://testurl.com/a.txt?x=1&y=%20", "http://testurl.com/b,c;(d)~*'.txt"]


@dataclass(frozen=True)
class Pair:
    """The same call by us and by the official client."""

    ours: Callable[[EsaClient], Awaitable[object]]
    method: str
    fields: dict[str, object]
    reply: object


def plan_fields() -> list[object]:
    """Two plans, as the official client wants them."""
    plan = official("CreateScheduledPreloadExecutionsRequestExecutions")
    return [
        plan(start_time="2026-11-23T12:00:00Z", end_time="2026-11-23T12:00:00Z", interval=30, slice_len=10),
        plan(interval=60, slice_len=5),
    ]


def official(name: str) -> Any:
    """Return a class of the official models."""
    return getattr(importlib.import_module("alibabacloud_esa20240910.models"), name)


ORDERS = [
    PlanOrder(start=WHEN, end=WHEN, interval_s=30, slice_len=10),
    PlanOrder(start=None, end=None, interval_s=60, slice_len=5),
]
PAIRS = {
    "CreateScheduledPreloadJob": Pair(
        lambda client: client.create_job(site_id=SITE, name="中文 a+b~*", urls=URLS),
        "create_scheduled_preload_job",
        {"insert_way": "textBox", "name": "中文 a+b~*", "site_id": SITE, "url_list": "\n".join(URLS)},
        JOB,
    ),
    "CreateScheduledPreloadJob from a list": Pair(
        lambda client: client.create_job_from_list(site_id=SITE, name="n", oss_url="https://b.oss/x?a=b%2Fc"),
        "create_scheduled_preload_job",
        {"insert_way": "oss", "name": "n", "site_id": SITE, "oss_url": "https://b.oss/x?a=b%2Fc"},
        JOB,
    ),
    "GetScheduledPreloadJob": Pair(
        lambda client: client.get_job(JOB_ID), "get_scheduled_preload_job", {"id": JOB_ID}, JOB
    ),
    "ListScheduledPreloadJobs": Pair(
        lambda client: client.list_jobs(
            site_id=SITE, start_ms=1717225276000, end_ms=1717225277000, page=1, page_size=20
        ),
        "list_scheduled_preload_jobs",
        {
            "site_id": SITE,
            "start_time": 1717225276000,
            "end_time": 1717225277000,
            "page_number": 1,
            "page_size": 20,
        },
        {"Jobs": [JOB], "TotalCount": "1"},
    ),
    "DeleteScheduledPreloadJob": Pair(
        lambda client: client.delete_job(JOB_ID), "delete_scheduled_preload_job", {"id": JOB_ID}, {}
    ),
    "CreateScheduledPreloadExecutions": Pair(
        lambda client: client.create_plans(JOB_ID, ORDERS),
        "create_scheduled_preload_executions",
        {"id": JOB_ID},
        {"SuccessExecutions": [PLAN, PLAN], "SuccessCount": 2, "TotalCount": 2},
    ),
    "ListScheduledPreloadExecutions": Pair(
        lambda client: client.list_plans(JOB_ID),
        "list_scheduled_preload_executions",
        {"id": JOB_ID},
        {"Executions": [PLAN], "TotalCount": 1},
    ),
    "DeleteScheduledPreloadExecution": Pair(
        lambda client: client.delete_plan("p 1/+&=~中"),
        "delete_scheduled_preload_execution",
        {"id": "p 1/+&=~中"},
        {},
    ),
    "ListSites": Pair(
        lambda client: client.list_sites(name="a b+c.com"),
        "list_sites",
        {"site_name": "a b+c.com", "site_search_type": "exact", "page_number": 1, "page_size": 500},
        {"Sites": [], "TotalCount": 0},
    ),
}


def call_official(port: int, pair: Pair, token: str) -> None:
    """Make the call of *pair* with the official client; blocks."""
    config = importlib.import_module("alibabacloud_tea_openapi.utils_models").Config(
        access_key_id=KEY_ID,
        access_key_secret=SECRET,
        security_token=token or None,
        endpoint=f"127.0.0.1:{port}",
        protocol="http",
        region_id="cn-hangzhou",
    )
    client = importlib.import_module("alibabacloud_esa20240910.client").Client(config)
    logging.getLogger("darabonba-core").handlers.clear()
    name = "".join(part.capitalize() for part in pair.method.split("_"))
    fields = dict(pair.fields)
    if name == "CreateScheduledPreloadExecutions":
        fields["executions"] = plan_fields()
    getattr(client, pair.method)(official(f"{name}Request")(**fields))


def essence(request: Recorded) -> object:
    """Return what both clients must agree on."""
    names = ("x-acs-action", "x-acs-version", "content-type", "host", "accept", "x-acs-security-token")
    headers = {
        name: request.headers.get(name) for name in (*names, "x-acs-accesskey-id", "x-acs-content-sha256")
    }
    return (request.method, request.target.partition("?")[0], request.query, request.body, headers)


@pytest.mark.parametrize("token", ["", TOKEN], ids=["key", "session"])
@pytest.mark.parametrize("pair", PAIRS.values(), ids=PAIRS)
async def test_what_arrives_is_what_the_official_client_sends(
    pair: Pair, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method, path, query, body and headers are equal, and the signature holds for what arrived, odd characters and all."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    signed_with = credential(token=token)
    async with recording_server() as server, client_of(server.url, Source(signed_with)) as client:
        server.answer(Reply(pair.reply))
        await pair.ours(client)
        await asyncio.to_thread(call_official, server.port, pair, token)
        ours, theirs = server.requests
        assert essence(ours) == essence(theirs)
        assert_signed(ours, signed_with)


async def test_values_come_back_typed() -> None:
    """Jobs, plans and sites of the replies are values of the model, with ESA's id of the call."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(Reply({**JOB, "RequestId": "R-1"}))
        job = await client.create_job(site_id=7, name="n", urls=["https://a/b"])
        assert job == Job(
            job_id=JOB_ID,
            site_id=7,
            name="n",
            url_count=1,
            url_submitted=1,
            task_submitted=0,
            esa_request_id="R-1",
        )
        server.answer(Reply({"Executions": [PLAN], "TotalCount": 1}))
        assert await client.list_plans(JOB_ID) == (
            PlanState(plan_id="665d3af3621bccf3fe29e1a5", job_id=JOB_ID, status="waiting"),
        )
        server.answer(
            Reply({"Sites": [{"SiteId": 1, "SiteName": "a"}], "TotalCount": 2}),
            Reply({"Sites": [{"SiteId": 2, "SiteName": "b"}], "TotalCount": 2}),
        )
        assert await client.list_sites() == (
            Site(site_id=1, name="a", status=""),
            Site(site_id=2, name="b", status=""),
        )


def page(total: int, *jobs: tuple[str, str, str | None]) -> Reply:
    """Make one page of jobs of (id, name, time)."""
    entries = [{**JOB, "Id": job_id, "Name": name, "CreatedAt": at} for job_id, name, at in jobs]
    return Reply({"Jobs": entries, "TotalCount": str(total)})


async def find(client: EsaClient) -> list[str]:
    """Find the jobs named ``mine``."""
    found = await client.find_jobs(site_id=7, name="mine", since_ms=1000, until_ms=2000)
    return [job.job_id for job in found]


async def test_find_reads_all_pages() -> None:
    """Only the exact name counts; the oldest comes first whatever the order of the list, and one without a time last."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(
            page(5, ("c", "mine", "2024-06-01T08:00:02Z"), ("x", "mine-not", None), ("z", "mine", None)),
            page(5, ("a", "mine", "2024-06-01T16:00:01+0800"), ("b", "mine", "2024-06-01T08:00:02Z")),
        )
        assert await find(client) == ["a", "b", "c", "z"]
        queries = [dict(request.query) for request in server.requests]
        assert [query["PageNumber"] for query in queries] == ["1", "2"]
        assert all((query["StartTime"], query["EndTime"]) == ("1000", "2000") for query in queries)


async def test_find_asks_for_less_time_until_one_page_is_the_whole_answer() -> None:
    """A list of several pages may move while it is read; halves of the time are asked for instead."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(
            page(3, ("a", "other", None), ("b", "other", None)),
            page(1, ("c", "mine", None)),
            page(2, ("a", "other", None), ("b", "mine", None)),
        )
        found = await client.find_jobs(site_id=7, name="mine", since_ms=0, until_ms=10_000)
        assert [job.job_id for job in found] == ["b", "c"]
        windows = [
            (query["StartTime"], query["EndTime"]) for query in (dict(r.query) for r in server.requests)
        ]
        assert windows == [("0", "10000"), ("5000", "10000"), ("0", "5000")]


async def test_find_starts_again_when_the_list_moves() -> None:
    """A job that slips to the page before while a list is read is not missed, or the batch would be created twice."""
    a, b, c = (("a", "other", None), ("b", "other", None), ("c", "mine", None))
    async with recording_server() as server, client_of(server.url) as client:
        # Between the pages "a" is deleted: "c" moves to page 1, and page 2 is empty.
        server.answer(page(3, a, b), page(2), page(2, b, c))
        assert await find(client) == ["c"]
        # A new job pushes "b" to page 2, where it shows again.
        server.answer(page(3, a, b), page(3, b), page(3, a, b, c))
        assert await find(client) == ["c"]


async def test_find_never_says_none_when_it_does_not_know() -> None:
    """A list that never holds still, or that keeps jobs back, is uncertain."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(page(3))
        with pytest.raises(UncertainError) as caught:
            await find(client)
        assert caught.value.code == "uncertain.list_moving"
        assert len(server.requests) == 3


async def test_a_url_with_a_line_feed_is_never_sent() -> None:
    """It is refused before a connection is made."""
    async with recording_server() as server, client_of(server.url) as client:
        with pytest.raises(ValueError, match="white space"):
            await client.create_job(site_id=7, name="n", urls=["https://a/b\nhttps://a/c"])
        assert server.requests == []


async def test_a_client_that_is_not_open_says_so() -> None:
    """Outside of ``async with`` there is nothing to call with."""
    with pytest.raises(RuntimeError, match="async with"):
        await client_of("http://127.0.0.1:1").get_job("x")
