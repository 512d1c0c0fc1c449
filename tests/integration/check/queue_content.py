"""A ledger with everything in it that a live one may hold, on a clock of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from esa_preload.ledger import Header, Ledger
from esa_preload.scripts import command
from esa_preload_worker.check.audit import Audit, Auditor
from esa_preload_worker.check.reader import LedgerReader
from esa_preload_worker.check.repair import repair
from esa_preload_worker.claims import Batch, Block, Settlement, SiteWait
from esa_preload_worker.ledger import WorkerLedger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from esa_preload.keys import Keys

START_MS = 1_800_000_000_000
SUBMITTED = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True)
SPLIT = Settlement(what="split", outcome="split")
HOLD = Settlement(what="hold", outcome="held", reason="refused", code="InvalidParameter")
PLAN_LANE = "1800003600000,,60,"


async def _no_sleep(_seconds: float) -> None:
    """Let no time pass."""


def urls(count: int, *, of: str) -> list[str]:
    """Return distinct normal URLs."""
    return [f"https://www.example.com/{of}/{number}" for number in range(count)]


class Queue:
    """Producers, workers and the audit of one ledger, on one clock."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self.redis, self.keys = redis, keys
        self.now_ms = START_MS
        self._batches = 0

    async def settle_in(self, **settings: int) -> None:
        """Publish settings: small batches, a rate that never binds."""
        limits = {"batch_max_urls": 10, "rate_initial": 1_000, "rate_max": 1_000, "lease_ms": 600_000}
        await WorkerLedger(self.redis, self.keys).publish(limits | settings)

    async def accept(
        self,
        request_id: str,
        asked: Sequence[str],
        *,
        site: int = 1,
        lane: str = "",
        band: int = 1,
        number: int = 0,
        total: int | None = 1,
        expires_in_ms: int = 0,
        weight: int = 1,
    ) -> None:
        """Take one chunk of a request, a moment later."""
        self.now_ms += 10
        header = Header(
            request_id=request_id,
            site_id=site,
            plan="",
            lane=lane,
            band=band,
            expires_in_ms=expires_in_ms,
        )
        ledger = Ledger(self.redis, self.keys, now_ms=self.now_ms)
        await ledger.accept(header, asked, number=number, digest="d", total=total, weight=weight)

    async def end(self, request_id: str) -> None:
        """Cancel a request."""
        await Ledger(self.redis, self.keys, now_ms=self.now_ms).end_request(request_id, "cancelled")

    async def pause(self, site: int) -> None:
        """Pause a site."""
        await Ledger(self.redis, self.keys, now_ms=self.now_ms).switch_site(site, "pause", "by a test")

    @property
    def worker(self) -> WorkerLedger:
        """The workers' side, now; bulk batches are of 60 URLs and more."""
        return WorkerLedger(self.redis, self.keys, now_ms=self.now_ms, bulk_min_urls=60)

    async def take(self) -> Batch:
        """Claim the next batch, once everything pending is due."""
        self.now_ms += 1_000
        self._batches += 1
        taken = await self.worker.take(
            token=f"t{self._batches}", pump="p", new_batch_id=f"b{self._batches:03}"
        )
        assert isinstance(taken, Batch), taken
        return taken

    async def settle(self, batch: Batch, settlement: Settlement) -> None:
        """End the claim of *batch*."""
        children = (f"{batch.batch_id}x", f"{batch.batch_id}y") if settlement.what == "split" else ()
        await self.worker.settle(batch, settlement, children=children, roll=0.5)

    async def everything(self) -> None:
        """Fill the ledger: every band, every state of a batch, every end of a request."""
        await self.settle_in()
        # A batch each: being sent, uncertain, created, split into parts of which one is held, and a list in flight.
        await self.accept("flying", urls(40, of="flying"), site=2)
        batches = [await self.take() for _ in range(4)]
        await self.settle(
            batches[1], Settlement(what="defer", outcome="uncertain", state="uncertain", delay_ms=600_000)
        )
        await self.worker.record_job(batches[2], job_id="j", job={"job_id": "j"}, plan_follows=False)
        await self.settle(batches[3], SPLIT)
        await self.accept("pair", urls(2, of="pair"), site=12)
        await self.settle(await self._take_of(12), SPLIT)
        await self.settle(await self._take_of(12), HOLD)
        await self.accept("list", urls(1, of="list"), site=4, lane="oss:list:", weight=0)
        await self._take_of(4)
        # Bulk batches: one of two packs that is ready, and one that is being gathered.
        for site, state in ((14, "ready"), (15, "gathering")):
            await self.accept(f"bulk-{site}", urls(70, of="bulk"), site=site)
            bulk = await self._take_of(site)
            for pack in ("p", "q"):
                await self.worker.gather(bulk, pack_id=f"{pack}{site}", most_urls=30, most_bytes=10_000)
            if state == "ready":
                await self.settle(bulk, Settlement(what="defer", outcome="gathered", state="ready", lines=60))
        # Requests that ended, and one whose URLs came back.
        await self.accept("done", urls(10, of="done"), site=8)
        await self.settle(await self._take_of(8), SUBMITTED)
        await self.accept("back", urls(10, of="back"), site=8)
        back = await self._take_of(8)
        await self.accept("again", urls(5, of="back"), site=8)
        await self.settle(back, Settlement(what="end", outcome="busy", verdict="pending"))
        # Sites that are held up.
        for site, settlement in (
            (5, Settlement(what="end", outcome="x", verdict="pending", site_wait=SiteWait(reason="quota", ms=3_600_000))),
            (6, Settlement(what="end", outcome="x", verdict="pending", block=Block(scope="site", code="Forbidden"))),
        ):  # fmt: skip
            await self.accept(f"held-up-{site}", urls(10, of="held-up"), site=site)
            await self.settle(await self._take_of(site), settlement)
        await self.accept("paused", urls(3, of="paused"), site=7)
        await self.pause(7)
        # Pending: all bands, merged and promoted, cancelled, expired, open, with a plan, a list in OSS.
        for band in range(3):
            await self.accept(f"band-{band}", urls(30, of=f"band-{band}"), band=band)
        await self.accept("promotes", urls(30, of="band-1")[10:], band=0)
        await self.accept("merges", urls(10, of="band-0"), band=2, expires_in_ms=86_400_000)
        await self.accept("cancelled", [*urls(5, of="cancelled"), *urls(5, of="band-2")])
        await self.end("cancelled")
        await self.accept("claims-back", urls(2, of="cancelled"))
        await self.accept("expires", urls(4, of="expires"), expires_in_ms=1)
        await self.accept("open", urls(4, of="open"), total=None)
        await self.accept("planned", urls(7, of="planned"), lane=PLAN_LANE)
        await self.accept("list-pending", urls(1, of="list-pending"), lane="oss:list-pending:", weight=500)
        await self.worker.sweep("w", turn_ms=1)

    async def _take_of(self, site: int) -> Batch:
        """Claim batches until one is of *site*; those of others are handed back."""
        for _ in range(20):
            batch = await self.take()
            if batch.site_id == site:
                return batch
            await self.settle(batch, _READY)
        raise AssertionError(f"nothing of site {site} came up")

    def reader(self) -> LedgerReader:
        """Return a reader on the queue's clock."""
        return LedgerReader(self.redis, self.keys, now_ms=self.now_ms)

    async def audit(self) -> Audit:
        """Audit the ledger now."""
        return await Auditor(self.reader(), sleep=_no_sleep).run()

    async def repair(self, audit: Audit) -> list[str]:
        """Repair what *audit* found, and return what was done."""
        said: list[str] = []
        await repair(self.reader(), audit, said.append)
        return said

    async def run(self, *arguments: str | int) -> Any:
        """Run a command on keys of the namespace: ``{}`` stands for its prefix."""
        prefix = self.keys.prefix
        return await command(
            self.redis, *(a.replace("{}", prefix) if isinstance(a, str) else a for a in arguments)
        )


_READY = Settlement(what="defer", outcome="ready", state="ready", delay_ms=0)
