"""The ledger is brought into each state by the real scripts: explain names what holds a URL, and take behaves as explained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import pytest

from esa_preload.errors import UnknownRequestError, UnknownSiteError, UnsupportedRecordError
from esa_preload.explain import explain
from esa_preload.reasons import shown
from esa_preload_worker.claims import Block, Settlement, SiteWait
from esa_preload_worker.decisions import LIST_JOBS, LIST_PLANS
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import HOLD, KEYS, PUT_BACK, SPLIT, SUBMITTED, LedgerDriver, read_all
from integration.ledger.outcomes import call_of
from integration.ledger.test_order import urls
from integration.ledger.test_pace import reported, wait_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload.explanation import Explanation
    from esa_preload_worker.claims import CallOutcome

URL = urls(1)[0]


async def told(
    ledger: LedgerDriver, *, request_id: str | None = None, url: str | None = None, site: int = 1
) -> Explanation:
    """Explain as the client does, with a worker alive; nothing changes but that."""
    await ledger.workers.renew("w", {})
    before = await read_all(ledger.redis)
    facts = await ledger.producers.explain(request_id, site_id=None if request_id else site, url=url)
    after = await read_all(ledger.redis)
    after.ttl_ms = before.ttl_ms
    assert after == before
    return explain(facts, url=url)


def codes(found: Explanation) -> list[str]:
    """Return the reasons in order."""
    return [reason.code for reason in found.reasons]


def ms_of(found: Explanation) -> int:
    """Return when take is to give something."""
    assert found.next_at is not None
    return round(found.next_at.timestamp() * 1000)


async def behaves(ledger: LedgerDriver, found: Explanation) -> None:
    """A millisecond before the moment take gives nothing, at it a batch of the site."""
    left = ms_of(found) - ledger.now_ms
    assert left >= 0
    if left:
        ledger.advance(left - 1)
        await ledger.take_nothing()
        ledger.advance(1)
    assert (await ledger.take_batch()).site_id == found.site_id


async def quiet(ledger: LedgerDriver) -> None:
    await ledger.accept(urls(3), request_id="r")


async def age(ledger: LedgerDriver) -> None:
    await ledger.publish(batch_quiet_ms=50_000)
    await ledger.accept(urls(3), request_id="r")
    ledger.advance(30_000)
    await ledger.accept(urls(1, "b"))


async def full(ledger: LedgerDriver) -> None:
    await ledger.accept(urls(100), request_id="r")


async def _settled(ledger: LedgerDriver, settlement: Settlement) -> None:
    await full(ledger)
    await ledger.settle(await ledger.take_batch(), settlement)


async def quota(ledger: LedgerDriver) -> None:
    await _settled(ledger, replace(PUT_BACK, site_wait=SiteWait(reason="quota", ms=600_000)))


async def job_cap(ledger: LedgerDriver) -> None:
    await _settled(ledger, replace(PUT_BACK, site_wait=SiteWait(reason="job_cap", ms=60_000)))


async def site_busy(ledger: LedgerDriver) -> None:
    await _settled(ledger, replace(PUT_BACK, site_wait=SiteWait(reason="busy", ms=777, grows=True)))


async def site_blocked(ledger: LedgerDriver) -> None:
    await _settled(ledger, replace(PUT_BACK, block=Block(scope="site", code="Forbidden", hint="look")))


async def account_blocked(ledger: LedgerDriver) -> None:
    block = Block(scope="account", code="SignatureDoesNotMatch", hint="look")
    await _settled(ledger, replace(PUT_BACK, block=block))


async def cooldown(ledger: LedgerDriver) -> None:
    await full(ledger)
    batch = await ledger.take_batch()
    await ledger.settle(batch, reported(batch, "throttled", 7_000))


async def endpoint(ledger: LedgerDriver) -> None:
    await full(ledger)
    batch = await ledger.take_batch()
    await ledger.settle(batch, reported(batch, "not_sent"))


async def pace(ledger: LedgerDriver) -> None:
    await ledger.publish(rate_initial=1, rate_max=1)
    while not await wait_ms(ledger, CREATE_JOB):
        pass
    await full(ledger)


STATES: dict[str, Callable[[LedgerDriver], Awaitable[None]]] = {
    "quiet": quiet,
    "age": age,
    "due": full,
    "quota": quota,
    "job_cap": job_cap,
    "site_busy": site_busy,
    "site_blocked": site_blocked,
    "account_blocked": account_blocked,
    "cooldown": cooldown,
    "endpoint": endpoint,
    "pace": pace,
}
"""What ends by itself, at a moment that is told."""


@pytest.mark.parametrize("code", STATES)
async def test_take_does_at_the_moment_told_and_not_before(ledger: LedgerDriver, code: str) -> None:
    """The request, its URL and its site are held by the same thing until the same moment, and go then."""
    await STATES[code](ledger)
    found = [await told(ledger, request_id="r"), await told(ledger, url=URL), await told(ledger)]
    assert [codes(each)[0] for each in found] == [code] * 3
    assert {ms_of(each) for each in found} == {ms_of(found[0])}
    assert (ms_of(found[0]) == ledger.now_ms) == (code == "due")
    assert {each.state for each in found} == {"pending"}
    if code != "due":
        assert found[0].reasons[0].until == found[0].next_at
    await behaves(ledger, found[0])


SENTENCES = {
    "quiet": "its lane waits for more URLs (it has 3 of the 100 of a full batch): it goes at {until} unless more come (BATCH_QUIET)",
    "endpoint": "ESA's endpoint cannot be reached: one call tries it again by {until} at the latest",
    "cooldown": "ESA throttles: nobody calls CreateScheduledPreloadJob until {until}",
    "pace": "the pace allows the next call of CreateScheduledPreloadJob at {until} (1 calls/s)",
}


@pytest.mark.parametrize("code", SENTENCES)
async def test_a_sentence_has_its_moment_where_it_belongs(ledger: LedgerDriver, code: str) -> None:
    """What waits for a moment reads as a sentence with it."""
    await STATES[code](ledger)
    reason = (await told(ledger, url=URL)).reasons[0]
    assert reason.until is not None
    assert reason.text == SENTENCES[code].format(until=shown(reason.until))


async def test_one_is_no_plural(ledger: LedgerDriver) -> None:
    """One URL in one batch, one other lane, one other site."""
    await ledger.accept(urls(1), request_id="r")
    ledger.advance(5_000)
    await ledger.take_batch()
    assert "of 1 URL:" in (await told(ledger, url=URL)).reasons[0].text
    assert (await told(ledger)).reasons[0].text == "nothing is pending; 1 URL in flight, in 1 batch"
    await ledger.accept(urls(100), site=2)
    await ledger.accept(urls(100), lane="1,,,")
    await ledger.accept(urls(100, "b"), request_id="late")
    lanes, sites = (await told(ledger, request_id="late")).reasons
    assert lanes.text == "1 other lane of the site (another plan each) goes before its own"
    assert sites.text == "1 other site has its turn before"


async def test_the_longest_wait_is_the_answer(ledger: LedgerDriver) -> None:
    """A cooldown that ends before the site's quota does is told behind it; the site goes when both are over."""
    await quota(ledger)
    await ledger.redis_does("HSET", KEYS.rate(CREATE_JOB), "cooldown", ledger.now_ms + 5_000)
    found = await told(ledger, url=URL)
    assert codes(found) == ["quota", "cooldown"]
    assert ms_of(found) == ledger.now_ms + 600_000
    await behaves(ledger, found)


