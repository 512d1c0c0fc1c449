"""A ledger that is as it should be passes, whatever it holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esa_preload.scripts import as_text
from integration.check.queue_content import urls

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


async def test_a_request_that_ended_long_ago_may_still_be_named_by_its_urls(queue: Queue) -> None:
    """Its record has gone: beside one who wants the URL, or until a sweep comes by, that is fine; left for good it is not."""
    await queue.settle_in()
    await queue.accept("gone", urls(3, of="shared"))
    await queue.accept("stays", urls(3, of="shared"))
    await queue.pause(1)
    await queue.end("gone")
    for _ in range(2):
        await queue.worker.sweep("w", turn_ms=1)
    await _forget(queue, "gone")
    assert await queue.run("EXISTS", "{}dropping") == 0
    assert (await queue.audit()).violations == []
    await queue.end("stays")
    await _forget(queue, "stays")
    assert (await queue.audit()).violations == []
    await queue.run("DEL", "{}dropping")
    assert {violation.name for violation in (await queue.audit()).violations} == {"owner.gone"}


async def _forget(queue: Queue, request_id: str) -> None:
    """Let REQUEST_TTL pass for a request."""
    number = as_text(await queue.run("GET", "{}request-id:" + request_id))
    await queue.run("DEL", "{}request-id:" + request_id, "{}request:" + number, "{}chunks:" + number)
