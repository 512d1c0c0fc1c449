"""The API over a Valkey of the tests' own, asked by each role."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from conftest import NAMESPACE
from esa_preload.api.app import create_app
from esa_preload.api.settings import load
from esa_preload.api.token_file import new_token
from esa_preload.api.tokens import Tokens
from esa_preload.client import PreloadClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from fastapi import FastAPI
    from redis.asyncio import Redis

SITE = 190007158391808
OTHER_SITE = 42

ROLES: dict[str, tuple[str, list[str]]] = {
    "admin": ("operator", ["*"]),
    "operator": ("operator", [str(SITE)]),
    "producer": ("producer", [str(SITE)]),
    "viewer": ("viewer", [str(SITE)]),
    "stranger": ("operator", [str(OTHER_SITE)]),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An app, the queue behind it, and a client of HTTP for each token; ``nobody`` has none."""

    app: FastAPI
    queue: PreloadClient
    http: dict[str, httpx.AsyncClient]
    secrets: dict[str, str]


@pytest.fixture
def tokens_file(tmp_path: Path) -> Path:
    """Where the tokens are."""
    return tmp_path / "tokens.json"


@pytest.fixture
async def served(redis: Redis, redis_url: str, tokens_file: Path) -> AsyncIterator[Served]:
    """The API with a token of each role."""
    secrets = {
        name: new_token(tokens_file, name=name, role=role, sites=sites)
        for name, (role, sites) in ROLES.items()
    }
    settings = load(
        {
            "ESA_PRELOAD_REDIS_URL": redis_url,
            "ESA_PRELOAD_TOKENS_FILE": str(tokens_file),
            "ESA_PRELOAD_HTTP_BODY_TIMEOUT": "2",
            "ESA_PRELOAD_HTTP_MAX_BODY_BYTES": "1048576",
            "ESA_PRELOAD_HTTP_MAX_STREAMS": "4",
        }
    ).settings
    async with AsyncExitStack() as stack:
        queue = await stack.enter_async_context(PreloadClient(redis, namespace=NAMESPACE))
        app = create_app(queue, settings=settings, tokens=Tokens(tokens_file))
        http: dict[str, httpx.AsyncClient] = {}
        for name, secret in {**secrets, "nobody": ""}.items():
            headers = {"Authorization": f"Bearer {secret}"} if secret else {}
            asked = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://api", headers=headers
            )
            http[name] = await stack.enter_async_context(asked)
        yield Served(app=app, queue=queue, http=http, secrets=secrets)


def problem(reply: httpx.Response, status: int, kind: str) -> dict[str, Any]:
    """Return the document of *reply*, which must be a problem of *kind*."""
    assert reply.status_code == status, reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    document = cast("dict[str, Any]", reply.json())
    assert (document["status"], document["type"]) == (status, f"/docs#problem-{kind}")
    return document
