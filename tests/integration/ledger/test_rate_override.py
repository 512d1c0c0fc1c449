"""What an operator sees of the pace, and sets."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest

from esa_preload.client import PreloadClient
from esa_preload.errors import InvalidRequestError, UnsupportedRecordError
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import KEYS, LedgerDriver, read_all
from integration.ledger.test_explain import told
from integration.ledger.test_order import urls
from integration.ledger.test_pace import rate_of, reported, take_all

if TYPE_CHECKING:
    from esa_preload_worker.claims import Batch


@pytest.fixture
async def slow(ledger: LedgerDriver) -> LedgerDriver:
    """A ledger with a backlog and one call in ten seconds."""
    await ledger.publish(
        rate_initial=0.1, rate_min=0.1, rate_max=50, site_concurrency=100, lease_ms=600_000, batch_max_urls=1
    )
    await ledger.accept(urls(1_000))
    await take_all(ledger)
    return ledger


async def test_a_rate_that_is_set_is_never_exceeded(slow: LedgerDriver) -> None:
    """It is in force at once, does not grow with what is accepted, and a hint is obeyed."""
    ledger = slow
    await ledger.producers.set_rates([(CREATE_JOB, 20)])
    assert (await read_all(ledger.redis)).waiting_wakes() == [ledger.now_ms]
    assert await rate_of(ledger) == 20
    found: list[Batch] = []
    for _ in range(20):
        ledger.advance(50)
        found += await take_all(ledger)
    assert len(found) == 20
    for batch in found[:-1]:
        await ledger.settle(batch, reported(batch, "ok"))
    assert await rate_of(ledger) == 20
    settled = await ledger.settle(found[-1], reported(found[-1], "throttled", 3_000))
    assert settled.waits_until_ms == ledger.now_ms + 3_000
    assert not await take_all(ledger)


async def test_a_rate_that_is_set_too_high_is_told(slow: LedgerDriver) -> None:
    """While ESA throttles at it the pace is below, each cooldown is longer than the last, and limits and explain say so."""
    ledger = slow
    await ledger.producers.set_rates([(CREATE_JOB, 20)])
    ledger.advance(50)
    waits: list[int] = []
    for _ in range(4):
        (batch,) = await take_all(ledger)
        begun = ledger.now_ms
        settled = await ledger.settle(batch, reported(batch, "throttled"))
        waits.append(settled.waits_until_ms - begun)
        ledger.advance(waits[-1] + 1)
    assert all(after >= 2 * before - 1 for before, after in pairwise(waits)), waits
    (limit,) = await ledger.producers.limits()
    assert (limit.set_rate, limit.ceiling, limit.is_fixed, limit.is_set_too_high) == (20, 20, True, True)
    assert limit.rate < 20
    await take_all(ledger)
    hints = [reason.hint for reason in (await told(ledger)).reasons if reason.code == "probe"]
    assert hints == ["ESA throttles at the 20 calls/s that were set: see `esa-preload limits`"]


@pytest.mark.parametrize("rate", [None, 20])
@pytest.mark.parametrize("hint_ms", [0, 5_000])
async def test_what_was_sent_before_says_nothing_of_the_new_pace(
    slow: LedgerDriver, rate: float | None, hint_ms: int
) -> None:
    """ESA throttles a call of the old pace: no limit was met at the new one, and nobody is told that what was set is too high."""
    ledger = slow
    found: list[Batch] = []
    for _ in range(2):
        ledger.advance(10_000)
        found += await take_all(ledger)
    first, second = found
    if hint_ms:
        await ledger.settle(first, reported(first, "throttled", hint_ms))
    ledger.advance(1)
    await ledger.producers.set_rates([(CREATE_JOB, rate)])
    await ledger.settle(second, reported(second, "throttled"))
    (limit,) = await ledger.producers.limits()
    assert (limit.rate, limit.ceiling, limit.is_set_too_high) == (rate or 0.1, None, False)


async def test_what_is_set_already_is_not_begun_anew(slow: LedgerDriver) -> None:
    """A repeat forgets nothing of what ESA said since, and leaves no entry in the audit."""
    ledger = slow
    await ledger.producers.set_rates([(CREATE_JOB, 20)])
    ledger.advance(50)
    (batch,) = await take_all(ledger)
    await ledger.settle(batch, reported(batch, "throttled"))
    before = await ledger.hash(KEYS.rate(CREATE_JOB))
    await ledger.producers.set_rates([(CREATE_JOB, 20)])
    assert await ledger.hash(KEYS.rate(CREATE_JOB)) == before
    found = await PreloadClient(ledger.redis, namespace="t").audit()
    assert [entry.action for entry in found.items if entry.action == "limit_set"] == ["limit_set"]


@pytest.mark.parametrize("rate", [None, 20])
async def test_a_cooldown_is_kept(slow: LedgerDriver, rate: float | None) -> None:
    """Whoever sets a rate or has it learnt anew does not make it shorter; after it one call goes first, and then it is begun anew."""
    ledger = slow
    ledger.advance(10_000)
    (batch,) = await take_all(ledger)
    await ledger.settle(batch, reported(batch, "throttled", 60_000))
    for _ in range(2):
        await ledger.producers.set_rates([(CREATE_JOB, rate)])
        (limit,) = await ledger.producers.limits()
        assert (limit.cooldown_s, limit.rate, limit.ceiling) == (60.0, rate or 0.1, None)
    ledger.advance(59_999)
    assert not await take_all(ledger)
    ledger.advance(1)
    (probe,) = await take_all(ledger)
    await ledger.settle(probe, reported(probe, "ok"))
    assert await rate_of(ledger) == (rate or 0.1 + 0.25)
    ledger.advance(10_000)
    await ledger.producers.set_rates([(CREATE_JOB, None)])
    assert await ledger.producers.limits() == []


async def test_a_rate_for_an_operation_that_was_never_called(slow: LedgerDriver) -> None:
    """It may be set before; what is missing in the record is as it is at the beginning."""
    await slow.producers.set_rates([(CREATE_PLANS, 2)])
    assert await slow.workers.pace(CREATE_PLANS)
    record = await slow.hash(KEYS.rate(CREATE_PLANS))
    assert (record["fixed"], record["rate"], record["busy"]) == ("2", "2", "0.9375")


async def test_what_can_not_be_set_is_refused(slow: LedgerDriver) -> None:
    """A rate beyond the workers' bounds, an unknown operation, no number, a record of a later release."""
    client = PreloadClient(slow.redis, namespace="t")
    with pytest.raises(InvalidRequestError, match=r"0\.1 to 50"):
        await client.set_limit(CREATE_JOB, 51)
    with pytest.raises(InvalidRequestError, match="no operation"):
        await client.set_limit("GetScheduledPreloadJob", 1)
    for rate in (float("nan"), float("inf"), 0, -1, True, "3", 10**400):
        with pytest.raises(InvalidRequestError, match="above 0"):
            await client.set_limit(CREATE_JOB, cast("Any", rate))
    await slow.redis_does("HSET", KEYS.rate(CREATE_JOB), "v", 3)
    for refused in (client.set_limit(CREATE_JOB, 1), client.reset_limits(), client.limits()):
        with pytest.raises(UnsupportedRecordError, match="version 3"):
            await refused


