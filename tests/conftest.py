"""What all tests share: a Valkey of their own, and the promise that no key without TTL is left but those documented."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import as_text, command
from esa_preload_worker.check.keyspace import PERMANENT, WHILE_WORK_IS_LEFT
from esa_preload_worker.embedded import ValkeyProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

# Hosts without credentials would ask an address of the instance for some.
os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"

NAMESPACE = "t"

PREFIX = re.compile(r"esa-preload:[^:]+:")


@pytest.fixture(scope="session")
def valkey() -> Iterator[Path]:
    """Run one Valkey for the tests of this process; yields its socket."""
    with tempfile.TemporaryDirectory(prefix="esap-") as directory:
        socket = Path(directory) / "valkey.sock"
        server = ValkeyProcess(Path(directory), socket=socket)
        server.start(30)
        try:
            yield socket
        finally:
            server.kill()


@pytest.fixture
def redis_url(valkey: Path) -> str:
    """Where the tests' Valkey is, or the server that ``ESA_PRELOAD_TEST_REDIS`` names."""
    return os.environ.get("ESA_PRELOAD_TEST_REDIS") or f"unix://{valkey}"


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Valkey; afterwards no key may be left that is neither documented as permanent nor ends."""
    client = connect(redis_url)
    await command(client, "FLUSHALL")
    yield client
    leaked = [key async for key in _keys_without_ttl(client)]
    await command(client, "FLUSHALL")
    await client.aclose()
    assert not leaked, f"keys without TTL: {leaked}"


async def _keys_without_ttl(client: Redis) -> AsyncIterator[str]:
    for raw in await command(client, "KEYS", "*"):
        key = as_text(raw)
        name = PREFIX.sub("", key, count=1)
        if PERMANENT.fullmatch(name) or WHILE_WORK_IS_LEFT.fullmatch(name):
            continue
        if await command(client, "TTL", key) < 0:
            yield key


@pytest.fixture
def keys() -> Keys:
    """The keys of the tests' namespace."""
    return Keys(NAMESPACE)
