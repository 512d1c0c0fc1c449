"""What explain says of the ledger, held to what take does at the same moment and to where the model has a URL."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esa_preload.explain import explain
from esa_preload_worker.claims import Batch
from integration.ledger.model import window_end

if TYPE_CHECKING:
    from esa_preload.explanation import Explanation
    from esa_preload_worker.claims import Wait
    from integration.ledger.driver import LedgerDriver
    from integration.ledger.machine import LedgerMachine
    from integration.ledger.model import Entry, Lane

_IN_FRONT = {"due", "behind_lanes", "behind_urls", "behind_sites", "in_flight"}
_PROBED = {"site_blocked", "account_blocked"}
"""Held only until its time: then a batch finds out."""


async def explain_site(driver: LedgerDriver, site: int, url: str | None = None) -> Explanation:
    """Explain as the client does, as if a worker were alive."""
    facts = await driver.producers.explain(site_id=site, url=url)
    facts["workers"] = 1
    return explain(facts, url=url)


def is_held(found: Explanation) -> bool:
    """Tell whether something other than those in front of it keeps a site from being served now."""
    return found.state != "pending" or any(
        reason.code not in _IN_FRONT and (reason.code not in _PROBED or reason.until is not None)
        for reason in found.reasons
    )


def explain_sites(machine: LedgerMachine) -> dict[int, Explanation]:
    """Explain each site of which every pending URL is wanted: a claim may find the others gone."""
    lanes = machine.model.lanes.items()
    unwanted = {
        where[0]
        for where, lane in lanes
        if any(is_unwanted(machine, where, entry) for entry in lane.urls.values())
    }
    return {
        site: machine.run(explain_site(machine.driver, site))
        for site in machine.model.sites
        if site not in unwanted
    }


def agrees(said: dict[int, Explanation], taken: Batch | Wait | None) -> None:
    """Who was served was held by nothing; when nobody was, each site was held by something."""
    if not isinstance(taken, Batch):
        assert all(map(is_held, said.values())), f"take said {taken}, but explain {said}"
    elif taken.state == "sent" and taken.site_id in said:
        found = said[taken.site_id]
        assert not is_held(found), f"{taken} was given out, but explain said {found}"


def is_unwanted(machine: LedgerMachine, where: Lane, entry: Entry) -> bool:
    """Tell whether nobody wants a URL any more, or its plan has ended, also where nobody has noticed yet."""
    if window_end(where[1]) <= machine.now:
        return True
    owners = [machine.model.requests[number] for number in entry.owners]
    return all(
        owner.ended or (owner.expires_at and owner.expires_at <= machine.now and not owner.is_done)
        for owner in owners
    )


def url_is_where_it_is_said(machine: LedgerMachine, site: int, url: str) -> None:
    """Pending while somebody wants it there; else in its batch; else dropped soon, or not there."""
    found = machine.run(explain_site(machine.driver, site, url))
    lanes = [
        (where, lane.urls[url])
        for where, lane in machine.model.lanes.items()
        if where[0] == site and url in lane.urls
    ]
    batches = [
        batch.state
        for batch in machine.model.batches.values()
        if batch.where[0] == site and any(each == url for each, _ in batch.entries)
    ]
    if any(not is_unwanted(machine, where, entry) for where, entry in lanes):
        assert found.state == "pending"
    elif batches:
        assert found.state == "in_flight"
    elif lanes:
        assert [reason.code for reason in found.reasons] == ["unwanted"]
    else:
        assert found.reasons[0].code in ("not_pending", "failed")
