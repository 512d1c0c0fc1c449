"""What an operator sees of the pace, and sets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from esa_preload.client import PreloadClient
from esa_preload.errors import InvalidRequestError, UnsupportedRecordError
from esa_preload.model import OperationLimit
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import KEYS, LedgerDriver, read_all
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


async def test_a_rate_that_is_set_holds_whatever_esa_says(slow: LedgerDriver) -> None:
    """It is in force at once, neither grows nor is cut, and a hint is obeyed all the same."""
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
    (limit,) = await ledger.producers.limits()
    assert limit == OperationLimit(
        operation=CREATE_JOB, rate=20, is_fixed=True, ceiling=20, cooldown_s=3.0, window_s=None
    )


async def test_a_rate_that_is_set_holds_after_a_probe(slow: LedgerDriver) -> None:
    """The call after the probe keeps the spacing that was set, not the one that the shut window would teach."""
    ledger = slow
    await ledger.producers.set_rates([(CREATE_JOB, 20)])
    ledger.advance(50)
    (batch,) = await take_all(ledger)
    await ledger.settle(batch, reported(batch, "throttled", 60_000))
    ledger.advance(60_000)
    (probe,) = await take_all(ledger)
    await ledger.settle(probe, reported(probe, "ok"))
    ledger.advance(50)
    assert len(await take_all(ledger)) == 1


async def test_a_reset_learns_anew(slow: LedgerDriver) -> None:
    """Nothing is left of what was learnt or set; it begins at RATE_INITIAL."""
    ledger = slow
    await ledger.producers.set_rates([(CREATE_JOB, 20)])
    await ledger.producers.set_rates([(CREATE_JOB, None)])
    assert not await ledger.hash(KEYS.rate(CREATE_JOB))
    assert await ledger.producers.limits() == []
    assert await take_all(ledger)
    assert await rate_of(ledger) == 0.1


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
    """In their order: what was learnt is gone, and the rate is fixed."""
    await slow.redis_does("HSET", KEYS.rate(CREATE_JOB), "ceiling", 7)
    await slow.producers.set_rates([(CREATE_JOB, None), (CREATE_JOB, 20), (CREATE_PLANS, 2)])
    assert [(limit.operation, limit.rate, limit.ceiling) for limit in await slow.producers.limits()] == [
        (CREATE_JOB, 20, None),
        (CREATE_PLANS, 2, None),
    ]
