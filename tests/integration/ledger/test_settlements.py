"""How claims end, what each owner sees, and what becomes of a batch that ESA refuses as a whole."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.claims import Batch, Block, Exemption, LostClaim, Settlement, SiteWait, Turn, Wait
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import HOLD, KEYS, PUT_BACK, SPLIT, SUBMITTED, LedgerDriver, read_all
from integration.ledger.outcomes import call_of
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from collections.abc import Callable

DEFER = Settlement(what="defer", outcome="uncertain", state="uncertain", delay_ms=1_000)
AGAIN = Settlement(what="defer", outcome="requeued", state="ready")


async def claimed(ledger: LedgerDriver, count: int = 3) -> Batch:
    """Accept *count* URLs as request ``r`` and claim them."""
    await ledger.accept(urls(count), request_id="r")
    ledger.advance(5_000)
    return await ledger.take_batch()


async def test_each_owner_sees_its_own_part(ledger: LedgerDriver) -> None:
    """Two requests share a URL of three; each verdict is accounted to whoever asked for that URL, and to the site once."""
    await ledger.accept(urls(2), request_id="a")
    await ledger.accept(urls(2, start=1), request_id="b")
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    refused = Exemption(index=1, verdict="refused", reason="invalid_url", code="InvalidUrl")
    unknown = Exemption(index=2, verdict="unknown", reason="list_unreadable")
    partial = Settlement(
        what="end", outcome="partial", verdict="submitted", exemptions=(refused, unknown), site_ok=True
    )
    settled = await ledger.settle(batch, partial)
    assert settled.counts == {"submitted": 1, "refused": 1, "unknown": 1}
    assert await ledger.counts("a") == {"accepted": 2, "submitted": 1, "refused": 1}
    assert await ledger.counts("b") == {"accepted": 2, "merged": 1, "refused": 1, "unknown": 1}
    failures = await ledger.producers.failures(1)
    assert [(f.url, f.reason, f.code, f.batch_id) for f in failures] == [
        ("https://a.example/1", "invalid_url", "InvalidUrl", batch.batch_id),
        ("https://a.example/2", "list_unreadable", "", batch.batch_id),
    ]


async def test_what_goes_back_merges_with_what_came_since(ledger: LedgerDriver) -> None:
    """A URL asked for anew while it was in flight becomes one piece of work again when it goes back; both owners see its end."""
    batch = await claimed(ledger)
    again = await ledger.accept(urls(3), request_id="s")
    assert (again.accepted, again.merged) == (3, 0)
    await ledger.settle(batch, PUT_BACK)
    site = await ledger.hash(KEYS.site(1))
    assert (site["accepted"], site["merged"], site["pending"], site["in_flight"]) == ("6", "3", "3", "0")
    ledger.advance(5_000)
    assert [len(taken.urls) for taken in await ledger.drain()] == [3]
    for request_id in ("r", "s"):
        assert await ledger.counts(request_id) == {"accepted": 3, "submitted": 3}


async def test_a_request_that_repeats_itself_while_in_flight_counts_a_repeat(ledger: LedgerDriver) -> None:
    """A URL of two chunks of one request, first in flight and then put back, is one accepted URL and one repeat."""
    await ledger.accept(urls(2), request_id="r", total=None)
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    await ledger.accept(urls(2), request_id="r", number=1, total=2)
    await ledger.settle(batch, PUT_BACK)
    ledger.advance(5_000)
    await ledger.drain()
    assert await ledger.counts("r") == {"accepted": 2, "submitted": 2}


async def test_who_left_is_not_submitted_for(ledger: LedgerDriver) -> None:
    """Of three URLs one is wanted by the living alone, one by both, one by the dead alone: the last one is dropped."""
    await ledger.accept(urls(2), request_id="dead")
    await ledger.accept(urls(2, start=1), request_id="alive")
    assert await ledger.producers.end_request("dead", "cancelled") == (2, 0)
    assert await ledger.producers.end_request("dead", "cancelled") == (0, 0)
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    assert list(batch.urls) == urls(2, start=1)
    await ledger.settle(batch)
    assert await ledger.counts("dead") == {"accepted": 2, "cancelled": 2}
    assert await ledger.counts("alive") == {"accepted": 2, "merged": 1, "submitted": 2}
    site = await ledger.hash(KEYS.site(1))
    assert (site["submitted"], site["cancelled"], site["pending"]) == ("2", "1", "0")


async def test_a_cancel_lets_go_on_what_is_in_flight(ledger: LedgerDriver) -> None:
    """In flight is in flight: it ends as ESA says, or as cancelled when it would have to go back."""
    await ledger.accept(urls(150), request_id="r")
    batch = await ledger.take_batch()
    assert await ledger.producers.end_request("r", "cancelled") == (50, 100)
    back = tuple(Exemption(index=i, verdict="pending") for i in range(40))
    await ledger.settle(
        batch, Settlement(what="end", outcome="partial", verdict="submitted", exemptions=back)
    )
    assert await ledger.counts("r") == {"accepted": 150, "submitted": 60, "cancelled": 90}
    assert (await ledger.producers.status("r")).state == "done"
    ledger.advance(60_000)
    assert await ledger.drain() == []


async def test_a_cancel_of_what_has_ended_changes_nothing(ledger: LedgerDriver) -> None:
    """A request that was done when it was cancelled stays what it was: submitted."""
    await ledger.settle(await claimed(ledger))
    before = await ledger.hash(KEYS.request("1"))
    assert await ledger.producers.end_request("r", "cancelled") == (0, 0)
    assert await ledger.hash(KEYS.request("1")) == before


async def test_a_cancel_between_two_chunks_ends_the_request(ledger: LedgerDriver) -> None:
    """A request of which everything is submitted so far takes nothing more after its cancel."""
    await ledger.accept(urls(1), request_id="r", total=None)
    ledger.advance(5_000)
    await ledger.drain()
    await ledger.producers.end_request("r", "cancelled")
    assert (await ledger.producers.status("r")).state == "done"
    with pytest.raises(Exception, match="has cancelled"):
        await ledger.accept(urls(1, "b"), request_id="r", number=1, total=2)
    with pytest.raises(Exception, match="has cancelled"):
        await ledger.accept((), request_id="r", number=None, total=2)


async def test_a_list_in_oss_whose_length_nobody_knows_can_be_cancelled(ledger: LedgerDriver) -> None:
    """A list counts as work even when its producer counts nothing; cancelled, it is never sent."""
    await ledger.accept(["https://oss.example/list"], request_id="r", lane="oss:r:", weight=0)
    assert (await ledger.producers.status("r")).state == "active"
    await ledger.producers.end_request("r", "cancelled")
    assert await ledger.drain() == []
    assert (await ledger.producers.status("r")).state == "done"


async def test_a_list_in_oss_is_due_at_once_and_ends_by_esas_numbers(ledger: LedgerDriver) -> None:
    """ESA's count replaces the producer's; the site's and the request's sums agree."""
    await ledger.accept(["https://oss.example/list"], request_id="r", lane="oss:r:", weight=10)
    batch = await ledger.take_batch()
    assert batch.is_list
    await ledger.settle(batch, PUT_BACK)
    assert (await ledger.counts("r"))["pending"] == 10
    batch = await ledger.take_batch()
    ends = {"submitted": 7, "refused": 1}
    done = Settlement(
        what="end", outcome="partial", verdict="submitted", reason="other_errors", list_ends=ends
    )
    await ledger.settle(batch, done)
    assert await ledger.counts("r") == {"accepted": 8, "submitted": 7, "refused": 1}
    site = await ledger.hash(KEYS.site(1))
    assert (site["accepted"], site["submitted"], site["refused"], site["in_flight"]) == ("8", "7", "1", "0")
    assert [failure.url for failure in await ledger.producers.failures(1)] == ["https://oss.example/list"]


# --- split batches


async def split_down(
    ledger: LedgerDriver, batch: Batch, is_bad: Callable[[str], bool]
) -> tuple[dict[str, str], int]:
    """Play ESA, which refuses every batch that holds a bad URL; returns the ends of the URLs, and the calls made."""
    calls = 1
    await ledger.settle(batch, SPLIT)
    while isinstance(part := await ledger.take(), Batch):
        calls += 1
        assert part.is_part
        assert part.state == "sent"
        if not any(map(is_bad, part.urls)):
            await ledger.workers.record_job(part, job_id=f"j{calls}", job={}, plan_follows=False)
            await ledger.settle(part)
        else:
            await ledger.settle(part, SPLIT if len(part.urls) > 1 else HOLD)
    return {failure.url: failure.code for failure in await ledger.producers.failures(1)}, calls


async def test_offenders_are_found_and_refused_with_the_code(ledger: LedgerDriver) -> None:
    """Of 100 URLs two offend: they are refused with ESA's code, 98 are submitted, in a bounded number of calls."""
    batch = await claimed(ledger, 100)
    bad = {urls(100)[13], urls(100)[77]}
    failures, calls = await split_down(ledger, batch, lambda url: url in bad)
    assert failures == dict.fromkeys(bad, "InvalidParameter")
    assert await ledger.counts("r") == {"accepted": 100, "submitted": 98, "refused": 2}
    assert calls <= 1 + 2 * 2 * 7
    snapshot = await read_all(ledger.redis)
    assert not any(snapshot.under(kind) for kind in ("batch", "held", "parts"))


