"""Where the commands find what they need: a queue on the tests' empty Valkey, and a simulated ESA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

SITE = 190007158391808


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with one site, which owns example.com."""
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as running:
        yield running


@pytest.fixture
def env(redis: Redis, redis_url: str) -> dict[str, str]:
    """An environment that points at the tests' empty Valkey, in the namespace of the other tests."""
    del redis
    return environment(ESA_PRELOAD_REDIS_URL=redis_url, ESA_PRELOAD_NAMESPACE="t")
