"""What :class:`esa_preload.Preloads` promises, of every client: over Redis, over HTTP, in memory, with and without ``await``."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest

from esa_preload import (
    IncompleteError,
    InvalidRequestError,
    Plan,
    Preloads,
    RequestConflictError,
    UnknownRequestError,
    UnknownSiteError,
    WaitTimeoutError,
)
from integration.clients.stages import CODE, NAMES, REASON, SITE, Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from esa_preload.model import Page, RequestStatus

OSS_LIST = "https://b.oss-cn-hangzhou.aliyuncs.com/list.txt"
CREATE = "CreateScheduledPreloadJob"


def urls(count: int, *, start: int = 0) -> list[str]:
    """Return distinct normal URLs."""
    return [f"https://www.example.com/{number}" for number in range(start, start + count)]


@pytest.fixture
def client(stage: Stage) -> Preloads:
    """The client of the stage."""
    return stage.client


async def all_pages(ask: Callable[[str | None], Awaitable[Page[Any]]]) -> list[Any]:
    """Return what is on all pages, one after the other."""
    page = await ask(None)
    found = list(page.items)
    while page.cursor is not None:
        page = await ask(page.cursor)
        found += page.items
    return found


async def test_the_receipt_tells_urls_apart(stage: Stage) -> None:
    """A repeat counts once, a bad URL is refused alone with its reason, without what is secret in it, and its neighbours go in."""
    given = [
        "https://a.example/1",
        "HTTPS://A.example:443/1#x",
        "https://me:secret@a.example/",
        "https://a.example/\n2",
        "https://a.example/3",
    ]
    receipt = await stage.client.enqueue(SITE, given)
    assert (receipt.site_id, receipt.accepted, receipt.merged, receipt.duplicates) == (SITE, 2, 0, 1)
    assert [each.url for each in receipt.rejected] == ["https://***@a.example/", "https://a.example/\\x0a2"]
    assert ["credentials" in receipt.rejected[0].reason, "line break" in receipt.rejected[1].reason] == [
        True,
        True,
    ]
    status = await stage.client.status(receipt.request_id)
    assert (status.site_id, status.state, status.accepted, status.pending) == (SITE, "active", 2, 2)
    await stage.workers.end_all()


async def test_urls_of_no_str_and_urls_without_end_are_rejected(stage: Stage) -> None:
    """Whatever is among the URLs, it takes no other along."""
    odd = cast(
        "Any",
        [None, 7, b"https://a.example/", "https://a.example/" + "x" * 70_000, "\udc80", "https://a.example/"],
    )
    receipt = await stage.client.enqueue(SITE, odd)
    assert (receipt.accepted, receipt.rejected_count, len(receipt.rejected)) == (1, 5, 5)
    assert [each.url for each in receipt.rejected][:3] == ["<NoneType>", "<int>", "<bytes>"]
    assert "longer than" in receipt.rejected[3].reason
    await stage.workers.end_all()


async def test_a_request_of_bad_urls_only_is_done_at_once(client: Preloads) -> None:
    """Nothing was accepted, so the request has ended."""
    receipt = await client.enqueue(SITE, ["nonsense"])
    assert (receipt.accepted, receipt.rejected_count) == (0, 1)
    assert (await client.status(receipt.request_id)).state == "done"


async def test_a_repeated_call_takes_nothing_twice(stage: Stage) -> None:
    """The same call again returns the same receipt, also when its URLs have ended in between."""
    first = await stage.client.enqueue(
        SITE, urls(1_100), request_id="publish-1", expires_in=604_800, priority="high"
    )
    await stage.workers.end_all()
    again = await stage.client.enqueue(
        SITE, urls(1_100), request_id="publish-1", expires_in=604_800, priority="high"
    )
    assert again == first
    status = await stage.client.status("publish-1")
    assert (status.accepted, status.submitted, status.state) == (1_100, 1_100, "done")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"urls": urls(3, start=7)}, "other URLs"),
        ({"priority": "low"}, "priority"),
        ({"expires_in": 60}, "expires_in"),
        ({"plan": Plan(interval_s=9)}, "plan"),
        ({"site_id": SITE + 1}, "site"),
    ],
)
async def test_other_content_under_a_known_id_is_a_conflict(
    stage: Stage, change: dict[str, Any], what: str
) -> None:
    """What differs is named, and nothing of the second call is taken."""
    await stage.client.enqueue(SITE, urls(3), request_id="r")
    arguments: dict[str, Any] = {"site_id": SITE, "urls": urls(3), **change}
    with pytest.raises(RequestConflictError, match=what):
        await stage.client.enqueue(
            arguments.pop("site_id"), arguments.pop("urls"), request_id="r", **arguments
        )
    assert (await stage.client.status("r")).accepted == 3
    await stage.workers.end_all()


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"site_id": 0}, "site_id"),
        ({"site_id": "x"}, "site_id"),
        ({"urls": []}, "urls"),
        ({"urls": "https://a.example/"}, "urls"),
        ({"urls": None}, "urls"),
        ({"priority": "higher"}, "priority"),
        ({"expires_in": -1}, "expires_in"),
        ({"request_id": "a b"}, "request_id"),
        ({"source": "x" * 129}, "source"),
        ({"plan": "now"}, "plan"),
        ({"plan": Plan(end=datetime(2020, 1, 1, tzinfo=UTC))}, "plan"),
        ({"progress": 3}, "progress"),
    ],
)
async def test_a_wrong_argument_is_named_and_nothing_is_enqueued(
    client: Preloads, arguments: dict[str, Any], what: str
) -> None:
    """Each argument is checked before anything is taken."""
    call: dict[str, Any] = {"site_id": SITE, "urls": urls(1), **arguments}
    with pytest.raises(InvalidRequestError, match=what):
        await client.enqueue(call.pop("site_id"), call.pop("urls"), **call)
    assert (await client.requests()).items == ()


async def test_any_iterable_will_do(stage: Stage) -> None:
    """Generators and, with ``await``, async generators are enqueued like lists; progress tells how far it is."""

    async def later() -> AsyncIterator[str]:
        for url in urls(1_500):
            yield url

    seen: list[int] = []
    receipt = await stage.client.enqueue(SITE, (url for url in urls(1_500)), progress=seen.append)
    assert (receipt.accepted, seen[-1], seen) == (1_500, 1_500, sorted(seen))
    if stage.is_async:
        assert (await stage.client.enqueue(SITE, later())).merged == 1_500
    await stage.workers.end_all()


async def test_many_tasks_share_a_client(stage: Stage) -> None:
    """Small enqueues do not wait for one another, nor stand in one another's way."""
    calls = [stage.client.enqueue(SITE, urls(1, start=number)) for number in range(150)]
    receipts = await asyncio.gather(*calls)
    assert [receipt.accepted for receipt in receipts] == [1] * 150
    await stage.workers.end_all()


