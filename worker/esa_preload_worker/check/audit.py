"""
Look at the whole ledger while it is in use.

What must agree within a site, a request or a batch is read at one instant by a script, so that a difference is one. What can
only be read in pieces (which URLs name which request) counts only for requests that did not move meanwhile, and a difference
only when it is found twice.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from esa_preload.model import LIST_LANE
from esa_preload.records import RECORD_VERSION
from esa_preload.urls import printable
from esa_preload_worker.check import rules
from esa_preload_worker.check.failures import judge_failures
from esa_preload_worker.check.keyspace import Found, needs_ttl
from esa_preload_worker.check.model import Violation
from esa_preload_worker.check.rules import Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from esa_preload_worker.check.reader import LaneScan, LedgerReader
    from esa_preload_worker.check.rules import BatchRecord, LaneFacts, RequestFacts, SiteFacts

    Progress = Callable[[str, int, int], object]

T = TypeVar("T")

ROUNDS = 5
"""How often a lane is looked at, at most, when something in it does not agree or moves."""
SMALL_LANE = 5_000
"""A lane that is looked at again only because its requests move: a larger one costs seconds each time."""
LISTS_A_GROUP = 500
WAKE_TRIES = 4
"""A sweep a second repairs a lost wake-up by itself: one that stays lost for longer is a fault."""
WAKE_PAUSE_S = 1.0


@dataclass(slots=True, kw_only=True)
class LaneEvidence:
    """What was seen of a lane: enough to mend what is derived of it. ``is_exact``: nothing moved while it was read."""

    facts: LaneFacts
    scan: LaneScan
    lost: dict[bytes, bytes]
    is_exact: bool


@dataclass(slots=True, kw_only=True)
class Audit:
    """
    What a look at the ledger found.

    Attributes:
        counts: of everything that was looked at.
        candidates: site → lanes and batches that the keys tell of.
        lanes: what was seen of each lane, by site and name.
        busy: lanes that have URLs or batches; ``roots``: split batches that have parts; ``bulks``: batches that
            have packs.
    """

    counts: Counter[str] = field(default_factory=Counter[str])
    violations: list[Violation] = field(default_factory=list[Violation])
    candidates: dict[str, tuple[set[str], set[str]]] = field(
        default_factory=dict[str, tuple[set[str], set[str]]]
    )
    lanes: dict[tuple[str, str], LaneEvidence] = field(default_factory=dict[tuple[str, str], LaneEvidence])
    busy: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    roots: set[str] = field(default_factory=set[str])
    bulks: set[str] = field(default_factory=set[str])


@dataclass(slots=True, kw_only=True)
class _Round:
    """One look at a group of lanes: what did not agree, and which requests moved."""

    suspects: set[Violation] = field(default_factory=set[Violation])
    moving: set[str] = field(default_factory=set[str])
    newcomers: set[str] = field(default_factory=set[str])
    evidence: dict[str, LaneEvidence] = field(default_factory=dict[str, LaneEvidence])


class Auditor:
    """Audits a ledger; changes nothing."""

    def __init__(
        self,
        reader: LedgerReader,
        *,
        progress: Progress | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._reader = reader
        self._prefix = reader.keys.prefix
        self._progress: Progress = progress or _say_nothing
        self._sleep = sleep

    async def run(self) -> Audit:
        """Look at everything, and return what was found."""
        audit = Audit()
        found = await self._look_at_keys(audit)
        await self._look_at_sites(audit, found)
        numbers = await self._look_at_requests(audit, found)
        await self._look_at_index(audit)
        await self._look_at_owners(audit, numbers)
        await self._look_at_failures(audit)
        await self._look_at_wake_up(audit)
        await self._look_for_leftovers(audit, found)
        return audit

    async def _look_at_keys(self, audit: Audit) -> Found:
        found = Found()
        total, seen = await self._reader.size(), 0
        prefix = self._prefix
        arqs = tuple(f"arq:{kind}:{prefix}" for kind in ("job", "in-progress", "retry", "result"))
        names: set[str] = set()
        for_good: set[str] = set()
        async for page in self._reader.key_pages():
            for key in page:
                if key.startswith(prefix):
                    found.note(key.removeprefix(prefix))
                elif not key.startswith(arqs):
                    continue
                seen += 1
                if not key.startswith(prefix) or needs_ttl(key.removeprefix(prefix)):
                    names.add(key)
            self._progress("keys", seen, max(total, seen))
        audit.counts["keys"] = seen
        for some in _chunks(sorted(names), 1_000):
            for_good.update(await self._reader.without_ttl(some))
        for key in await self._reader.without_ttl(sorted(for_good)):  # a script may have been between two
            audit.violations.append(
                Violation(name="key.ttl", key=key, found="no TTL", expected="a TTL: no record of ours stays")
            )
        return found

    async def _look_at_sites(self, audit: Audit, found: Found) -> None:
        reader = self._reader
        for site in await reader.members(reader.keys.sites):
            found.lanes.setdefault(site, set())
        audit.candidates = {site: (lanes, set()) for site, lanes in found.lanes.items()}
        sites_of = await reader.batch_sites(sorted(found.batches))
        for batch_id, site in sites_of.items():
            if site:
                audit.candidates.setdefault(site, (set(), set()))[1].add(batch_id)
        batches = {batch_id for batch_id, site in sites_of.items() if not site}
        for done, (site, (lanes, batch_ids)) in enumerate(sorted(audit.candidates.items())):
            facts = await reader.site(site, lanes, batch_ids)
            audit.violations += rules.judge_site(self._prefix, facts)
            lanes.update(lane.name for lane in facts.lanes)
            batch_ids.update(batch.batch_id for batch in facts.batches)
            batches |= batch_ids
            audit.roots.update(split.root for split in facts.splits)
            audit.bulks.update(bulk.batch_id for bulk in facts.bulks)
            audit.busy.update((site, lane.name) for lane in facts.lanes if lane.urls)
            audit.busy.update((site, batch.lane) for batch in facts.batches)
            _count_site(audit.counts, facts)
            self._progress("sites", done + 1, len(audit.candidates))
        for some in _chunks(sorted(batches), 100):
            for record in await reader.batch_records(some):
                audit.violations += rules.judge_batch(self._prefix, record)
        audit.violations = list(dict.fromkeys(audit.violations))  # a batch of a later release is named twice

    async def _look_at_requests(self, audit: Audit, found: Found) -> dict[tuple[str, str], set[str]]:
        """Return the numbers of the requests that are not done, by site and lane."""
        reader = self._reader
        numbers = {str(number) for number in found.requests}
        for index in ("open", "expiring"):
            numbers.update(await reader.members(f"{self._prefix}{index}"))
        by_lane: dict[tuple[str, str], set[str]] = {}
        done = 0
        for some in _chunks(sorted(numbers), 1_000):
            for facts in await reader.requests(some):
                audit.violations += rules.judge_request(self._prefix, facts)
                if facts.exists:
                    audit.counts["requests"] += 1
                    audit.counts["requests_done" if facts.is_done else "requests_active"] += 1
                    audit.counts[f"records_v{facts.version}"] += 1
                    if not facts.is_done:
                        by_lane.setdefault((facts.site, facts.lane), set()).add(facts.number)
            done += len(some)
            self._progress("requests", done, len(numbers))
        return by_lane

    async def _look_at_index(self, audit: Audit) -> None:
        """Find requests in the index that are gone; that those on record stand where they should was looked at with them."""
        lists = [(state, "") for state in rules.REQUEST_STATES]
        lists += [(f"{state}:{site}", site) for state in rules.REQUEST_STATES for site in audit.candidates]
        for name, site in lists:
            key = f"{self._prefix}{name}"
            audit.violations += [
                Violation(
                    name="index.stale",
                    key=key,
                    found=number,
                    expected="no entry: there is no such request",
                    site=site,
                    request=number,
                    repairable=True,
                )
                for number in await self._reader.gone_from(key)
            ]

    async def _look_at_owners(self, audit: Audit, numbers: dict[tuple[str, str], set[str]]) -> None:
        groups = _groups(audit, numbers)
        for done, (site, lanes) in enumerate(groups):
            wanted = {number for lane in lanes for number in numbers.get((site, lane), ())}
            self._progress("lanes", done, len(groups))
            await self._look_at_lanes(audit, site, lanes, wanted)

    async def _look_at_lanes(self, audit: Audit, site: str, lanes: Sequence[str], numbers: set[str]) -> None:
        before: set[Violation] = set()
        confirmed: set[Violation] = set()
        unsettled = set(numbers)
        seen = _Round()
        for attempt in range(ROUNDS):
            if attempt:
                await self._sleep(0.02 * 2**attempt)
            seen = await self._look_once(audit, site, lanes, numbers)
            confirmed |= seen.suspects & before
            before = seen.suspects
            unsettled &= seen.moving
            numbers |= seen.newcomers
            is_small = sum(lane.scan.urls for lane in seen.evidence.values()) <= SMALL_LANE
            if not (before - confirmed) and not seen.newcomers and not (unsettled and is_small):
                break
        audit.violations += sorted(confirmed, key=lambda violation: (violation.key, violation.name))
        audit.counts["requests_moving"] += len(unsettled)
        for name, evidence in seen.evidence.items():
            audit.lanes[site, name] = evidence
            await self._look_for_lost(audit, site, name, evidence)
            audit.counts["urls"] += evidence.scan.urls
            audit.counts["band_entries"] += evidence.scan.entries
            audit.counts["band_entries_stale"] += evidence.scan.stale

    async def _look_once(self, audit: Audit, site: str, lanes: Sequence[str], numbers: set[str]) -> _Round:
        reader = self._reader
        lane_names, batch_ids = audit.candidates.get(site, (set[str](), set[str]()))
        site_before = await reader.site(site, lane_names, batch_ids)
        requests_before = {facts.number: facts for facts in await reader.requests(sorted(numbers))}
        tally = _Tally()
        in_group = set(lanes)
        of_group = [batch.batch_id for batch in site_before.batches if batch.lane in in_group]
        for record in await reader.batch_records(of_group):
            tally.add_batch(record)
        facts_of = {lane.name: lane for lane in site_before.lanes}
        scans = {
            lane: await reader.scan_lane(site, lane, progress=self._progress_of(facts_of[lane]))
            for lane in lanes
            if lane in facts_of
        }
        for lane, scan in scans.items():
            tally.add_lane(facts_of[lane], scan)
        requests_after = {facts.number: facts for facts in await reader.requests(sorted(numbers))}
        site_after = await reader.site(site, lane_names, batch_ids)
        after_of = {lane.name: lane for lane in site_after.lanes}

        seen = _Round()
        for number in numbers:
            first, last = requests_before[number], requests_after[number]
            if _state_of(first) != _state_of(last):
                seen.moving.add(number)
            elif last.exists:
                seen.suspects.update(rules.judge_owner(self._prefix, last, tally.work_of(number)))
        for lane, scan in scans.items():
            first_seen = facts_of[lane]
            is_exact = _stamp_of(first_seen) == _stamp_of(after_of.get(lane)) and scan.urls == first_seen.urls
            seen.evidence[lane] = LaneEvidence(
                facts=after_of.get(lane, first_seen), scan=scan, lost={}, is_exact=is_exact
            )
            if is_exact:
                seen.suspects.update(self._judge_lane(site, first_seen, scan))
        await self._look_for_strangers(seen, site, scans, tally.owners() - numbers)
        return seen

    def _progress_of(self, lane: LaneFacts) -> Callable[[int], object]:
        """Return what shows how far a walk over *lane* is."""
        total, met = sum(lane.entries) + lane.urls, 0

        def more(count: int) -> None:
            nonlocal met
            met += count
            if total > SMALL_LANE:
                self._progress("URLs of a lane", met, max(met, total))

        return more

    async def _look_for_strangers(
        self, seen: _Round, site: str, scans: dict[str, LaneScan], strangers: set[str]
    ) -> None:
        """Owners that were not among the requests: new ones, ended ones, and those that should not be."""
        for facts in await self._reader.requests(sorted(strangers)):
            if facts.exists:
                if facts.is_done and not facts.ended:
                    seen.newcomers.add(facts.number)
                continue
            for lane, scan in scans.items():
                # One that ended REQUEST_TTL ago may still be named beside one who wants the URL, or until the lane is walked.
                if facts.number in scan.owners and await self._reader.is_nobodys(site, lane, facts.number):
                    key = f"{self._prefix}urls:{site}:{lane}"
                    found = f"URLs of request {facts.number}, which is gone"
                    expected = "an owner on record: a request is kept while its URLs are wanted"
                    seen.suspects.add(
                        Violation(name="owner.gone", key=key, found=found, expected=expected, site=site)
                    )

    def _judge_lane(self, site: str, lane: LaneFacts, scan: LaneScan) -> Iterable[Violation]:
        key = f"{self._prefix}lane:{site}:{lane.name}"
        if lane.version > RECORD_VERSION:
            return
        if lane.size_bytes != scan.size_bytes:
            yield Violation(
                name="lane.bytes",
                key=key,
                found=f"bytes {lane.size_bytes}",
                expected=f"{scan.size_bytes}: the length of its URLs",
                site=site,
                lane=lane.name,
                repairable=True,
            )
        if scan.oldest is not None and lane.age_known > scan.oldest:
            yield Violation(
                name="lane.age",
                key=key,
                found=f"oldest {lane.age_known:.0f}",
                expected=f"{scan.oldest} or less: its oldest URL's",
                site=site,
                lane=lane.name,
                repairable=True,
            )

    async def _look_for_lost(self, audit: Audit, site: str, lane: str, evidence: LaneEvidence) -> None:
        if evidence.facts.version > RECORD_VERSION:
            return
        if evidence.scan.lost:
            evidence.lost = await self._reader.still_lost(site, lane, evidence.scan.lost)
        for url, value in evidence.lost.items():
            audit.violations.append(
                Violation(
                    name="band.missing",
                    key=f"{self._prefix}band:{site}:{lane}:{value[:1].decode()}",
                    found=f"no {_shown(url.decode('utf-8', 'replace'))}",
                    expected="an entry: the URL is pending in that band",
                    site=site,
                    lane=lane,
                    repairable=True,
                )
            )
        for broken in evidence.scan.malformed:
            audit.violations.append(
                Violation(
                    name="url.value",
                    key=f"{self._prefix}urls:{site}:{lane}",
                    found=f"{_shown(broken)} with a value that cannot be read",
                    expected="band, moment and owners",
                    site=site,
                )
            )

    async def _look_at_failures(self, audit: Audit) -> None:
        for done, site in enumerate(sorted(audit.candidates)):
            seen, totals = await self._reader.failures(site)
            audit.violations += judge_failures(self._prefix, site, seen, totals)
            audit.counts["failures"] += seen.entries
            self._progress("failures", done + 1, len(audit.candidates))

    async def _look_at_wake_up(self, audit: Audit) -> None:
        self._progress("wake-up", 0, 1)
        found: list[Violation] = []
        for attempt in range(WAKE_TRIES):
            if attempt:
                await self._sleep(WAKE_PAUSE_S)
            found = rules.judge_wake(self._prefix, await self._reader.wake())
            if not found:
                break
        audit.violations += found
        self._progress("wake-up", 1, 1)

    async def _look_for_leftovers(self, audit: Audit, found: Found) -> None:
        """Find records that belong to nothing; what went since the keys were read is none."""
        prefix, reader = self._prefix, self._reader
        for some in _chunks(sorted(found.chunks), 1_000):
            numbers = [str(number) for number in some]
            has_request = await reader.exist([f"{prefix}request:{number}" for number in numbers])
            left = [number for number, there in zip(numbers, has_request, strict=True) if not there]
            keys = await reader.without_ttl([f"{prefix}chunks:{number}" for number in left])
            for key in keys:
                expected = "nothing: there is no such request"
                audit.violations.append(
                    Violation(name="chunks.stray", key=key, found="chunks", expected=expected)
                )
        for bulk in sorted(found.bulks - audit.bulks):
            if any(await reader.exist([f"{prefix}bulk:{bulk}"])):
                audit.violations.append(
                    Violation(
                        name="bulk.stray",
                        key=f"{prefix}bulk:{bulk}",
                        found="packs on record",
                        expected="nothing: there is no such batch",
                    )
                )
        for root in sorted(found.roots - audit.roots):
            if any(await reader.exist([f"{prefix}split:{root}", f"{prefix}held:{root}"])):
                expected = "nothing: no batch is a part of it"
                audit.violations.append(
                    Violation(
                        name="split.stray",
                        key=f"{prefix}split:{root}",
                        found="parts on record",
                        expected=expected,
                    )
                )


def _say_nothing(_step: str, _done: int, _total: int) -> None:
    pass


class _Tally:
    """What URLs and batches say of their owners."""

    def __init__(self) -> None:
        self.pending: Counter[str] = Counter()
        self.in_flight: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()

    def add_batch(self, record: BatchRecord) -> None:
        is_list = record.lane.startswith(LIST_LANE)
        for owner, urls in record.owners.items():
            self.in_flight[owner] += urls
            self.lists[owner] += is_list

    def add_lane(self, lane: LaneFacts, scan: LaneScan) -> None:
        for owner, urls in scan.owners.items():
            self.pending[owner] += urls * lane.weight if lane.is_list else urls
            self.lists[owner] += urls if lane.is_list else 0

    def owners(self) -> set[str]:
        return {*self.pending, *self.in_flight}

    def work_of(self, owner: str) -> Work:
        return Work(pending=self.pending[owner], in_flight=self.in_flight[owner], lists=self.lists[owner])


def _count_site(counts: Counter[str], facts: SiteFacts) -> None:
    counts["sites"] += 1
    counts["lanes"] += sum(lane.urls > 0 for lane in facts.lanes)
    counts["pending"] += sum(lane.pending for lane in facts.lanes)
    counts["in_flight"] += sum(batch.count for batch in facts.batches)
    counts["leases"] += sum(batch.lease is not None for batch in facts.batches)
    counts["batches"] += len(facts.batches)
    for batch in facts.batches:
        counts[f"batches_{batch.state or 'broken'}"] += 1
    if facts.exists:
        counts[f"records_v{facts.version}"] += 1
    versions = [lane.version for lane in facts.lanes if lane.exists]
    for version in (*versions, *(batch.version for batch in facts.batches)):
        counts[f"records_v{version}"] += 1


def _groups(audit: Audit, numbers: dict[tuple[str, str], set[str]]) -> list[tuple[str, list[str]]]:
    """Return the lanes to look at together: each by itself, but for lists in OSS, which hold an entry each."""
    lists: dict[str, list[str]] = {}
    groups: list[tuple[str, list[str]]] = []
    for site, lane in sorted(audit.busy | set(numbers)):
        if not lane.startswith(LIST_LANE):
            groups.append((site, [lane]))
            continue
        if len(lists.get(site, ())) % LISTS_A_GROUP == 0:
            lists[site] = []
            groups.append((site, lists[site]))
        lists[site].append(lane)
    return groups


def _chunks(items: Sequence[T], size: int) -> Iterable[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _state_of(facts: RequestFacts) -> tuple[object, ...]:
    return (
        facts.exists,
        facts.ended,
        facts.sealed,
        facts.lists,
        *(facts.counts[name] for name in rules.COUNTS),
    )


def _stamp_of(lane: LaneFacts | None) -> tuple[object, ...]:
    if lane is None:
        return ()
    return (lane.urls, lane.entries, lane.newest, lane.oldest, lane.floor, lane.size_bytes)


def _shown(url: str) -> str:
    """Return *url* without its query, which may hold a secret, and not too long."""
    return printable(url.partition("?")[0], 200)
