"""A ledger of each test's own; what a test leaves in it is no leak."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from integration.check.queue_content import Queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from esa_preload.keys import Keys


@pytest.fixture
async def queue(redis: Redis, admin: Redis, keys: Keys) -> AsyncIterator[Queue]:
    """An empty queue, whose keys are gone afterwards: these tests plant damage, the fixture of all tests would find it."""
    yield Queue(redis, keys)
    await cast("Any", admin).flushall()
