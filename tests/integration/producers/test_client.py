"""The public client against a real server."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from conftest import NAMESPACE
from esa_preload import (
    InvalidRequestError,
    Plan,
    PreloadClient,
    QueueFullError,
    QueueUnavailableError,
    RequestConflictError,
    SettingsError,
    UnknownRequestError,
    WaitTimeoutError,
)
from esa_preload.calls import parse_call
from esa_preload.client import header_of
from esa_preload.scripts import command
from esa_preload_worker.claims import Batch, Exemption
from esa_preload_worker.embedded import ValkeyProcess
from integration.producers.traffic import SITE, SUBMITTED, drain, urls

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis

    from esa_preload.keys import Keys
    from esa_preload_worker.ledger import WorkerLedger


async def test_a_call_is_chunked_sealed_and_accounted_to_the_end(
    client: PreloadClient, worker: WorkerLedger
) -> None:
    """2,500 URLs go in as three chunks, come out in batches of at most 100, and the status adds up before and after."""
    progress: list[int] = []
    receipt = await client.enqueue(SITE, urls(2_500), progress=progress.append)
    assert (receipt.accepted, receipt.merged, receipt.duplicates, receipt.rejected_count) == (2_500, 0, 0, 0)
    assert progress[-1] == 2_500
    before = await client.status(receipt.request_id)
    assert (before.state, before.pending) == ("active", 2_500)
    batches = await drain(worker, SUBMITTED)
    assert [len(batch.urls) for batch in batches] == [100] * 25
    assert [url for batch in batches for url in batch.urls] == urls(2_500)
    after = await client.wait(receipt.request_id, timeout=1)
    assert (after.state, after.submitted, after.pending, after.in_flight) == ("done", 2_500, 0, 0)


async def test_any_iterable_will_do(client: PreloadClient, worker: WorkerLedger) -> None:
    """Generators and async generators are enqueued like lists."""

    async def later() -> AsyncIterator[str]:
        for url in urls(1_500):
            await asyncio.sleep(0)
            yield url

    assert (await client.enqueue(SITE, later())).accepted == 1_500
    assert (await client.enqueue(SITE, (url for url in urls(5, start=9_000)))).accepted == 5
    await drain(worker, SUBMITTED)


async def test_repeats_and_bad_urls_are_told_apart(client: PreloadClient, worker: WorkerLedger) -> None:
    """A repeat counts once, a bad URL is refused alone and with its reason, and its neighbours go in."""
    receipt = await client.enqueue(
        SITE, ["https://a.example/1", "HTTPS://A.example:443/1#x", "ftp://a.example/2", "https://a.example/3"]
    )
    assert (receipt.accepted, receipt.duplicates, receipt.rejected_count) == (2, 1, 1)
    assert receipt.rejected[0].url == "ftp://a.example/2"
    assert "http" in receipt.rejected[0].reason
    await drain(worker, SUBMITTED)


async def test_a_request_of_bad_urls_only_is_done_at_once(client: PreloadClient) -> None:
    """Nothing was accepted, so the request has ended; its status says so."""
    receipt = await client.enqueue(SITE, ["nonsense", "https://user:secret@a.example/"])
    assert (receipt.accepted, receipt.rejected_count) == (0, 2)
    assert "secret" not in repr(receipt)
    status = await client.status(receipt.request_id)
    assert (status.state, status.accepted) == ("done", 0)


async def test_a_repeated_call_takes_nothing_twice(client: PreloadClient, worker: WorkerLedger) -> None:
    """The same call again returns the same receipt, also when half of it has been submitted in between."""
    first = await client.enqueue(SITE, urls(2_100), request_id="publish-1")
    assert worker.now_ms is not None
    taken = await worker.take(token="t", pump="p", new_batch_id="b")
    assert isinstance(taken, Batch)
    again = await client.enqueue(SITE, urls(2_100), request_id="publish-1")
    assert again == first
    await worker.settle(taken, SUBMITTED, children=(), roll=0.5)
    await drain(worker, SUBMITTED)
    assert (await client.status("publish-1")).submitted == 2_100


async def test_a_call_that_broke_off_resumes(
    client: PreloadClient, worker: WorkerLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failure between two chunks the repeated call brings in what is missing, and only that."""
    ledger = cast("Any", client)._ledger
    accept, calls = ledger.accept, 0

    async def accept_some(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise QueueUnavailableError("gone", request_id="r")
        return await accept(*args, **kwargs)

    monkeypatch.setattr(ledger, "accept", accept_some)
    with pytest.raises(QueueUnavailableError):
        await client.enqueue(SITE, urls(4_500), request_id="r")
    partly = await client.status("r")
    assert (partly.state, 0 < partly.accepted < 4_500) == ("active", True)
    receipt = await client.enqueue(SITE, urls(4_500), request_id="r")
    assert receipt.accepted == 4_500
    await drain(worker, SUBMITTED)
    assert (await client.status("r")).submitted == 4_500


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"urls": urls(3, start=7)}, "with other URLs"),
        ({"urls": urls(1_200)}, "with other URLs"),
        ({"priority": "low"}, "another priority"),
        ({"expires_in": 60}, "expires_in"),
        ({"plan": Plan(interval_s=9)}, "plan"),
        ({"site_id": SITE + 1}, "site"),
    ],
)
async def test_other_content_under_a_known_id_is_a_conflict(
    client: PreloadClient, worker: WorkerLedger, change: dict[str, Any], what: str
) -> None:
    """What differs is named, and nothing of the second call is taken."""
    await client.enqueue(SITE, urls(3), request_id="r")
    arguments: dict[str, Any] = {"site_id": SITE, "urls": urls(3), **change}
    with pytest.raises(RequestConflictError, match=what):
        await client.enqueue(arguments.pop("site_id"), arguments.pop("urls"), request_id="r", **arguments)
    assert (await client.status("r")).accepted == 3
    await drain(worker, SUBMITTED)


