"""A ledger that is as it should be passes, whatever it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from integration.check.queue_content import Queue


async def test_an_empty_ledger_passes(queue: Queue) -> None:
    """Nothing is looked at and nothing is wrong."""
    audit = await queue.audit()
    assert audit.violations == []
    assert audit.counts["urls"] == audit.counts["requests"] == 0


async def test_a_ledger_with_everything_in_it_passes(queue: Queue) -> None:
    """Every band, state of a batch and end of a request is there, is counted, and no invariant is found broken."""
    await queue.everything()
    audit = await queue.audit()
    assert audit.violations == []
    print(audit.counts)
