"""Records that a later release wrote are left in place and refused by name; the rest goes on."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from esa_preload.errors import UnsupportedRecordError
from integration.ledger.driver import KEYS, PUT_BACK, LedgerDriver, read_all
from integration.ledger.test_order import urls


async def make_newer(ledger: LedgerDriver, key: str) -> None:
    """Let a record be of version 2."""
    await ledger.redis_does("HSET", key, "v", 2)


async def test_a_newer_request_is_refused_by_name(ledger: LedgerDriver) -> None:
    """Neither a chunk, nor a cancel, nor a status touches it; the sweep does not expire it."""
    await ledger.accept(urls(1), request_id="r", expires_in_ms=1_000)
    await make_newer(ledger, KEYS.request("1"))
    before = await ledger.hash(KEYS.request("1"))
    with pytest.raises(UnsupportedRecordError, match="request r has version 2"):
        await ledger.accept(urls(1), request_id="r", number=1, total=2, expires_in_ms=1_000)
    with pytest.raises(UnsupportedRecordError, match="request 1 has version 2"):
        await ledger.producers.end_request("r", "cancelled")
    with pytest.raises(UnsupportedRecordError, match="request r has version 2"):
        await ledger.producers.status("r")
    ledger.advance(2_000)
    await ledger.workers.sweep("w", turn_ms=3_000)
    assert await ledger.hash(KEYS.request("1")) == before


async def test_a_newer_request_that_was_left_open_is_not_sealed(ledger: LedgerDriver) -> None:
    """The sweep leaves it as it is and where it is; an older one beside it is sealed."""
    for request_id in ("newer", "older"):
        await ledger.accept(urls(1), request_id=request_id, total=None)
    await make_newer(ledger, KEYS.request("1"))
    before = await ledger.hash(KEYS.request("1"))
    ledger.advance(3_600_000)
    assert (await ledger.workers.sweep("w", turn_ms=3_000)).sealed_requests == 1
    assert await ledger.hash(KEYS.request("1")) == before
    assert list((await read_all(ledger.redis)).zset_of("open")) == ["1"]


async def test_a_newer_lane_is_left_and_named_and_the_others_go_on(ledger: LedgerDriver) -> None:
    """Nothing is added to it, claimed from it or put back into it; other lanes and sites are served; its name is said at last."""
    await ledger.accept(urls(200), site=1)
    batch = await ledger.take_batch()
    await make_newer(ledger, KEYS.lane(1, ""))
    pending = await ledger.hash(KEYS.urls(1, ""))
    await ledger.accept(urls(100), site=1, lane="1,,,")
    await ledger.accept(urls(100), site=2)
    with pytest.raises(UnsupportedRecordError, match="lane  of site 1 has version 2"):
        await ledger.accept(urls(1, "b"), site=1)
    with pytest.raises(ResponseError, match="UNSUPPORTED lane  of site 1 has version 2"):
        await ledger.settle(batch, PUT_BACK)
    served = [await ledger.take_batch(), await ledger.take_batch()]
    assert {(taken.site_id, taken.lane) for taken in served} == {(1, "1,,,"), (2, "")}
    assert await ledger.hash(KEYS.urls(1, "")) == pending
    assert not (await ledger.settle(batch)).lost
    for taken in served:
        await ledger.settle(taken)
    ledger.advance(10_000)
    with pytest.raises(ResponseError, match="UNSUPPORTED lane  of site 1 has version 2"):
        await ledger.take()


async def test_a_newer_batch_is_left_and_named_and_the_others_go_on(ledger: LedgerDriver) -> None:
    """A dead claim of a later release is for its own workers; it hides no other one."""
    await ledger.accept(urls(300))
    newer, older = await ledger.take_batch(), await ledger.take_batch()
    await make_newer(ledger, KEYS.batch(newer.batch_id))
    before = await ledger.hash(KEYS.batch(newer.batch_id))
    ledger.advance(10_000)
    for expected in (older.batch_id, None):
        taken = await ledger.take_batch()
        assert expected in (None, taken.batch_id)
        await ledger.settle(taken)
    ledger.advance(10_000)
    names: list[str] = []
    for _ in range(3):
        try:
            await ledger.take()
        except ResponseError as exc:
            names.append(str(exc))
    assert names == [f"UNSUPPORTED batch {newer.batch_id} has version 2, this release reads 1"]
    assert await ledger.hash(KEYS.batch(newer.batch_id)) == before
