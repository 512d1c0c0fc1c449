"""A durable receipt comes when all of its request is out of danger, and never otherwise."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, cast

import pytest

from conftest import NAMESPACE
from esa_preload import NotDurableError, PreloadClient, QueueUnavailableError, durability
from esa_preload.connection import connect
from esa_preload.scripts import command, pipelined
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from redis.asyncio import Redis

    from esa_preload import Receipt
    from integration.producers.conftest import OwnValkey

SITE = 190007158391808
LIST = "https://b.oss-cn-hangzhou.aliyuncs.com/list.txt"


def urls(count: int) -> list[str]:
    """Return distinct normal URLs."""
    return [f"https://www.example.com/{number}" for number in range(count)]


@pytest.fixture
async def server(own_valkey: OwnValkey) -> AsyncIterator[Redis]:
    """A client of the test's own server."""
    client = connect(own_valkey.url)
    yield client
    await client.aclose()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up soon: these tests wait for what does not come."""
    monkeypatch.setattr(durability, "WAIT_MS", 200)


@pytest.fixture
def old_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the server one from before 7.2, to which WAITAOF is no command."""

    async def without(redis: Redis, calls: Sequence[Sequence[Any]], *, raise_on_error: bool) -> list[Any]:
        older = [("NO-" + call[0], *call[1:]) if call[0] == "WAITAOF" else call for call in calls]
        return await pipelined(redis, older, raise_on_error=raise_on_error)

    monkeypatch.setattr(durability, "pipelined", without)


@pytest.mark.usefixtures("short_wait")
async def test_no_durable_receipt_before_the_disk_has_it_not_even_for_a_repeated_call(server: Redis) -> None:
    """
    A server that never syncs leaves every call in doubt: also the repetition, which writes nothing new, and on a new connection.

    Once it syncs, the same call ends well with the same receipt.
    """
    await command(server, "CONFIG", "SET", "appendfsync", "no")
    async with PreloadClient(server, namespace=NAMESPACE) as client:
        told: list[Receipt | None] = []
        for _ in range(2):
            await cast("Any", server.connection_pool).disconnect()
            with pytest.raises(NotDurableError, match="a crash of Redis may lose it") as caught:
                await client.enqueue(SITE, urls(2_500), request_id="r", durable=True)
            assert "appendfsync" in caught.value.hint
            told.append(caught.value.receipt)
        with pytest.raises(NotDurableError):
            await client.enqueue_oss(SITE, LIST, 7, request_id="list", durable=True)
        await command(server, "CONFIG", "SET", "appendfsync", "everysec")
        receipt = await client.enqueue(SITE, urls(2_500), request_id="r", durable=True)
        assert receipt.accepted == 2_500
        assert told == [receipt, receipt]
        assert (await client.enqueue_oss(SITE, LIST, 7, request_id="list", durable=True)).accepted == 7


async def test_a_server_that_keeps_nothing_takes_the_urls_and_says_so(server: Redis) -> None:
    """Neither file nor replica: the URLs are in the queue, the error carries the receipt and what to configure."""
    await command(server, "CONFIG", "SET", "appendonly", "no")
    async with PreloadClient(server, namespace=NAMESPACE) as client:
        with pytest.raises(NotDurableError, match="no append-only file") as caught:
            await client.enqueue(SITE, urls(3), request_id="r", durable=True)
        assert "appendonly yes" in caught.value.hint
        assert caught.value.receipt is not None
        assert caught.value.receipt.accepted == (await client.status("r")).pending == 3