async def test_a_probe_is_waited_for(ledger: LedgerDriver) -> None:
    """While one call finds out, others wait for its outcome, at most as long as it is given."""
    await ledger.accept(urls(200), request_id="r")
    first = await ledger.take_batch()
    await ledger.settle(first, reported(first, "throttled", 7_000))
    ledger.advance(7_000)
    await ledger.take_batch()
    found = await told(ledger, request_id="r")
    assert codes(found)[0] == "probe"
    ledger.advance(ms_of(found) - ledger.now_ms - 1)
    await ledger.take_nothing()


async def test_a_site_that_is_paused(ledger: LedgerDriver) -> None:
    """It says what the operator said; take gives nothing for days, and everything after `resume`."""
    await full(ledger)
    await ledger.producers.switch_site(1, "pause", "origin is down")
    found = await told(ledger, url=URL)
    assert (codes(found)[0], found.next_at) == ("paused", None)
    assert "origin is down" in found.reasons[0].text
    assert "esa-preload resume 1" in found.reasons[0].hint
    ledger.advance(86_400_000)
    assert await ledger.take() is None
    await ledger.producers.switch_site(1, "resume")
    await behaves(ledger, await told(ledger, url=URL))


async def test_as_many_batches_as_a_site_may_have(ledger: LedgerDriver) -> None:
    """Four are in flight: the fifth waits for the end of one, and goes then."""
    await ledger.accept(urls(500), request_id="r")
    batches = [await ledger.take_batch() for _ in range(4)]
    found = await told(ledger, request_id="r")
    assert codes(found) == ["concurrency", "in_flight"]
    assert "4 batches" in found.reasons[0].text
    await ledger.take_nothing()
    await ledger.settle(batches[0])
    found = await told(ledger, request_id="r")
    assert codes(found) == ["due", "in_flight"]
    await behaves(ledger, found)


