"""A random walk over everything that producers, workers, crashes and time can do to the ledger, checked step by step."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from esa_preload.errors import QueueFullError, RequestConflictError
from esa_preload.model import PLAN_COUNTS
from esa_preload.scripts import command
from esa_preload_worker.claims import Batch, JobState, LostClaim, Settled, Settlement, Turn, Wait, Watch
from esa_preload_worker.esa.signing import form_encode
from esa_preload_worker.ledger import CREATE_JOB
from esa_preload_worker.metrics import site_figures
from integration.ledger.driver import (
    COUNTS,
    ENDS,
    JOB_PREFIX,
    KEYS,
    RUNNING_PREFIX,
    Blocking,
    Snapshot,
    is_list,
    is_lost,
)
from integration.ledger.explained import agrees, explain_sites, url_is_where_it_is_said
from integration.ledger.model import Claimed, Lane, Model, Request, Split, window_end
from integration.ledger.outcomes import DELAYS, KINDS, settlement_of

if TYPE_CHECKING:
    from collections.abc import Callable

SITES = (1, 2)
LANES = ("", "1700003600000,,,", ",1700000090000,,")
BATCH_MAX_URLS, BATCH_MAX_BYTES = 4, 330
AGE_MS, QUIET_MS, LEASE_MS, OPEN_MS = 20_000, 5_000, 10_000, 60_000
SITE_CONCURRENCY, MAX_PENDING, MAX_LANES = 2, 40, 2

URLS = tuple(f"https://a.example/{n}{'~' * (0, 0, 0, 30, 90)[n % 5]}" for n in range(14))
"""Some of them so long that the bytes of a batch are used up before its URLs are."""

picks = st.integers(0, 10_000)
some_urls = st.lists(st.sampled_from(URLS), min_size=1, max_size=9, unique=True).map(tuple)
bands = st.integers(0, 2)


class LedgerMachine(RuleBasedStateMachine):
    """
    Producers accept, cancel and repeat; pumps take, record, settle and die; arq runs, repeats and forgets; time passes.

    After each step everything in Redis is read and held to the model and to the invariants of the design.
    """

    redis_url: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.blocking = Blocking(self.redis_url)
        self.driver = self.blocking.driver
        self.model = Model()
        self.claims: dict[str, Batch] = {}
        self.stale: list[Batch] = []
        self.told: dict[str, Settled] = {}
        self.running_jobs: list[str] = []
        self.before = Snapshot()
        self.may_shorten: set[str] = set()
        self.numbers = count(1)
        self.plans = 0

    @initialize()
    def publish(self) -> None:
        """Small limits, so that each of them is met."""
        self.run(
            self.driver.workers.publish(
                {
                    "batch_max_urls": BATCH_MAX_URLS, "batch_max_bytes": BATCH_MAX_BYTES, "batch_max_age_ms": AGE_MS,
                    "batch_quiet_ms": QUIET_MS, "site_concurrency": SITE_CONCURRENCY, "lease_ms": LEASE_MS,
                    "max_pending_per_site": MAX_PENDING, "max_lanes_per_site": MAX_LANES, "open_ttl_ms": OPEN_MS,
                    "rate_initial": 20, "rate_max": 100, "list_lag_ms": 0,
                }
            )
        )  # fmt: skip
        self.before = self.blocking.read_all()

    def run(self, awaitable: Any) -> Any:
        """Wait for a call."""
        return self.blocking.run(awaitable)

    @property
    def now(self) -> int:
        """The time of the scripts."""
        return self.driver.now_ms

    # --- producers

    def chunk(
        self,
        request: Request | None,
        header: dict[str, Any],
        urls: tuple[str, ...],
        number: int,
        total: int | None,
    ) -> None:
        """Accept a new chunk and hold the reply to the model."""
        weight = header.get("weight", 1)
        where: Lane = (header["site"], header["lane"])
        call = self.driver.accept(urls, number=number, total=total, **header)
        pending = self.model.sites.get(where[0], Counter())["pending"]
        lanes = sum(1 for site, _ in self.model.lanes if site == where[0])
        if request is not None and (request.ended or request.sealed):
            with pytest.raises(RequestConflictError):
                self.run(call)
            return
        new_lane = where not in self.model.lanes and not is_list(where[1])
        known = self.model.lanes[where].urls if where in self.model.lanes else {}
        more = sum(weight for url in urls if url not in known)
        if (more and pending + more > MAX_PENDING) or (new_lane and lanes >= MAX_LANES):
            with pytest.raises(QueueFullError):
                self.run(call)
            return
        reply = self.run(call)
        if request is None:
            expires = header.get("expires_in_ms") or None
            request = Request(
                number=len(self.model.requests) + 1,
                request_id=header["request_id"],
                site=where[0],
                lane=where[1],
                band=header["band"],
                expires_at=expires and self.now + expires,
            )
            self.model.requests[request.number] = request
        result = self.model.accept(request, urls, weight, self.now)
        request.chunks[number] = (urls, result)
        request.touched_at = self.now
        request.sealed = total is not None and total == len(request.chunks)
        assert (reply.accepted, reply.merged, reply.duplicates) == result

    def header_of(self, request: Request) -> dict[str, Any]:
        """Return what each chunk of *request* repeats."""
        expires = 30_000 if request.expires_at else 0
        weight = self.weight_of(request)
        return {
            "request_id": request.request_id, "site": request.site, "lane": request.lane, "band": request.band,
            "expires_in_ms": expires, "weight": weight,
        }  # fmt: skip

    @staticmethod
    def weight_of(request: Request) -> int:
        """Return what one entry of *request* stands for."""
        return int(request.lane.split(":")[2]) if is_list(request.lane) else 1

    @rule(
        site=st.sampled_from(SITES), lane=st.sampled_from(LANES), band=bands, urls=some_urls, seals=st.booleans(),
        expires=st.sampled_from((0, 0, 30_000)),
    )  # fmt: skip
    def enqueue(
        self, site: int, lane: str, band: int, urls: tuple[str, ...], *, seals: bool, expires: int
    ) -> None:
        """A new request, whole or with more to come."""
        header = {
            "request_id": f"r{next(self.numbers)}", "site": site, "lane": lane, "band": band, "expires_in_ms": expires,
        }  # fmt: skip
        self.chunk(None, header, urls, 0, 1 if seals else None)

    @rule(site=st.sampled_from(SITES), weight=st.sampled_from((0, 7)), expires=st.sampled_from((0, 30_000)))
    def enqueue_list(self, site: int, weight: int, expires: int) -> None:
        """A list in OSS, whose length its producer knows or not."""
        request_id = f"r{next(self.numbers)}"
        header = {
            "request_id": request_id, "site": site, "lane": f"oss:{request_id}:{weight}:", "band": 1, "weight": weight,
            "expires_in_ms": expires,
        }  # fmt: skip
        self.chunk(None, header, ("https://oss.example/list",), 0, 1)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, urls=some_urls, seals=st.booleans())
    def enqueue_more(self, pick: int, urls: tuple[str, ...], *, seals: bool) -> None:
        """One more chunk of a request, also of one that takes no more."""
        request = self.pick_request(pick)
        if not is_list(request.lane):
            number = len(request.chunks)
            total = number + 1 if seals else None
            self.chunk(request, self.header_of(request), urls, number, total)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks)
    def enqueue_again(self, pick: int) -> None:
        """A retried request repeats all its chunks: the same replies, and nothing changes."""
        request = self.pick_request(pick)
        before = self.blocking.read_all()
        for number, (urls, result) in request.chunks.items():
            reply = self.run(self.driver.accept(urls, number=number, total=None, **self.header_of(request)))
            assert (reply.accepted, reply.merged, reply.duplicates) == result
        self.unchanged_since(before)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks, what=st.sampled_from(("digest", "site", "band", "expiry", "total")))
    def enqueue_otherwise(self, pick: int, what: str) -> None:
        """The same id with other content is a conflict, and nothing changes."""
        request = self.pick_request(pick)
        header = self.header_of(request)
        urls = request.chunks[0][0]
        total = None
        match what:
            case "digest":
                header["digest"] = "other"
            case "site":
                header["site"] = 3
            case "band":
                header["band"] = (header["band"] + 1) % 3
            case "expiry":
                header["expires_in_ms"] += 1
            case _:
                if not request.sealed or request.ended:
                    return
                total = len(request.chunks) + 1
        before = self.blocking.read_all()
        with pytest.raises(RequestConflictError):
            self.run(self.driver.accept(urls, number=0, total=total, **header))
        self.unchanged_since(before)

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks)
    def seal(self, pick: int) -> None:
        """The producer says how many chunks there were."""
        request = self.pick_request(pick)
        self.run(self.driver.accept((), number=None, total=len(request.chunks), **self.header_of(request)))
        request.sealed = True

    @precondition(lambda self: self.model.requests)
    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        """A request is cancelled, perhaps again, or after its end."""
        request = self.pick_request(pick)
        ended, _ = self.run(self.driver.producers.end_request(request.request_id, "cancelled"))
        expected = 0 if request.ended or request.is_done else self.model.end_request(request, "cancelled")
        assert ended == expected

    @precondition(lambda self: any(self.model.failures.values()))
    @rule(pick=picks, limit=st.sampled_from((1, 3, 10_000)), breaks_off=st.booleans())
    def requeue(self, pick: int, limit: int, *, breaks_off: bool) -> None:
        """Failures are enqueued anew and forgotten at once, as the client does it; a call that breaks off repeats its last chunk."""
        sites = sorted(site for site, failed in self.model.failures.items() if failed)
        site = sites[pick % len(sites)]
        by_lane: dict[str, list[tuple[str, str]]] = {}
        for entry_id, fields in self.run(self.driver.producers.failure_entries(site, limit=limit)):
            if not is_list(fields["lane"]):
                by_lane.setdefault(fields["lane"], []).append((entry_id, fields["url"]))
        for lane, entries in by_lane.items():
            ids = [entry_id for entry_id, _ in entries]
            urls = tuple(dict.fromkeys(url for _, url in entries))
            header: dict[str, Any] = {
                "request_id": f"requeue:{site}:{','.join(ids)}", "site": site, "lane": lane, "band": 1, "forget": ids,
            }  # fmt: skip
            before = len(self.model.requests)
            self.chunk(None, header, urls, 0, 1)
            if len(self.model.requests) == before:  # no room for them: they stay where they are
                continue
            failed = self.model.failures[site]
            for _, url in entries:
                failed.remove(next(one for one in failed if (one[0], one[2]) == (url, lane)))
            if breaks_off:
                reply = self.run(self.driver.accept(urls, number=0, total=1, **header))
                result = self.model.requests[before + 1].chunks[0][1]
                assert (reply.accepted, reply.merged, reply.duplicates) == result
                return

    def pick_request(self, pick: int) -> Request:
        """Choose a request, the latest ones more often."""
        requests = list(self.model.requests.values())[-6:]
        return requests[pick % len(requests)]

    # --- workers

    @rule()
    def take(self) -> None:
        """Somebody asks for work: what explain says of the sites at that moment agrees."""
        said = explain_sites(self)
        taken = self.run(self.driver.take())
        agrees(said, taken)
        self.took(taken)

    @precondition(lambda self: self.model.sites)
    @rule(pick=picks, url=st.sampled_from(URLS))
    def explain(self, pick: int, url: str) -> None:
        """Somebody asks where a URL is, and changes nothing."""
        sites = sorted(self.model.sites)
        before = self.blocking.read_all()
        url_is_where_it_is_said(self, sites[pick % len(sites)], url)
        self.unchanged_since(before)

    @rule(waits=st.booleans())
    def arq(self, *, waits: bool) -> None:
        """Arq begins a wake-up that is due, which takes; it ends the job at once, or later."""
        due = [
            job
            for job, score in self.before.zset_of("queue").items()
            if score <= self.now and RUNNING_PREFIX + job not in self.before.ttl_ms
        ]
        if not due:
            return
        self.run(command(self.driver.redis, "SET", RUNNING_PREFIX + due[0], "1", "PX", 3_600_000))
        self.running_jobs.append(due[0])
        self.take()
        if not waits:
            self.arq_ends()

    @precondition(lambda self: self.running_jobs)
    @rule()
    def arq_ends(self) -> None:
        """Arq ends a job, as its finish_job does."""
        job = self.running_jobs.pop(0)
        self.run(command(self.driver.redis, "ZREM", KEYS.queue, job))
        self.run(command(self.driver.redis, "DEL", RUNNING_PREFIX + job, JOB_PREFIX + job))

    @rule()
    def arq_forgets(self) -> None:
        """Arq loses all that it had; the next sweep notices."""
        self.run(command(self.driver.redis, "DEL", KEYS.queue))
        self.running_jobs.clear()
        self.sweep()

    def took(self, taken: Batch | Wait | None) -> None:
        """Hold what take said to the model and to what was in Redis before."""
        gate_is_open = self.before.gate_ms() <= self.now
        leases = self.before.zset_of("leases")
        overdue = [batch for batch, at in leases.items() if at <= self.now]
        if not isinstance(taken, Batch):
            assert not overdue, f"{overdue} waits for somebody, but take said {taken}"
            self.meet_the_dead()
            if gate_is_open:
                assert not self.claimable(), f"{self.claimable()} is due, but take said {taken}"
            return
        known = self.model.batches.get(taken.batch_id)
        if known is not None and known.state == "active":
            assert taken.batch_id in overdue, "a live claim was given away"
            if old := self.claims.pop(taken.batch_id, None):
                self.stale.append(old)
            assert taken.state == (known.stage or ("created" if known.job_id else "uncertain"))
        else:
            assert not overdue
            assert gate_is_open, "Create was let through a closed gate"
            is_begun = taken.state == "gathering" and known is None
            assert taken.state == "sent" or is_begun
            site = self.before.hash_of(f"site:{taken.site_id}")
            assert "paused" not in site
            assert float(site.get("wait_until", 0)) < self.now + 1
            slots = 1 if "blocked_code" in site else SITE_CONCURRENCY
            assert self.active(taken.site_id) < slots
            if known is not None:
                known.state = "active"
            elif is_begun:
                self.began_bulk(taken)
            else:
                self.check_new(taken)
                self.model.claim(taken.batch_id, (taken.site_id, taken.lane), taken.urls)
            self.meet_the_dead()
        batch = self.model.batches[taken.batch_id]
        assert taken.urls == tuple(url for url, _ in batch.entries)
        assert taken.is_part == bool(batch.root)
        assert (taken.bulk is not None) == (batch.packs is not None)
        self.claims[taken.batch_id] = taken

    def began_bulk(self, taken: Batch) -> None:
        """A worker that can carry a bulk batch was given one: of a lane that is long enough, on a site that nothing holds."""
        site, meta = self.before.hash_of(f"site:{taken.site_id}"), self.before.hash_of("meta")
        where: Lane = (taken.site_id, taken.lane)
        assert len(self.model.lanes[where].urls) >= self.driver.workers.bulk_min_urls > 0
        assert self.is_due(where) or self.model.lanes[where].is_disordered or "size_limit" in meta
        assert not {"blocked_code", "quota_batch"} & set(site)
        assert "blocked_code" not in meta
        assert float(site.get("bulk_limit_until", 0)) <= self.now
        self.model.batches[taken.batch_id] = Claimed(
            taken.batch_id, where, [], 1, packs=[], stage="gathering"
        )

    def check_new(self, taken: Batch) -> None:
        """A new batch keeps the limits, is due, and is no smaller than it need be."""
        where: Lane = (taken.site_id, taken.lane)
        lane = self.model.lanes[where]
        left_of_quota = int(self.before.hash_of(f"site:{taken.site_id}").get("quota_batch", BATCH_MAX_URLS))
        most = min(BATCH_MAX_URLS, left_of_quota)
        assert len(taken.urls) <= most
        assert window_end(where[1]) > self.now, "sent after the end of its plan"
        size = len(form_encode("\n".join(taken.urls)))
        assert size <= BATCH_MAX_BYTES or len(taken.urls) == 1
        # While a smaller batch was learnt the lane may have been full; it keeps its turn when that is forgotten.
        was_smaller = "size_limit" in self.before.hash_of("meta")
        assert self.is_due(where) or lane.is_disordered or was_smaller, "claimed before it was due"
        left = {url: entry for url, entry in lane.urls.items() if url not in taken.urls}
        if size + 3 * max(map(len, URLS)) + 3 <= BATCH_MAX_BYTES and len(taken.urls) < min(
            most, self.most_urls()
        ):
            over = [self.model.is_over(where, entry, self.now) for entry in left.values()]
            assert all(over), "the batch had room left"

    def most_urls(self) -> int:
        """Return how many URLs a batch may hold now."""
        meta = self.before.hash_of("meta")
        is_learnt = float(meta.get("size_limit_until", 0)) > self.now
        return min(BATCH_MAX_URLS, int(meta["size_limit"])) if is_learnt else BATCH_MAX_URLS

    def meet_the_dead(self) -> None:
        """Follow what a claim or a sweep dropped: only what nobody wants may be gone."""
        after = self.blocking.read_all()
        for where, lane in list(self.model.lanes.items()):
            there = after.hash_of(f"urls:{where[0]}:{where[1]}")
            for url in [url for url in lane.urls if url not in there]:
                self.model.drop_dead(where, url, self.now)

    def is_due(self, where: Lane, *, full: int | None = None) -> bool:
        """Tell by the rules whether a lane is due: it is *full*, old or quiet."""
        lane = self.model.lanes[where]
        size = sum(map(len, lane.urls))
        if is_list(where[1]) or len(lane.urls) >= (full or self.most_urls()) or size >= BATCH_MAX_BYTES:
            return True
        oldest = min(entry.at for entry in lane.urls.values())
        newest = oldest if lane.newest is None else lane.newest
        return min(oldest + AGE_MS, window_end(where[1]) - AGE_MS, newest + QUIET_MS) <= self.now

    def claimable(self) -> list[Any]:
        """
        Return what may be claimed now, if the gate is open: parts and lanes.

        A lane that a smaller batch, learnt since, makes full keeps the moment it had.
        """
        found: list[Any] = []
        for site in self.model.sites:
            record = self.blocking.run(self.driver.hash(KEYS.site(site)))
            slots = 1 if "blocked_code" in record else SITE_CONCURRENCY
            if (
                "paused" in record
                or float(record.get("wait_until", 0)) > self.now
                or self.active(site) >= slots
            ):
                continue
            found += [b for b in self.model.batches.values() if b.state == "ready" and b.where[0] == site]
            found += [
                where
                for where in self.model.lanes
                if where[0] == site and self.is_due(where, full=BATCH_MAX_URLS)
            ]
        return found

    def active(self, site: int) -> int:
        """Return the batches of a site that are being worked at."""
        return sum(1 for b in self.model.batches.values() if b.where[0] == site and b.state == "active")

    def pick_claim(self, pick: int) -> Batch:
        """Choose a live claim."""
        return list(self.claims.values())[pick % len(self.claims)]

    @precondition(lambda self: self.claims)
    @rule(pick=picks, plan_follows=st.booleans())
    def record(self, pick: int, *, plan_follows: bool) -> None:
        """Create succeeded: the job goes on record, once; a second job of the same batch is told so."""
        batch = self.pick_claim(pick)
        known = self.model.batches[batch.batch_id]
        if known.stage:
            return
        job_id = known.job_id or f"job-{batch.batch_id}"
        reply = self.run(
            self.driver.workers.record_job(
                batch, job_id=job_id, job={"job_id": job_id}, plan_follows=plan_follows
            )
        )
        assert not is_lost(reply)
        known.job_id = job_id
        second = self.driver.workers.record_job(batch, job_id="other", job={}, plan_follows=False)
        assert self.run(second) == LostClaim(job_id=job_id)
        self.may_shorten.add("blocked_until")

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        """A worker renews what it holds, beside a claim that is another's."""
        batch = self.pick_claim(pick)
        claims = {batch.batch_id: batch.token}
        gone = {old.batch_id: old.token for old in self.stale if old.batch_id not in self.claims}
        lost = self.run(self.driver.workers.renew("w", {**gone, **claims}))
        assert lost == set(gone)

    @precondition(lambda self: self.claims)
    @rule(pick=picks)
    def pace(self, pick: int) -> None:
        """An uncertain batch was not found and asks to be created again."""
        batch = self.pick_claim(pick)
        known = self.model.batches[batch.batch_id]
        if known.job_id or known.stage or batch.state != "uncertain":
            return
        gate = self.before.gate_ms()
        assert (self.run(self.driver.workers.pace(CREATE_JOB, batch)) == Turn(sent_ms=self.now)) == (
            gate <= self.now
        )

    @precondition(lambda self: self.stale)
    @rule(pick=picks, kind=st.sampled_from(("settle", "record", "pace")))
    def act_late(self, pick: int, kind: str) -> None:
        """Whoever comes back from a freeze is told that the claim is lost, or once more how it ended, and changes nothing."""
        batch = self.stale[pick % len(self.stale)]
        before = self.blocking.read_all()
        match kind:
            case "settle":
                reply = self.run(self.driver.settle(batch))
            case "record":
                call = self.driver.workers.record_job(batch, job_id="late", job={}, plan_follows=True)
                reply = self.run(call)
            case _:
                reply = self.run(self.driver.workers.pace(CREATE_JOB, batch))
        assert is_lost(reply) or (kind == "settle" and reply == self.told.get(batch.token))
        self.unchanged_since(before)

    @precondition(lambda self: self.claims)
    @rule(
        pick=picks,
        kind=st.sampled_from(KINDS),
        marks=st.integers(0, 255),
        roll=st.sampled_from((0.0, 0.5, 1.0)),
    )
    def settle(self, pick: int, kind: str, marks: int, roll: float) -> None:
        """A claim ends in any way that ESA and the network know."""
        batch = self.pick_claim(pick)
        known = self.model.batches[batch.batch_id]
        if known.packs is not None and kind not in DELAYS:
            return
        settlement = settlement_of(kind, batch, known, marks)
        is_followed = settlement.what == "end" and settlement.verdict == "submitted"
        job_id = known.job_id or f"job-{batch.batch_id}"
        if is_followed:
            watch = Watch(job_id=job_id, plan_id="p", starts_ms=self.now, done_ms=self.now)
            settlement = replace(settlement, watch=watch)
        before = {number: request.counts["submitted"] for number, request in self.model.requests.items()}
        children = (self.driver.new_id(), self.driver.new_id())
        settled = self.run(self.driver.workers.settle(batch, settlement, children=children, roll=roll))
        assert not settled.lost
        self.told[batch.token] = settled
        del self.claims[batch.batch_id]
        if settlement.what == "defer":
            self.stale.append(batch)
        self.settled(known, settlement, children)
        if is_followed:
            after = {number: request.counts["submitted"] for number, request in self.model.requests.items()}
            self.model.put_on_record(job_id, batch.site_id, Counter(after) - Counter(before))
        if settlement.site_ok:
            self.may_shorten.add(f"site:{batch.site_id}")
        if settlement.planned:
            self.may_shorten.add("blocked_until")

    def settled(self, known: Claimed, settlement: Settlement, children: tuple[str, str]) -> None:
        """Let the model do what was settled."""
        if settlement.site_ok:
            sent_at = self.before.hash_of(f"batch:{known.batch_id}").get("sent_at", self.now)
            self.model.note_good(known, int(sent_at))
        match settlement.what:
            case "defer":
                known.state = "ready" if settlement.state == "ready" else "active"
            case "split":
                self.model.split(known, children)
            case "hold":
                known.state = "held"
                self.model.splits.setdefault(known.root, Split()).held.append(known.batch_id)
                self.model.part_ended(known.root, has_passed=False, now=self.now)
            case _:
                verdict = str(settlement.verdict)
                if settlement.lone and self.model.is_at_fault(known, self.now):
                    verdict = "refused"
                verdicts = [verdict] * len(known.entries)
                for exemption in settlement.exemptions:
                    verdicts[exemption.index] = exemption.verdict
                if is_list(known.where[1]) and verdict != "pending":
                    self.model.end_list(known, dict(settlement.list_ends or {verdict: max(1, known.weight)}))
                else:
                    self.model.end(known, verdicts)
                if known.root:
                    passed = bool(known.job_id) or settlement.verdict == "submitted"
                    self.model.part_ended(known.root, has_passed=passed, now=self.now)

    @rule(
        state=st.sampled_from(("warming", "finished", "failed")),
        then=st.sampled_from((0, 30_000, "gone", "left")),
    )
    def visit(self, state: JobState, then: int | Literal["gone", "left"]) -> None:
        """Somebody looks at a job that is due, and says what became of its plan, perhaps twice."""
        job = self.run(self.driver.workers.visit(token=self.driver.new_id()))
        if isinstance(job, int):
            return
        assert job.job_id in self.model.jobs
        state = job.state if job.state != "warming" else state
        assert self.run(self.driver.workers.visited(job, state=state, then=then))
        self.model.visited(job.job_id, state)
        if not isinstance(then, int):
            del self.model.jobs[job.job_id]
        assert self.run(self.driver.workers.visited(job, state=state, then=then)) == isinstance(then, int)

    # --- time and people

    @rule(ms=st.sampled_from((0, 1, 30, 250, 1_000, 4_999, 5_000, 10_001, 20_000, 61_000)))
    def wait(self, ms: int) -> None:
        """Time passes; a sweep looks after what was dropped meanwhile."""
        self.driver.advance(ms)
        self.sweep()

    def sweep(self) -> None:
        """The sweep expires what is over, seals what was left open, and arms what nobody waits for."""
        swept = self.run(self.driver.workers.sweep("w", turn_ms=3_600_000))
        assert swept.mine
        for request in self.model.requests.values():
            if request.is_done or request.ended:
                continue
            if request.expires_at is not None and request.expires_at <= self.now:
                self.model.end_request(request, "expired")
            elif not request.sealed and request.touched_at + OPEN_MS <= self.now:
                request.sealed = True
        self.meet_the_dead()
        for where, lane in self.model.lanes.items():
            over = [self.model.is_over(where, entry, self.now) for entry in lane.urls.values()]
            assert not any(over), f"{where} keeps what nobody wants"

    @precondition(lambda self: self.model.sites)
    @rule(pick=picks, what=st.sampled_from(("pause", "resume", "resume", "account")))
    def switch(self, pick: int, what: str) -> None:
        """A person pauses a site, or lets it or the account go on."""
        site = sorted(self.model.sites)[pick % len(self.model.sites)]
        if what == "account":
            self.run(self.driver.producers.switch_site(None, "resume"))
        else:
            self.run(self.driver.producers.switch_site(site, "pause" if what == "pause" else "resume"))
        self.may_shorten |= {"blocked_until", f"site:{site}"}

    # --- what always holds

    @invariant()
    def holds(self) -> None:
        """Read everything and compare."""
        now = self.blocking.read_all()
        for check in CHECKS:
            check(self, now)
        self.model.seal_the_done()
        self.check_waits(now)
        self.before = now
        self.may_shorten.clear()

    def unchanged_since(self, before: Snapshot) -> None:
        """Nothing moved, but times to live."""
        after = self.blocking.read_all()
        for name in ("strings", "hashes", "lists", "sorted_sets", "streams"):
            assert getattr(after, name) == getattr(before, name)

    def check_waits(self, now: Snapshot) -> None:
        """No reply shortens a wait; only success or a person does."""
        for key, old in self.before.hashes.items():
            new = now.hashes.get(key, {})
            if key.startswith(KEYS.prefix + "rate:"):
                assert float(new.get("cooldown", 0)) >= float(old.get("cooldown", 0))
            name = key.removeprefix(KEYS.prefix)
            if name.startswith("site:") and name not in self.may_shorten:
                assert float(new.get("wait_until", 0)) >= float(old.get("wait_until", 0))
            if name == "meta" and "blocked_until" not in self.may_shorten:
                assert float(new.get("blocked_until", 0)) >= float(old.get("blocked_until", 0))

    def teardown(self) -> None:
        """Let everything end, and see that nothing is left but what has a TTL or is permanent."""
        try:
            if self.before.hashes:
                self.drain()
        finally:
            self.blocking.close()

    def drain(self) -> None:
        """Resume everything, then take and submit by the wake-ups alone until nothing is pending."""
        self.run(self.driver.producers.switch_site(None, "resume"))
        for site in self.model.sites:
            self.run(self.driver.producers.switch_site(site, "resume"))
        for request in self.model.requests.values():
            self.run(
                self.driver.accept((), number=None, total=len(request.chunks), **self.header_of(request))
            )
            request.sealed = True
        for batch in list(self.claims.values()):
            self.finish(batch)
        while self.running_jobs:
            self.arq_ends()
        for _ in range(2_000):
            self.may_shorten |= {"blocked_until", *(f"site:{site}" for site in self.model.sites)}
            self.holds()
            wakes = self.before.waiting_wakes() + list(self.before.zset_of("waiters").values())
            if not wakes:
                break
            self.driver.advance(max(0, int(min(wakes)) - self.now))
            self.sweep_and_take()
        self.is_over()

    def sweep_and_take(self) -> None:
        """One turn of the drain: expire, begin what arq has, settle what came."""
        self.sweep()
        self.before = self.blocking.read_all()
        self.arq(waits=False)
        self.before = self.blocking.read_all()
        if not self.claims and self.before.zset_of("waiters"):
            self.driver.advance(1)
            self.take()
        for batch in list(self.claims.values()):
            self.finish(batch)

    def finish(self, batch: Batch) -> None:
        """Submit what is claimed."""
        known = self.model.batches[batch.batch_id]
        settlement = settlement_of("submitted", batch, known, 0)
        self.run(self.driver.settle(batch, settlement))
        self.settled(known, settlement, ("", ""))
        del self.claims[batch.batch_id]

    def is_over(self) -> None:
        """All requests are done and no key is left without TTL but the permanent ones."""
        end = self.blocking.read_all()
        assert not self.model.batches
        assert not self.model.lanes
        assert all(request.is_done for request in self.model.requests.values())
        permanent = ("meta", "settings", "sites", "site:", "rate:")
        left = [
            key
            for key, ttl in end.ttl_ms.items()
            if ttl < 0 and not key.removeprefix(KEYS.prefix).startswith(permanent)
        ]
        assert not left, f"left without TTL: {left}"


