"""A claim counts only once the server's append-only file has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from conftest import NAMESPACE
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.scripts import command, pipelined
from esa_preload_worker.claims import Batch, Settlement
from esa_preload_worker.embedded import ValkeyProcess
from esa_preload_worker.ledger import NotDurableError, WorkerLedger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from esa_preload.keys import Keys

SITE = 5
SUBMITTED = Settlement(what="end", outcome="submitted", verdict="submitted")


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ValkeyProcess, Path]]:
    """A Valkey of the test's own, with its append-only file on."""
    directory = tmp_path_factory.mktemp("v")
    socket = directory / "valkey.sock"
    server = ValkeyProcess(directory, socket=socket)
    server.start(30)
    yield server, socket
    server.kill()


async def test_a_claim_survives_the_death_of_the_server(
    own_valkey: tuple[ValkeyProcess, Path], keys: Keys
) -> None:
    """
    A claim that was answered is there after a SIGKILL of the server.

    Settled in the same round trip, the batch before it is gone: both are on disk.
    """
    server, socket = own_valkey
    url = f"unix://{socket}"
    async with PreloadClient(url, namespace=NAMESPACE) as client:
        await client.enqueue(SITE, [f"https://a.example/{i}" for i in range(300)], request_id="r")
    redis = connect(url)
    ledger = WorkerLedger(redis, keys, waits_for_disk=True)
    first = await ledger.take(token="t1", pump="p", new_batch_id="b1")
    assert isinstance(first, Batch)
    second: object = None
    while not isinstance(second, Batch):
        if second is None:
            _, second = await ledger.settle_and_take(
                first, SUBMITTED, children=(), roll=0.5, token="t2", pump="p", new_batch_id="b2"
            )
        else:
            await asyncio.sleep(0.05)
            second = await ledger.take(token="t2", pump="p", new_batch_id="b2")
    server.kill()
    await redis.aclose()
    server.start(30)
    redis = connect(url)
    try:
        assert await command(redis, "EXISTS", keys.batch("b1")) == 0
        assert await command(redis, "HGET", keys.batch("b2"), "token") == b"t2"
        async with PreloadClient(url, namespace=NAMESPACE) as client:
            status = await client.status("r")
        assert (status.submitted, status.in_flight, status.pending) == (100, 100, 100)
    finally:
        await redis.aclose()


async def test_a_server_without_append_only_file_is_used_as_it_is(
    own_valkey: tuple[ValkeyProcess, Path], keys: Keys
) -> None:
    """WAITAOF is refused there: claims go on without it, as documented."""
    redis = connect(f"unix://{own_valkey[1]}")
    await command(redis, "CONFIG", "SET", "appendonly", "no")
    async with PreloadClient(redis, namespace=NAMESPACE) as client:
        await client.enqueue(SITE, [f"https://a.example/{i}" for i in range(100)])
    ledger = WorkerLedger(redis, keys, waits_for_disk=True)
    assert isinstance(await ledger.take(token="t", pump="p", new_batch_id="b"), Batch)
    assert "waits_for_disk" not in repr(ledger)
    await redis.aclose()


async def test_a_claim_that_is_not_on_disk_in_time_is_not_acted_on(
    own_valkey: tuple[ValkeyProcess, Path], keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told, and the batch stays in the ledger for whoever looks when its lease has run out."""

    async def stalled(*_args: object, **_kwargs: object) -> list[object]:
        replies = await pipelined(*_args, **_kwargs)  # type: ignore[arg-type]  # passed through
        return [*replies[:-1], [0, 0]]

    redis = connect(f"unix://{own_valkey[1]}")
    async with PreloadClient(redis, namespace=NAMESPACE) as client:
        await client.enqueue(SITE, [f"https://a.example/{i}" for i in range(100)])
    monkeypatch.setattr("esa_preload_worker.ledger.pipelined", stalled)
    with pytest.raises(NotDurableError):
        await WorkerLedger(redis, keys, waits_for_disk=True).take(token="t", pump="p", new_batch_id="b")
    assert await command(redis, "HGET", keys.batch("b"), "state") == b"sent"
    await redis.aclose()