async def test_when_not_one_gets_through_the_site_is_blocked_and_nothing_refused(
    ledger: LedgerDriver,
) -> None:
    """A whole batch of offenders says that the request is at fault: all URLs are pending again, the site waits with the code."""
    batch = await claimed(ledger, 8)
    failures, calls = await split_down(ledger, batch, lambda _: True)
    assert (failures, calls) == ({}, 15)
    assert await ledger.counts("r") == {"accepted": 8, "pending": 8}
    (site,) = await ledger.producers.site_statuses()
    assert (site.state, site.reason) == ("blocked", "InvalidParameter")
    assert (await ledger.hash(KEYS.site(1)))["batches"] == "0"
    ledger.advance(60_000)
    probe = await ledger.take_batch()
    assert list(probe.urls) == urls(8), "in their order"
    assert (await ledger.settle(probe)).resumed


async def test_a_part_whose_urls_were_judged_got_through(ledger: LedgerDriver) -> None:
    """A part that became a job shows that requests are good, even when ESA took none of its URLs."""
    batch = await claimed(ledger, 2)
    await ledger.settle(batch, SPLIT)
    first, second = await ledger.take_batch(), await ledger.take_batch()
    await ledger.settle(first, HOLD)
    await ledger.workers.record_job(second, job_id="j", job={}, plan_follows=False)
    await ledger.settle(
        second, Settlement(what="end", outcome="refused", verdict="refused", reason="invalid_url")
    )
    assert (await ledger.counts("r"))["refused"] == 2