def urls_are_where_the_model_has_them(machine: LedgerMachine, now: Snapshot) -> None:
    """Invariant 1: every accepted URL is pending once, in one batch, or ended."""
    lanes = {f"{site}:{lane}": state for (site, lane), state in machine.model.lanes.items()}
    assert set(now.under("urls")) == set(lanes)
    for name, lane in lanes.items():
        stored = now.hash_of(f"urls:{name}")
        assert set(stored) == set(lane.urls)
        for url, entry in lane.urls.items():
            head, _, owners = stored[url].partition(":")
            assert (int(head[0]), int(head[1:])) == (entry.band, entry.at), url
            assert sorted(map(int, owners.split(","))) == sorted(entry.owners)
            assert url in now.list_of(f"band:{name}:{entry.band}"), f"{url} is in no list"


def batches_are_where_the_model_has_them(machine: LedgerMachine, now: Snapshot) -> None:
    """Invariant 4: each batch is in exactly one index, by its state, and holds what the model says."""
    batches = machine.model.batches
    assert set(now.under("batch")) == set(batches)
    leases = set(now.zset_of("leases"))
    parts = [part for site in now.under("parts") for part in now.list_of(f"parts:{site}")]
    held = [part for root in now.under("held") for part in now.list_of(f"held:{root}")]
    assert leases == {b.batch_id for b in batches.values() if b.state == "active"}
    assert sorted(parts) == sorted(b.batch_id for b in batches.values() if b.state == "ready")
    assert sorted(held) == sorted(b.batch_id for b in batches.values() if b.state == "held")
    for batch in batches.values():
        stored = now.hash_of(f"batch:{batch.batch_id}")
        assert int(stored["count"]) == batch.count
        lines = stored["members"].split("\n") if stored["members"] else []
        assert [line.split(" ")[0] for line in lines] == [url for url, _ in batch.entries]
        assert now.list_of(f"bulk:{batch.batch_id}") == (batch.packs or [])
        assert stored.get("bulk", "") == batch.bulk
        assert stored.get("job_id", "") == batch.job_id


