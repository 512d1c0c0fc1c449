"""Lists in pages, against a real server: requests, a request's URLs, a site's failures; and failures that are taken up anew."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload import InvalidRequestError, Page, Plan, QueueFullError, UnsupportedRecordError
from esa_preload.ledger import Ledger
from esa_preload.scripts import command
from esa_preload_worker.claims import Exemption, Settlement
from integration.producers.traffic import SITE, SUBMITTED, drain, urls

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from esa_preload import PreloadClient
    from esa_preload.keys import Keys
    from esa_preload_worker.ledger import WorkerLedger

REFUSED = Settlement(
    what="end", outcome="refused", verdict="refused", reason="invalid_domain", code="InvalidDomain"
)


async def all_of(page: Callable[[str | None], Awaitable[Page[Any]]]) -> list[Any]:
    """Return what is in all pages."""
    found: list[Any] = []
    cursor: str | None = None
    while True:
        some = await page(cursor)
        found += some.items
        cursor = some.cursor
        if cursor is None:
            return found


def ids_of(page: Page[Any]) -> list[str]:
    """Return the ids of the requests of a page."""
    return [info.status.request_id for info in page.items]


async def test_requests_are_listed_newest_first_by_site_and_state(
    client: PreloadClient, worker: WorkerLedger
) -> None:
    """Each request is in the list of all, of its site and of its state, with what was asked for."""
    start = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    plan = Plan(start=start.replace(second=0), interval_s=30)
    await client.enqueue(SITE, urls(2), request_id="first", source="a test", priority="high")
    await drain(worker)
    await client.enqueue(SITE + 1, urls(1), request_id="second", plan=plan, expires_in=3_600)
    await client.enqueue(SITE, urls(1), request_id="third")
    assert ids_of(await client.requests()) == ["third", "second", "first"]
    assert ids_of(await client.requests(SITE)) == ["third", "first"]
    assert ids_of(await client.requests(state="active")) == ["third", "second"]
    assert ids_of(await client.requests(SITE, state="done")) == ["first"]
    assert ids_of(await client.requests(SITE + 2)) == []
    second, first = (await client.requests()).items[1:]
    assert (first.source, first.priority, first.plan, first.expires_at) == ("a test", "high", Plan(), None)
    assert (first.status, second.status) == (await client.status("first"), await client.status("second"))
    assert second.plan == plan
    assert second.expires_at is not None
    assert second.expires_at - second.created_at == timedelta(hours=1)


async def test_pages_of_requests_stay_right_while_requests_come_and_go(
    client: PreloadClient, worker: WorkerLedger
) -> None:
    """What is there from the first page to the last is in exactly one, although others come, and end, in between."""
    for number in range(7):
        await client.enqueue(SITE, urls(1, start=number), request_id=f"r{number}")
    found: list[str] = []
    cursor: str | None = None
    for step in range(4):
        page = await client.requests(limit=2, cursor=cursor)
        found += ids_of(page)
        cursor = page.cursor
        await client.enqueue(SITE, urls(1, start=100 + step), request_id=f"late{step}")
        if step == 1:
            await drain(worker)
    assert found == [f"r{number}" for number in reversed(range(7))]
    assert cursor is None


async def test_a_request_leaves_the_lists_with_its_record(
    client: PreloadClient, worker: WorkerLedger, redis: Redis, keys: Keys
) -> None:
    """When the record is gone nothing lists it, and a sweep takes it out of the index: no key of that is left."""
    await client.enqueue(SITE, urls(1), request_id="short")
    await drain(worker)
    number = await command(redis, "GET", keys.request_number("short"))
    await command(redis, "DEL", keys.request(number.decode()))
    assert ids_of(await client.requests()) == []
    assert await command(redis, "ZCARD", keys.done()) == 1
    assert worker.now_ms is not None
    worker.now_ms += 8 * 86_400_000
    await worker.sweep("w", turn_ms=1_000)
    for key in (keys.done(), keys.done(SITE), f"{keys.prefix}leaving"):
        assert await command(redis, "EXISTS", key) == 0


async def test_a_cancelled_and_an_expired_request_are_done(
    client: PreloadClient, worker: WorkerLedger
) -> None:
    """They change the list in the script that ends them; one whose time is over is never among the active ones."""
    await client.enqueue(SITE, urls(1), request_id="cancelled")
    await client.cancel("cancelled")
    assert ids_of(await client.requests(state="done")) == ["cancelled"]
    await client.enqueue(SITE, urls(1, start=1), request_id="expired", expires_in=0.001)
    await worker.sweep("w", turn_ms=1_000)
    assert ids_of(await client.requests(state="done")) == ["expired", "cancelled"]
    assert ids_of(await client.requests(state="active")) == []


async def test_a_request_of_a_later_release_is_refused_by_name(
    client: PreloadClient, redis: Redis, keys: Keys
) -> None:
    """A list does not show what it cannot read."""
    await client.enqueue(SITE, urls(1), request_id="later")
    number = await command(redis, "GET", keys.request_number("later"))
    await command(redis, "HSET", keys.request(number.decode()), "v", 2)
    with pytest.raises(UnsupportedRecordError, match="request later has version 2"):
        await client.requests()


async def test_the_pending_urls_of_a_request(client: PreloadClient) -> None:
    """Of a lane that others share, only its own, each once; none once it was cancelled, though the lane still holds them."""
    await client.enqueue(SITE, urls(3_000), request_id="many")
    await client.enqueue(SITE, urls(700, start=2_800), request_id="some")
    found = await all_of(lambda cursor: client.request_urls("some", "pending", limit=100, cursor=cursor))
    assert sorted(each.url for each in found) == sorted(urls(700, start=2_800))
    assert {each.state for each in found} == {"pending"}
    await client.cancel("some")
    assert (await client.request_urls("some", "pending")).items == ()


async def test_the_ended_urls_of_a_request(client: PreloadClient, worker: WorkerLedger) -> None:
    """Refused and expired ones are named for each request that owned them, and for no other; the submitted ones are counted only."""
    await client.enqueue(SITE, urls(5), request_id="a")
    await client.enqueue(SITE, urls(2), request_id="b")
    refused = dataclasses.replace(
        SUBMITTED,
        exemptions=tuple(
            Exemption(index=index, verdict="refused", reason="invalid_domain", code="InvalidDomain")
            for index in (0, 3, 4)
        ),
    )
    await drain(worker, refused)
    pages = [await client.request_urls("a", "refused", limit=2)]
    pages.append(await client.request_urls("a", "refused", limit=2, cursor=pages[0].cursor))
    assert [len(page.items) for page in pages] == [2, 1]
    assert pages[1].cursor is None
    assert {each.url for page in pages for each in page.items} == {urls(5)[index] for index in (0, 3, 4)}
    (mine,) = (await client.request_urls("b", "refused")).items
    assert (mine.url, mine.reason, mine.code) == (urls(1)[0], "invalid_domain", "InvalidDomain")
    await client.enqueue(SITE, urls(3, start=10), request_id="late", expires_in=60)
    await client.enqueue(SITE, urls(2, start=10), request_id="given-up")
    await client.cancel("given-up")
    await drain(worker)
    expired = (await client.request_urls("late", "expired")).items
    assert {each.url for each in expired} == set(urls(3, start=10))
    assert (await client.request_urls("given-up", "expired")).items == ()
    assert (await client.request_urls("a", "expired")).items == ()
    with pytest.raises(InvalidRequestError, match="state must be one of") as told:
        await client.request_urls("a", "submitted")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType] - what it is about
    assert "counted" in told.value.hint


async def test_failures_in_pages_by_reason(client: PreloadClient, worker: WorkerLedger) -> None:
    """The newest come first, each once, and a reason leaves the others out; entries have ids of their own."""
    await client.enqueue(SITE, urls(5))
    await drain(worker, REFUSED)
    await client.enqueue(SITE, urls(2, start=5), expires_in=0.001)
    await drain(worker)
    found = await all_of(lambda cursor: client.failure_page(SITE, limit=3, cursor=cursor))
    assert found == list(reversed(await client.failures(SITE)))
    assert len({failure.id for failure in found}) == 7
    expired = await client.failure_page(SITE, reason="expired")
    assert {failure.url for failure in expired.items} == set(urls(2, start=5))


async def test_requeue_takes_up_those_that_are_named(client: PreloadClient, worker: WorkerLedger) -> None:
    """The others stay where they are; one that is gone is passed over."""
    await client.enqueue(SITE, urls(3))
    await drain(worker, REFUSED)
    first, second, third = await client.failures(SITE)
    (receipt,) = await client.requeue(SITE, ids=[third.id, first.id, "1-1"])
    assert receipt.accepted == 2
    assert await client.failures(SITE) == [second]
    assert await client.requeue(SITE, ids=[first.id]) == []
    with pytest.raises(InvalidRequestError):
        await client.requeue(SITE, ids=["first"])
    with pytest.raises(InvalidRequestError):
        await client.requeue(SITE, ids=first.id)


async def test_a_requeue_that_breaks_off_sends_nothing_twice(
    client: PreloadClient, worker: WorkerLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its first chunk took is forgotten with that chunk; the repeat takes up the rest, and what failed since."""
    await client.enqueue(SITE, urls(2_500))
    await drain(worker, REFUSED)
    accept = Ledger.accept

    async def only_one(self: Ledger, *args: Any, number: int | None = None, **options: Any) -> Any:
        if number:
            raise QueueFullError("full")
        return await accept(self, *args, number=number, **options)

    with monkeypatch.context() as broken:
        broken.setattr(Ledger, "accept", only_one)
        with pytest.raises(QueueFullError):
            await client.requeue(SITE)
    assert len(await client.failures(SITE)) == 1_500
    await client.enqueue(SITE + 1, urls(1))
    (receipt,) = await client.requeue(SITE)
    assert (receipt.accepted, receipt.merged) == (1_500, 0)
    assert await client.failures(SITE) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"limit": 0},
        {"limit": 10_001},
        *({"cursor": text} for text in ("x", "1-", "", str(2**64), f"1-{2**64}", f"{2**64}-1", "0-0")),
    ],
)
async def test_arguments_that_are_none(client: PreloadClient, wrong: dict[str, Any]) -> None:
    """A limit out of bounds and a cursor that no page gave are refused by every list."""
    await client.enqueue(SITE, urls(1), request_id="r")
    with pytest.raises(InvalidRequestError):
        await client.requests(**wrong)
    with pytest.raises(InvalidRequestError):
        await client.failure_page(SITE, **wrong)
    for state in ("pending", "refused"):
        with pytest.raises(InvalidRequestError):
            await client.request_urls("r", state, **wrong)
