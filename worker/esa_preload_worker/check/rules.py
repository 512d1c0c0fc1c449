"""The ledger's invariants as pure functions: facts that were read at one instant in, violations out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esa_preload.model import LIST_LANE, PLAN_COUNTS
from esa_preload.records import RECORD_VERSION
from esa_preload_worker.check.model import Violation

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

LATE_MS = 1_000
"""A moment that is off by less is not worth a word."""
WAKE_LATE_MS = 2_000
"""How much later than what is due the wake-up may be: sweeps come once a second."""

ENDS = ("submitted", "refused", "expired", "cancelled", "unknown")
COUNTS = ("accepted", "merged", "duplicates", "pending", "in_flight", *ENDS, *PLAN_COUNTS)
REQUEST_STATES = ("active", "done")
_WAITING_STATES = ("ready", "held", "packed")
"""Of batches that nobody works at: they hold no lease and no place among the site's batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneFacts:
    """A lane's record, its place among the lanes, and the sizes of what it holds. ``due``: ``None`` when it has no place."""

    name: str
    version: int
    due: float | None
    exists: bool
    urls: int
    entries: tuple[int, int, int]
    newest: float | None
    oldest: float | None
    floor: float | None
    size_bytes: int
    weight: int

    @property
    def is_list(self) -> bool:
        """Whether it is one list in OSS, whose entry stands for ``weight`` URLs."""
        return self.name.startswith(LIST_LANE)

    @property
    def pending(self) -> int:
        """How many URLs it stands for."""
        return self.urls * self.weight if self.is_list else self.urls

    @property
    def age_known(self) -> float:
        """The moment that is on record as not later than that of any of its URLs."""
        return min(_or_inf(self.oldest), _or_inf(self.floor))


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchFacts:
    """A batch as the indexes see it; ``bulk``: of a pack, the batch that it belongs to."""

    batch_id: str
    version: int
    state: str
    lane: str
    count: int
    root: str
    lease: float | None
    bulk: str = ""

    @property
    def is_at_work(self) -> bool:
        """Whether a worker has it, or will once its lease runs out."""
        return self.state not in _WAITING_STATES


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitFacts:
    """What is on record of the parts of a batch in split; ``live`` is ``None`` without a record."""

    root: str
    live: int | None
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkFacts:
    """A bulk batch's list of its packs."""

    batch_id: str
    packs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the workers published, as far as lanes and the ring depend on it."""

    slots: int
    batch_max_urls: int
    batch_max_bytes: int
    batch_max_age_ms: float
    batch_quiet_ms: float
    lease_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """All of a site that must agree, at one instant. ``visit``: when to look at the first of its jobs; ``agenda``: what stands there."""

    site: str
    now: float
    version: int
    exists: bool
    is_listed: bool
    is_paused: bool
    is_blocked: bool
    wait_until: float
    ring: float | None
    totals: Mapping[str, int]
    limits: Limits
    lanes: tuple[LaneFacts, ...]
    batches: tuple[BatchFacts, ...]
    parts: tuple[str, ...]
    splits: tuple[SplitFacts, ...]
    visit: float | None
    agenda: float | None
    bulks: tuple[BulkFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """
    All of a request that must agree, at one instant.

    Attributes:
        ttl, chunks_ttl, id_ttl: ms; -1 for none, -2 for no such key.
        open_at, expiring_at, leaving_at: scores in the indexes, ``None`` when it is not there.
        listed: in how many of the two lists of each state it is: of all requests, and of those of its site.
        points_to: the number that its id leads to, empty when it leads nowhere.
    """

    number: str
    version: int
    exists: bool
    request_id: str
    site: str
    lane: str
    sealed: int | None
    ended: str
    is_marked_done: bool
    lists: int
    expires_at: float | None
    counts: Mapping[str, int]
    chunks: int
    ttl: int
    chunks_ttl: int
    id_ttl: int
    open_at: float | None
    expiring_at: float | None
    leaving_at: float | None
    listed: Mapping[str, int]
    points_to: str

    @property
    def is_done(self) -> bool:
        """Whether nothing of it is left to do."""
        return self.sealed is not None and not (
            self.counts["pending"] or self.counts["in_flight"] or self.lists
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """A batch's own record: what it says of its members must agree."""

    batch_id: str
    version: int
    site: str
    lane: str
    state: str
    count: int
    owners: Mapping[str, int]
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeFacts:
    """What there is to wake up for, and who will."""

    now: float
    due: float | None
    armed: float | None
    begun: int
    waiters: int
    strays: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the URLs and batches say of one owner."""

    pending: int = 0
    in_flight: int = 0
    lists: int = 0


def judge_site(prefix: str, facts: SiteFacts) -> list[Violation]:
    """Return what does not agree in a site."""
    judge = _Judge(prefix, site=facts.site)
    site_key = f"site:{facts.site}"
    newer = [
        (site_key, facts.version),
        *((f"lane:{facts.site}:{lane.name}", lane.version) for lane in facts.lanes),
        *((f"batch:{batch.batch_id}", batch.version) for batch in facts.batches),
    ]
    if found := [(key, version) for key, version in newer if version > RECORD_VERSION]:
        # A later release may count otherwise: its records are named and left alone.
        for key, version in found:
            judge.version(key, version)
        return judge.violations
    if facts.exists and not facts.is_listed:
        judge.find("site.unlisted", "sites", f"no {facts.site}", "an entry, since the site has a record")
    _judge_totals(judge, site_key, facts)
    for lane in facts.lanes:
        _judge_lane(judge, facts, lane)
    _judge_batches(judge, facts)
    _judge_ring(judge, facts)
    if facts.visit != facts.agenda:
        judge.find(
            "agenda.off",
            "agenda",
            f"{facts.agenda} for site {facts.site}",
            f"{facts.visit}: the first of its jobs",
        )
    return judge.violations


def _judge_totals(judge: _Judge, site_key: str, facts: SiteFacts) -> None:
    right = {
        "pending": sum(lane.pending for lane in facts.lanes),
        "in_flight": sum(batch.count for batch in facts.batches),
        "batches": sum(batch.is_at_work for batch in facts.batches),
    }
    meaning = {
        "pending": "URLs in its lanes",
        "in_flight": "URLs in its batches",
        "batches": "batches at work",
    }
    for name, expected in right.items():
        if facts.totals[name] != expected:
            judge.find(
                f"site.{name}", site_key, f"{name} {facts.totals[name]}", f"{expected}: its {meaning[name]}"
            )
    wanted = facts.totals["accepted"] - facts.totals["merged"]
    ends = sum(facts.totals[name] for name in ENDS)
    if wanted != right["pending"] + right["in_flight"] + ends:
        judge.find(
            "site.balance",
            site_key,
            f"accepted - merged = {wanted}",
            f"{right['pending']} pending + {right['in_flight']} in flight + {ends} ended",
            repairable=False,
        )


def _judge_lane(judge: _Judge, facts: SiteFacts, lane: LaneFacts) -> None:
    lanes_key, lane_id = f"lanes:{facts.site}", f"{facts.site}:{lane.name}"
    if lane.urls == 0:
        if lane.due is not None:
            judge.find("lane.empty", lanes_key, f'lane "{lane.name}" without URLs', "no such entry")
        elif lane.exists or any(lane.entries):
            left = f"record and {sum(lane.entries)} entries of its bands, without URLs"
            judge.find("lane.leftover", f"lane:{lane_id}", left, "nothing: an empty lane is forgotten")
        return
    if lane.due is None:
        judge.find("lane.unlisted", lanes_key, f'no lane "{lane.name}"', f"an entry: it has {lane.urls} URLs")
        return
    latest = max(lane_due(facts.limits, facts.now, lane), facts.now)
    # A worker that cannot read a lane's version puts it off for a lease.
    if lane.due > latest + facts.limits.lease_ms + LATE_MS:
        judge.find(
            "lane.late",
            lanes_key,
            f'lane "{lane.name}" due in {(lane.due - facts.now) / 1000:.1f} s',
            f"due in {max(0.0, latest - facts.now) / 1000:.1f} s",
        )


def lane_due(limits: Limits, now: float, lane: LaneFacts) -> float:
    """Return when a lane falls due, as the scripts decide it."""
    is_full = lane.urls >= limits.batch_max_urls or lane.size_bytes >= limits.batch_max_bytes
    if lane.is_list or is_full:
        return now
    quiet_from = lane.newest if lane.newest is not None else lane.age_known
    return min(lane.age_known + limits.batch_max_age_ms, quiet_from + limits.batch_quiet_ms)


def _judge_batches(judge: _Judge, facts: SiteFacts) -> None:
    for batch in facts.batches:
        key = f"batch:{batch.batch_id}"
        if batch.is_at_work and batch.lease is None:
            judge.find("lease.missing", "leases", f"no {batch.batch_id}", f"a lease: {key} is {batch.state}")
        if not batch.is_at_work and batch.lease is not None:
            judge.find("lease.extra", "leases", batch.batch_id, f"no lease: {key} is {batch.state}")
    ready = [batch.batch_id for batch in facts.batches if batch.state == "ready"]
    _judge_list(judge, "part", f"parts:{facts.site}", facts.parts, ready)
    _judge_packs(judge, facts)
    for split in facts.splits:
        of_root = [batch for batch in facts.batches if batch.root == split.root]
        held = [batch.batch_id for batch in of_root if batch.state == "held"]
        _judge_list(judge, "held", f"held:{split.root}", split.held, held)
        live = len(of_root) - len(held)
        if split.live != live or not live:
            found = "no record" if split.live is None else f"live {split.live}"
            expected = f"{live}" if live else "gone: no part is left but held ones"
            judge.find("split.live", f"split:{split.root}", found, expected)


def _judge_packs(judge: _Judge, facts: SiteFacts) -> None:
    listed = {bulk.batch_id: bulk.packs for bulk in facts.bulks}
    found = {batch.batch_id for batch in facts.batches}
    for batch in facts.batches:
        if batch.bulk and batch.bulk not in found:
            expected = "its bulk batch: nobody else would end it"
            judge.find("pack.orphan", f"batch:{batch.bulk}", "nothing", expected, repairable=False)
    for bulk in sorted(found & {*listed, *(batch.bulk for batch in facts.batches)}):
        packs = [batch.batch_id for batch in facts.batches if batch.bulk == bulk]
        _judge_list(judge, "pack", f"bulk:{bulk}", listed.get(bulk, ()), packs)


def _judge_list(judge: _Judge, name: str, key: str, entries: Sequence[str], right: Iterable[str]) -> None:
    wanted = set(right)
    for batch_id in sorted(wanted - set(entries)):
        judge.find(f"{name}.missing", key, f"no {batch_id}", "an entry, by the batch's state")
    for batch_id in sorted(set(entries)):
        if batch_id not in wanted:
            judge.find(f"{name}.stale", key, batch_id, "no such entry, by the batch's state")
        elif entries.count(batch_id) > 1:
            judge.find(f"{name}.stale", key, f"{batch_id} more than once", "one entry")


def _judge_ring(judge: _Judge, facts: SiteFacts) -> None:
    listed = [lane.due for lane in facts.lanes if lane.due is not None]
    due = 0.0 if facts.parts else min(listed, default=None)
    slots = 1 if facts.is_blocked else facts.limits.slots
    if facts.is_paused or facts.totals["batches"] >= slots or due is None:
        if facts.ring is not None:
            why = "it is paused" if facts.is_paused else "it has no work" if due is None else "it is full"
            judge.find("ring.extra", "ring", f"site {facts.site}", f"no entry: {why}")
        return
    due = max(due, facts.wait_until)
    if facts.ring is None:
        judge.find("ring.missing", "ring", f"no site {facts.site}", "an entry: it has work and a free place")
    elif facts.ring > max(due, facts.now) + facts.limits.lease_ms + LATE_MS:
        judge.find(
            "ring.late",
            "ring",
            f"site {facts.site} in {(facts.ring - facts.now) / 1000:.1f} s",
            f"in {max(0.0, due - facts.now) / 1000:.1f} s",
        )
    elif due > facts.now + LATE_MS and facts.ring < due - LATE_MS:
        judge.find(
            "ring.early",
            "ring",
            f"site {facts.site} in {max(0.0, facts.ring - facts.now) / 1000:.1f} s",
            f"in {(due - facts.now) / 1000:.1f} s",
        )


def judge_request(prefix: str, facts: RequestFacts) -> list[Violation]:
    """Return what does not agree in a request."""
    judge = _Judge(prefix, site=facts.site, request=facts.number)
    key = f"request:{facts.number}"
    if not facts.exists:
        for name, at in (("open", facts.open_at), ("expiring", facts.expiring_at)):
            if at is not None:
                judge.find(f"{name}.stale", name, facts.number, "no entry: there is no such request")
        return judge.violations
    if facts.version > RECORD_VERSION:
        judge.version(key, facts.version)
        return judge.violations
    _judge_counts(judge, key, facts)
    if facts.sealed is not None and facts.sealed != facts.chunks:
        judge.find(
            "request.chunks",
            f"chunks:{facts.number}",
            f"{facts.chunks} chunks",
            f"{facts.sealed}: it is sealed",
            repairable=False,
        )
    _judge_lifetime(judge, key, facts)
    _judge_indexes(judge, facts)
    return judge.violations


def _judge_counts(judge: _Judge, key: str, facts: RequestFacts) -> None:
    counts = facts.counts
    parts = sum(counts[name] for name in ("pending", "in_flight", *ENDS))
    if counts["accepted"] != parts:
        judge.find(
            "request.balance",
            key,
            f"accepted {counts['accepted']}",
            f"{parts}: the sum of its states",
            repairable=False,
        )
    if sum(counts[name] for name in PLAN_COUNTS) > counts["submitted"]:
        found = ", ".join(f"{name} {counts[name]}" for name in PLAN_COUNTS)
        expected = f"{counts['submitted']} in all, at most: its submitted URLs"
        judge.find("request.plans", key, found, expected, repairable=False)
    for name in COUNTS:
        if counts[name] < 0:
            judge.find("request.negative", key, f"{name} {counts[name]}", "0 or more", repairable=False)
    if facts.ended and counts["pending"]:
        judge.find(
            "request.ended",
            key,
            f"pending {counts['pending']}",
            f"0: it has {facts.ended}",
            repairable=False,
        )


def _judge_lifetime(judge: _Judge, key: str, facts: RequestFacts) -> None:
    lives = [(key, facts.ttl), (f"chunks:{facts.number}", facts.chunks_ttl)]
    if facts.points_to in ("", facts.number):
        lives.append((f"request-id:{facts.request_id}", facts.id_ttl))
    for name, ttl in lives:
        if facts.is_done and ttl == -1:
            judge.find("request.ttl", name, "no TTL", "one: the request is done")
        elif not facts.is_done and ttl >= 0:
            judge.find("request.ttl", name, f"a TTL of {ttl / 1000:.0f} s", "none: the request is not done")
    if facts.is_done != facts.is_marked_done:
        found = "done_at" if facts.is_marked_done else "no done_at"
        judge.find("request.done", key, found, "the opposite, by its counts")


def _judge_indexes(judge: _Judge, facts: RequestFacts) -> None:
    number = facts.number
    if facts.points_to != number:
        judge.find(
            "request.id",
            f"request-id:{facts.request_id}",
            facts.points_to or "nothing",
            number,
            repairable=not facts.points_to,
        )
    if facts.sealed is None and facts.open_at is None:
        judge.find("open.missing", "open", f"no {number}", "an entry: it is not sealed")
    if facts.sealed is not None and facts.open_at is not None:
        judge.find("open.stale", "open", number, "no entry: it is sealed")
    right = facts.expires_at if not facts.ended and not facts.is_done else None
    if right is not None and facts.expiring_at != right:
        found = f"no {number}" if facts.expiring_at is None else f"{number} at {facts.expiring_at:.0f}"
        judge.find("expiring.missing", "expiring", found, f"{number} at {right:.0f}")
    if right is None and facts.expiring_at is not None:
        judge.find("expiring.stale", "expiring", number, "no entry: it will not expire")
    _judge_lists(judge, facts)


def _judge_lists(judge: _Judge, facts: RequestFacts) -> None:
    number = facts.number
    right, wrong = reversed(REQUEST_STATES) if facts.is_done else REQUEST_STATES
    if facts.listed[right] < 2:
        found = f"{number} in {facts.listed[right]} of the lists of all requests and of its site"
        judge.find("index.missing", right, found, f"in both: it is {right}")
    if facts.listed[wrong]:
        judge.find("index.extra", wrong, number, f"no entry: it is {right}")
    if facts.is_done and facts.leaving_at is None:
        judge.find("leaving.missing", "leaving", f"no {number}", "an entry: its record goes by itself")
    if not facts.is_done and facts.leaving_at is not None:
        judge.find("leaving.extra", "leaving", number, "no entry: its record stays while it has work left")


def judge_batch(prefix: str, record: BatchRecord) -> list[Violation]:
    """Return what does not agree in a batch's own record."""
    judge = _Judge(prefix, site=record.site)
    key = f"batch:{record.batch_id}"
    if record.version > RECORD_VERSION:
        judge.version(key, record.version)
        return judge.violations
    if not record.site or not record.state:
        judge.find("batch.broken", key, "no site or state", "both", repairable=False)
        return judge.violations
    is_list = record.lane.startswith(LIST_LANE)
    if not is_list and record.count != len(record.members):
        judge.find(
            "batch.count", key, f"count {record.count}", f"{len(record.members)} members", repairable=False
        )
    owners: dict[str, int] = {}
    for member in record.members:
        _, _, value = member.partition(" ")
        for owner in value.partition(":")[2].split(","):
            owners[owner] = owners.get(owner, 0) + (record.count if is_list else 1)
    if owners != dict(record.owners):
        found = " ".join(f"{owner}:{count}" for owner, count in sorted(record.owners.items()))
        expected = " ".join(f"{owner}:{count}" for owner, count in sorted(owners.items()))
        judge.find("batch.owners", key, f"owners {found}", f"{expected}, by its members", repairable=False)
    return judge.violations


