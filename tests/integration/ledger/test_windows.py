"""Plans that end: what still waits then ends as expired, by name, wherever it is; what is near its end is not kept waiting."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.claims import Settlement
from integration.ledger.driver import KEYS, PUT_BACK, START_MS, LedgerDriver, read_all
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from redis.asyncio import Redis

END_MS = 600_000
LANE = f",{START_MS + END_MS},,"
NAMED = {"state": "expired", "reason": "window_passed", "code": "", "batch": ""}


async def named(ledger: LedgerDriver) -> list[dict[str, str]]:
    """Return the failures of the site, without the lane."""
    entries = await ledger.producers.failure_entries(1, limit=10_000)
    return [{k: v for k, v in fields.items() if k in ("url", *NAMED)} for _, fields in entries]


@pytest.mark.parametrize("by", ["sweep", "claim"])
@pytest.mark.parametrize("lane", [LANE, f"oss:r:{LANE}"], ids=["URLs", "a list in OSS"])
async def test_what_waits_at_the_end_of_its_plan_expires(
    ledger: LedgerDriver, redis: Redis, by: str, lane: str
) -> None:
    """Accounted to every owner that still wanted it, named, counted for the metric once an owner; to the millisecond; once."""
    await ledger.accept(urls(1), request_id="r", lane=lane)
    if lane == LANE:
        await ledger.accept(urls(2), request_id="other", lane=lane)
        await ledger.accept(urls(2), request_id="gone", lane=lane)
        await ledger.producers.end_request("gone", "cancelled")
    await ledger.producers.switch_site(1, "pause")
    ledger.advance(END_MS - 1)
    await ledger.workers.sweep("w", turn_ms=1)
    assert (await ledger.counts("r"))["pending"] == 1
    ledger.advance(1)
    if by == "claim":
        await ledger.producers.switch_site(1, "resume")
        assert await ledger.take_nothing() is None
    swept = await ledger.workers.sweep("w", turn_ms=60_000)
    assert swept.expired == {1: 3 if lane == LANE else 1}
    again = await ledger.workers.sweep("w", turn_ms=60_000)
    assert again.expired == {}
    count = 2 if lane == LANE else 1
    assert sorted(await named(ledger), key=lambda entry: entry["url"]) == [
        {"url": url, **NAMED} for url in urls(count)
    ]
    assert await ledger.counts("r") == {"accepted": 1, "expired": 1}
    assert (await ledger.producers.status("r")).state == "done"
    site = await ledger.hash(KEYS.site(1))
    assert (site["pending"], site["expired"]) == ("0", str(count))
    if lane == LANE:
        assert await ledger.counts("other") == {"accepted": 2, "merged": 1, "expired": 2}
        assert await ledger.counts("gone") == {"accepted": 2, "merged": 2, "cancelled": 2}
    left = await read_all(redis)
    assert not left.under("urls")
    assert not left.zset_of("dropping")


async def test_a_large_lane_expires_in_steps(ledger: LedgerDriver) -> None:
    """A sweep looks at a thousand URLs a step, four steps a second; every one is counted in the end."""
    for start in range(0, 9_000, 1_000):
        await ledger.accept(
            urls(1_000, start=start), request_id="r", lane=LANE, number=start // 1_000, total=9
        )
    ledger.advance(END_MS)
    left: list[int] = [9_000]
    while left[-1]:
        await ledger.workers.sweep("w", turn_ms=60_000)
        left.append((await ledger.counts("r")).get("pending", 0))
        assert left[-2] - left[-1] <= 4_500
    assert await ledger.counts("r") == {"accepted": 9_000, "expired": 9_000}


async def test_what_goes_back_after_the_end_expires(ledger: LedgerDriver) -> None:
    """A batch that ESA did not take in time: its URLs are never claimed again."""
    await ledger.accept(urls(2), request_id="r", lane=LANE)
    ledger.advance(5_000)
    batch = await ledger.take_batch()
    ledger.advance(END_MS)
    await ledger.settle(batch, PUT_BACK)
    assert await ledger.take_nothing() is None
    assert await ledger.counts("r") == {"accepted": 2, "expired": 2}
    assert [entry["url"] for entry in await named(ledger)] == urls(2)


async def test_a_batch_may_end_as_expired(ledger: LedgerDriver) -> None:
    """What the worker finds too late ends the same way, and is named alike."""
    await ledger.accept(urls(2), request_id="r", lane=LANE)
    ledger.advance(5_000)
    late = Settlement(what="end", outcome="expired", verdict="expired", reason="window_passed")
    settled = await ledger.settle(await ledger.take_batch(), late)
    assert settled.counts == {"expired": 2}
    assert await named(ledger) == [{"url": url, **NAMED} for url in urls(2)]


async def test_a_lane_near_its_end_is_due(ledger: LedgerDriver) -> None:
    """Within BATCH_MAX_AGE of its end a lane waits for nothing more, and one whose plan only starts later is sent before."""
    ledger.advance(END_MS - 62_000)
    await ledger.accept(urls(1), lane=LANE)
    ledger.advance(1_999)
    await ledger.take_nothing()
    ledger.advance(1)
    await ledger.settle(await ledger.take_batch())
    await ledger.accept(urls(1, "late"), lane=LANE)
    assert list((await ledger.take_batch()).urls) == urls(1, "late")
    await ledger.accept(urls(1), site=2, lane=f"{START_MS + 86_400_000},,,")
    ledger.advance(5_000)
    assert (await ledger.take_batch()).site_id == 2
