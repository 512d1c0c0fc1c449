"""A producer fails fast, or waits as long as it was told to; either way the call can be repeated."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import pytest
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from conftest import NAMESPACE
from esa_preload import PreloadClient, QueueUnavailableError, SettingsError
from esa_preload.connection import connect
from esa_preload.scripts import command
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Any

    from redis.asyncio import Redis

    from integration.producers.conftest import OwnValkey

SITE = 190007158391808
NOWHERE = "redis://127.0.0.1:1"


def urls(count: int) -> list[str]:
    """Return distinct normal URLs."""
    return [f"https://www.example.com/{number}" for number in range(count)]


async def failed_after_s(client: PreloadClient) -> tuple[float, QueueUnavailableError]:
    """Return how long an enqueue took to fail, and its error."""
    begun = time.monotonic()
    with pytest.raises(QueueUnavailableError) as caught:
        await client.enqueue(SITE, urls(5_500), request_id="r")
    return time.monotonic() - begun, caught.value


async def test_a_refused_connection_fails_at_once_with_all_that_a_repeat_needs() -> None:
    """Within two seconds, tries included; the error says that it may pass, and has the id and an empty receipt."""
    async with PreloadClient(NOWHERE) as client:
        took_s, error = await failed_after_s(client)
    assert took_s < 2
    assert (error.is_outage, error.request_id) == (True, "r")
    assert error.receipt is not None
    assert (error.receipt.request_id, error.receipt.accepted) == ("r", 0)


async def test_a_server_that_hangs_costs_one_time_out_however_many_chunks_wait(own_valkey: OwnValkey) -> None:
    """A reply that does not come is not waited for twice, and chunks on the way do not wait in turn."""
    async with PreloadClient(f"{own_valkey.url}?socket_timeout=1.5", namespace=NAMESPACE) as client:
        await client.enqueue(SITE, urls(1))
        with own_valkey.frozen():
            took_s, error = await failed_after_s(client)
        assert 1.4 < took_s < 2.9
        assert error.is_outage
        assert (await client.enqueue(SITE, urls(5_500), request_id="r")).accepted == 5_500


async def test_a_connection_that_the_server_closed_is_replaced_before_it_is_used(redis_url: str) -> None:
    """A client that repeats nothing meets no error: what its loop has seen of the end is enough."""
    once = connect(redis_url, options={"retry": Retry(NoBackoff(), 0)})
    other = connect(redis_url)
    try:
        number = await command(once, "CLIENT", "ID")
        assert await command(other, "CLIENT", "KILL", "ID", number) == 1
        await wait_until_async(lambda: _is_gone(other, number))
        await asyncio.sleep(0)  # the loop reads the end
        assert await command(once, "CLIENT", "ID") != number
    finally:
        await once.aclose()
        await other.aclose()


async def _is_gone(redis: Redis, number: int) -> bool:
    return not await command(redis, "CLIENT", "LIST", "ID", number)


async def test_waiting_ends_at_the_deadline_with_the_same_error() -> None:
    """Not before the time is over, and not long after."""
    async with PreloadClient(NOWHERE, wait_for_redis=0.8) as client:
        took_s, error = await failed_after_s(client)
        assert 0.8 <= took_s < 2.5
        assert error.is_outage
        with pytest.raises(QueueUnavailableError, match="cannot be reached"):
            await client.status("r")


async def test_an_enqueue_waits_for_a_server_that_was_killed(own_valkey: OwnValkey) -> None:
    """SIGKILL in the middle of a call, a restart: the call goes on, and nothing is in twice. Without patience it fails."""
    killed = asyncio.Event()

    async def die_on_the_way() -> AsyncIterator[str]:
        for number, url in enumerate(urls(9_500)):
            if number == 2_500:
                own_valkey.process.kill()
                killed.set()
            yield url

    async with (
        PreloadClient(own_valkey.url, namespace=NAMESPACE, wait_for_redis=30) as patient,
        PreloadClient(own_valkey.url, namespace=NAMESPACE) as hasty,
    ):
        call = asyncio.create_task(patient.enqueue(SITE, die_on_the_way(), request_id="r", durable=True))
        await killed.wait()
        with pytest.raises(QueueUnavailableError):
            await hasty.enqueue(SITE, urls(5))
        assert not call.done()
        await asyncio.to_thread(own_valkey.process.start, 30)
        receipt = await call
        assert (receipt.accepted, receipt.duplicates, receipt.merged) == (9_500, 0, 0)
        status = await hasty.status("r")
        assert (status.accepted, status.pending) == (9_500, 9_500)


async def test_a_failover_is_waited_for(own_valkey: OwnValkey) -> None:
    """A server that takes no writes because it is a replica is an outage that ends when it is promoted."""
    server = connect(own_valkey.url)
    await command(server, "REPLICAOF", "127.0.0.1", 1)
    async with (
        PreloadClient(own_valkey.url, namespace=NAMESPACE, wait_for_redis=30) as patient,
        PreloadClient(own_valkey.url, namespace=NAMESPACE) as hasty,
    ):
        _, error = await failed_after_s(hasty)
        assert error.is_outage
        call = asyncio.create_task(patient.enqueue(SITE, urls(5), durable=True))

        async def was_refused() -> bool:
            stats = await command(server, "INFO", "errorstats")
            return bool(stats["errorstat_READONLY"]["count"] > 3)

        await wait_until_async(was_refused)
        assert not call.done()
        await command(server, "REPLICAOF", "NO", "ONE")
        assert (await call).accepted == 5
    await server.aclose()


@pytest.mark.parametrize(
    ("configure", "url_of", "sentence"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), None, "refused the command"),
        (("CONFIG", "SET", "requirepass", "secret"), None, "refused the login"),
        (("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-evalsha"), "u:p", "evalsha"),
    ],
)
async def test_what_needs_somebody_is_not_waited_for(
    own_valkey: OwnValkey, configure: tuple[str, ...], url_of: str | None, sentence: str
) -> None:
    """A full memory, a wrong password and a missing right fail at once, whatever the patience."""
    server = connect(own_valkey.url)
    await command(server, *configure)
    await server.aclose()
    url = own_valkey.url if url_of is None else own_valkey.url.replace("unix://", f"unix://{url_of}@")
    async with asyncio.timeout(10):
        async with PreloadClient(url, namespace=NAMESPACE, wait_for_redis=60) as client:
            with pytest.raises(QueueUnavailableError, match=sentence) as caught:
                await client.enqueue(SITE, urls(5), request_id="r")
    assert not caught.value.is_outage
    assert caught.value.request_id == "r"


async def test_a_cancelled_call_does_not_wait_for_redis() -> None:
    """Whoever cancels an enqueue that waits gets its task back at once, its chunks with it."""
    async with PreloadClient(NOWHERE, wait_for_redis=600) as client:
        call = asyncio.create_task(client.enqueue(SITE, urls(5_500)))
        await asyncio.sleep(0)
        call.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await call
    assert len(asyncio.all_tasks()) == 1


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "x", True])
def test_a_patience_of_no_time_is_refused(seconds: Any) -> None:
    """The sentence names the argument."""
    with pytest.raises(SettingsError, match="wait_for_redis must be seconds"):
        PreloadClient(NOWHERE, wait_for_redis=seconds)