async def test_the_parts_of_a_split_batch_wait_for_their_sites_turn(ledger: LedgerDriver) -> None:
    """A poisoned batch of one site does not go before the others; it keeps to the concurrency and the pause of its site."""
    await ledger.publish(site_concurrency=2)
    batch = await claimed(ledger, 8)
    for site in (2, 3):
        await ledger.accept(urls(200), site=site)
    await ledger.settle(batch, SPLIT)
    turns: list[int] = []
    for _ in range(9):
        taken = await ledger.take_batch()
        turns.append(taken.site_id)
        if taken.site_id == 1:
            await ledger.settle(taken, SPLIT if len(taken.urls) > 1 else SUBMITTED)
        else:
            await ledger.settle(taken, PUT_BACK)
    assert all(sorted(turns[i : i + 3]) == [1, 2, 3] for i in range(7))
    for site in (2, 3):
        await ledger.producers.switch_site(site, "pause")
    at_once = [await ledger.take_batch(), await ledger.take_batch()]
    assert await ledger.take_nothing() is None
    await ledger.producers.switch_site(1, "pause")
    for part in at_once:
        await ledger.settle(part)
    assert await ledger.take_nothing() is None
    await ledger.producers.switch_site(1, "resume")
    assert (await ledger.take_batch()).is_part