def sites_add_up(machine: LedgerMachine, now: Snapshot) -> None:
    """Invariant 5, of sites: totals are the model's, and count each URL's work once."""
    for site, model in machine.model.sites.items():
        stored = Counter(
            {
                name: int(now.hash_of(f"site:{site}").get(name, 0))
                for name in ("accepted", "merged", "pending", "in_flight", *ENDS)
            }
        )
        assert {k: v for k, v in stored.items() if v} == {k: v for k, v in model.items() if v}
        ended = sum(stored[end] for end in ENDS)
        assert stored["accepted"] - stored["merged"] == stored["pending"] + stored["in_flight"] + ended
        assert int(now.hash_of(f"site:{site}").get("batches", 0)) == machine.active(site)


def requests_add_up(machine: LedgerMachine, now: Snapshot) -> None:
    """Invariant 5, of requests: counts are the model's; the record has a TTL just when the request is done."""
    for request in machine.model.requests.values():
        key = f"request:{request.number}"
        stored = {name: int(now.hash_of(key).get(name, 0)) for name in COUNTS}
        assert stored == {name: request.counts[name] for name in COUNTS}, request
        assert ("sealed" in now.hash_of(key)) == request.sealed
        for name in (
            KEYS.prefix + key,
            KEYS.chunks(str(request.number)),
            KEYS.request_number(request.request_id),
        ):
            assert (now.ttl_ms[name] > 0) == request.is_done, f"TTL of {name}"
        number = str(request.number)
        assert (number in now.zset_of("open")) == (not request.sealed)
        expires = request.expires_at is not None and not request.ended and not request.is_done
        assert (number in now.zset_of("expiring")) == expires


