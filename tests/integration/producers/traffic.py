"""What goes in and out of a queue in the producers' tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esa_preload_worker.claims import Batch, Settlement

if TYPE_CHECKING:
    from esa_preload_worker.ledger import WorkerLedger

SITE = 190007158391808
SUBMITTED = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True)


def urls(count: int, *, start: int = 0) -> list[str]:
    """Return distinct normal URLs."""
    return [f"https://www.example.com/{number}" for number in range(start, start + count)]


async def drain(worker: WorkerLedger, settlement: Settlement = SUBMITTED) -> list[Batch]:
    """Claim and settle until nothing is due; the clock moves on for each claim."""
    batches: list[Batch] = []
    while True:
        assert worker.now_ms is not None
        worker.now_ms += 10_000
        taken = await worker.take(
            token=f"t{len(batches)}", pump="p", new_batch_id=f"b{len(batches)}x{worker.now_ms}"
        )
        if not isinstance(taken, Batch):
            return batches
        batches.append(taken)
        await worker.settle(taken, settlement, children=(), roll=0.5)
