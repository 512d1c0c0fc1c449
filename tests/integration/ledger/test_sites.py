"""The totals and states of many sites, read page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload.model import LIST_LANE
from esa_preload.reading import SITES_A_CALL
from esa_preload.scripts import command
from esa_preload_worker.claims import Block, Settlement
from esa_preload_worker.metrics import site_figures
from integration.ledger.driver import START_MS
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from esa_preload.keys import Keys
    from integration.ledger.driver import LedgerDriver

LANE = "1700003600000,,,"
ACCOUNT_BLOCKED = Settlement(
    what="end", outcome="blocked", verdict="pending", block=Block(scope="account", code="Forbidden")
)


@pytest.mark.parametrize("count", [0, 1, SITES_A_CALL - 1, SITES_A_CALL, SITES_A_CALL + 1, 2 * SITES_A_CALL])
async def test_every_site_is_read_once_in_the_order_of_its_first_url(
    ledger: LedgerDriver, count: int
) -> None:
    """Also where the number of sites is just a page, or one more."""
    sites = [1_000 - number for number in range(count)]
    for site in sites:
        await ledger.accept(urls(2), site=site)
        ledger.advance(1)
    records = await ledger.producers.site_records()
    assert [site for site, *_ in records] == sites
    assert [oldest for _, _, oldest, _ in records] == [START_MS + number for number in range(count)]
    assert all(record["pending"] == "2" and now == ledger.now_ms for _, record, _, now in records)


async def test_the_oldest_of_several_lanes_and_none_of_an_empty_site(ledger: LedgerDriver) -> None:
    """The age of a site is that of its oldest URL in any lane; one with nothing pending has none."""
    await ledger.accept(urls(1), lane=LANE)
    ledger.advance(5)
    await ledger.accept(urls(100))
    await ledger.settle(await ledger.take_batch())
    await ledger.accept(urls(1), site=2)
    (first, second) = await ledger.producers.site_records()
    assert (first[2], second[2]) == (START_MS, START_MS + 5)
    await ledger.drain()
    assert [oldest for _, _, oldest, _ in await ledger.producers.site_records()] == [None, None]


async def test_a_blocked_account_shows_on_all_pages(ledger: LedgerDriver) -> None:
    """So does every site while it lasts."""
    for site in range(1, SITES_A_CALL + 2):
        await ledger.accept(urls(100), site=site)
    await ledger.settle(await ledger.take_batch(), ACCOUNT_BLOCKED)
    states = await ledger.producers.site_statuses()
    assert len(states) == SITES_A_CALL + 1
    assert {(site.state, site.reason) for site in states} == {("blocked", "account: Forbidden")}


async def test_nothing_is_unaccounted_for_until_a_lane_is_lost(ledger: LedgerDriver, keys: Keys) -> None:
    """Totals and lanes agree at every step, a list in OSS included; the URLs of a lane that is not listed any more show."""

    async def unaccounted() -> int:
        (record,) = await ledger.producers.site_records()
        return site_figures(*record).unaccounted

    await ledger.accept(urls(250))
    await ledger.accept(["https://b.example/list"], lane=f"{LIST_LANE}r:", weight=1_000)
    assert await unaccounted() == 0
    batch = await ledger.take_batch()
    assert await unaccounted() == 0
    await ledger.settle(batch)
    assert await unaccounted() == 0
    await ledger.accept(urls(7), lane=LANE)
    await command(ledger.redis, "ZREM", keys.lanes(1), LANE)
    assert await unaccounted() == 7
