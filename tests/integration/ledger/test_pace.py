"""The gate that all workers pass before they call ESA. What the pace learns: tests/integration/rates."""

from __future__ import annotations

from dataclasses import replace

import pytest
from redis.exceptions import ResponseError

from esa_preload_worker.claims import Batch, CallOutcome, LostClaim, Settlement, Turn, Wait
from esa_preload_worker.decisions import LIST_JOBS
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import KEYS, PUT_BACK, SUBMITTED, LedgerDriver, read_all
from integration.ledger.outcomes import call_of
from integration.ledger.test_order import urls


def reported(batch: Batch, outcome: CallOutcome, hint_ms: int = 0) -> Settlement:
    """The batch goes back, and what became of its Create is told."""
    return replace(PUT_BACK, calls=(call_of(batch, outcome, hint_ms),))


async def rate_of(ledger: LedgerDriver, operation: str = CREATE_JOB) -> float:
    """Return the calls/s now allowed."""
    return (await ledger.workers.rates([operation]))[operation].rate


async def wait_ms(ledger: LedgerDriver, operation: str) -> int:
    """Ask for a call; returns how long to wait for it."""
    turn = await ledger.workers.pace(operation)
    assert isinstance(turn, Turn)
    return turn.wait_ms


@pytest.fixture
async def ten_a_second(ledger: LedgerDriver) -> LedgerDriver:
    """A ledger with a backlog and ten calls a second."""
    await ledger.publish(rate_initial=10, rate_max=10, site_concurrency=100, lease_ms=60_000)
    await ledger.accept(urls(1_000))
    await ledger.accept(urls(1_000), site=2)
    return ledger


async def take_all(ledger: LedgerDriver) -> list[Batch]:
    """Take until there is nothing to take now."""
    found: list[Batch] = []
    while isinstance(taken := await ledger.take(), Batch):
        found.append(taken)
    return found


async def take_three(ledger: LedgerDriver) -> list[Batch]:
    """Take three batches in turn, so that all are under way at once."""
    found: list[Batch] = []
    for _ in range(3):
        found.append(await ledger.take_batch())
        ledger.advance(100)
    return found


async def test_calls_are_spaced(ten_a_second: LedgerDriver) -> None:
    """Ten calls a second; after a pause no more than one of them is made up for."""
    ledger = ten_a_second
    assert len(await take_all(ledger)) == 2
    found = 0
    for _ in range(100):
        ledger.advance(10)
        found += len(await take_all(ledger))
    assert found == 10
    ledger.advance(10_000)
    assert len(await take_all(ledger)) == 2


async def test_a_short_wait_is_waited_for_by_two(ten_a_second: LedgerDriver) -> None:
    """Two loops stay for the next turn, further ones leave; whoever is told to leave for longer has a wake-up armed."""
    ledger = ten_a_second
    await take_all(ledger)
    found = [await ledger.take(pump=f"p{n}") for n in range(3)]
    assert [wait.stay for wait in found if isinstance(wait, Wait)] == [True, False, False]
    ledger.advance(1_200)
    await ledger.redis_does("HSET", KEYS.rate(CREATE_JOB), "cooldown", ledger.now_ms + 5_000)
    assert await ledger.take() == Wait(ms=5_000, stay=False, reason="cooldown")


async def test_one_cut_an_episode(ten_a_second: LedgerDriver) -> None:
    """Calls that are refused together cut the pace once, and wait as long as one of them: the first limit ever met costs 40 %."""
    ledger = ten_a_second
    for number, batch in enumerate(await take_three(ledger)):
        settled = await ledger.settle(batch, reported(batch, "throttled"))
        assert settled.waits_until_ms == ledger.now_ms + 166 - number
        assert await rate_of(ledger) == pytest.approx(6)
        ledger.advance(1)