async def test_parts_do_not_keep_workers_busy_while_the_gate_is_closed(ledger: LedgerDriver) -> None:
    """Parts that wait for a cooldown are waited for by one wake-up at its end."""
    batch = await claimed(ledger, 8)
    await ledger.redis_does("DEL", KEYS.queue)
    await ledger.settle(batch, SPLIT)
    await ledger.redis_does("DEL", KEYS.queue)
    await ledger.redis_does("HSET", KEYS.rate(CREATE_JOB), "cooldown", ledger.now_ms + 30_000)
    assert await ledger.take() == Wait(ms=30_000, stay=False, reason="cooldown")
    assert (await read_all(ledger.redis)).waiting_wakes() == [ledger.now_ms + 30_000]


async def test_a_part_that_was_not_sent_keeps_its_place(ledger: LedgerDriver) -> None:
    """A part that could not be sent is the next part again, and is never forgotten."""
    batch = await claimed(ledger, 4)
    await ledger.settle(batch, SPLIT)
    part = await ledger.take_batch()
    await ledger.settle(part, AGAIN)
    again = await ledger.take_batch()
    assert (again.batch_id, again.state, again.attempt, again.urls) == (part.batch_id, "sent", 2, part.urls)


async def test_a_smaller_batch_is_learnt_for_an_hour(ledger: LedgerDriver) -> None:
    """An error about size lowers the size for all; a late error about a larger batch does not raise it, its end does."""
    await ledger.accept(urls(400))
    first, second = await ledger.take_batch(), await ledger.take_batch()
    await ledger.settle(first, Settlement(what="end", outcome="too_large", verdict="pending", size_limit=20))
    await ledger.settle(second, Settlement(what="end", outcome="too_large", verdict="pending", size_limit=50))
    assert len((await ledger.take_batch()).urls) == 20
    ledger.advance(3_600_000)
    assert max([len((await ledger.take_batch()).urls) for _ in range(3)]) == 100


# --- a URL that ESA refuses by itself

LONE = Settlement(
    what="end",
    outcome="blocked",
    verdict="pending",
    reason="refused",
    code="Odd",
    block=Block(scope="site", code="Odd"),
    lone=True,
)
PLAN = "1700003600000,,,"


async def probes(ledger: LedgerDriver, answer: Callable[[Batch], Settlement], times: int) -> list[int]:
    """Let ESA *answer* a batch a minute; returns how many URLs of each ended as refused."""
    refused: list[int] = []
    for _ in range(times):
        ledger.advance(61_000)
        batch = await ledger.take_batch()
        refused.append((await ledger.settle(batch, answer(batch))).counts.get("refused", 0))
    return refused


@pytest.mark.parametrize("lane", [PLAN, "oss:bad:"])
async def test_a_lone_offender_blocks_its_site_once(ledger: LedgerDriver, lane: str) -> None:
    """Refused again after a batch that was sent since got through, it ends as refused, named, and the site goes on."""
    weight = 0 if lane.startswith("oss:") else 1
    await ledger.accept(urls(1, "bad"), request_id="bad", lane=lane, weight=weight)
    ledger.advance(61_000)
    first = await ledger.settle(await ledger.take_batch(), LONE)
    assert (first.began, first.counts.get("refused", 0)) == (True, 0)
    await ledger.accept(urls(1_000), request_id="good")
    answered = await probes(ledger, lambda batch: LONE if batch.lane == lane else SUBMITTED, 3)
    assert sorted(answered) == [0, 0, 1]
    assert (await ledger.counts("bad"))["refused"] == 1
    assert (await ledger.producers.status("bad")).state == "done"
    (failure,) = await ledger.producers.failures(1)
    assert (failure.url, failure.reason, failure.code) == (urls(1, "bad")[0], "refused", "Odd")
    (site,) = await ledger.producers.site_statuses()
    assert site.state == "active"
    assert await ledger.hash(KEYS.lone(1)) == {}