async def test_a_list_that_breaks_off_is_told(stage: Stage) -> None:
    """A small one is not taken at all; of a large one the receipt has the request's id."""

    def damaged(count: int) -> Iterator[str]:
        yield from urls(count)
        raise InvalidRequestError("the list is damaged")

    with pytest.raises(InvalidRequestError, match="damaged"):
        await stage.client.enqueue(SITE, damaged(10), request_id="small")
    with pytest.raises(UnknownRequestError):
        await stage.client.status("small")
    with pytest.raises(IncompleteError, match="damaged") as caught:
        await stage.client.enqueue(SITE, damaged(60_000), request_id="large")
    assert caught.value.receipt.request_id == "large"
    await stage.workers.end_all()


async def test_two_requests_share_a_pending_url(stage: Stage) -> None:
    """What is pending already is merged: submitted once, and both see its end."""
    one = await stage.client.enqueue(SITE, urls(10))
    two = await stage.client.enqueue(SITE, urls(10, start=5))
    assert (two.accepted, two.merged) == (10, 5)
    assert [site.pending for site in await stage.client.sites()] == [15]
    await stage.workers.end_all()
    for receipt in (one, two):
        assert (await stage.client.status(receipt.request_id)).submitted == 10


async def test_a_list_in_oss_is_one_batch(stage: Stage) -> None:
    """It is accepted as so many URLs as its producer says; what is no https address is not."""
    receipt = await stage.client.enqueue_oss(SITE, OSS_LIST, 500, source="nightly")
    assert (receipt.accepted, (await stage.client.status(receipt.request_id)).state) == (500, "active")
    unknown = await stage.client.enqueue_oss(SITE, OSS_LIST)
    assert (unknown.accepted, (await stage.client.status(unknown.request_id)).state) == (0, "active")
    for wrong in ("http://b.example/list.txt", "list.txt"):
        with pytest.raises(InvalidRequestError, match="oss_url"):
            await stage.client.enqueue_oss(SITE, wrong)
    with pytest.raises(InvalidRequestError, match="count"):
        await stage.client.enqueue_oss(SITE, OSS_LIST, 0)
    for each in (receipt, unknown):
        await stage.client.cancel(each.request_id)