def requests_are_listed(machine: LedgerMachine, now: Snapshot) -> None:
    """Invariant 4: each request is among the active ones or the done ones, of all and of its site; a done one is known to leave."""
    for is_done, name in ((False, "active"), (True, "done")):
        wanted = [request for request in machine.model.requests.values() if request.is_done == is_done]
        for key, listed in [(name, wanted)] + [
            (f"{name}:{site}", [request for request in wanted if request.site == site])
            for site in machine.model.sites
        ]:
            assert now.zset_of(key) == {str(each.number): each.number for each in listed}, key
            assert not (is_done and listed) or now.ttl_ms[KEYS.prefix + key] > 0
    leaving = {f"{each.number}:{each.site}" for each in machine.model.requests.values() if each.is_done}
    assert set(now.zset_of("leaving")) == leaving


def jobs_are_on_record(machine: LedgerMachine, now: Snapshot) -> None:
    """Each job that is followed stands among its site's, and the agenda has the first of them; every key of theirs has a TTL."""
    jobs = machine.model.jobs
    assert set(now.under("job")) == set(jobs)
    for site in machine.model.sites:
        visits = now.zset_of(f"jobs:{site}")
        assert set(visits) == {job_id for job_id, job in jobs.items() if job.site == site}
        assert now.zset_of("agenda").get(str(site)) == min(visits.values(), default=None)
    for request in machine.model.requests.values():
        stored = {name: int(now.hash_of(f"request:{request.number}").get(name, 0)) for name in PLAN_COUNTS}
        assert stored == {name: request.counts[name] for name in PLAN_COUNTS}, request