async def test_a_hint_is_obeyed_and_never_shortens(ten_a_second: LedgerDriver) -> None:
    """The longest hint stands, whatever comes later; nobody of any site calls until then, but other operations do."""
    ledger = ten_a_second
    first, second, _ = await take_three(ledger)
    until = ledger.now_ms + 7_000
    assert (await ledger.settle(first, reported(first, "throttled", 7_000))).waits_until_ms == until
    assert (await ledger.settle(second, reported(second, "throttled", 5))).waits_until_ms == until
    assert await ledger.take() == Wait(ms=7_000, stay=False, reason="cooldown")
    assert await wait_ms(ledger, CREATE_JOB) == 7_000
    assert await wait_ms(ledger, CREATE_PLANS) == 0
    ledger.advance(6_999)
    assert not isinstance(await ledger.take(), Batch)
    ledger.advance(1)
    assert isinstance(await ledger.take(), Batch)


async def test_one_probe_after_a_cooldown(ten_a_second: LedgerDriver) -> None:
    """One call goes out, and two loops stay for its outcome; it opens the gate for the others, who are woken for that."""
    ledger = ten_a_second
    first, *_ = await take_three(ledger)
    await ledger.settle(first, reported(first, "throttled", 2_000))
    ledger.advance(2_000)
    await ledger.redis_does("DEL", KEYS.queue)
    probe = await ledger.take_batch()
    ledger.advance(5_000)
    waits = [await ledger.take(pump=f"p{n}") for n in range(3)]
    assert waits == [Wait(ms=5_000, stay=False, reason="probe")] * 3
    assert (await read_all(ledger.redis)).waiting_wakes() == [ledger.now_ms + 5_000]
    job = ledger.workers.record_job(
        probe, job_id="j", job={}, plan_follows=False, calls=(call_of(probe, "ok"),)
    )
    assert isinstance(await job, Turn)
    opens = (await read_all(ledger.redis)).gate_ms()
    assert opens - ledger.now_ms == pytest.approx(1000 / 6)
    assert (await read_all(ledger.redis)).waiting_wakes() == [int(opens)]
    ledger.advance(167)
    assert len(await take_all(ledger)) == 1


async def test_who_asks_while_a_probe_is_fresh_stays_for_it(ten_a_second: LedgerDriver) -> None:
    """Its outcome comes within a round trip: two loops look every tenth of a second."""
    ledger = ten_a_second
    first, *_ = await take_three(ledger)
    await ledger.settle(first, reported(first, "throttled", 2_000))
    ledger.advance(2_000)
    await ledger.take_batch()
    ledger.advance(50)
    waits = [await ledger.take(pump=f"p{n}") for n in range(3)]
    assert waits == [Wait(ms=100, stay=stay, reason="probe") for stay in (True, True, False)]
    assert await wait_ms(ledger, CREATE_JOB) == 100


@pytest.mark.parametrize("outcome", ["unknown", "answered", "not_sent", None])
async def test_a_probe_that_tells_nothing_is_replaced(
    ten_a_second: LedgerDriver, outcome: CallOutcome | None
) -> None:
    """At once when it came to something else, after ten seconds when nobody tells: its worker died."""
    ledger = ten_a_second
    first, *_ = await take_three(ledger)
    await ledger.settle(first, reported(first, "throttled", 2_000))
    ledger.advance(2_000)
    probe = await ledger.take_batch()
    if outcome:
        await ledger.settle(probe, reported(probe, outcome))
        ledger.advance(1_000 if outcome == "not_sent" else 0)
    else:
        ledger.advance(9_999)
        assert not isinstance(await ledger.take(), Batch)
        ledger.advance(1)
    assert len(await take_all(ledger)) == 1


async def test_the_pace_has_bounds(ledger: LedgerDriver) -> None:
    """However often ESA throttles, RATE_MIN is kept; however well it goes, RATE_MAX is; a bound that is set anew holds at once."""
    await ledger.publish(rate_initial=7, rate_min=6, rate_max=8, site_concurrency=100, batch_max_urls=10)
    await ledger.accept(urls(1_000))
    for _ in range(60):
        for batch in await take_all(ledger):
            await ledger.settle(batch, reported(batch, "ok"))
        ledger.advance(100)
    assert await rate_of(ledger) == 8
    for _ in range(6):
        ledger.advance(100_000)
        batch = await ledger.take_batch()
        await ledger.settle(batch, reported(batch, "throttled"))
    assert await rate_of(ledger) == 6
    await ledger.publish(rate_initial=2, rate_min=1, rate_max=2)
    ledger.advance(100_000)
    await ledger.take_batch()
    assert await rate_of(ledger) == 2