async def test_a_lone_url_is_not_at_fault_while_nothing_gets_through(ledger: LedgerDriver) -> None:
    """However often it is refused, and when only a batch sent before it got through since; its first time goes in a day."""
    await ledger.accept(urls(100), request_id="good")
    earlier = await ledger.take_batch()
    await ledger.accept(urls(1, "bad"), request_id="bad", lane=PLAN)
    ledger.advance(5_000)
    assert (await ledger.settle(await ledger.take_batch(), LONE)).began
    assert (await ledger.settle(earlier)).resumed
    assert await probes(ledger, lambda _: LONE, 3) == [0, 0, 0]
    assert await ledger.counts("bad") == {"accepted": 1, "pending": 1}
    assert 0 < await ledger.redis_does("PTTL", KEYS.lone(1)) <= 86_400_000


async def test_a_lone_url_that_gets_through_begins_anew(ledger: LedgerDriver) -> None:
    """Refused, then submitted, then asked for again and refused: that is a first time."""
    for answers in ((LONE, SUBMITTED), (LONE,)):
        await ledger.accept(urls(1), lane=PLAN)
        for answer in answers:
            ledger.advance(61_000)
            assert (await ledger.settle(await ledger.take_batch(), answer)).counts.get("refused", 0) == 0
    assert (await ledger.hash(KEYS.site(1)))["pending"] == "1"


async def test_offenders_of_a_lane_of_their_own_block_their_site_once(ledger: LedgerDriver) -> None:
    """A split batch of which no part gets through is put back once; the second time, with good ones since, it is refused."""
    await ledger.accept(urls(2, "bad"), request_id="bad", lane=PLAN)
    ledger.advance(61_000)
    for ends in ({"accepted": 2, "pending": 2}, {"accepted": 2, "refused": 2}):
        await ledger.settle(await ledger.take_batch(), SPLIT)
        for _ in range(2):
            await ledger.settle(await ledger.take_batch(), HOLD)
        assert await ledger.counts("bad") == ends
        ledger.advance(61_000)
        if "pending" in ends:
            await ledger.accept(urls(100), site=1, request_id="good")
            await ledger.redis_does("ZADD", KEYS.lanes(1), 0, "")
            assert (await ledger.settle(await ledger.take_batch())).resumed
            ledger.advance(1)
    (site,) = await ledger.producers.site_statuses()
    assert site.state != "blocked"


# --- sites that wait


OVER_QUOTA = replace(PUT_BACK, site_wait=SiteWait(reason="quota", ms=3_600_000), over_quota=True)


async def test_batches_over_a_quota_are_halved_once_a_wait_and_doubled_by_each_success(
    ledger: LedgerDriver,
) -> None:
    """However many were under way when the wait began, one step down; from one URL up to the full batch in seven steps."""
    await ledger.accept(urls(1_000))
    for batch in [await ledger.take_batch() for _ in range(3)]:
        await ledger.settle(batch, OVER_QUOTA)
    sizes: list[int] = []
    for _ in range(8):
        ledger.advance(3_600_000)
        batch = await ledger.take_batch()
        sizes.append(len(batch.urls))
        await ledger.settle(batch, OVER_QUOTA)
    assert sizes == [50, 25, 12, 6, 3, 1, 1, 1]
    ledger.advance(3_600_000)
    sizes = [len(batch.urls) for batch in await ledger.drain()]
    assert sizes[:9] == [1, 2, 4, 8, 16, 32, 64, 100, 100]
    assert "quota_batch" not in await ledger.hash(KEYS.site(1))


async def test_a_person_who_raised_the_quota_has_full_batches_at_once(ledger: LedgerDriver) -> None:
    """`resume` forgets that batches were too many; a list in OSS, which cannot be smaller, is never told to be."""
    await ledger.accept(urls(1), lane="oss:r:", weight=50, request_id="r")
    await ledger.settle(await ledger.take_batch(), OVER_QUOTA)
    assert "quota_batch" not in await ledger.hash(KEYS.site(1))
    await ledger.producers.switch_site(1, "resume")
    await ledger.accept(urls(300))
    batches = [await ledger.take_batch() for _ in range(2)]
    await ledger.settle(next(batch for batch in batches if not batch.is_list), OVER_QUOTA)
    assert (await ledger.hash(KEYS.site(1)))["quota_batch"] == "50"
    await ledger.producers.switch_site(1, "resume")
    assert len((await ledger.take_batch()).urls) == 100


