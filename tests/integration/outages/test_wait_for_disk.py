"""A claim waits for the disk wherever the server can tell; a failover may lead from one that cannot to one that can."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload_worker.claims import Batch
from esa_preload_worker.ledger import WorkerLedger
from integration.outages.plant import NAMESPACE, SITE

if TYPE_CHECKING:
    from integration.outages.servers import Server


def waits(server: Server) -> int:
    """Return how many calls of WAITAOF were answered, and not refused."""
    stats = cast("dict[str, dict[str, int]]", server.command("INFO", "commandstats"))
    of_ours = stats.get("cmdstat_waitaof", {"calls": 0, "failed_calls": 0})
    return of_ours["calls"] - of_ours["failed_calls"]


async def test_what_one_server_cannot_tell_another_is_asked_again(server: Server) -> None:
    """Without an append-only file a claim counts as it is; as soon as there is one, claims wait for it again."""
    redis = connect(server.url)
    try:
        async with PreloadClient(redis, namespace=NAMESPACE) as client:
            await client.enqueue(SITE, [f"https://a.example/{number}" for number in range(200)])
        ledger = WorkerLedger(redis, Keys(NAMESPACE), waits_for_disk=True)
        server.command("CONFIG", "SET", "appendonly", "no")
        assert isinstance(await ledger.take(token="t1", pump="p1", new_batch_id="b1"), Batch)
        assert waits(server) == 0
        server.command("CONFIG", "SET", "appendonly", "yes")
        await ledger.take(token="t2", pump="p2", new_batch_id="b2")
        assert waits(server) == 1
    finally:
        await redis.aclose()
