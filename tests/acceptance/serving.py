"""`esa-preload serve` as its operator starts it, and a client of it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from processes import Running, started
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


@asynccontextmanager
async def serving(env: dict[str, str]) -> AsyncGenerator[tuple[Running, httpx.AsyncClient, str]]:
    """Run a server while inside; yields it, a client of it, and where its ops port is."""
    async with started("esa-preload", "serve", env=env) as server:
        event = (await wait_until(lambda: server.events("http.started")))[0]
        async with httpx.AsyncClient(base_url=event["url"], trust_env=False, timeout=30) as http:
            yield server, http, event["ops_url"]
