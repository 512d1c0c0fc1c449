"""The account's sites, listed over the sandbox: at the shared pace, and in nobody's way when that is denied."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.errors import UnknownSiteError
from esa_preload_worker.esa import Site
from esa_preload_worker.ledger import LIST_SITES
from esa_preload_worker.sandbox import Fault
from esa_preload_worker.site_names import SiteNames, ids_by_name
from integration.worker.answers import ALWAYS, refusing
from integration.worker.rig import SITE, urls_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from integration.worker.rig import Rig

    Logged = list[MutableMapping[str, Any]]

MANY = {SITE + number: (f"{number}.example.com",) for number in range(1_201)}


@pytest.fixture
def names(worker: Rig) -> SiteNames:
    """What lists the sites, asked to do so."""
    found = SiteNames(ledger=worker.ledger, esa=worker.between.esa, metrics=worker.metrics)
    found.ask()
    return found


def warnings(logged: Logged) -> list[tuple[str, str]]:
    """Return code and message of what was warned of."""
    return [(entry["code"], entry["message"]) for entry in logged if entry["event"] == "worker.warning"]


async def test_all_pages_are_read_at_the_shared_pace(worker: Rig, names: SiteNames) -> None:
    """1,201 sites are three pages, each a call that the ledger knows of; without being asked none is made."""
    worker.sandbox.reconfigure(sites=MANY)
    for _ in range(2):
        await names.step()
    assert worker.sandbox.stats()["calls"][LIST_SITES] == {"OK": 3}
    assert [await worker.client.site_id(f"{number}.example.com") for number in (0, 499, 500, 1_200)] == [
        SITE,
        SITE + 499,
        SITE + 500,
        SITE + 1_200,
    ]
    assert LIST_SITES in [limit.operation for limit in await worker.client.limits()]
    assert sum(point.calls for point in await worker.client.traffic(minutes=1)) == 3


async def test_a_denied_list_is_said_once_and_disturbs_nothing(
    worker: Rig, names: SiteNames, logged: Logged
) -> None:
    """URLs go on being submitted, no site nor the account is blocked; once it is allowed and denied again, it is said again."""
    worker.sandbox.reconfigure(
        faults=refusing("Forbidden.RAM", first=ALWAYS, operation=LIST_SITES, status=403)
    )
    for _ in range(3):
        names.ask()
        await names.step()
    said = ("Forbidden.RAM", "the account's sites cannot be listed: they are known by id only")
    assert warnings(logged) == [said]
    request = await worker.enqueue(urls_of(2))
    assert (await worker.work(request)).submitted == 2
    assert [site.state for site in await worker.client.sites()] == ["active"]
    with pytest.raises(UnknownSiteError):
        await worker.client.site_id("www.example.com")
    for faults in ((), refusing("Forbidden.RAM", first=ALWAYS, operation=LIST_SITES, status=403)):
        worker.sandbox.reconfigure(faults=faults)
        names.ask()
        await names.step()
    assert warnings(logged) == [said, said]


async def test_a_throttled_list_is_read_again(worker: Rig, names: SiteNames, logged: Logged) -> None:
    """As soon as the cooldown allows, without being asked again, and without a word."""
    throttled = refusing("TooManyRequests", operation=LIST_SITES)
    worker.sandbox.reconfigure(sites={SITE: ("www.example.com",)}, faults=throttled)
    for _ in range(20):
        await names.step()
    assert await worker.client.site_id("www.example.com") == SITE
    assert worker.count("throttled_total", operation=LIST_SITES) == 1
    assert warnings(logged) == []


async def test_a_break_waits_for_the_next_turn(worker: Rig, names: SiteNames, logged: Logged) -> None:
    """It passes by itself: nothing is said, and the names from before stay."""
    await worker.ledger.keep_site_names({"old.example": 5})
    worker.sandbox.reconfigure(faults=(Fault(kind="error_before", operation=LIST_SITES, first=ALWAYS),))
    for _ in range(3):
        await names.step()
    assert worker.calls(LIST_SITES) == 1
    assert await worker.client.site_id("old.example") == 5
    assert warnings(logged) == []


def test_of_two_sites_of_a_name_the_active_one_counts() -> None:
    """A domain that moved is listed twice; what is no name, such as a number, is left out."""
    listed = [
        ("a.example", 1, "moved"),
        ("A.example", 2, "active"),
        ("b.example", 3, "pending"),
        ("77", 4, "active"),
    ]
    sites = [Site(site_id=number, name=name, status=status) for name, number, status in listed]
    assert ids_by_name(sites) == {"a.example": 2, "b.example": 3}