async def test_two_requests_share_a_pending_url(client: PreloadClient, worker: WorkerLedger) -> None:
    """The second owner's URLs are merged: submitted once, both see the end."""
    one = await client.enqueue(SITE, urls(10))
    two = await client.enqueue(SITE, urls(10, start=5))
    assert (two.accepted, two.merged) == (10, 5)
    batches = await drain(worker, SUBMITTED)
    assert sorted(url for batch in batches for url in batch.urls) == sorted(urls(15))
    assert (await client.status(one.request_id)).submitted == 10
    assert (await client.status(two.request_id)).submitted == 10
    site = (await client.sites())[0]
    assert (site.submitted, site.pending, site.in_flight) == (15, 0, 0)


async def test_a_full_queue_refuses_the_chunk_and_hands_over_the_receipt(
    client: PreloadClient, worker: WorkerLedger, redis: Redis, keys: Keys
) -> None:
    """Beyond the bound that the workers published a chunk is refused whole; the receipt tells what went in before."""
    await command(redis, "HSET", keys.settings, "max_pending_per_site", 2_500)
    with pytest.raises(QueueFullError, match="2500") as caught:
        await client.enqueue(SITE, urls(10_000), request_id="r")
    assert caught.value.receipt is not None
    assert caught.value.receipt.accepted == 2_000
    assert (await client.status("r")).accepted == 2_000
    await client.cancel("r")
    await drain(worker, SUBMITTED)


async def test_cancel_ends_what_is_pending_and_tells_what_flies(
    client: PreloadClient, worker: WorkerLedger
) -> None:
    """Pending URLs end as cancelled at once and are never claimed; those in flight end as ESA decides."""
    receipt = await client.enqueue(SITE, urls(250))
    taken = await worker.take(token="t", pump="p", new_batch_id="b")
    assert isinstance(taken, Batch)
    assert await client.cancel(receipt.request_id) == (150, 100)
    assert await client.cancel(receipt.request_id) == (0, 100)
    await worker.settle(taken, SUBMITTED, children=(), roll=0.5)
    assert await drain(worker, SUBMITTED) == []
    status = await client.status(receipt.request_id)
    assert (status.state, status.submitted, status.cancelled, status.pending) == ("done", 100, 150, 0)
    with pytest.raises(RequestConflictError, match="cancelled"):
        await client.enqueue(SITE, urls(2_500, start=10_000), request_id=await _cancelled_midway(client))