async def test_waiting_sees_the_end_and_does_not_wait_longer_than_told(stage: Stage) -> None:
    """A wait returns the status that is done, tells each that it saw, and gives up in time."""
    receipt = await stage.client.enqueue(SITE, urls(3))
    seen: list[RequestStatus] = []
    with pytest.raises(WaitTimeoutError, match="3 URLs"):
        await stage.client.wait(receipt.request_id, timeout=0.05, progress=seen.append)
    assert {status.pending for status in seen} == {3}
    await stage.workers.end_all()
    status = await stage.client.wait(receipt.request_id, timeout=5)
    assert (status.state, status.submitted) == ("done", 3)
    with pytest.raises(InvalidRequestError, match="timeout"):
        await stage.client.wait(receipt.request_id, timeout=-1)


async def test_watching_tells_each_change_and_ends(stage: Stage) -> None:
    """The first status comes at once, the last one is done."""
    receipt = await stage.client.enqueue(SITE, urls(2))
    seen: list[tuple[str, int, int]] = []
    async for status in stage.client.watch(receipt.request_id, interval_s=0.05):
        seen.append((status.state, status.pending, status.submitted))
        if status.state == "active":
            await stage.workers.end_all()
    assert seen == [("active", 2, 0), ("done", 0, 2)]


async def test_cancelling_gives_up_what_is_pending(client: Preloads) -> None:
    """It is counted, and a second time there is nothing to give up."""
    receipt = await client.enqueue(SITE, urls(4))
    assert await client.cancel(receipt.request_id) == (4, 0)
    assert await client.cancel(receipt.request_id) == (0, 0)
    status = await client.status(receipt.request_id)
    assert (status.state, status.cancelled) == ("done", 4)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("status", {}),
        ("request", {}),
        ("wait", {}),
        ("watch", {}),
        ("cancel", {}),
        ("explain", {}),
        ("request_urls", {"state": "pending"}),
    ],
)
async def test_an_unknown_request_is_told(client: Preloads, verb: str, arguments: dict[str, Any]) -> None:
    """Every verb about a request says that there is none."""
    called = getattr(client, verb)("nobody", **arguments)
    with pytest.raises(UnknownRequestError, match="nobody"):
        await (anext(called) if verb == "watch" else called)


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("site", {"site_id": SITE}),
        ("pause", {"site_id": SITE}),
        ("resume", {"site_id": SITE}),
        ("explain", {"site_id": SITE}),
        ("site_id", {"name_or_id": "nobody.example"}),
    ],
)
async def test_an_unknown_site_is_told(client: Preloads, verb: str, arguments: dict[str, Any]) -> None:
    """Every verb about a site says that there is none."""
    with pytest.raises(UnknownSiteError):
        await getattr(client, verb)(**arguments)


async def test_a_site_is_paused_and_goes_on(stage: Stage) -> None:
    """Each says whether it changed anything; the reason is shown, and kept."""
    await stage.client.enqueue(SITE, urls(1))
    assert [await stage.client.pause(SITE, reason="origin is down"), await stage.client.pause(SITE)] == [
        True,
        False,
    ]
    (site,) = await stage.client.sites()
    assert (site.site_id, site.state, site.reason) == (SITE, "paused", "origin is down")
    one = await stage.client.site(SITE)
    assert replace(one, oldest_pending_s=0) == replace(site, oldest_pending_s=0)
    assert [await stage.client.resume(SITE), await stage.client.resume(SITE)] == [True, False]
    assert [each.state for each in await stage.client.sites()] == ["active"]
    assert await stage.client.site_id(str(SITE)) == await stage.client.site_id(SITE) == SITE
    await stage.workers.end_all()


async def test_one_site_is_read_without_the_others(stage: Stage) -> None:
    """It is the one that was asked for, with its name and its totals."""
    await stage.workers.list_sites()
    for number, site_id in enumerate((SITE, 7, SITE + 1), start=1):
        await stage.client.enqueue(site_id, urls(number))
    site = await stage.client.site(7)
    assert (site.site_id, site.name, site.state, site.pending) == (7, "shop.example.com", "active", 2)
    with pytest.raises(InvalidRequestError):
        await stage.client.site(0)
    await stage.workers.end_all()
    assert (await stage.client.site(7)).submitted == 2


