"""A sandbox, and a worker's insides that talk to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from integration.worker.rig import SITE, Rig, rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, MutableMapping
    from typing import Any

    from redis.asyncio import Redis


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with one site, which owns example.com."""
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as running:
        yield running


@pytest.fixture
async def worker(redis: Redis, redis_url: str, sandbox: Sandbox) -> AsyncIterator[Rig]:
    """One worker's insides with short times."""
    async with rig(redis, redis_url, sandbox) as built:
        yield built


@pytest.fixture
def logged() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged meanwhile."""
    with capture_logs() as entries:
        yield entries