async def test_a_job_that_is_recorded_again_is_reported_once(ledger: LedgerDriver) -> None:
    """Recording is idempotent: the pace does not rise with each repetition."""
    await ledger.accept(urls(100))
    batch = await ledger.take_batch()
    for _ in range(2):
        turn = await ledger.workers.record_job(
            batch, job_id="j", job={}, plan_follows=False, calls=(call_of(batch, "ok"),)
        )
        assert turn == Turn(sent_ms=ledger.now_ms)
        assert (await ledger.hash(KEYS.rate(CREATE_JOB)))["good"] == "1"


async def test_calls_of_a_lost_claim_are_reported_by_themselves(ledger: LedgerDriver) -> None:
    """Who lost its claim settles nothing, and is not heard twice: its calls are reported alone."""
    await ledger.accept(urls(100))
    batch = await ledger.take_batch()
    await ledger.settle(batch)
    calls = (call_of(batch, "ok"), call_of(batch, "ok", operation=LIST_JOBS))
    late = await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=False, calls=calls)
    assert isinstance(late, LostClaim)
    assert "good" not in await ledger.hash(KEYS.rate(LIST_JOBS))
    await ledger.workers.report(calls)
    for operation in (CREATE_JOB, LIST_JOBS):
        assert (await ledger.hash(KEYS.rate(operation)))["good"] == "1"


async def test_an_endpoint_out_of_reach_stops_all_operations_once(ten_a_second: LedgerDriver) -> None:
    """Calls that fail together open the circuit for a second; what fails after it, for two; an answer ends every doubt."""
    ledger = ten_a_second
    batches = await take_three(ledger)
    for batch in batches:
        settled = await ledger.settle(batch, reported(batch, "not_sent"))
        assert settled.waits_until_ms == ledger.now_ms + 1_000
    assert await wait_ms(ledger, CREATE_PLANS) == 1_000
    ledger.advance(1_000)
    batch = await ledger.take_batch()
    settled = await ledger.settle(batch, reported(batch, "not_sent"))
    assert settled.waits_until_ms == ledger.now_ms + 2_000
    ledger.advance(2_000)
    batch = await ledger.take_batch()
    await ledger.settle(batch, replace(SUBMITTED, calls=(call_of(batch, "ok"),)))
    ledger.advance(1_000)
    batch = await ledger.take_batch()
    settled = await ledger.settle(batch, reported(batch, "not_sent"))
    assert settled.waits_until_ms == ledger.now_ms + 1_000


async def test_one_call_finds_out_whether_the_endpoint_answers(ten_a_second: LedgerDriver) -> None:
    """When the circuit is over, one call goes out for all operations; the others follow its answer, or ten seconds without one."""
    ledger = ten_a_second
    late, batch, other = await take_three(ledger)
    await ledger.settle(batch, reported(batch, "not_sent"))
    ledger.advance(1_000)
    assert await wait_ms(ledger, LIST_JOBS) == 0
    assert isinstance(wait := await ledger.take(), Wait)
    assert (wait.ms, wait.stay, wait.reason) == (10_000, False, "endpoint")
    assert await wait_ms(ledger, CREATE_PLANS) == 100
    assert (await ledger.settle(late, reported(late, "not_sent"))).waits_until_ms == ledger.now_ms, (
        "what was sent before the circuit opened says nothing new"
    )
    ledger.advance(10_000)
    assert await wait_ms(ledger, LIST_JOBS) == 0
    assert await wait_ms(ledger, CREATE_PLANS) == 100
    await ledger.settle(other, replace(PUT_BACK, calls=(call_of(other, "ok"),)))
    assert await wait_ms(ledger, CREATE_PLANS) == 0