def failures_are_named(machine: LedgerMachine, now: Snapshot) -> None:
    """Each URL that ended as refused, unknown or expired is in its site's failures, once for each such end, and nothing else is."""
    for site in machine.model.sites:
        stored = now.streams.get(KEYS.failures(site), [])
        shown = [(entry["url"], entry["state"], entry["lane"], entry["batch"]) for entry in stored]
        assert Counter(shown) == Counter(machine.model.failures.get(site, []))
        whys = {entry["reason"] for entry in stored if entry["state"] == "expired"}
        assert whys <= {"expired", "window_passed"}
        assert not stored or now.ttl_ms[KEYS.failures(site)] > 0


def indexes_agree(machine: LedgerMachine, now: Snapshot) -> None:
    """Invariant 4: every lane with URLs is among its site's lanes, no later than due; every site that can go on is in the ring."""
    for site in machine.model.sites:
        lanes = {lane: state for (of, lane), state in machine.model.lanes.items() if of == site}
        assert set(now.zset_of(f"lanes:{site}")) == set(lanes)
        for lane, state in lanes.items():
            due = now.zset_of(f"lanes:{site}")[lane]
            assert due <= min(entry.at for entry in state.urls.values()) + AGE_MS or due < machine.now + 1
            if (ends := window_end(lane)) < float("inf"):
                assert now.zset_of("dropping")[f"{site}:{lane}"] <= max(ends, machine.now)
            raw = sum(map(len, state.urls))
            assert int(now.hash_of(f"lane:{site}:{lane}").get("bytes", 0)) == raw
        record = now.hash_of(f"site:{site}")
        slots = 1 if "blocked_code" in record else SITE_CONCURRENCY
        parts = now.list_of(f"parts:{site}")
        can_go_on = (lanes or parts) and "paused" not in record and machine.active(site) < slots
        assert (str(site) in now.zset_of("ring")) == bool(can_go_on)


