"""Nobody waits for what another site has queued, and a site that may not be sent costs nothing."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from esa_preload.scripts import as_text, command
from esa_preload_worker.claims import Batch, Block, Settlement, SiteWait, Wait
from integration.ledger.driver import PUT_BACK, LedgerDriver
from integration.ledger.test_order import urls
from integration.ledger.traffic import CALLS_S, small_beside_large, trickle

if TYPE_CHECKING:
    from redis.asyncio import Redis

HOUR_S = 3_600
IDLE_SITES = 999
BLOCKED = Settlement(
    what="end", outcome="blocked", verdict="pending", block=Block(scope="site", code="SiteNotFound")
)
OVER = Settlement(
    what="end", outcome="requeued", verdict="pending", site_wait=SiteWait(reason="quota", ms=HOUR_S * 1000)
)


async def test_a_small_site_waits_for_a_few_calls_of_a_large_one(redis: Redis) -> None:
    """Ten URLs beside 20,000, at a pace of 5 calls/s: two calls of the large site at most come first, once they are due."""
    for waited in await small_beside_large(redis, large=20_000, small=10, after_calls=12):
        assert waited.calls <= 2
        assert waited.seconds <= 3 / CALLS_S


async def test_a_trickle_uses_few_jobs(redis: Redis) -> None:
    """One URL a second for half an hour: a job a minute, no URL older than BATCH_MAX_AGE when it is sent."""
    found = await trickle(redis, seconds=1_800)
    assert found.jobs <= 1_800 / 60 + 1
    assert found.max_age_s <= 60
    assert found.mean_age_s <= 31


async def commands_of_a_take(ledger: LedgerDriver) -> tuple[int, Batch | Wait | None]:
    """Take, and count what the script asked of Redis."""
    await command(ledger.redis, "CONFIG", "RESETSTAT")
    taken = await ledger.take()
    stats = await command(ledger.redis, "INFO", "commandstats")
    pairs = stats.items() if hasattr(stats, "items") else ()
    ours = {as_text(name): value for name, value in pairs if "config" not in as_text(name)}
    calls = sum(int(value["calls"]) for name, value in ours.items() if "info" not in name)
    assert calls
    return calls, taken


async def test_sites_that_may_not_be_sent_cost_nothing(ledger: LedgerDriver) -> None:
    """Beside 999 sites, blocked, paused or waiting, all with URLs that are due, a take asks as much of Redis as without them."""
    await ledger.accept(urls(1_000), site=1, request_id="r")
    alone = await commands_of_a_take(ledger)
    assert isinstance(alone[1], Batch)
    await ledger.settle(alone[1], PUT_BACK)
    await ledger.producers.switch_site(1, "pause")
    nothing = await commands_of_a_take(ledger)
    assert nothing[1] is None

    states: Counter[str] = Counter()
    for site in range(2, IDLE_SITES + 2):
        await ledger.accept(urls(100), site=site)
        if site % 3:
            batch = await ledger.take_batch()
            assert batch.site_id == site
            await ledger.settle(batch, BLOCKED if site % 3 == 1 else OVER)
        else:
            await ledger.producers.switch_site(site, "pause")
    states.update(site.state for site in await ledger.producers.site_statuses())
    assert states == {"paused": IDLE_SITES // 3 + 1, "blocked": IDLE_SITES // 3, "waiting": IDLE_SITES // 3}

    idle, wait = await commands_of_a_take(ledger)
    assert isinstance(wait, Wait)
    assert idle <= nothing[0] + 5, "to arm the next wake-up, whatever it is for"
    await ledger.producers.switch_site(1, "resume")
    beside, taken = await commands_of_a_take(ledger)
    assert isinstance(taken, Batch)
    assert beside <= alone[0] + 5

    await ledger.settle(taken, PUT_BACK)
    await ledger.producers.switch_site(1, "pause")
    ledger.advance(60_000)
    probes: Counter[int] = Counter()
    while isinstance(taken := await ledger.take(), Batch):
        probes[taken.site_id] += 1
        assert len(taken.urls) == 10
        await ledger.settle(taken, BLOCKED)
    assert probes == dict.fromkeys(range(4, IDLE_SITES + 2, 3), 1), "one probe a minute, of the blocked ones"
