"""What the ledger promises, as plain Python: no Redis, no scripts, one dictionary a thing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from integration.ledger.driver import ENDS, is_list

Lane = tuple[int, str]
"""Site and the lane's key."""

Failed = tuple[str, str, str, str]
"""Of an entry among the failures: URL, state, lane and batch."""


@dataclass(slots=True)
class Entry:
    """A URL at work: its band, when it was accepted, and the numbers of the requests that asked for it."""

    band: int
    at: int
    owners: list[int]


@dataclass(slots=True)
class Request:
    """A request and what became of its URLs."""

    number: int
    request_id: str
    site: int
    lane: str
    band: int
    expires_at: int | None
    chunks: dict[int, tuple[tuple[str, ...], tuple[int, int, int]]] = field(
        default_factory=dict[int, "tuple[tuple[str, ...], tuple[int, int, int]]"]
    )
    counts: Counter[str] = field(default_factory=Counter[str])
    touched_at: int = 0
    sealed: bool = False
    ended: str = ""
    lists: int = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing more can happen to it."""
        return self.sealed and not (self.counts["pending"] or self.counts["in_flight"] or self.lists)


@dataclass(slots=True)
class Claimed:
    """
    A batch of any state: ``active`` (claimed, or put off), ``ready`` (waits for its turn), ``held``, or ``packed``.

    A bulk batch has ``packs``, and no entries; ``stage`` is ``gathering`` or ``returning`` while there is no job to be of it. A
    pack belongs to the batch ``bulk``.
    """

    batch_id: str
    where: Lane
    entries: list[tuple[str, Entry]]
    weight: int
    state: Literal["active", "ready", "held", "packed"] = "active"
    root: str = ""
    job_id: str = ""
    bulk: str = ""
    packs: list[str] | None = None
    stage: Literal["gathering", "returning", ""] = ""
    verdict: str = ""
    submitted: Counter[int] = field(default_factory=Counter[int])

    @property
    def count(self) -> int:
        """URLs that it stands for."""
        return len(self.entries) * self.weight


@dataclass(slots=True)
class Split:
    """A batch that ESA refused as a whole: parts that live, whether one got through, and those held."""

    live: int = 0
    has_passed: bool = False
    held: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class LaneState:
    """What decides when a lane falls due."""

    urls: dict[str, Entry] = field(default_factory=dict[str, Entry])
    newest: int | None = None
    is_disordered: bool = False
    weight: int = 1


@dataclass(slots=True)
class Job:
    """A job on record: its site, the submitted URLs of each request, and its state."""

    site: int
    urls: Counter[int]
    state: str = "warming"


def window_end(lane: str) -> float:
    """Return when the plan of a lane ends."""
    _, *rest = lane.split(",")
    return float(rest[0]) if rest and rest[0] else float("inf")


class Model:
    """The ledger as it ought to be."""

    def __init__(self) -> None:
        self.requests: dict[int, Request] = {}
        self.lanes: dict[Lane, LaneState] = {}
        self.batches: dict[str, Claimed] = {}
        self.splits: dict[str, Split] = {}
        self.sites: dict[int, Counter[str]] = {}
        self.failures: dict[int, list[Failed]] = {}
        self.good_at: Counter[int] = Counter()
        self.lone: dict[Lane, int] = {}
        self.jobs: dict[str, Job] = {}

    def accept(self, request: Request, urls: tuple[str, ...], weight: int, now: int) -> tuple[int, int, int]:
        """Take URLs in; returns how many were accepted, merged and repeats."""
        where = (request.site, request.lane)
        site = self.sites.setdefault(request.site, Counter())
        lane = self.lanes.setdefault(where, LaneState(weight=weight))
        accepted = merged = repeats = 0
        changed = False
        for url in urls:
            entry = lane.urls.get(url)
            if entry is None:
                lane.urls[url] = Entry(request.band, now, [request.number])
                accepted += weight
                site["accepted"] += weight
                site["pending"] += weight
                if is_list(request.lane):
                    request.lists = 1
                changed = True
            elif request.number in entry.owners:
                repeats += 1
            else:
                accepted += 1
                site["accepted"] += 1
                live = [owner for owner in entry.owners if not self.requests[owner].ended]
                # While the newest owner wants it, the others are not looked at.
                kept = live if self.requests[entry.owners[-1]].ended else entry.owners
                if live:
                    merged += 1
                    site["merged"] += 1
                    if request.band < entry.band:
                        entry.band, lane.is_disordered = request.band, True
                else:
                    site[self.how_ended(entry)] += 1
                    entry.band, entry.at, lane.is_disordered = request.band, now, True
                entry.owners = [*kept, request.number]
                changed = True
        if changed:
            lane.newest = now
        elif not lane.urls:
            del self.lanes[where]
        request.counts.update(accepted=accepted, merged=merged, pending=accepted)
        return accepted, merged, repeats

    def end_request(self, request: Request, how: str) -> int:
        """Cancel or expire; returns the URLs ended."""
        pending = request.counts["pending"]
        request.counts["pending"] = 0
        request.counts[how] += pending
        request.ended, request.sealed = how, True
        return pending

    def drop_dead(self, where: Lane, url: str, now: int) -> None:
        """A claim met a URL that nobody wants any more, or whose window has passed."""
        lane = self.lanes[where]
        entry = lane.urls.pop(url)
        assert self.is_over(where, entry, now), f"{url} is lost: somebody wants it"
        how = self.how_ended(entry) if self.is_dead(entry) else "expired"
        for owner in entry.owners:
            if not self.requests[owner].ended:
                self.requests[owner].counts.update(pending=-lane.weight, expired=lane.weight)
        self.sites[where[0]]["pending"] -= lane.weight
        self.sites[where[0]][how] += lane.weight
        if how == "expired":
            self.note_failure(where, url, how)
        if is_list(where[1]):
            self.requests[entry.owners[-1]].lists = 0
        self.forget_if_empty(where)

    def is_over(self, where: Lane, entry: Entry, now: float) -> bool:
        """Tell whether a pending URL must not be submitted any more: for nobody, or after the end of its plan."""
        return window_end(where[1]) <= now or self.is_dead(entry)

    def is_dead(self, entry: Entry) -> bool:
        """Tell whether nobody wants a URL any more."""
        return all(self.requests[owner].ended for owner in entry.owners)

    def how_ended(self, entry: Entry) -> str:
        """Tell how the work of a URL ends that nobody wants any more: as expired when time took it from anybody."""
        hows = {self.requests[owner].ended for owner in entry.owners}
        return "expired" if "expired" in hows else "cancelled"

    def note_failure(self, where: Lane, url: str, state: str, batch_id: str = "") -> None:
        """Keep what did not get through, by name."""
        self.failures.setdefault(where[0], []).append((url, state, where[1], batch_id))

    def forget_if_empty(self, where: Lane) -> None:
        """A lane without URLs is no lane."""
        if where in self.lanes and not self.lanes[where].urls:
            del self.lanes[where]

    def claim(self, batch_id: str, where: Lane, urls: tuple[str, ...]) -> Claimed:
        """Move URLs from their lane into a batch; owners who left stay behind."""
        lane = self.lanes[where]
        claimed = Claimed(batch_id, where, [], lane.weight)
        for url in urls:
            entry = lane.urls.pop(url)
            entry.owners = [owner for owner in entry.owners if not self.requests[owner].ended]
            assert entry.owners, f"{url} was claimed for nobody"
            for owner in entry.owners:
                self.requests[owner].counts.update(pending=-lane.weight, in_flight=lane.weight)
            claimed.entries.append((url, entry))
        self.sites[where[0]].update(pending=-claimed.count, in_flight=claimed.count)
        self.forget_if_empty(where)
        self.batches[batch_id] = claimed
        return claimed

    def end(self, batch: Claimed, verdicts: list[str]) -> None:
        """End a batch, each of its URLs by its own verdict."""
        site = self.sites[batch.where[0]]
        back: list[tuple[str, Entry]] = []
        for (url, entry), verdict in zip(batch.entries, verdicts, strict=True):
            if verdict == "pending":
                back.append((url, entry))
                continue
            site[verdict] += batch.weight
            if verdict != "submitted":
                named = batch.bulk or batch.batch_id
                self.note_failure(batch.where, url, verdict, "" if verdict == "expired" else named)
            for owner in entry.owners:
                counts = self.requests[owner].counts
                counts.update({"in_flight": -batch.weight, verdict: batch.weight})
                if is_list(batch.where[1]):
                    self.requests[owner].lists = 0
        site["in_flight"] -= batch.count
        del self.batches[batch.batch_id]
        for url, entry in back:
            self._put_back(batch, url, entry)

    def end_list(self, batch: Claimed, ends: dict[str, int]) -> None:
        """End a list in OSS by ESA's numbers."""
        (url, entry), site = batch.entries[0], self.sites[batch.where[0]]
        if bad := [verdict for verdict in ("refused", "unknown") if verdict in ends]:
            self.note_failure(batch.where, url, bad[0], batch.batch_id)
        elif "expired" in ends:
            self.note_failure(batch.where, url, "expired")
        owner = self.requests[entry.owners[0]]
        owner.counts.update({**ends, "in_flight": -batch.weight})
        owner.counts["accepted"] += sum(ends.values()) - batch.weight
        owner.lists = 0
        site.update({**ends, "in_flight": -batch.weight})
        site["accepted"] += sum(ends.values()) - batch.weight
        del self.batches[batch.batch_id]

    def _put_back(self, batch: Claimed, url: str, entry: Entry) -> None:
        site = self.sites[batch.where[0]]
        live: list[int] = []
        for owner in entry.owners:
            request = self.requests[owner]
            into = request.ended or "pending"
            request.counts.update({"in_flight": -batch.weight, into: batch.weight})
            if not request.ended:
                live.append(owner)
            elif is_list(batch.where[1]):
                request.lists = 0
        lane = self.lanes.get(batch.where)
        there = lane.urls.get(url) if lane else None
        if not live:
            how = self.how_ended(entry)
            site[how] += batch.weight
            is_looked_after = there and (not self.is_dead(there) or self.how_ended(there) == "expired")
            if how == "expired" and not is_looked_after:
                self.note_failure(batch.where, url, how)
            return
        lane = lane or self.lanes.setdefault(batch.where, LaneState(weight=batch.weight))
        lane.is_disordered = True
        if there is None:
            lane.urls[url] = Entry(entry.band, entry.at, live)
            site["pending"] += batch.weight
            return
        site["merged"] += 1
        for owner in set(live) & set(there.owners):
            self.requests[owner].counts.update(pending=-1, accepted=-1)
        owners = [*live, *(owner for owner in there.owners if owner not in live)]
        lane.urls[url] = Entry(min(entry.band, there.band), min(entry.at, there.at), owners)

    def split(self, batch: Claimed, children: tuple[str, str]) -> None:
        """Halve a batch; its parts wait for their turn."""
        root = batch.root or batch.batch_id
        split = self.splits.setdefault(root, Split(live=1))
        split.live += 1
        half = (len(batch.entries) + 1) // 2
        for child, entries in zip(children, (batch.entries[:half], batch.entries[half:]), strict=True):
            self.batches[child] = Claimed(child, batch.where, entries, 1, "ready", root)
        del self.batches[batch.batch_id]

    def note_good(self, batch: Claimed, sent_ms: int) -> None:
        """ESA took a batch: requests of its site are good as of when it was sent, and so are its URLs."""
        site = batch.where[0]
        self.good_at[site] = max(self.good_at[site], sent_ms)
        for url, _ in batch.entries:
            self.lone.pop((site, url), None)

    def is_at_fault(self, batch: Claimed, now: int) -> bool:
        """Tell whether the one URL of a batch was refused by itself before, and the site's requests got through since."""
        site, ((url, _),) = batch.where[0], batch.entries
        if self.good_at[site] > self.lone.setdefault((site, url), now):
            del self.lone[site, url]
            return True
        return False

    def part_ended(self, root: str, *, has_passed: bool, now: int) -> Literal["no", "refused", "blocked"]:
        """Judge the held parts when the last part has ended."""
        split = self.splits[root]
        split.live -= 1
        split.has_passed |= has_passed
        if split.live:
            return "no"
        for held in split.held:
            batch = self.batches[held]
            is_refused = split.has_passed or self.is_at_fault(batch, now)
            self.end(batch, ["refused" if is_refused else "pending"])
        del self.splits[root]
        return "refused" if split.has_passed or not split.held else "blocked"

    def put_on_record(self, job_id: str, site: int, urls: Counter[int]) -> None:
        """A job has its plan, which has started."""
        self.follow(job_id, site, urls)
        self.warm(urls)

    def follow(self, job_id: str, site: int, urls: Counter[int]) -> None:
        """A job will be visited."""
        self.jobs[job_id] = Job(site, urls)

    def warm(self, urls: Counter[int]) -> None:
        """The plan of *urls* has started."""
        for number, count in urls.items():
            self.requests[number].counts["warming"] += count

    def visited(self, job_id: str, state: str) -> None:
        """The plan of a job has come to *state*."""
        job = self.jobs[job_id]
        for number, count in job.urls.items():
            self.requests[number].counts.update({job.state: -count})
            self.requests[number].counts.update({state: count})
        job.state = state

    def seal_the_done(self) -> None:
        """Check each request's sum."""
        for request in self.requests.values():
            counts = request.counts
            in_work = counts["pending"] + counts["in_flight"]
            assert counts["accepted"] == in_work + sum(counts[end] for end in ENDS), request
            assert min(counts.values(), default=0) >= 0, request
