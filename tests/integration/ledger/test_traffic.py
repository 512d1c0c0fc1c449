"""What all workers' calls came to, counted as they are reported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.client import PreloadClient
from esa_preload.errors import InvalidRequestError
from esa_preload.scripts import as_text, command
from esa_preload_worker.claims import Call, CallOutcome, Settlement
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import KEYS, LedgerDriver
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from esa_preload.model import TrafficPoint

BUCKET_MS = 10_000


async def points(ledger: LedgerDriver, minutes: int = 15) -> list[TrafficPoint]:
    """Return the buckets in which something happened."""
    found = await ledger.producers.traffic(minutes=minutes)
    return [point for point in found if point.calls or point.urls_submitted]


def counts(point: TrafficPoint) -> tuple[int, int, int]:
    """Return calls, throttled ones, and URLs."""
    return point.calls, point.throttled, point.urls_submitted


def call(ledger: LedgerDriver, outcome: CallOutcome, operation: str = CREATE_JOB) -> Call:
    """Return a call that was made now."""
    return Call(operation=operation, sent_ms=ledger.now_ms, outcome=outcome)


@pytest.mark.parametrize(
    ("outcome", "counted"),
    [("ok", (1, 0, 0)), ("answered", (1, 0, 0)), ("unknown", (1, 0, 0)), ("throttled", (1, 1, 0))],
)
async def test_a_call_counts_as_it_ended(
    ledger: LedgerDriver, outcome: CallOutcome, counted: tuple[int, int, int]
) -> None:
    """Whatever came of it, ESA was called; refused for its rate or not."""
    await ledger.workers.report([call(ledger, outcome)])
    assert [counts(point) for point in await points(ledger)] == [counted]


async def test_what_did_not_reach_esa_does_not_count(ledger: LedgerDriver) -> None:
    """A call that was never made is no traffic."""
    await ledger.workers.report([call(ledger, "not_sent")])
    assert await points(ledger) == []


async def test_a_settlement_counts_its_calls_and_its_urls(ledger: LedgerDriver) -> None:
    """Both calls of a batch, and only the URLs that ESA took; said again it counts once."""
    await ledger.accept(urls(100))
    batch = await ledger.take_batch()
    calls = (call(ledger, "ok"), call(ledger, "ok", CREATE_PLANS))
    settlement = Settlement(what="end", outcome="submitted", verdict="submitted", calls=calls)
    for _ in range(2):
        await ledger.settle(batch, settlement)
    assert [counts(point) for point in await points(ledger)] == [(2, 0, 100)]


async def test_there_are_no_gaps(ledger: LedgerDriver) -> None:
    """Each ten seconds are there, with zeros where nothing happened; the last one is that of now."""
    for pause in (0, 1, BUCKET_MS, 5 * BUCKET_MS):
        ledger.advance(pause)
        await ledger.workers.report([call(ledger, "ok")])
    found = await ledger.producers.traffic(minutes=2)
    assert [point.calls for point in found] == [0] * 5 + [2, 1] + [0] * 4 + [1]
    starts = [point.at.timestamp() * 1000 for point in found]
    assert starts == [starts[0] + number * BUCKET_MS for number in range(12)]
    assert starts[-1] <= ledger.now_ms < starts[-1] + BUCKET_MS
    assert {point.seconds for point in found} == {10}


async def test_buckets_end(ledger: LedgerDriver) -> None:
    """Each lives for two hours from its first call, whatever is counted after that."""
    await ledger.workers.report([call(ledger, "ok")] * 3 + [call(ledger, "throttled")])
    [key] = [as_text(key) for key in await command(ledger.redis, "KEYS", f"{KEYS.prefix}traffic:*")]
    assert 7_100_000 < await command(ledger.redis, "PTTL", key) <= 7_200_000


@pytest.mark.parametrize("minutes", [0, 121, 1.5, True])
async def test_traffic_is_asked_for_as_long_as_it_is_kept(ledger: LedgerDriver, minutes: Any) -> None:
    """Two hours at most."""
    client = PreloadClient(ledger.redis, namespace="t")
    with pytest.raises(InvalidRequestError, match="minutes"):
        await client.traffic(minutes=minutes)
    assert len(await client.traffic(minutes=120)) == 720
