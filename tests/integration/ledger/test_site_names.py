"""The account's sites by name: kept by the workers, found by producers, asked for when a name is not known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload.client import PreloadClient
from esa_preload.errors import InvalidRequestError, UnknownSiteError
from esa_preload.scripts import command
from integration.ledger.driver import KEYS, LedgerDriver
from integration.ledger.test_order import urls

if TYPE_CHECKING:
    from typing import Any

MINUTE_MS = 60_000


@pytest.fixture
def client(ledger: LedgerDriver) -> PreloadClient:
    """A client of the tests' namespace."""
    return PreloadClient(ledger.redis, namespace="t")


async def is_asked(ledger: LedgerDriver, worker: str = "w") -> bool:
    """Sweep, and tell whether the account's sites are to be listed."""
    return (await ledger.workers.sweep(worker, turn_ms=3_000)).lists_sites


@pytest.mark.parametrize(
    "said", ["www.example.com", "WWW.Example.com", "www.example.com.", " www.example.com "]
)
async def test_a_name_is_found_however_it_is_written(
    ledger: LedgerDriver, client: PreloadClient, said: str
) -> None:
    """Case, a dot at the end and space around it do not matter."""
    await ledger.workers.keep_site_names({"www.example.com": 7})
    assert await client.site_id(said) == 7


@pytest.mark.parametrize("number", [7, "7", str(2**63 - 1)])
async def test_a_number_is_a_site_as_it_is(client: PreloadClient, number: str | int) -> None:
    """No list is needed, and nobody is asked: the id may be of a site that was never seen."""
    assert await client.site_id(number) == int(number)


@pytest.mark.parametrize("wrong", [0, -1, "0", "", " ", "a b", "x" * 254, "a\x1b[1m", True, 1.5, None])
async def test_what_is_neither_id_nor_name_is_refused(client: PreloadClient, wrong: Any) -> None:
    """Before anything is asked for."""
    with pytest.raises(InvalidRequestError):
        await client.site_id(wrong)


async def test_the_names_are_those_of_the_last_list(ledger: LedgerDriver, client: PreloadClient) -> None:
    """A site that is gone from the account is not known by its name any more."""
    await ledger.workers.keep_site_names({"a.example": 1, "b.example": 2})
    await ledger.workers.keep_site_names({"b.example": 3})
    assert await client.site_id("b.example") == 3
    with pytest.raises(UnknownSiteError, match=r"no site is named a\.example"):
        await client.site_id("a.example")
    await ledger.workers.keep_site_names({})
    with pytest.raises(UnknownSiteError):
        await client.site_id("b.example")


async def test_ten_thousand_names_are_kept_for_a_day(ledger: LedgerDriver, client: PreloadClient) -> None:
    """As many as are ever listed; a fleet that has stopped forgets them."""
    await ledger.workers.keep_site_names({f"{number}.example": number for number in range(1, 10_001)})
    assert [await client.site_id(f"{number}.example") for number in (1, 500, 501, 10_000)] == [
        1,
        500,
        501,
        10_000,
    ]
    for key in (KEYS.site_ids, KEYS.site_names):
        assert await command(ledger.redis, "HLEN", key) == 10_000
        assert 86_300_000 < await command(ledger.redis, "PTTL", key) <= 86_400_000


async def test_sites_are_shown_with_their_names(ledger: LedgerDriver, client: PreloadClient) -> None:
    """Those whose name is not known have an empty one."""
    await ledger.accept(urls(1), site=7)
    await ledger.accept(urls(1), site=8)
    await ledger.workers.keep_site_names({"www.example.com": 7})
    assert [(site.site_id, site.name) for site in await client.sites()] == [(7, "www.example.com"), (8, "")]


async def test_one_sweeper_at_a_time_lists_every_ten_minutes(ledger: LedgerDriver) -> None:
    """At once when nobody has yet; then whoever sweeps, once in ten minutes."""
    assert [await is_asked(ledger, worker) for worker in "wwv"] == [True, False, False]
    ledger.advance(10 * MINUTE_MS - 1)
    assert not await is_asked(ledger)
    ledger.advance(1)
    assert [await is_asked(ledger), await is_asked(ledger)] == [True, False]


async def test_a_name_that_is_not_known_is_looked_for_within_a_minute(ledger: LedgerDriver) -> None:
    """Once, however often it is asked for; a name that is known changes nothing."""
    assert await is_asked(ledger)
    await ledger.workers.keep_site_names({"a.example": 1})
    await ledger.producers.find_site("a.example")
    ledger.advance(MINUTE_MS)
    assert not await is_asked(ledger)
    for _ in range(3):
        with pytest.raises(UnknownSiteError):
            await ledger.producers.find_site("new.example")
    assert [await is_asked(ledger), await is_asked(ledger)] == [True, False]
    with pytest.raises(UnknownSiteError):
        await ledger.producers.find_site("new.example")
    ledger.advance(MINUTE_MS - 1)
    assert not await is_asked(ledger)
    ledger.advance(1)
    assert await is_asked(ledger)
    ledger.advance(MINUTE_MS)
    assert not await is_asked(ledger)


async def test_an_unknown_name_comes_with_what_to_do(ledger: LedgerDriver) -> None:
    """Names that are like it, how old the list is, and whether anybody makes a new one."""

    async def hint() -> str:
        with pytest.raises(UnknownSiteError) as caught:
            await ledger.producers.find_site("www.exmaple.com")
        return caught.value.hint

    assert "no worker is alive" in await hint()
    await ledger.workers.renew("w", {})
    assert "have not listed" in await hint()
    await ledger.workers.keep_site_names({"www.example.com": 1, "other.example": 2})
    ledger.advance(3 * MINUTE_MS)
    await ledger.workers.renew("w", {})
    said = await hint()
    assert said.startswith("did you mean www.example.com?; the list of sites is 3 minutes old")
    assert "no worker" not in said
