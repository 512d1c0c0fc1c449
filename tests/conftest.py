"""What all tests share: a Valkey of their own, and the promise that no key without TTL is left but those documented."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import acl
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import as_text, command, commands
from esa_preload_worker.check.keyspace import PERMANENT, WHILE_WORK_IS_LEFT
from esa_preload_worker.embedded import ValkeyProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from redis.asyncio import Redis

# Hosts without credentials would ask an address of the instance for some.
os.environ["ALIBABA_CLOUD_ECS_METADATA_DISABLED"] = "true"

NAMESPACE = "t"

PREFIX = re.compile(r"esa-preload:[^:]+:")

WORK = re.compile(r"urls:.*|batch:.*|open")
"""URLs that are pending or in flight, and requests of which more may come."""

WAKE_UPS = re.compile(r"queue|waiters|workers|dropping")
"""What the next worker that looks takes away."""


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
def admin_url(valkey: Path) -> str:
    """Where the tests' Valkey is, or the server that ``ESA_PRELOAD_TEST_REDIS`` names, for who may do everything."""
    return os.environ.get("ESA_PRELOAD_TEST_REDIS") or f"unix://{valkey}"


@pytest.fixture
async def admin(admin_url: str) -> AsyncIterator[Redis]:
    """A client that may do everything, whoever is under test."""
    client = connect(admin_url)
    yield client
    await client.aclose()


@pytest.fixture
async def redis_url(admin: Redis, admin_url: str) -> str:
    """The same for who is under test: everybody, or the user of deploy/redis/users.acl that ``REDIS_TEST_USER`` names."""
    user = os.environ.get(acl.VARIABLE)
    return await acl.as_user(admin, admin_url, user) if user else admin_url


@pytest.fixture
async def redis(admin: Redis, redis_url: str) -> AsyncIterator[Redis]:
    """A client of an empty Valkey; afterwards no key may be left that is neither documented as permanent nor ends."""
    await command(admin, "FLUSHALL")
    client = connect(redis_url)
    yield client
    await client.aclose()
    leaked = await _keys_without_ttl(admin)
    await command(admin, "FLUSHALL")
    assert not leaked, f"keys without TTL: {leaked}"


async def _keys_without_ttl(client: Redis) -> list[str]:
    found = [as_text(raw) for raw in await command(client, "KEYS", "*")]
    ttls = await commands(client, [("TTL", key) for key in found])
    names = [PREFIX.sub("", key, count=1) for key, ttl in zip(found, ttls, strict=True) if ttl == -1]
    allowed = WHILE_WORK_IS_LEFT if any(map(WORK.fullmatch, names)) else WAKE_UPS
    return [name for name in names if not PERMANENT.fullmatch(name) and not allowed.fullmatch(name)]


@pytest.fixture
def keys() -> Keys:
    """The keys of the tests' namespace."""
    return Keys(NAMESPACE)
