"""The gate that all workers pass before they call ESA."""

from __future__ import annotations

import pytest

from esa_preload_worker.decisions import LIST_JOBS
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS, Batch, Settlement, Throttle, Wait
from integration.ledger.driver import KEYS, PUT_BACK, LedgerDriver
from integration.ledger.test_order import urls


def throttled(sent_ms: int, hint_ms: int | None = None) -> Settlement:
    """ESA throttled a Create."""
    throttle = Throttle(operation=CREATE_JOB, sent_ms=sent_ms, hint_ms=hint_ms)
    return Settlement(what="end", outcome="throttled", verdict="pending", throttle=throttle)


UNREACHABLE = Settlement(what="end", outcome="not_sent", verdict="pending", unreachable=True)


@pytest.fixture
async def ten_a_second(ledger: LedgerDriver) -> LedgerDriver:
    """A ledger with a backlog and ten calls a second."""
    await ledger.publish(rate_initial=10, rate_max=10, site_concurrency=100)
    await ledger.accept(urls(1_000))
    await ledger.accept(urls(1_000), site=2)
    return ledger


async def take_all(ledger: LedgerDriver) -> list[Batch]:
    """Take until there is nothing to take now."""
    found: list[Batch] = []
    while isinstance(taken := await ledger.take(), Batch):
        found.append(taken)
    return found


async def test_calls_are_spaced(ten_a_second: LedgerDriver) -> None:
    """Ten calls a second, and not more than a quarter of a second's worth at once after a pause."""
    ledger = ten_a_second
    assert len(await take_all(ledger)) == 3
    found = 0
    for _ in range(100):
        ledger.advance(10)
        found += len(await take_all(ledger))
    assert found == 10


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
    """Three calls throttled together cut the pace once and wait as long as one of them; the next episode waits twice as long."""
    ledger = ten_a_second
    first, second, third = await take_all(ledger)
    waits: list[int] = []
    for batch in (first, second, third):
        ledger.advance(1)
        settled = await ledger.settle(batch, throttled(batch.sent_ms), roll=1.0)
        waits.append(settled.waits_until_ms - ledger.now_ms)
    assert waits == [1_000, 1_000, 1_000]
    assert float((await ledger.hash(KEYS.rate(CREATE_JOB)))["rate"]) == pytest.approx(7)
    for wait_ms, rate in ((2_000, 4.9), (4_000, 3.43)):
        ledger.advance(10_000)
        batch = await ledger.take_batch()
        settled = await ledger.settle(batch, throttled(batch.sent_ms), roll=1.0)
        assert settled.waits_until_ms - ledger.now_ms == wait_ms
        assert float((await ledger.hash(KEYS.rate(CREATE_JOB)))["rate"]) == pytest.approx(rate)


async def test_a_hint_is_obeyed_and_never_shortens(ten_a_second: LedgerDriver) -> None:
    """The longest hint stands, whatever comes later; nobody of any site calls until then, but other operations do."""
    ledger = ten_a_second
    first, second, _ = await take_all(ledger)
    until = ledger.now_ms + 7_000
    assert (await ledger.settle(first, throttled(first.sent_ms, 7_000))).waits_until_ms == until
    assert (await ledger.settle(second, throttled(second.sent_ms, 0))).waits_until_ms == until
    assert await ledger.take() == Wait(ms=7_000, stay=False, reason="cooldown")
    assert await ledger.workers.pace(CREATE_JOB) == 7_000
    assert await ledger.workers.pace(CREATE_PLANS) == 0
    ledger.advance(6_999)
    assert not isinstance(await ledger.take(), Batch)
    ledger.advance(1)
    assert isinstance(await ledger.take(), Batch)


async def test_the_pace_has_bounds(ledger: LedgerDriver) -> None:
    """However often ESA throttles, RATE_MIN is kept; however well it goes, RATE_MAX is."""
    await ledger.publish(rate_initial=5, rate_min=3, rate_max=8, site_concurrency=100, batch_max_urls=10)
    await ledger.accept(urls(1_000))
    for _ in range(3):
        ledger.advance(100_000)
        batch = await ledger.take_batch()
        await ledger.settle(batch, throttled(batch.sent_ms))
    assert float((await ledger.hash(KEYS.rate(CREATE_JOB)))["rate"]) == 3
    for number in range(50):
        ledger.advance(100_000)
        batch = await ledger.take_batch()
        await ledger.workers.record_job(batch, job_id=f"j{number}", job={}, plan_follows=False)
        await ledger.settle(batch, Settlement(what="end", outcome="submitted", verdict="submitted"))
    assert float((await ledger.hash(KEYS.rate(CREATE_JOB)))["rate"]) == 8