def a_wake_up_is_armed(machine: LedgerMachine, now: Snapshot) -> None:
    """
    No lost wake-up: while anything falls due, arq holds a job that nobody has begun for then or before, or a pump waits.

    A pump that waits and dies is noticed by the sweep that follows its time.
    """
    at = now.next_ms()
    if at == float("inf") or any(until > machine.now for until in now.zset_of("waiters").values()):
        return
    wakes = now.waiting_wakes()
    assert any(wake <= max(at, machine.now) for wake in wakes), f"due at {at}, but armed for {wakes}"
    assert len(wakes) == 1, "wake-ups pile up"


def nothing_is_unaccounted_for(machine: LedgerMachine, now: Snapshot) -> None:
    """The figure that an alert watches stays 0, whatever happens."""
    del now
    records = machine.blocking.run(machine.driver.producers.site_records())
    assert not any(site_figures(*record).unaccounted for record in records)


CHECKS: tuple[Callable[[LedgerMachine, Snapshot], None], ...] = (
    urls_are_where_the_model_has_them,
    batches_are_where_the_model_has_them,
    sites_add_up,
    requests_add_up,
    requests_are_listed,
    jobs_are_on_record,
    failures_are_named,
    indexes_agree,
    a_wake_up_is_armed,
    nothing_is_unaccounted_for,
)