@pytest.mark.parametrize("said", ["shop.example.com", "Shop.Example.com.", " shop.example.com "])
async def test_a_site_is_found_by_its_name(stage: Stage, said: str) -> None:
    """By the list that the workers keep, however it is written, before the site had a URL."""
    await stage.workers.list_sites()
    assert await stage.client.site_id(said) == NAMES["shop.example.com"]


@pytest.mark.parametrize("wrong", [0, -1, "0", "", "a b", "a\x1b[1m", True])
async def test_what_is_neither_id_nor_name_of_a_site_is_refused(client: Preloads, wrong: Any) -> None:
    """The same for every client."""
    with pytest.raises(InvalidRequestError):
        await client.site_id(wrong)


async def test_a_plan_arrives_as_it_was_meant(stage: Stage) -> None:
    """Its moments are those that were given, from whatever zone, and rounded up to the minute."""
    beijing = timezone(timedelta(hours=8))
    start = datetime(2199, 1, 1, 8, 0, 30, tzinfo=beijing)
    plan = Plan(start=start, end=start + timedelta(hours=2), interval_s=7, slice_len=3)
    await stage.client.enqueue(SITE, urls(2), request_id="r", plan=plan)
    (info,) = (await stage.client.requests()).items
    assert info.plan is not None
    assert (info.plan.start, info.plan.end) == (
        datetime(2199, 1, 1, 0, 1, tzinfo=UTC),
        datetime(2199, 1, 1, 2, 1, tzinfo=UTC),
    )
    assert (info.plan.interval_s, info.plan.slice_len) == (7, 3)
    await stage.client.cancel("r")


async def test_requests_are_listed_newest_first_in_pages(stage: Stage) -> None:
    """All pages together have each request once; a state and a site choose among them."""
    plan = Plan(interval_s=60, slice_len=10)
    for number in range(5):
        await stage.client.enqueue(
            SITE + number % 2,
            urls(1, start=number),
            request_id=f"r{number}",
            plan=plan,
            priority="low",
            source="cms",
            expires_in=3600,
        )
    found = await all_pages(lambda cursor: stage.client.requests(limit=2, cursor=cursor))
    assert [info.status.request_id for info in found] == ["r4", "r3", "r2", "r1", "r0"]
    assert {(info.source, info.priority, info.plan) for info in found} == {("cms", "low", plan)}
    assert all(info.actor and info.expires_at - info.created_at == timedelta(hours=1) for info in found)
    of_site = await stage.client.requests(SITE)
    assert [info.status.request_id for info in of_site.items] == ["r4", "r2", "r0"]
    await stage.client.cancel("r2")
    done = await stage.client.requests(state="done")
    assert [info.status.request_id for info in done.items] == ["r2"]
    await stage.workers.end_all()


async def test_one_request_is_read_as_the_list_has_it(stage: Stage) -> None:
    """Who made it, from which source, with which plan and priority; its counts are those of now."""
    plan = Plan(interval_s=60, slice_len=10)
    arguments: dict[str, Any] = {"plan": plan, "priority": "high", "source": "cms", "expires_in": 3600}
    await stage.client.enqueue(SITE, urls(2), request_id="r", **arguments)
    await stage.client.enqueue(SITE, urls(1), request_id="another")
    found = await stage.client.request("r")
    assert found == (await stage.client.requests()).items[1]
    assert (found.source, found.plan, found.priority) == ("cms", plan, "high")
    assert found.actor
    await stage.client.cancel("r")
    assert (await stage.client.request("r")).status == await stage.client.status("r")
    await stage.workers.end_all()


async def test_the_urls_of_a_request_are_known_by_name(stage: Stage) -> None:
    """Those that wait, and those that ended otherwise than submitted; of the submitted ones it is said that they are counted."""
    receipt = await stage.client.enqueue(SITE, urls(7))
    found = await all_pages(
        lambda cursor: stage.client.request_urls(receipt.request_id, "pending", limit=3, cursor=cursor)
    )
    assert sorted(each.url for each in found) == urls(7)
    assert {(each.state, each.reason, each.code) for each in found} == {("pending", "", "")}
    await stage.workers.end_all("refused")
    refused = await stage.client.request_urls(receipt.request_id, "refused")
    assert {(each.state, each.reason, each.code) for each in refused.items} == {("refused", REASON, CODE)}
    assert sorted(each.url for each in refused.items) == urls(7)
    with pytest.raises(InvalidRequestError):
        await stage.client.request_urls(receipt.request_id, cast("Any", "submitted"))