async def test_a_job_that_is_recorded_again_went_well_once(ledger: LedgerDriver) -> None:
    """Recording is idempotent: the pace does not rise with each repetition."""
    await ledger.accept(urls(100))
    batch = await ledger.take_batch()
    await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=False)
    before = await ledger.hash(KEYS.rate(CREATE_JOB))
    await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=False)
    assert await ledger.hash(KEYS.rate(CREATE_JOB)) == before


async def test_an_endpoint_out_of_reach_stops_all_operations_once(ten_a_second: LedgerDriver) -> None:
    """Calls that fail together open the circuit for a second, not for a minute; what fails after it, for two."""
    ledger = ten_a_second
    for batch in await take_all(ledger):
        settled = await ledger.settle(batch, UNREACHABLE, roll=1.0)
        assert settled.waits_until_ms == ledger.now_ms + 1_000
    assert await ledger.workers.pace(CREATE_PLANS) == 1_000
    ledger.advance(1_000)
    batch = await ledger.take_batch()
    assert (await ledger.settle(batch, UNREACHABLE, roll=1.0)).waits_until_ms == ledger.now_ms + 2_000
    ledger.advance(2_000)
    batch = await ledger.take_batch()
    await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=False)
    await ledger.settle(batch)
    ledger.advance(1_000)
    batch = await ledger.take_batch()
    assert (await ledger.settle(batch, UNREACHABLE, roll=1.0)).waits_until_ms == ledger.now_ms + 1_000


async def test_an_endpoint_that_comes_and_goes_is_tried_every_ten_seconds(ten_a_second: LedgerDriver) -> None:
    """The circuit never stays open for longer; any call that went through, a look-up too, ends the doubt."""
    ledger = ten_a_second

    async def fail() -> int:
        batch = await ledger.take_batch()
        wait_ms = (await ledger.settle(batch, UNREACHABLE, roll=1.0)).waits_until_ms - ledger.now_ms
        ledger.advance(wait_ms)
        return wait_ms

    assert [await fail() for _ in range(6)] == [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]
    batch = await ledger.take_batch()
    looked = Settlement(
        what="defer", outcome="uncertain", state="uncertain", delay_ms=60_000, went_well=(LIST_JOBS,)
    )
    await ledger.settle(batch, looked)
    assert await fail() == 1_000


async def test_a_throttled_batch_loses_nothing(ten_a_second: LedgerDriver) -> None:
    """Its URLs are the next ones again, and no attempt was counted."""
    ledger = ten_a_second
    batch = await ledger.take_batch()
    await ledger.settle(batch, throttled(batch.sent_ms, 100))
    ledger.advance(60_000)
    taken = {batch.site_id: batch for batch in await take_all(ledger)}
    assert taken[batch.site_id].urls == batch.urls
    assert taken[batch.site_id].attempt == 1


async def test_a_plan_has_its_token_with_the_job(ledger: LedgerDriver) -> None:
    """Recording the job spends the plan's turn, or says how long to wait for it."""
    await ledger.publish(rate_initial=10, rate_max=10)
    await ledger.accept(urls(1_000))
    batches = [await ledger.take_batch() for _ in range(3)]
    waits = [
        await ledger.workers.record_job(batch, job_id=f"j{n}", job={}, plan_follows=True)
        for n, batch in enumerate(batches)
    ]
    assert waits == [0, 0, 0]
    for batch in batches:
        await ledger.settle(batch, PUT_BACK)
    ledger.advance(100)
    batch = await ledger.take_batch()
    await ledger.redis_does("HSET", KEYS.rate(CREATE_PLANS), "next", ledger.now_ms + 300)
    assert await ledger.workers.record_job(batch, job_id="j", job={}, plan_follows=True) == 300