async def test_an_endpoint_that_comes_and_goes_is_tried_every_ten_seconds(ten_a_second: LedgerDriver) -> None:
    """The circuit never stays open for longer; any call that went through, a look-up too, ends the doubt."""
    ledger = ten_a_second

    async def fail() -> int:
        batch = await ledger.take_batch()
        waits_ms = (await ledger.settle(batch, reported(batch, "not_sent"))).waits_until_ms - ledger.now_ms
        ledger.advance(waits_ms)
        return waits_ms

    assert [await fail() for _ in range(6)] == [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
    batch = await ledger.take_batch()
    looked = Settlement(
        what="defer",
        outcome="uncertain",
        state="uncertain",
        delay_ms=60_000,
        calls=(call_of(batch, "ok", operation=LIST_JOBS),),
    )
    await ledger.settle(batch, looked)
    assert await fail() == 1_000


async def test_a_throttled_batch_loses_nothing(ten_a_second: LedgerDriver) -> None:
    """Its URLs are the next ones again, and no attempt was counted."""
    ledger = ten_a_second
    batch = await ledger.take_batch()
    await ledger.settle(batch, reported(batch, "throttled", 100))
    taken = batch
    for _ in range(2):
        ledger.advance(60_000)
        taken = await ledger.take_batch()
        if taken.site_id == batch.site_id:
            break
        await ledger.settle(taken, reported(taken, "ok"))
    assert (taken.site_id, taken.urls, taken.attempt) == (batch.site_id, batch.urls, 1)


async def test_a_plan_has_its_token_with_the_job(ledger: LedgerDriver) -> None:
    """Recording the job spends the plan's turn, or says how long to wait for it."""
    await ledger.publish(rate_initial=10, rate_max=10)
    await ledger.accept(urls(1_000))
    batches: list[Batch] = []
    for number in range(3):
        batches.append(batch := await ledger.take_batch())
        turn = await ledger.workers.record_job(batch, job_id=f"j{number}", job={}, plan_follows=True)
        assert turn == Turn(sent_ms=ledger.now_ms)
        ledger.advance(100)
    for batch in batches:
        await ledger.settle(batch, PUT_BACK)
    ledger.advance(100)
    batch = await ledger.take_batch()
    await ledger.redis_does("HSET", KEYS.rate(CREATE_PLANS), "next", ledger.now_ms + 300)
    turn = await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=True)
    assert isinstance(turn, Turn)
    assert turn.wait_ms == 300


async def test_the_pace_of_an_older_release_is_begun_afresh(ten_a_second: LedgerDriver) -> None:
    """Its strikes mean something else; a cooldown that lasts is kept, and what was sent before that is no news."""
    ledger = ten_a_second
    until = ledger.now_ms + 500
    old = {"rate": 1, "next": 5, "cut": 7, "strikes": 9, "cooldown": until}
    await ledger.redis_does("HSET", KEYS.rate(CREATE_JOB), *(part for item in old.items() for part in item))
    assert not isinstance(await ledger.take(), Batch)
    ledger.advance(500)
    await ledger.take_batch()
    record = await ledger.hash(KEYS.rate(CREATE_JOB))
    assert (record["v"], record["rate"], record["strikes"], record["began"]) == ("2", "10", "0", "0")
    assert int(record["cut"]) == until - 501


async def test_the_pace_of_a_newer_release_is_left_and_named(ten_a_second: LedgerDriver) -> None:
    """Nothing is called at a pace that cannot be read; what was called is settled, and the record stays."""
    ledger = ten_a_second
    batch = await ledger.take_batch()
    await ledger.redis_does("HSET", KEYS.rate(CREATE_JOB), "v", 3)
    before = await ledger.hash(KEYS.rate(CREATE_JOB))
    for ask in (ledger.take(), ledger.workers.pace(CREATE_JOB)):
        with pytest.raises(
            ResponseError,
            match="UNSUPPORTED rate CreateScheduledPreloadJob has version 3, this release reads 2",
        ):
            await ask
    assert not (await ledger.settle(batch, reported(batch, "ok"))).lost
    assert (await ledger.workers.sweep("w", turn_ms=1_000)).mine
    assert await ledger.hash(KEYS.rate(CREATE_JOB)) == before