async def test_a_quota_is_not_cut_short(ledger: LedgerDriver) -> None:
    """Neither a shorter wait nor a success of what was in flight ends the wait for a quota; its end does."""
    await ledger.accept(urls(400))
    first, second, third = [await ledger.take_batch() for _ in range(3)]
    until = ledger.now_ms + 3_600_000
    quota = Settlement(
        what="end", outcome="requeued", verdict="pending", site_wait=SiteWait(reason="quota", ms=3_600_000)
    )
    busy = Settlement(
        what="end", outcome="busy", verdict="pending", site_wait=SiteWait(reason="busy", ms=2_000, grows=True)
    )
    assert (await ledger.settle(first, quota)).waits_until_ms == until
    assert (await ledger.settle(second, busy)).waits_until_ms == until
    await ledger.settle(third)
    assert (await ledger.hash(KEYS.site(1)))["wait_reason"] == "quota"
    assert (await ledger.accept(urls(1, "b"))).waiting_until is not None
    ledger.advance(3_599_999)
    await ledger.take_nothing()
    ledger.advance(1)
    await ledger.settle(await ledger.take_batch())
    site = await ledger.hash(KEYS.site(1))
    assert not {"wait_until", "wait_reason", "strikes"} & set(site)


async def test_a_busy_site_backs_off_alone_and_once_an_episode(ledger: LedgerDriver) -> None:
    """Busy replies double the wait from episode to episode, not within one; other sites go on; a success ends it."""
    await ledger.accept(urls(400), site=1)
    await ledger.accept(urls(100), site=2)
    busy = Settlement(
        what="end", outcome="busy", verdict="pending", site_wait=SiteWait(reason="busy", ms=2_000, grows=True)
    )
    taken = [await ledger.take_batch() for _ in range(4)]
    for batch in taken:
        await ledger.settle(batch, busy if batch.site_id == 1 else SUBMITTED, roll=1.0)
    assert float((await ledger.hash(KEYS.site(1)))["wait_until"]) == ledger.now_ms + 2_000
    ledger.advance(2_000)
    for wait_ms in (4_000, 8_000, 16_000, 32_000, 60_000, 60_000):
        settled = await ledger.settle(await ledger.take_batch(), busy, roll=1.0)
        assert settled.waits_until_ms == ledger.now_ms + wait_ms
        ledger.advance(wait_ms)
    await ledger.settle(await ledger.take_batch())
    assert "wait_until" not in await ledger.hash(KEYS.site(1))


async def test_a_blocked_site_is_probed_by_one_batch_at_a_time(ledger: LedgerDriver) -> None:
    """After the block one batch goes out each probe_ms; its success resumes the site, and only then the others follow."""
    await ledger.accept(urls(400))
    block = Block(scope="site", code="NoPermission", hint="ask", probe_ms=60_000)
    blocked = Settlement(what="end", outcome="blocked", verdict="pending", block=block)
    first, second = await ledger.take_batch(), await ledger.take_batch()
    await ledger.settle(first, blocked)
    await ledger.settle(second, blocked)
    await ledger.take_nothing()
    ledger.advance(60_000)
    probe = await ledger.take_batch()
    assert await ledger.take_nothing() is None
    await ledger.settle(probe, blocked)
    ledger.advance(59_999)
    await ledger.take_nothing()
    ledger.advance(1)
    assert (await ledger.settle(await ledger.take_batch())).resumed
    assert isinstance(await ledger.take(), Batch)
    assert isinstance(await ledger.take(), Batch)