async def test_the_place_in_the_lane(ledger: LedgerDriver) -> None:
    """As many URLs as were accepted before it, those of the bands above among them; take gives them in that order."""
    for number in range(250):
        await ledger.accept([urls(1, start=number)[0]])
        ledger.advance(1)
    await ledger.accept(urls(30, "h"), band=0, request_id="high")
    mine = urls(1, start=220)[0]
    facts = await ledger.producers.explain(site_id=1, url=mine)
    assert facts["pending"] is not None
    assert facts["pending"]["ahead"] == 220 + 30
    found = await told(ledger, url=mine)
    assert codes(found) == ["behind_urls"]
    assert "batch 3 from now" in found.reasons[0].text
    for _ in range(2):
        batch = await ledger.take_batch()
        assert mine not in batch.urls
        await ledger.settle(batch)
    assert codes(await told(ledger, url=mine))[0] != "behind_urls"
    ledger.advance(60_000)
    assert mine in (await ledger.take_batch()).urls


async def test_the_place_among_those_of_one_call(ledger: LedgerDriver) -> None:
    """All of a call share a millisecond: the last of 300 is behind 299, and goes with the last of 15 batches, which is told."""
    await ledger.publish(batch_max_urls=20)
    await ledger.accept(urls(300))
    mine = urls(300)[-1]
    for number in range(15):
        found = await told(ledger, url=mine)
        ahead = 299 - 20 * number
        assert (codes(found)[0] == "behind_urls") == (ahead >= 20)
        if ahead >= 20:
            assert f"about {ahead} URLs" in found.reasons[0].text
            assert f"batch {15 - number} from now" in found.reasons[0].text
            assert found.next_at is None
        batch = await ledger.take_batch()
        assert (mine in batch.urls) == (number == 14)
        await ledger.settle(batch)


async def test_stale_entries_do_not_lead_the_search_astray(ledger: LedgerDriver) -> None:
    """URLs that were promoted leave entries behind, in rows longer than are looked at: the place stays between the bounds."""
    for number in range(100):
        await ledger.accept([urls(1, start=number)[0]])
        ledger.advance(1)
    await ledger.accept(urls(60, start=20), band=0)
    facts = await ledger.producers.explain(site_id=1, url=urls(1, start=90)[0])
    assert facts["pending"] is not None
    assert 30 + 60 <= facts["pending"]["ahead"] <= 90 + 60
    facts = await ledger.producers.explain(site_id=1, url=urls(1, start=10)[0])
    assert facts["pending"] is not None
    assert 10 + 60 <= facts["pending"]["ahead"] <= 100 + 60


async def test_the_place_in_a_long_lane(ledger: LedgerDriver) -> None:
    """Near both ends of a long lane places are exact; between them a sample tells them: a look there would hold the server up."""
    thousands = 80
    for number in range(thousands):
        await ledger.accept(urls(1_000, start=1_000 * number))
        ledger.advance(1)

    async def ahead(number: int) -> int:
        facts = await ledger.producers.explain(site_id=1, url=urls(1, start=number)[0])
        assert facts["pending"] is not None
        return facts["pending"]["ahead"]

    for near in (0, 1_500, 19_990, 61_000, 1_000 * thousands - 1):
        assert await ahead(near) == near
    between = 40_500
    estimates = [await ahead(between) for _ in range(5)]
    assert len(set(estimates)) > 1
    # Seven times what a sample is off, mostly.
    assert all(abs(estimate - between) < 15_000 for estimate in estimates)


