"""The random walk with bulk batches in it: gathered, put off, ended pack by pack, put back, by workers that die at any of it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from esa_preload_worker.claims import BulkLimit, Exemption, Gathered, LostClaim, Settlement, Watch
from integration.ledger.machine import SITES, URLS, LedgerMachine, picks

if TYPE_CHECKING:
    from collections.abc import Callable

    from esa_preload_worker.claims import Batch, Verdict
    from integration.ledger.model import Claimed

BULK_LEAST = 5


class BulkMachine(LedgerMachine):
    """A :class:`LedgerMachine` some of whose workers have a bucket."""

    @rule()
    def take_with_a_bucket(self) -> None:
        """Whoever asks can carry a bulk batch."""
        self.driver.workers.bulk_min_urls = BULK_LEAST
        self.take()
        self.driver.workers.bulk_min_urls = 0

    @rule(
        urls=st.lists(st.sampled_from(URLS), min_size=BULK_LEAST, max_size=9, unique=True).map(tuple),
        site=st.sampled_from(SITES),
        pick=picks,
        steps=st.integers(1, 5),
    )
    def carry(self, urls: tuple[str, ...], site: int, pick: int, steps: int) -> None:
        """A lane is long enough, and somebody with a bucket comes some steps far: each by itself is rare in a random walk."""
        self.enqueue(site=site, lane="", band=1, urls=urls, seals=True, expires=0)
        self.holds()
        way: tuple[Callable[[], object], ...] = (
            lambda: self.wait(5_000),
            self.take_with_a_bucket,
            lambda: self.bulks("gathering") and self.gather(pick=pick, most=4, most_bytes=10_000),
            lambda: self.bulks("gathering") and self.gather(pick=pick, most=4, most_bytes=10_000),
            lambda: self.bulks("gathering") and self.list_is_stored(pick=pick),
            self.take,
            lambda: self.bulks("") and self.record(pick=pick, plan_follows=False),
        )
        for step in way[: steps + 2]:
            step()
            self.holds()

    def bulks(self, *stages: str) -> list[Batch]:
        """Return the claims of bulk batches, of some stages only when these are given."""
        known = self.model.batches
        return [
            batch
            for batch in self.claims.values()
            if known[batch.batch_id].packs is not None
            and (not stages or known[batch.batch_id].stage in stages)
        ]

    @precondition(lambda self: self.bulks("gathering"))
    @rule(pick=picks, most=st.integers(1, 4), most_bytes=st.sampled_from((150, 10_000)))
    def gather(self, pick: int, most: int, most_bytes: int) -> None:
        """A worker claims a pack more, perhaps twice with one id: the second time changes nothing."""
        batch = self.bulks("gathering")[pick % len(self.bulks("gathering"))]
        known, pack_id = self.model.batches[batch.batch_id], self.driver.new_id()

        def ask() -> Gathered | LostClaim:
            call = self.driver.workers.gather(batch, pack_id=pack_id, most_urls=most, most_bytes=most_bytes)
            found: Gathered | LostClaim = self.run(call)
            return found

        found = ask()
        assert isinstance(found, Gathered)
        assert len(found.urls) <= most
        assert sum(len(url) + 1 for url in found.urls) <= most_bytes or len(found.urls) == 1
        if found.urls:
            pack = self.model.claim(pack_id, known.where, found.urls)
            pack.state, pack.bulk = "packed", batch.batch_id
            assert known.packs is not None
            known.packs.append(pack_id)
            before = self.blocking.read_all()
            assert ask() == found
            self.unchanged_since(before)
        self.meet_the_dead()

    @precondition(lambda self: self.bulks("gathering"))
    @rule(pick=picks)
    def list_is_stored(self, pick: int) -> None:
        """The list is in its place: from now on nothing is added, and the batch waits for its turn."""
        batch = self.bulks("gathering")[pick % len(self.bulks("gathering"))]
        known = self.model.batches[batch.batch_id]
        if not known.packs:
            return
        ready = Settlement(what="defer", outcome="gathered", state="ready", lines=len(known.packs))
        self.told[batch.token] = self.run(self.driver.settle(batch, ready))
        assert not self.told[batch.token].lost
        del self.claims[batch.batch_id]
        self.stale.append(batch)
        known.stage, known.state = "", "ready"

    @precondition(lambda self: self.bulks())
    @rule(
        pick=picks,
        verdict=st.sampled_from(("submitted", "submitted", "pending", "refused", "unknown", "expired")),
        packs=st.integers(1, 3),
        marks=st.integers(0, 255),
    )
    def end_packs(self, pick: int, verdict: Verdict, packs: int, marks: int) -> None:
        """A worker ends some of the packs, and the batch itself when none is left."""
        batch = self.bulks()[pick % len(self.bulks())]
        self.end_some(batch, verdict, packs, marks)

    def finish(self, batch: Batch) -> None:
        """Submit what is claimed; put back a bulk batch that is no job."""
        known = self.model.batches[batch.batch_id]
        if known.packs is None:
            super().finish(batch)
        else:
            self.end_some(batch, "submitted", len(known.packs), 0)

    def end_some(self, batch: Batch, verdict: Verdict, packs: int, marks: int) -> None:
        """End up to *packs* packs as *verdict* would have it: without a job they go back, or expire."""
        known = self.model.batches[batch.batch_id]
        assert known.packs is not None
        if known.stage or (not known.job_id and verdict != "expired"):
            verdict = "pending"
        settlement = self.settlement_of_packs(known, verdict)
        for pack_id in known.packs[::-1][:packs]:
            self.end_pack(batch, known, pack_id, settlement, marks)
        if known.packs:
            return
        assert not self.run(self.driver.settle(batch, settlement)).lost
        del self.claims[batch.batch_id]
        del self.model.batches[batch.batch_id]
        if known.submitted:
            self.model.follow(known.job_id, known.where[0], known.submitted)
        if settlement.bulk_limit:
            assert "bulk_limit" in self.blocking.read_all().hash_of(f"site:{known.where[0]}")

    def settlement_of_packs(self, known: Claimed, verdict: Verdict) -> Settlement:
        """Return how the packs end."""
        if verdict == "pending":
            limit = BulkLimit(urls=0, ms=5_000) if len(known.batch_id) % 2 else None
            return Settlement(what="end", outcome="requeued", state="returning", bulk_limit=limit)
        watch = (
            Watch(job_id=known.job_id, plan_id="p", starts_ms=self.now, done_ms=self.now)
            if verdict == "submitted"
            else None
        )
        return Settlement(what="end", outcome="x", verdict=verdict, reason="window_passed", watch=watch)

    def end_pack(
        self, batch: Batch, known: Claimed, pack_id: str, settlement: Settlement, marks: int
    ) -> None:
        """End one pack, and say so again: told the same, it changes nothing more."""
        pack = self.model.batches[pack_id]
        exemptions: tuple[Exemption, ...] = ()
        if settlement.verdict == "submitted" and marks % 2:
            others: tuple[Verdict, ...] = ("refused", "pending", "unknown")
            exemptions = (Exemption(index=0, verdict=others[marks % 3], reason="invalid_url", code="X"),)
        call = self.driver.workers.end_pack
        told = self.run(call(batch, pack_id, settlement, exemptions=exemptions))
        assert not told.lost
        before = self.blocking.read_all()
        assert self.run(call(batch, pack_id, settlement, exemptions=exemptions)) == told
        self.unchanged_since(before)
        verdicts = [str(settlement.verdict)] * len(pack.entries)
        for exemption in exemptions:
            verdicts[exemption.index] = exemption.verdict
        went = zip(pack.entries, verdicts, strict=True)
        taken = Counter(owner for (_, entry), how in went if how == "submitted" for owner in entry.owners)
        self.model.end(pack, verdicts)
        assert known.packs is not None
        known.packs.remove(pack_id)
        if settlement.state == "returning":
            known.stage = "returning"
        known.submitted += taken
        self.model.warm(taken)
