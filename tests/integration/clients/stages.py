"""The same stage for every client: a queue of its own, and somebody who lets what was enqueued end."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import uvicorn

from conftest import NAMESPACE
from esa_preload import PreloadClient, Preloads
from esa_preload.api.app import create_app
from esa_preload.api.settings import load
from esa_preload.http import PreloadClient as HttpPreloadClient
from esa_preload.keys import Keys
from esa_preload.testing import RecordingClient
from esa_preload_worker.claims import Batch, Settlement
from esa_preload_worker.ledger import WorkerLedger
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from redis.asyncio import Redis

    from esa_preload.sync import SyncPreloads

SITE = 190007158391808

NAMES = {"shop.example.com": 7}
"""Sites of the account, which no URL was enqueued for."""

REASON, CODE = "invalid_domain", "InvalidDomain"
"""How a refused URL ends."""


class Workers(Protocol):
    """Who submits what was enqueued."""

    async def end_all(self, how: Literal["submitted", "refused"] = "submitted") -> None:
        """Let everything that is pending end."""
        ...

    async def list_sites(self) -> None:
        """See to it that ``NAMES`` are known."""
        ...


@dataclass(frozen=True, slots=True)
class Stage:
    """A client on an empty queue, and its workers; ``is_async``: it takes async iterables."""

    client: Preloads
    workers: Workers
    is_async: bool = True


class LedgerWorkers:
    """Work through the ledger as a worker does, a day later: everything is due."""

    def __init__(self, redis: Redis) -> None:
        now_ms = round((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000)
        self._ledger = WorkerLedger(redis, Keys(NAMESPACE), now_ms=now_ms)
        self._batches = 0

    async def end_all(self, how: Literal["submitted", "refused"] = "submitted") -> None:
        """Claim and settle until nothing is due."""
        settlement = Settlement(what="end", outcome=how, verdict=how, site_ok=True)
        if how == "refused":
            settlement = replace(settlement, reason=REASON, code=CODE)
        while isinstance(taken := await self._take(), Batch):
            await self._ledger.settle(taken, settlement, children=(), roll=0.5)

    async def list_sites(self) -> None:
        """Keep the names."""
        await self._ledger.keep_site_names(NAMES)

    async def _take(self) -> object:
        assert self._ledger.now_ms is not None
        self._ledger.now_ms += 10_000
        self._batches += 1
        return await self._ledger.take(token=f"t{self._batches}", pump="p", new_batch_id=f"b{self._batches}")


@dataclass(frozen=True, slots=True)
class RecordedEnds:
    """Say how what was recorded ends."""

    client: RecordingClient

    async def end_all(self, how: Literal["submitted", "refused"] = "submitted") -> None:
        """Finish every request."""
        for call in self.client.enqueued:
            reason, code = ("", "") if how == "submitted" else (REASON, CODE)
            self.client.finish(call.request_id, how=how, reason=reason, code=code)

    async def list_sites(self) -> None:
        """Do nothing: the client was given them."""


class Awaited:
    """A client without ``await``, with it again: each call in a thread of its own, as a web server has them."""

    def __init__(self, client: SyncPreloads) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        verb = getattr(self._client, name)
        if name == "watch":
            return lambda *args, **kwargs: _each(verb(*args, **kwargs))
        return lambda *args, **kwargs: asyncio.to_thread(verb, *args, **kwargs)


async def _each(items: Any) -> AsyncIterator[Any]:
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield item


@asynccontextmanager
async def over_redis(redis: Redis, url: str) -> AsyncGenerator[Stage]:
    """The client of Redis."""
    async with PreloadClient(url, namespace=NAMESPACE) as client:
        yield Stage(client, LedgerWorkers(redis))


@asynccontextmanager
async def over_http(redis: Redis, url: str) -> AsyncGenerator[Stage]:
    """The client of the HTTP API."""
    async with served(url) as base_url, HttpPreloadClient(base_url) as client:
        yield Stage(client, LedgerWorkers(redis))


@asynccontextmanager
async def in_memory() -> AsyncGenerator[Stage]:
    """The client for tests."""
    async with RecordingClient(sites=NAMES) as client:
        yield Stage(client, RecordedEnds(client))


@asynccontextmanager
async def without_await(client: SyncPreloads, workers: Workers) -> AsyncGenerator[Stage]:
    """Any of them without ``await``."""
    yield Stage(cast("Preloads", Awaited(client)), workers, is_async=False)
    await asyncio.to_thread(client.close)


@asynccontextmanager
async def served(redis_url: str) -> AsyncGenerator[str]:
    """The HTTP API over the tests' namespace, on loopback; yields its address."""
    settings = load({"ESA_PRELOAD_REDIS_URL": redis_url, "ESA_PRELOAD_NAMESPACE": NAMESPACE}).settings
    async with PreloadClient(redis_url, namespace=NAMESPACE) as queue:
        app = create_app(queue, settings=settings)
        config = uvicorn.Config(app, log_config=None, lifespan="off", ws="none")
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve([listener]))
            await wait_until(lambda: server.started)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
            server.should_exit = True
            await serving