def judge_owner(prefix: str, facts: RequestFacts, work: Work) -> list[Violation]:
    """Return where a request's counts differ from what URLs and batches say of it."""
    judge = _Judge(prefix, site=facts.site, request=facts.number)
    if facts.version > RECORD_VERSION:
        return judge.violations
    # What an ended request had pending is accounted; lanes drop its URLs when they meet them.
    right = {
        "pending": 0 if facts.ended else work.pending,
        "in_flight": work.in_flight,
        "lists": work.lists,
    }
    for name, expected in right.items():
        actual = facts.lists if name == "lists" else facts.counts[name]
        if actual != expected:
            judge.find(
                f"owner.{name}",
                f"request:{facts.number}",
                f"{name} {actual}",
                f"{expected}, by the owners of the site's URLs and batches",
                repairable=False,
            )
    return judge.violations


def judge_wake(prefix: str, facts: WakeFacts) -> list[Violation]:
    """Return whether something is due that nobody will wake up for, and leases that lead nowhere."""
    judge = _Judge(prefix)
    for batch_id in facts.strays:
        judge.find("lease.stray", "leases", batch_id, "no lease: there is no such batch")
    if facts.due is None or facts.begun or facts.waiters:
        return judge.violations
    if facts.armed is None or facts.armed > max(facts.due, facts.now) + WAKE_LATE_MS:
        found = "nothing armed" if facts.armed is None else f"one in {_seconds(facts.armed, facts.now)}"
        judge.find("wake.missing", "queue", found, f"a wake-up in {_seconds(facts.due, facts.now)}")
    return judge.violations


def _seconds(at: float, now: float) -> str:
    return f"{max(0.0, at - now) / 1000:.1f} s"


def _or_inf(value: float | None) -> float:
    return math.inf if value is None else value


class _Judge:
    """Collects the violations of one thing; derived data unless told otherwise."""

    def __init__(self, prefix: str, *, site: str = "", request: str = "") -> None:
        self._prefix, self._site, self._request = prefix, site, request
        self.violations: list[Violation] = []

    def find(self, name: str, key: str, found: str, expected: str, *, repairable: bool = True) -> None:
        self.violations.append(
            Violation(
                name=name,
                key=f"{self._prefix}{key}",
                found=found,
                expected=expected,
                site=self._site,
                request=self._request,
                repairable=repairable,
            )
        )

    def version(self, key: str, version: int) -> None:
        expected = f"{RECORD_VERSION} or less: a later release wrote it; it is left alone, upgrade this one"
        self.find("version", key, f"version {version}", expected, repairable=False)