async def test_other_lanes_and_sites_in_front(ledger: LedgerDriver) -> None:
    """Lanes of its site and sites that are due before are counted, and served before."""
    await ledger.accept(urls(100), site=2)
    await ledger.accept(urls(100), lane="1,,,")
    await ledger.accept(urls(100), site=3)
    await ledger.accept(urls(100), request_id="r")
    found = await told(ledger, request_id="r")
    assert codes(found) == ["behind_lanes", "behind_sites"]
    assert found.reasons[1].text.startswith("1 other site has its turn")
    taken = [await ledger.take_batch() for _ in range(4)]
    assert [(batch.site_id, batch.lane) for batch in taken] == [(2, ""), (1, "1,,,"), (3, ""), (1, "")]


async def test_no_worker_is_alive(ledger: LedgerDriver) -> None:
    """Without a worker that is what is told first, with the seconds since the last one was seen."""
    await full(ledger)
    found = explain(await ledger.producers.explain("r"))
    assert codes(found) == ["no_worker"]
    await ledger.workers.renew("w", {})
    ledger.advance(14_000)
    assert codes(explain(await ledger.producers.explain("r"))) == ["due"]
    ledger.advance(6_000)
    found = explain(await ledger.producers.explain("r"))
    assert (codes(found), found.next_at) == (["no_worker"], None)
    assert "20 s ago" in found.reasons[0].text


async def test_records_of_a_newer_release(ledger: LedgerDriver) -> None:
    """A lane or a pace of a later release is named; a request of one is refused by name."""
    await full(ledger)
    await ledger.redis_does("HSET", KEYS.lane(1, ""), "v", 2)
    assert codes(await told(ledger, url=URL))[0] == "newer_release"
    await ledger.redis_does("HSET", KEYS.lane(1, ""), "v", 1)
    await ledger.redis_does("HSET", KEYS.rate(CREATE_JOB), "v", 3)
    assert codes(await told(ledger, url=URL))[0] == "newer_release"
    await ledger.redis_does("HSET", KEYS.request("1"), "v", 2)
    with pytest.raises(UnsupportedRecordError, match="request r"):
        await told(ledger, request_id="r")


async def test_what_a_batch_has(ledger: LedgerDriver) -> None:
    """Sent, put off with a lost reply, in parts that wait, and held: state, attempt and batch are told."""
    await ledger.accept(urls(4), request_id="r")
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    for found in (await told(ledger, url=URL), await told(ledger, request_id="r")):
        assert (found.state, codes(found)) == ("in_flight", ["in_flight"])
        assert batch.batch_id in found.reasons[0].text
        assert "state sent, attempt 1" in found.reasons[0].text
    assert (await told(ledger)).state == "in_flight"
    await ledger.settle(
        batch, Settlement(what="defer", outcome="uncertain", state="uncertain", delay_ms=3_000)
    )
    found = await told(ledger, url=URL)
    assert "state uncertain" in found.reasons[0].text
    assert found.reasons[0].until is not None
    assert round(found.reasons[0].until.timestamp() * 1000) == ledger.now_ms + 3_000
    ledger.advance(2_999)
    await ledger.take_nothing()
    ledger.advance(1)
    again = await ledger.take_batch()
    assert again.batch_id == batch.batch_id
    assert "attempt 2" in (await told(ledger, url=URL)).reasons[0].text
    await ledger.settle(again, SPLIT)
    found = await told(ledger, url=URL)
    assert (found.state, codes(found)) == ("in_flight", ["due"])
    await behaves(ledger, found)


CREATED = Settlement(what="defer", outcome="deferred", state="created", delay_ms=1_000)
UNCERTAIN = replace(CREATED, outcome="uncertain", state="uncertain")


async def put_off(
    ledger: LedgerDriver, settlement: Settlement, *reports: tuple[str, CallOutcome, int]
) -> None:
    """A batch of request r is put off, with a job on record when it is to be in state created."""
    await ledger.accept(urls(4), request_id="r")
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    if settlement.state == "created":
        await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=False)
    calls = tuple(
        call_of(batch, outcome, hint_ms, operation=operation) for operation, outcome, hint_ms in reports
    )
    await ledger.settle(batch, replace(settlement, calls=calls))


