"""The console over a real queue, asked as a browser without JavaScript would."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload.api.token_file import new_token
from esa_preload.client import PreloadClient
from integration.console.visitor import NAMESPACE, OTHER_SITE, SITE, Served, served

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from redis.asyncio import Redis


@pytest.fixture
async def preloads(redis: Redis, redis_url: str) -> AsyncIterator[PreloadClient]:
    """A client of the queue that the console shows."""
    del redis  # an empty Valkey
    async with PreloadClient(redis_url, namespace=NAMESPACE) as client:
        yield client


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    """Where the tokens are."""
    return tmp_path / "tokens.json"


@pytest.fixture
def secrets(tokens_file: Path) -> dict[str, str]:
    """A token of each role, by its name; ``narrow`` is an operator of one site."""
    every = {
        role: new_token(tokens_file, name=role, role=role, sites=["*"])
        for role in ("viewer", "producer", "operator")
    }
    return every | {
        "narrow": new_token(tokens_file, name="narrow", role="operator", sites=[str(SITE)]),
        "elsewhere": new_token(tokens_file, name="elsewhere", role="operator", sites=[str(OTHER_SITE)]),
    }


@pytest.fixture
async def console(preloads: PreloadClient, secrets: dict[str, str], tokens_file: Path) -> Served:
    """A console that asks for tokens, and two sites with a request each."""
    await preloads.enqueue(SITE, [f"https://www.example.com/{n}.js" for n in range(3)], request_id="theirs")
    await preloads.enqueue(OTHER_SITE, ["https://shop.example.org/"], request_id="others")
    return served(preloads, secrets=secrets, tokens_file=tokens_file)