async def test_a_replica_will_do_where_there_is_no_append_only_file(
    server: Redis, new_valkey: Callable[[], OwnValkey], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The receipt waits for the replica's word; a replica that is frozen gives none."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    await command(server, "CONFIG", "SET", "appendonly", "no")
    await command(server, "CONFIG", "SET", "port", port)
    second = new_valkey()
    replica = connect(second.url)
    await command(replica, "REPLICAOF", "127.0.0.1", port)

    async def follows() -> bool:
        return b"connected" in await command(replica, "ROLE")

    await wait_until_async(follows)
    async with PreloadClient(server, namespace=NAMESPACE) as client:
        assert (await client.enqueue(SITE, urls(3), request_id="r", durable=True)).accepted == 3
        assert await command(replica, "GET", f"esa-preload:{NAMESPACE}:request-id:r") == b"1"
        await replica.aclose()
        monkeypatch.setattr(durability, "WAIT_MS", 200)
        with second.frozen(), pytest.raises(NotDurableError, match="no replica had it"):
            await client.enqueue(SITE, urls(3), request_id="other", durable=True)


async def test_a_user_without_the_right_to_wait_is_told_which(server: Redis, own_valkey: OwnValkey) -> None:
    """The error names the command that the user may not run, and how to allow it."""
    await command(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-waitaof")
    user = own_valkey.url.replace("unix://", "unix://u:p@")
    async with PreloadClient(user, namespace=NAMESPACE) as client:
        with pytest.raises(NotDurableError, match="waitaof") as caught:
            await client.enqueue(SITE, urls(3), durable=True)
        assert "+waitaof" in caught.value.hint


@pytest.mark.usefixtures("old_server", "short_wait")
@pytest.mark.parametrize("closed", ["-config", "-info", "-config -info"])
async def test_a_user_who_may_not_ask_is_told_what_to_allow(
    server: Redis, own_valkey: OwnValkey, closed: str
) -> None:
    """Nothing is known of file or replica, not even after a wait for one: the hint names the rights, which are enough."""
    await command(server, "CONFIG", "SET", "appendfsync", "everysec" if closed == "-info" else "always")
    await command(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", *closed.split())
    user = own_valkey.url.replace("unix://", "unix://u:p@")
    async with PreloadClient(user, namespace=NAMESPACE) as client:
        with pytest.raises(NotDurableError, match="may not ask") as caught:
            await client.enqueue(SITE, urls(3), request_id="r", durable=True)
        rights = caught.value.hint.partition("…")[2].split()
        assert rights == ["+config|get", "+info"]
        await command(server, "ACL", "SETUSER", "u", *rights)
        await command(server, "CONFIG", "SET", "appendfsync", "always")
        assert (await client.enqueue(SITE, urls(3), request_id="r", durable=True)).accepted == 3


async def test_a_file_that_is_off_is_named_to_a_user_who_may_not_ask(
    server: Redis, own_valkey: OwnValkey
) -> None:
    """The server's reply to WAITAOF says so by itself: more rights would not help."""
    await command(server, "CONFIG", "SET", "appendonly", "no")
    await command(server, "ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-config")
    user = own_valkey.url.replace("unix://", "unix://u:p@")
    async with PreloadClient(user, namespace=NAMESPACE) as client:
        with pytest.raises(NotDurableError, match="no append-only file") as caught:
            await client.enqueue(SITE, urls(3), durable=True)
        assert "appendonly yes" in caught.value.hint


@pytest.mark.usefixtures("old_server")
async def test_an_old_server_is_believed_when_it_syncs_each_write(server: Redis) -> None:
    """Without WAITAOF, ``appendfsync always`` is as good: each reply means that it is on disk; everysec is not."""
    await command(server, "CONFIG", "SET", "appendfsync", "everysec")
    async with PreloadClient(server, namespace=NAMESPACE) as client:
        with pytest.raises(NotDurableError, match="can be asked about"):
            await client.enqueue(SITE, urls(3), request_id="r", durable=True)
        await command(server, "CONFIG", "SET", "appendfsync", "always")
        assert (await client.enqueue(SITE, urls(3), request_id="r", durable=True)).accepted == 3


async def test_scripts_that_the_server_has_forgotten_are_sent_again(server: Redis) -> None:
    """A restarted server knows no script: the durable call brings it along."""
    await command(server, "SCRIPT", "FLUSH")
    async with PreloadClient(server, namespace=NAMESPACE) as client:
        assert (await client.enqueue(SITE, urls(3), durable=True)).accepted == 3


@pytest.mark.parametrize("durable", [False, True])
async def test_a_server_that_came_back_without_a_chunk_is_found_out(server: Redis, *, durable: bool) -> None:
    """What a crash of Redis took from the middle of a call is an error, not a receipt; the repeated call brings it in."""

    request_key = f"esa-preload:{NAMESPACE}:request-id:r"

    async def lose_on_the_way() -> AsyncIterator[str]:
        for number, url in enumerate(urls(4_500)):
            if number == 2_500:
                await wait_until_async(lambda: command(server, "EXISTS", request_key))
                await command(server, "FLUSHALL")
            yield url

    async with PreloadClient(server, namespace=NAMESPACE) as client:
        with pytest.raises(QueueUnavailableError, match="without a part of request r") as caught:
            await client.enqueue(SITE, lose_on_the_way(), request_id="r", durable=durable)
        assert not caught.value.is_outage
        assert (await client.status("r")).accepted < 4_500
        assert (await client.enqueue(SITE, urls(4_500), request_id="r", durable=durable)).accepted == 4_500
        await client.cancel("r")
        status = await client.status("r")
        assert (status.state, status.accepted, status.cancelled) == ("done", 4_500, 4_500)