@pytest.mark.parametrize("scope", ["account", "site"])
@pytest.mark.parametrize("settlement", [CREATED, UNCERTAIN], ids=["created", "uncertain"])
async def test_a_block_holds_what_is_in_flight_too(
    ledger: LedgerDriver, settlement: Settlement, scope: Literal["account", "site"]
) -> None:
    """A batch that is put off while its account or site is blocked says so first, with what to do, then where the batch is."""
    await put_off(ledger, replace(settlement, block=Block(scope=scope, code="Forbidden", hint="look")))
    for found in (await told(ledger, url=URL), await told(ledger, request_id="r"), await told(ledger)):
        assert (found.state, found.next_at) == ("in_flight", None)
        assert codes(found) == [f"{scope}_blocked", "in_flight"]
        assert found.reasons[0].hint.startswith("look; `esa-preload resume")
        assert found.reasons[0].until is not None


@pytest.mark.parametrize(
    ("settlement", "operation"),
    [
        (CREATED, CREATE_PLANS),
        (CREATED, LIST_PLANS),
        (UNCERTAIN, LIST_JOBS),
        (UNCERTAIN, CREATE_JOB),
    ],
)
async def test_what_is_in_flight_waits_for_the_operations_that_it_needs(
    ledger: LedgerDriver, settlement: Settlement, operation: str
) -> None:
    """A cooldown of what comes next is told by the operation's name, until the moment at which it may be called."""
    await put_off(ledger, settlement, (operation, "throttled", 7_000))
    found = await told(ledger, url=URL)
    assert codes(found) == ["cooldown", "in_flight"]
    assert f"nobody calls {operation} until" in found.reasons[0].text
    until = found.reasons[0].until
    assert until is not None
    ledger.advance(round(until.timestamp() * 1000) - ledger.now_ms - 1)
    assert await wait_ms(ledger, operation) > 0
    ledger.advance(1)
    assert await wait_ms(ledger, operation) == 0


async def test_what_another_operation_waits_for_does_not_hold_it(ledger: LedgerDriver) -> None:
    """A cooldown of Create is nothing to a batch that has its job."""
    await put_off(ledger, CREATED, (CREATE_JOB, "throttled", 7_000))
    assert codes(await told(ledger, url=URL)) == ["in_flight"]


async def test_the_endpoint_is_told_once(ledger: LedgerDriver) -> None:
    """It holds both operations that the batch needs, and is one reason."""
    await put_off(ledger, CREATED, (CREATE_PLANS, "not_sent", 0))
    assert codes(await told(ledger, url=URL)) == ["endpoint", "in_flight"]


async def test_a_held_part_is_found(ledger: LedgerDriver) -> None:
    """A single URL that ESA refused waits until its other part is judged."""
    await ledger.accept(urls(2), request_id="r")
    ledger.advance(5_000)
    await ledger.settle(await ledger.take_batch(), SPLIT)
    part = await ledger.take_batch()
    await ledger.settle(part, HOLD)
    found = await told(ledger, url=part.urls[0])
    assert codes(found) == ["in_flight"]
    assert "state held" in found.reasons[0].text


async def test_what_goes_as_a_list_is_in_no_batch_of_so_many(ledger: LedgerDriver) -> None:
    """Where a bucket is, the URLs before it go at once: no number of batches is told while take begins a list, and one again while it does not."""
    await ledger.publish(batch_max_urls=20, bulk_min_urls=150)
    ledger.workers.bulk_min_urls = 150
    mine = urls(150)[-1]
    await ledger.accept(urls(149))
    ledger.advance(1)
    await ledger.accept([mine])
    assert "as lists" in (await told(ledger, url=mine)).reasons[0].text
    await ledger.redis_does("HSET", KEYS.site(1), "quota_batch", 10)
    assert "batch 8 from now" in (await told(ledger, url=mine)).reasons[0].text
    await ledger.redis_does("HDEL", KEYS.site(1), "quota_batch")
    assert (await ledger.take_batch()).state == "gathering"