@pytest.mark.parametrize("wrong", [(CREATE_PLANS, 51), ("GetScheduledPreloadJob", 1), (CREATE_PLANS, 0)])
async def test_all_is_changed_or_nothing(slow: LedgerDriver, wrong: tuple[str, float]) -> None:
    """One rate or name that cannot be takes the others along: nothing is set, and nothing learnt is forgotten."""
    client = PreloadClient(slow.redis, namespace="t")
    before = await slow.hash(KEYS.rate(CREATE_JOB))
    for others in ((CREATE_JOB, 3), (CREATE_JOB, None)):
        with pytest.raises(InvalidRequestError):
            await client.change_limits([others, wrong])
    assert await slow.hash(KEYS.rate(CREATE_JOB)) == before
    assert not await slow.hash(KEYS.rate(CREATE_PLANS))


async def test_a_record_of_a_later_release_stops_all(slow: LedgerDriver) -> None:
    """What stands before it in the list is left as it was, too."""
    before = await slow.hash(KEYS.rate(CREATE_JOB))
    await slow.redis_does("HSET", KEYS.rate(CREATE_PLANS), "v", 3)
    with pytest.raises(UnsupportedRecordError, match="version 3"):
        await slow.producers.set_rates([(CREATE_JOB, None), (CREATE_PLANS, 2)])
    assert await slow.hash(KEYS.rate(CREATE_JOB)) == before


async def test_a_reset_and_a_rate_together(slow: LedgerDriver) -> None:
    """In their order: what was learnt is gone, and the rate is set."""
    await slow.redis_does("HSET", KEYS.rate(CREATE_JOB), "ceiling", 7)
    await slow.producers.set_rates([(CREATE_JOB, None), (CREATE_JOB, 20), (CREATE_PLANS, 2)])
    assert [(limit.operation, limit.rate, limit.ceiling) for limit in await slow.producers.limits()] == [
        (CREATE_JOB, 20, None),
        (CREATE_PLANS, 2, None),
    ]
