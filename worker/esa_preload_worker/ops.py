"""The ops port: /metrics, /livez, /readyz."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from esa_preload_worker.health import Health
    from esa_preload_worker.metrics import Metrics

REFRESH_S = 2.0
"""A scrape waits this long, at most, for the ledger; then it shows what the ledger said before."""

SHUTDOWN_S = 1.0
"""A slow reader of the metrics does not hold up the end of the process for longer."""


class OpsServer:
    """
    Serve the probes and the metrics while inside.

    Args:
        refresh: brings the metrics' snapshot up to date.
        port: 0 for a free one; :attr:`url` tells which.
    """

    def __init__(
        self,
        *,
        metrics: Metrics,
        health: Health,
        refresh: Callable[[], Awaitable[None]],
        host: str,
        port: int,
    ) -> None:
        self._metrics, self._health, self._refresh = metrics, health, refresh
        self._host, self._port = host, port
        app = web.Application(client_max_size=1024)
        app.router.add_get("/metrics", self._get_metrics)
        app.router.add_get("/livez", self._get_livez)
        app.router.add_get("/readyz", self._get_readyz)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_S)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self._runner.addresses[0][:2]
        return f"http://[{host}]:{port}" if ":" in str(host) else f"http://{host}:{port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError:
            await self._runner.cleanup()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def _get_metrics(self, request: web.Request) -> web.Response:
        del request
        try:
            async with asyncio.timeout(REFRESH_S):
                await self._refresh()
        except TimeoutError:
            self._metrics.redis_is_away()
        return web.Response(
            body=generate_latest(self._metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    async def _get_livez(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._health.why_not_alive())

    async def _get_readyz(self, request: web.Request) -> web.Response:
        del request
        return _answer(self._health.why_not_ready())


def _answer(why_not: str) -> web.Response:
    return web.Response(text=f"{why_not or 'ok'}\n", status=503 if why_not else 200)
