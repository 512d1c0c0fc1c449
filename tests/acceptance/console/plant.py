"""Everything behind the console: a queue, a worker, the sandbox's ESA, and `esa-preload serve` with a token of each role."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from esa_preload.api.token_file import new_token
from esa_preload.api.tokens import ROLES
from esa_preload.client import PreloadClient
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import Running, api_environment, started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

SITE = 190007158391808


@dataclass(frozen=True, slots=True)
class Plant:
    """
    What runs.

    Attributes:
        secrets: a token of each role, by its name.
    """

    address: str
    server: Running
    preloads: PreloadClient
    secrets: Mapping[str, str]
    tokens_file: Path


@asynccontextmanager
async def plant(redis_url: str, directory: Path) -> AsyncGenerator[Plant]:
    """Run it all while inside; the worker takes small batches slowly, so that there is something to see."""
    tokens_file = directory / "tokens.json"
    secrets: dict[str, str] = {
        role: new_token(tokens_file, name=role, role=role, sites=["*"]) for role in ROLES
    }
    serve = api_environment(redis_url, ESA_PRELOAD_TOKENS_FILE=str(tokens_file))
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as sandbox:
        worker = worker_environment(
            redis_url,
            sandbox.url,
            ESA_PRELOAD_BATCH_MAX_URLS="10",
            ESA_PRELOAD_BATCH_QUIET="0.1",
            ESA_PRELOAD_RATE_INITIAL="2",
            ESA_PRELOAD_RATE_MAX="2",
        )
        async with (
            started("esa-preload", "serve", env=serve) as server,
            started("esa-preload-worker", "run", env=worker) as working,
            PreloadClient(redis_url) as preloads,
        ):
            [began] = await wait_until(partial(server.events, "http.started"), timeout_s=60)
            await wait_until(partial(working.events, "worker.started"), timeout_s=60)
            yield Plant(began["url"], server, preloads, secrets, tokens_file)