async def test_a_blocked_account_is_probed_by_one_batch_of_all(ledger: LedgerDriver) -> None:
    """No site goes on while the account is blocked; one batch finds out, and a job of it lets all of them go on at once."""
    for site in (1, 2):
        await ledger.accept(urls(300), site=site)
    block = Block(scope="account", code="InvalidAccessKeyId", probe_ms=60_000)
    await ledger.settle(
        await ledger.take_batch(), Settlement(what="end", outcome="blocked", verdict="pending", block=block)
    )
    assert await ledger.take() == Wait(ms=60_000, stay=False, reason="blocked")
    ledger.advance(60_000)
    probe = await ledger.take_batch()
    wait = await ledger.take_nothing()
    assert wait is not None
    assert wait.reason == "blocked"
    await ledger.workers.record_job(probe, job_id="j", job={}, plan_follows=False)
    assert isinstance(await ledger.take(), Batch)


async def test_a_probe_is_small_and_what_follows_is_not(ledger: LedgerDriver) -> None:
    """A refusal of the whole costs a probe 19 calls at most, not 199; once one gets through, batches are full again."""
    await ledger.accept(urls(400))
    block = Block(scope="site", code="InvalidParameter", probe_ms=60_000)
    taken = await ledger.take_batch()
    assert len(taken.urls) == 100
    await ledger.settle(taken, Settlement(what="end", outcome="blocked", verdict="pending", block=block))
    for _ in range(3):
        ledger.advance(60_000)
        probe = await ledger.take_batch()
        assert len(probe.urls) == 10
        assert await split_down(ledger, probe, lambda _: True) == ({}, 19)
        assert "blocked_code" in await ledger.hash(KEYS.site(1))
    ledger.advance(60_000)
    probe = await ledger.take_batch()
    assert len(probe.urls) == 10
    assert (await ledger.settle(probe)).resumed
    assert [len(batch.urls) for batch in await ledger.drain()] == [100, 100, 100, 90]


async def test_a_probe_of_the_account_is_small_too(ledger: LedgerDriver) -> None:
    """Whatever site it is of; the first job lets full batches go on."""
    await ledger.accept(urls(300), site=2)
    block = Block(scope="account", code="InvalidAccessKeyId", probe_ms=60_000)
    await ledger.settle(
        await ledger.take_batch(), Settlement(what="end", outcome="blocked", verdict="pending", block=block)
    )
    ledger.advance(60_000)
    probe = await ledger.take_batch()
    assert len(probe.urls) == 10
    await ledger.workers.record_job(probe, job_id="j", job={}, plan_follows=False)
    assert len((await ledger.take_batch()).urls) == 100


# --- claims


async def test_a_claim_that_ran_out_is_another_ones(ledger: LedgerDriver) -> None:
    """After the lease the batch is handed out as uncertain under a new token; the old one can do nothing any more."""
    batch = await claimed(ledger)
    ledger.advance(9_999)
    assert await ledger.take_nothing() is None
    ledger.advance(1)
    taken = await ledger.take_batch()
    assert (taken.batch_id, taken.state, taken.attempt, taken.urls) == (
        batch.batch_id,
        "uncertain",
        2,
        batch.urls,
    )
    assert taken.sent_ms == taken.first_sent_ms == batch.now_ms
    before = await read_all(ledger.redis)
    assert (await ledger.settle(batch)).lost
    assert await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=True) == LostClaim(
        job_id=""
    )
    assert await ledger.workers.pace(CREATE_JOB, batch) == LostClaim(job_id="")
    assert await ledger.workers.renew("w", {batch.batch_id: batch.token}) == {batch.batch_id}
    after = await read_all(ledger.redis)
    del after.sorted_sets[KEYS.workers]
    assert (after.hashes, after.sorted_sets, after.lists) == (before.hashes, before.sorted_sets, before.lists)


async def test_a_renewed_claim_holds(ledger: LedgerDriver) -> None:
    """A lease counts from its last renewal."""
    batch = await claimed(ledger)
    for _ in range(10):
        ledger.advance(9_000)
        assert await ledger.workers.renew("w", {batch.batch_id: batch.token}) == set()
    assert await ledger.take_nothing() is None
    assert not (await ledger.settle(batch)).lost