async def _cancelled_midway(client: PreloadClient) -> str:
    """Return the id of a request that was cancelled before its second chunk."""
    ledger = cast("Any", client)._ledger
    header = header_of(parse_call(SITE, request_id="half"))
    await ledger.accept(replace(header), ["https://a.example/"], number=5, digest="x")
    await client.cancel("half")
    return "half"


async def test_pause_resume_and_requeue(client: PreloadClient, worker: WorkerLedger) -> None:
    """A paused site is not claimed and keeps its reason until another is given, a resumed one is; refused URLs come back as a request of their own, once."""
    receipt = await client.enqueue(SITE, urls(3))
    assert await client.pause(SITE, reason="origin is down")
    assert not await client.pause(SITE, reason="origin is down")
    assert [(site.state, site.reason) for site in await client.sites()] == [("paused", "origin is down")]
    assert not await client.pause(SITE)
    assert [site.reason for site in await client.sites()] == ["origin is down"]
    assert not await client.pause(SITE, reason="by the night shift")
    assert [site.reason for site in await client.sites()] == ["by the night shift"]
    assert await drain(worker, SUBMITTED) == []
    assert await client.resume(SITE)
    assert not await client.resume(SITE)
    refused = replace(
        SUBMITTED,
        exemptions=(Exemption(index=1, verdict="refused", reason="invalid_domain", code="InvalidDomain"),),
    )
    assert len(await drain(worker, refused)) == 1
    assert (await client.status(receipt.request_id)).refused == 1
    failure = (await client.failures(SITE))[0]
    assert (failure.url, failure.reason, failure.code) == (urls(3)[1], "invalid_domain", "InvalidDomain")
    again = await client.requeue(SITE)
    assert [one.accepted for one in again] == [1]
    assert await client.requeue(SITE) == []
    assert await client.failures(SITE) == []
    await drain(worker, SUBMITTED)
    assert (await client.status(again[0].request_id)).submitted == 1


async def test_a_list_in_oss_is_one_batch(client: PreloadClient, worker: WorkerLedger) -> None:
    """The count is the producer's until ESA has counted; then the status tells ESA's numbers."""
    known = await client.enqueue_oss(SITE, "https://b.oss-cn-hangzhou.aliyuncs.com/list.txt", 500)
    unknown = await client.enqueue_oss(SITE, "https://b.oss-cn-hangzhou.aliyuncs.com/other.txt")
    assert (known.accepted, unknown.accepted) == (500, 0)
    assert (await client.status(unknown.request_id)).state == "active"
    ends = replace(SUBMITTED, list_ends={"submitted": 480, "refused": 10})
    batches = await drain(worker, ends)
    assert [(batch.is_list, len(batch.urls)) for batch in batches] == [(True, 1), (True, 1)]
    for request_id in (known.request_id, unknown.request_id):
        status = await client.status(request_id)
        assert (status.state, status.accepted, status.submitted, status.refused) == ("done", 490, 480, 10)
    site = (await client.sites())[0]
    assert (site.submitted, site.refused, site.pending, site.in_flight) == (960, 20, 0, 0)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"site_id": 0}, "site_id must be a whole number"),
        ({"site_id": 2**63}, "site_id must be a whole number"),
        ({"site_id": True}, "site_id must be a whole number"),
        ({"site_id": "x"}, "site_id must be a whole number"),
        ({"urls": []}, "urls is empty"),
        ({"urls": "https://a.example/"}, "not one str"),
        ({"urls": 5}, "not int"),
        ({"priority": "urgent"}, "priority must be one of high, normal, low"),
        ({"expires_in": 0}, "expires_in must be seconds"),
        ({"expires_in": float("nan")}, "expires_in must be seconds"),
        ({"expires_in": "soon"}, "expires_in must be seconds"),
        ({"request_id": "a b"}, "request_id must be"),
        ({"request_id": ""}, "request_id must be"),
        ({"source": "x" * 129}, "source must be"),
        ({"source": "a\nb"}, "source must be"),
        ({"plan": {"start": 1}}, "plan must be a Plan"),
        ({"plan": Plan(end=datetime(2020, 1, 1, tzinfo=UTC))}, "plan end has passed"),
        ({"progress": 5}, "progress must be a function"),
    ],
)
async def test_a_wrong_argument_is_one_sentence_and_nothing_is_enqueued(
    client: PreloadClient, arguments: dict[str, Any], sentence: str
) -> None:
    """The sentence names the argument and what is allowed; the queue stays empty."""
    call: dict[str, Any] = {"site_id": SITE, "urls": ["https://a.example/"], **arguments}
    with pytest.raises(InvalidRequestError, match=sentence):
        await client.enqueue(call.pop("site_id"), call.pop("urls"), **call)
    assert await client.sites() == []