async def test_failures_are_listed_and_taken_up_again(stage: Stage) -> None:
    """What was refused is among the failures of its site, by page and by reason, until it is enqueued anew."""
    await stage.client.enqueue(SITE, urls(5))
    await stage.workers.end_all("refused")
    failures = await stage.client.failures(SITE)
    assert [(each.url, each.reason, each.code) for each in failures] == [
        (url, REASON, CODE) for url in urls(5)
    ]
    assert await stage.client.failures() == failures
    pages = await all_pages(lambda cursor: stage.client.failure_page(SITE, limit=2, cursor=cursor))
    assert pages == failures[::-1]
    assert (await stage.client.failure_page(SITE, reason="expired")).items == ()
    chosen = await stage.client.requeue(SITE, ids=[failures[1].id, failures[3].id])
    assert [receipt.accepted for receipt in chosen] == [2]
    rest = await stage.client.requeue(SITE)
    assert [receipt.accepted for receipt in rest] == [3]
    assert await stage.client.failures(SITE) == []
    assert await stage.client.requeue(SITE) == []
    await stage.workers.end_all()
    assert (await stage.client.status(rest[0].request_id)).submitted == 3


async def test_explaining_names_a_reason(stage: Stage) -> None:
    """A request, its site and its URL are pending for a reason; ended, they have ended."""
    receipt = await stage.client.enqueue(SITE, urls(1))
    for found in (
        await stage.client.explain(receipt.request_id),
        await stage.client.explain(site_id=SITE),
        await stage.client.explain(site_id=SITE, url=urls(1)[0]),
    ):
        assert (found.site_id, found.state) == (SITE, "pending")
        assert next(reason.code for reason in found.reasons) == "no_worker"
    with pytest.raises(InvalidRequestError):
        await stage.client.explain()
    await stage.workers.end_all()
    assert (await stage.client.explain(receipt.request_id)).state == "ended"


async def test_limits_are_set_and_reset_all_or_nothing(client: Preloads) -> None:
    """One wrong rate, and none is set."""
    await client.set_limit(CREATE, 12)
    (limit,) = await client.limits()
    assert (limit.operation, limit.rate, limit.is_fixed) == (CREATE, 12, True)
    with pytest.raises(InvalidRequestError):
        await client.change_limits([("ListScheduledPreloadJobs", 3), ("Nothing", 1)])
    assert await client.limits() == [limit]
    await client.reset_limits(CREATE)
    assert await client.limits() == []
    for operation, rate in (("Nothing", 1), (CREATE, 0)):
        with pytest.raises(InvalidRequestError):
            await client.set_limit(operation, rate)


async def test_what_was_done_is_on_record(stage: Stage) -> None:
    """The audit has who did it, newest first, in pages, and of one site only when asked."""
    await stage.client.enqueue(SITE, urls(1), request_id="r", source="cms")
    await stage.client.pause(SITE, reason="origin is down")
    await stage.client.set_limit(CREATE, 12)
    found = await all_pages(lambda cursor: stage.client.audit(limit=2, cursor=cursor))
    assert [entry.action for entry in found] == ["limit_set", "paused", "enqueued"]
    assert (found[2].request_id, found[2].site_id, found[2].source) == ("r", SITE, "cms")
    assert len({entry.actor for entry in found} - {""}) == 1
    assert [entry.action for entry in (await stage.client.audit(site_id=SITE)).items] == [
        "paused",
        "enqueued",
    ]
    await stage.client.resume(SITE)
    await stage.workers.end_all()


async def test_traffic_has_no_gaps(client: Preloads) -> None:
    """Every bucket is there, oldest first, also where nothing was called."""
    points = await client.traffic(minutes=2)
    assert [point.seconds for point in points] == [10] * len(points)
    assert len(points) in (12, 13)
    steps = {after.at - before.at for before, after in itertools.pairwise(points)}
    assert steps == {timedelta(seconds=10)}


async def test_lists_refuse_a_limit_and_a_cursor_that_are_none(stage: Stage) -> None:
    """Pages are of 1 to 10,000, and a cursor is one that a page had."""
    await stage.client.enqueue(SITE, urls(1), request_id="r")
    lists: list[Callable[..., Awaitable[object]]] = [
        stage.client.requests,
        partial(stage.client.request_urls, "r", "pending"),
        partial(stage.client.failure_page, SITE),
        stage.client.audit,
    ]
    for read in lists:
        for wrong in ({"limit": 0}, {"limit": 10_001}, {"cursor": "☃"}):
            with pytest.raises(InvalidRequestError):
                await read(**wrong)
    await stage.workers.end_all()