async def test_a_job_on_record_is_never_forgotten(ledger: LedgerDriver) -> None:
    """Once there is a job, the batch comes back as created with it, whatever it was put off as; no second job takes its place."""
    batch = await claimed(ledger)
    job = {"job_id": "j1", "url_count": 3}
    now = Turn(sent_ms=ledger.now_ms)
    assert await ledger.workers.record_job(batch, job_id="j1", job=job, plan_follows=True) == now
    assert await ledger.workers.record_job(batch, job_id="j1", job=job, plan_follows=False) == now
    second = await ledger.workers.record_job(batch, job_id="j2", job={}, plan_follows=True)
    assert second == LostClaim(job_id="j1")
    await ledger.settle(batch, AGAIN)
    ledger.advance(1_000)
    taken = await ledger.take_batch()
    assert (taken.state, taken.job) == ("created", job)


async def test_what_is_put_off_comes_back_in_time(ledger: LedgerDriver) -> None:
    """An uncertain batch is handed out again at its moment, not before, and somebody is woken for it."""
    batch = await claimed(ledger)
    await ledger.redis_does("DEL", KEYS.queue)
    await ledger.settle(batch, DEFER)
    assert (await read_all(ledger.redis)).waiting_wakes() == [ledger.now_ms + 1_000]
    ledger.advance(999)
    assert await ledger.take_nothing() is None
    ledger.advance(1)
    assert (await ledger.take_batch()).state == "uncertain"


async def test_a_repeated_take_returns_the_same_batch(ledger: LedgerDriver) -> None:
    """When the reply is lost and the client repeats the command, nothing more is claimed, nor another token spent."""
    await ledger.accept(urls(400))
    first = await ledger.take(token="t", pump="p", new_batch_id="b")
    rate = await ledger.hash(KEYS.rate(CREATE_JOB))
    assert await ledger.take(token="t", pump="p", new_batch_id="b") == first
    assert await ledger.hash(KEYS.rate(CREATE_JOB)) == rate


@pytest.mark.parametrize("settlement", [SUBMITTED, PUT_BACK, DEFER, SPLIT], ids=lambda s: s.what + s.verdict)
async def test_a_repeated_settlement_returns_the_same(ledger: LedgerDriver, settlement: Settlement) -> None:
    """When the reply is lost and the client repeats the command, nothing changes, and the worker can tell how its batch ended."""
    batch = await claimed(ledger)
    settled = await ledger.settle(batch, settlement)
    assert not settled.lost
    left = await read_all(ledger.redis)
    assert await ledger.settle(batch, settlement) == settled
    assert replace(await read_all(ledger.redis), ttl_ms={}) == replace(left, ttl_ms={})
    assert (await ledger.settle(replace(batch, token="another"), settlement)).lost


async def test_forgotten_scripts_are_loaded_again(ledger: LedgerDriver) -> None:
    """SCRIPT FLUSH, or a failover to a server that never saw them, changes nothing, also inside settle_and_take."""
    await ledger.accept(urls(300), request_id="r")
    await ledger.redis_does("SCRIPT FLUSH")
    batch = await ledger.take_batch()
    for token in ("t1", "t2", "t3"):
        await ledger.redis_does("SCRIPT FLUSH")
        settled, taken = await ledger.workers.settle_and_take(
            batch, SUBMITTED, children=(), roll=0.5, token=token, pump="p", new_batch_id=f"b{token}"
        )
        assert not settled.lost
        if isinstance(taken, Batch):
            batch = taken
    await ledger.redis_does("SCRIPT FLUSH")
    assert await ledger.counts("r") == {"accepted": 300, "submitted": 300}


async def test_success_of_plans_is_noted(ledger: LedgerDriver) -> None:
    """What went well makes its operation faster."""
    await ledger.publish(rate_initial=5, rate_max=100)
    batch = await claimed(ledger)
    planned = call_of(batch, "ok", operation=CREATE_PLANS)
    await ledger.settle(batch, replace(SUBMITTED, calls=(planned,)))
    assert float((await ledger.hash(KEYS.rate(CREATE_PLANS)))["rate"]) > 5