async def test_a_wait_that_is_too_short_says_so(client: PreloadClient, worker: WorkerLedger) -> None:
    """The time-out is an error of its own, the request goes on."""
    receipt = await client.enqueue(SITE, urls(1))
    with pytest.raises(WaitTimeoutError, match="1 URL "):
        await client.wait(receipt.request_id, timeout=0.1)
    await drain(worker, SUBMITTED)
    assert (await client.wait(receipt.request_id, timeout=0.1)).submitted == 1


@pytest.mark.parametrize("timeout", [float("nan"), -1, "x", True])
async def test_a_wait_of_no_time_at_all_is_refused(client: PreloadClient, timeout: Any) -> None:
    """What is no number of seconds is named, before anything is asked."""
    with pytest.raises(InvalidRequestError, match="timeout must be seconds"):
        await client.wait("r", timeout=timeout)


@pytest.mark.parametrize("limit", [0, -5, "x"])
async def test_a_limit_is_a_number(client: PreloadClient, limit: Any) -> None:
    """A wrong limit is the caller's mistake, not Redis's."""
    with pytest.raises(InvalidRequestError, match="limit must be"):
        await client.failures(limit=limit)


@pytest.mark.parametrize(
    ("redis", "namespace"), [(None, "t"), (5, "t"), ("redis://h", 5), ("redis://h", "a b")]
)
def test_a_client_of_nothing_is_refused(redis: Any, namespace: Any) -> None:
    """The sentence names the argument."""
    with pytest.raises(SettingsError, match=r"redis must be|NAMESPACE must be"):
        PreloadClient(redis, namespace=namespace)


@pytest.mark.parametrize("year", [1999, 9000, 9999])
def test_a_plan_lies_in_a_time_that_can_be_reckoned_with(year: int) -> None:
    """At the end of time a rounded minute would be no time any more, and its batch would never end."""
    with pytest.raises(InvalidRequestError, match="must lie between"):
        Plan(start=datetime(year, 12, 31, 23, 59, 59, tzinfo=UTC))


async def test_a_password_that_is_missing_is_one_clear_error(valkey: Path) -> None:
    """A server that wants a password is told apart at once, not asked again without end."""
    other = valkey.parent / "locked"
    other.mkdir(exist_ok=True)
    server = ValkeyProcess(other, socket=other / "v.sock")
    server.start(30)
    url = f"unix://{other / 'v.sock'}"
    try:
        async with asyncio.timeout(20):
            async with PreloadClient(url) as client:
                await command(cast("Any", client)._redis, "CONFIG", "SET", "requirepass", "secret")
            async with PreloadClient(url) as client:
                with pytest.raises(QueueUnavailableError, match=r"(?i)auth"):
                    await client.sites()
    finally:
        server.kill()


async def test_what_only_merges_fits_in_a_full_queue(
    client: PreloadClient, worker: WorkerLedger, redis: Redis, keys: Keys
) -> None:
    """URLs that are pending already take no room: another owner of them is not refused."""
    await command(redis, "HSET", keys.settings, "max_pending_per_site", 1_000)
    await client.enqueue(SITE, urls(1_000))
    assert (await client.enqueue(SITE, urls(1_000))).merged == 1_000
    with pytest.raises(QueueFullError):
        await client.enqueue(SITE, urls(1, start=5_000), request_id="r")
    await drain(worker, SUBMITTED)


