"""Mend what an audit found wrong in derived data, a site, a lane or some requests at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload_worker.check.audit import Audit
    from esa_preload_worker.check.reader import LedgerReader

    Say = Callable[[str], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to be mended: sites, lanes of sites, requests by number (and site), and the wake-up with the leases."""

    sites: tuple[str, ...]
    lanes: tuple[tuple[str, str], ...]
    requests: tuple[tuple[str, str], ...]
    wake: bool

    def __bool__(self) -> bool:
        return bool(self.sites or self.lanes or self.requests or self.wake)


def plan_repair(audit: Audit) -> Plan:
    """Decide what to mend: whatever holds a violation of derived data, and lanes with stale entries."""
    mendable = [violation for violation in audit.violations if violation.repairable]
    lanes = {(v.site, v.lane) for v in mendable if v.name in _OF_LANE}
    lanes |= {key for key, evidence in audit.lanes.items() if evidence.scan.stale}
    requests = {(v.request, v.site) for v in mendable if v.request}
    # Those of the lanes too: to be put in their place.
    sites = {v.site for v in mendable if v.site and not v.request}
    return Plan(
        sites=tuple(sorted(sites)),
        lanes=tuple(sorted(lanes & set(audit.lanes))),
        requests=tuple(sorted(requests, key=lambda request: int(request[0]))),
        wake=any(violation.name in _OF_WAKE for violation in mendable),
    )


_OF_LANE = frozenset({"lane.bytes", "lane.age", "band.missing"})
_OF_WAKE = frozenset({"wake.missing", "lease.stray"})


async def repair(reader: LedgerReader, audit: Audit, say: Say) -> None:
    """Mend what *audit* found, and *say* each thing that was done; what has moved on since is left alone."""
    plan = plan_repair(audit)
    for site, lane in plan.lanes:
        seen = audit.lanes[site, lane]
        await _tell(say, reader.repair_lane(site, seen.facts, seen.scan, seen.lost, is_exact=seen.is_exact))
    for site in plan.sites:
        lanes, batches = audit.candidates.get(site, (set[str](), set[str]()))
        await _tell(say, reader.repair_site(site, lanes, batches))
    await _tell(say, reader.repair_requests(plan.requests))
    if plan:
        await _tell(say, reader.repair_wake())


async def _tell(say: Say, work: Awaitable[list[str]]) -> None:
    for line in await work:
        say(line)
