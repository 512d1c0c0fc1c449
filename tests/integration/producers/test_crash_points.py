"""A producer that dies anywhere in an enqueue, and is run again, ends where an undisturbed one ends."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from redis.asyncio import Redis

import acl
from esa_preload import PreloadClient, UnknownRequestError
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import command
from esa_preload_worker.claims import Batch, Settlement
from esa_preload_worker.ledger import WorkerLedger

if TYPE_CHECKING:
    from esa_preload import Receipt, RequestStatus

SITE = 190007158391808
DISTINCT = [f"https://www.example.com/{number}" for number in range(6_500)]
URLS = [*DISTINCT[:3_000], "nonsense", *DISTINCT[:10], *DISTINCT[3_000:]]
"""Seven chunks, more than are in flight at once; a repeat and a bad URL must be told the same way each time."""

SUBMITTED = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True)


class DeathError(BaseException):
    """Not an Exception: nothing that handles errors may handle the end of the process."""


class MortalRedis(Redis):
    """Counts the moments before a command is sent and after its reply was read, dies at one of them, and stays dead."""

    moments = 0
    dies_at: int | None = None

    def _pass(self) -> None:
        if self.dies_at is not None and self.moments >= self.dies_at:
            raise DeathError
        self.moments += 1

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        self._pass()
        reply: Any = await cast("Any", super()).execute_command(*args, **options)
        self._pass()
        return reply

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Any:
        pipe: Any = cast("Any", super()).pipeline(transaction, shard_hint)
        execute = pipe.execute

        async def mortal(**options: Any) -> Any:
            self._pass()
            replies = await execute(**options)
            self._pass()
            return replies

        pipe.execute = mortal
        return pipe


@dataclass(frozen=True, slots=True)
class End:
    """What is left of a request at the end of its producer, and after the workers' work."""

    receipt: Receipt
    before: RequestStatus
    pending: frozenset[str]
    is_sealed: bool
    submitted: list[str] = field(repr=False)
    after: RequestStatus


async def enqueue(
    redis_url: str, namespace: str, *, durable: bool, dies_at: int | None
) -> tuple[int, Receipt | None]:
    """Run the producer; returns the moments that it passed, and its receipt unless it died."""
    redis = cast("MortalRedis", connect(redis_url, redis_class=MortalRedis))
    redis.dies_at = dies_at
    try:
        async with PreloadClient(redis, namespace=namespace) as client:
            receipt = await client.enqueue(SITE, URLS, request_id="r", durable=durable)
    except DeathError:
        return redis.moments, None
    finally:
        await redis.aclose()
    return redis.moments, receipt


async def end_of(redis: Redis, namespace: str, receipt: Receipt) -> End:
    """Look at the request, let a worker submit all of it, and look again."""
    keys = Keys(namespace)
    pending = await command(redis, "HKEYS", keys.urls(SITE, ""))
    is_open = await command(redis, "EXISTS", f"{keys.prefix}open")
    sealed = await command(redis, "HGET", keys.request("1"), "sealed")
    async with PreloadClient(redis, namespace=namespace) as client:
        before = await client.status("r")
        submitted = await _submit_all(redis, keys)
        after = await client.status("r")
    return End(
        receipt=receipt,
        before=before,
        pending=frozenset(url.decode() for url in pending),
        is_sealed=sealed == b"7" and not is_open,
        submitted=sorted(submitted),
        after=after,
    )


async def _submit_all(redis: Redis, keys: Keys) -> list[str]:
    worker = WorkerLedger(
        redis, keys, now_ms=round((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000)
    )
    await worker.publish({"batch_max_urls": 1_000, "batch_max_bytes": 1_000_000})
    submitted: list[str] = []
    for number in itertools.count():
        assert worker.now_ms is not None
        worker.now_ms += 10_000
        taken = await worker.take(token=f"t{number}", pump="p", new_batch_id=f"b{number}")
        if not isinstance(taken, Batch):
            break
        submitted += taken.urls
        await worker.settle(taken, SUBMITTED, children=(), roll=0.5)
    return submitted


@pytest.mark.parametrize("durable", [False, pytest.param(True, marks=acl.needs_config)])
async def test_every_point_of_death_leads_to_the_same_end(
    redis: Redis, redis_url: str, *, durable: bool
) -> None:
    """
    The producer dies before each command is sent and after each was applied but its reply not handled; then it is run again.

    Points are counted by a run that lives: settings, seven chunks, the last of which seals, each with two moments. A server without
    WAITAOF is asked, after the seal, how it keeps what is written.
    """
    await enqueue(redis_url, "warm", durable=durable, dies_at=None)
    moments, receipt = await enqueue(redis_url, "whole", durable=durable, dies_at=None)
    assert moments in ((16, 18) if durable else (16,))
    assert receipt is not None
    assert (receipt.accepted, receipt.duplicates, receipt.rejected_count) == (6_500, 10, 1)
    whole = await end_of(redis, "whole", receipt)
    assert whole.is_sealed
    assert whole.pending == set(DISTINCT)
    assert whole.submitted == sorted(DISTINCT)
    assert (whole.after.state, whole.after.submitted) == ("done", 6_500)
    unfinished = 0
    for point in range(moments):
        namespace = f"point{point}"
        _, died = await enqueue(redis_url, namespace, durable=durable, dies_at=point)
        assert died is None
        unfinished += await _is_unfinished(redis, namespace)
        _, again = await enqueue(redis_url, namespace, durable=durable, dies_at=None)
        assert again is not None
        assert again == receipt, point
        assert await end_of(redis, namespace, again) == whole, point
    # Only a death after the seal finds a whole request: the points differ, and the ends do not.
    assert unfinished == 15


async def _is_unfinished(redis: Redis, namespace: str) -> bool:
    async with PreloadClient(redis, namespace=namespace) as client:
        try:
            return (await client.status("r")).accepted < len(DISTINCT)
        except UnknownRequestError:
            return True