async def test_what_has_expired_is_never_claimed(client: PreloadClient, worker: WorkerLedger) -> None:
    """A claim drops it whether or not the sweep has been there; the sweep then says so and counts it."""
    receipt = await client.enqueue(SITE, urls(10), expires_in=1)
    assert await drain(worker, SUBMITTED) == []
    assert (await worker.sweep("w", turn_ms=1_000)).expired == {SITE: 10}
    status = await client.status(receipt.request_id)
    assert (status.state, status.expired, status.pending) == ("done", 10, 0)
    site = (await client.sites())[0]
    assert (site.pending, site.in_flight, site.submitted) == (0, 0, 0)


async def test_what_has_expired_is_among_the_failures_and_comes_back_for_good(
    client: PreloadClient, worker: WorkerLedger
) -> None:
    """Expired URLs are named with their reason; requeued, they are a request without an expiry, and are submitted."""
    await client.enqueue(SITE, urls(10), expires_in=1)
    assert await drain(worker, SUBMITTED) == []
    failures = await client.failures(SITE)
    assert {failure.url for failure in failures} == set(urls(10))
    assert {(failure.reason, failure.code, failure.batch_id) for failure in failures} == {("expired", "", "")}
    (receipt,) = await client.requeue(SITE)
    assert receipt.accepted == 10
    assert await client.failures(SITE) == []
    await drain(worker, SUBMITTED)
    assert (await client.status(receipt.request_id)).submitted == 10


async def test_failures_of_two_sites_may_be_numbered_alike(
    client: PreloadClient, redis: Redis, keys: Keys
) -> None:
    """What failed within a millisecond has the same number at each site: both can be requeued."""
    for site_id in (SITE, SITE + 1):
        await client.enqueue(site_id, urls(1))
        fields = (
            "url",
            urls(1)[0],
            "state",
            "refused",
            "reason",
            "refused",
            "at",
            1,
            "batch",
            "b",
            "lane",
            "",
        )
        await command(redis, "XADD", keys.failures(site_id), "1-0", *fields)
        await command(redis, "PEXPIRE", keys.failures(site_id), 60_000)
    for site_id in (SITE, SITE + 1):
        (receipt,) = await client.requeue(site_id)
        assert (receipt.site_id, receipt.merged) == (site_id, 1)


async def test_what_a_cancelled_request_left_behind_outlives_its_record(
    client: PreloadClient, worker: WorkerLedger, redis: Redis, keys: Keys
) -> None:
    """Its URLs are never submitted, even when its record has gone before a claim met them."""
    receipt = await client.enqueue(SITE, urls(10))
    await client.cancel(receipt.request_id)
    number = await command(redis, "GET", keys.request_number(receipt.request_id))
    await command(redis, "DEL", keys.request(number.decode()))
    assert await drain(worker, SUBMITTED) == []


async def test_an_unknown_request_is_named(client: PreloadClient) -> None:
    """Status and cancel of an id that was never used are the same clear error."""
    with pytest.raises(UnknownRequestError, match="nowhere"):
        await client.status("nowhere")
    with pytest.raises(UnknownRequestError, match="nowhere"):
        await client.cancel("nowhere")


async def test_a_redis_that_is_down_is_one_clear_error() -> None:
    """The error carries the request id with which the call can be repeated, and a hint."""
    async with PreloadClient("redis://127.0.0.1:1") as client:
        with pytest.raises(QueueUnavailableError, match="cannot be reached") as caught:
            await client.enqueue(SITE, ["https://a.example/"], request_id="mine")
        assert "request_id" in caught.value.hint


async def test_a_client_of_yours_stays_open(redis: Redis) -> None:
    """A client that was handed over is not closed with ours, whether or not it decodes replies."""
    async with PreloadClient(redis, namespace=NAMESPACE) as client:
        assert await client.sites() == []
    assert await command(redis, "PING")


async def test_watching_tells_each_change_and_ends(client: PreloadClient, worker: WorkerLedger) -> None:
    """What is watched is seen at once, again when its URLs are in flight, and a last time when it is done."""
    receipt = await client.enqueue(SITE, urls(2))
    seen: list[tuple[str, int, int]] = []
    async for status in client.watch(receipt.request_id, interval_s=0.05):
        seen.append((status.state, status.pending, status.submitted))
        if status.state == "active":
            await drain(worker, SUBMITTED)
    assert seen == [("active", 2, 0), ("done", 0, 2)]