async def test_what_a_bulk_batch_has(ledger: LedgerDriver) -> None:
    """A URL in one of many packs is found, whether they are gathered, wait for their turn, or go back."""
    ledger.workers.bulk_min_urls = 40
    await ledger.accept(urls(40), request_id="r")
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    for n in range(40):
        await ledger.workers.gather(batch, pack_id=f"p{n}", most_urls=1, most_bytes=1_000)
    for url in (urls(40)[0], urls(40)[39]):
        found = explain(await ledger.producers.explain(site_id=1, url=url), url=url)
        assert (found.state, f"batch {batch.batch_id} of 40 URLs" in found.reasons[-1].text) == (
            "in_flight",
            True,
        )
        assert "state gathering" in found.reasons[-1].text
    found = explain(await ledger.producers.explain("r"))
    assert (found.state, f"batch {batch.batch_id}" in found.reasons[-1].text) == ("in_flight", True)
    await ledger.settle(batch, Settlement(what="defer", outcome="gathered", state="ready", lines=40))
    facts = await ledger.producers.explain(site_id=1, url=urls(40)[39])
    assert facts["batch"] is not None
    assert facts["batch"]["state"] == "ready"
    assert explain(facts, url=urls(40)[39]).state == "in_flight"


async def test_how_it_ended(ledger: LedgerDriver) -> None:
    """A request tells its counts, a URL its last failure; what was submitted, or never accepted, is not pending."""
    await ledger.accept(urls(1), request_id="good")
    ledger.advance(5_000)
    await ledger.settle(await ledger.take_batch(), SUBMITTED)
    found = await told(ledger, request_id="good")
    assert (found.state, found.reasons[0].text) == ("ended", "nothing of it is pending: 1 submitted")
    assert codes(await told(ledger, url=URL)) == codes(await told(ledger)) == ["not_pending"]
    await ledger.accept(urls(1, "b"), request_id="bad")
    ledger.advance(5_000)
    refused = replace(SUBMITTED, verdict="refused", reason="plan_failed", code="X")
    await ledger.settle(await ledger.take_batch(), refused)
    found = await told(ledger, url=urls(1, "b")[0])
    assert (found.state, codes(found)) == ("ended", ["failed"])
    assert "plan_failed (X)" in found.reasons[0].text
    assert "failures" in (await told(ledger, request_id="bad")).reasons[0].hint


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_what_nobody_wants_any_more(ledger: LedgerDriver, how: str) -> None:
    """Its request has ended; the URL is told to be dropped, and a claim drops it."""
    await ledger.accept(urls(2), request_id="r", expires_in_ms=4_000)
    if how == "cancelled":
        await ledger.producers.end_request("r", "cancelled")
    else:
        ledger.advance(4_000)
    found = await told(ledger, request_id="r")
    assert (found.state, codes(found)) == ("ended", ["ended"])
    assert f"2 {how}" in found.reasons[0].text
    assert codes(await told(ledger, url=URL)) == ["unwanted"]
    ledger.advance(60_000)
    await ledger.take_nothing()


async def test_a_list_in_oss_is_due_at_once(ledger: LedgerDriver) -> None:
    """It is a lane and a batch of its own, also when nobody counted it."""
    await ledger.accept(["https://oss.example/list"], request_id="r", lane="oss:r:", weight=0)
    found = await told(ledger, request_id="r")
    assert codes(found) == ["due"]
    await behaves(ledger, found)
    assert (await told(ledger, request_id="r")).state == "in_flight"


async def test_what_is_not_known(ledger: LedgerDriver) -> None:
    """An unknown request and an unknown site are told as such."""
    with pytest.raises(UnknownRequestError):
        await told(ledger, request_id="nobody")
    with pytest.raises(UnknownSiteError):
        await told(ledger, site=9)


async def test_what_outlived_its_plan_is_not_waited_for(ledger: LedgerDriver) -> None:
    """At the end of its plan a URL is unwanted, whoever asked for it, and take drops it."""
    await ledger.accept(urls(1), request_id="r", lane=f",{ledger.now_ms + 3_600_000},,")
    await ledger.producers.switch_site(1, "pause")
    ledger.advance(3_599_999)
    assert codes(await told(ledger, url=URL))[0] == "paused"
    ledger.advance(1)
    assert codes(await told(ledger, url=URL)) == ["unwanted"]
    assert codes(await told(ledger, request_id="r")) == ["unwanted"]
    await ledger.producers.switch_site(1, "resume")
    assert await ledger.take_nothing() is None
