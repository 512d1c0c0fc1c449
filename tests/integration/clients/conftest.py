"""Each test of this folder runs once for every client."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from conftest import NAMESPACE
from esa_preload.sync import HttpPreloadClient, PreloadClient, SyncPreloads
from esa_preload.testing import RecordingClient
from integration.clients.stages import (
    NAMES,
    LedgerWorkers,
    RecordedEnds,
    in_memory,
    over_http,
    over_redis,
    served,
    without_await,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from integration.clients.stages import Stage

KINDS = ("redis", "http", "memory", "redis without await", "http without await", "memory without await")


@pytest.fixture(params=KINDS)
async def stage(request: pytest.FixtureRequest, redis: Redis, redis_url: str) -> AsyncIterator[Stage]:
    """A client on an empty queue."""
    async with AsyncExitStack() as stack:
        match str(request.param):
            case "redis":
                made = over_redis(redis, redis_url)
            case "http":
                made = over_http(redis, redis_url)
            case "memory":
                made = in_memory()
            case "redis without await":
                client = PreloadClient(redis_url, namespace=NAMESPACE)
                made = without_await(client, LedgerWorkers(redis))
            case "http without await":
                base_url = await stack.enter_async_context(served(redis_url))
                made = without_await(HttpPreloadClient(base_url), LedgerWorkers(redis))
            case _:
                recording = RecordingClient(sites=NAMES)
                made = without_await(SyncPreloads(lambda: recording), RecordedEnds(recording))
        yield await stack.enter_async_context(made)
