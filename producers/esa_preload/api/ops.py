"""The ops port: /metrics, /livez, /readyz."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from esa_preload.errors import EsaPreloadError

if TYPE_CHECKING:
    from starlette.requests import Request

    from esa_preload.api.metrics import Metrics
    from esa_preload.interface import Preloads

REFRESH_S: Final = 2.0
"""A probe or a scrape waits this long, at most, for Redis."""


@dataclass(slots=True, kw_only=True)
class Ops:
    """What the probes and the metrics say about this process."""

    client: Preloads
    metrics: Metrics
    is_stopping: bool = False

    def app(self) -> Starlette:
        """Return the app of the ops port."""
        return Starlette(
            routes=[
                Route("/metrics", self._get_metrics),
                Route("/livez", self._get_livez),
                Route("/readyz", self._get_readyz),
            ]
        )

    async def why_not_ready(self) -> str:
        """Return why nothing is served here now, or nothing."""
        if self.is_stopping:
            return "stopping"
        try:
            async with asyncio.timeout(REFRESH_S):
                await self.client.limits()
        except TimeoutError:
            return "redis unavailable: no answer"
        except EsaPreloadError as exc:
            return f"redis unavailable: {exc}"
        return ""

    async def _get_metrics(self, request: Request) -> Response:
        del request
        self.metrics.redis_up.set(not await self.why_not_ready())
        return Response(generate_latest(self.metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _get_livez(self, request: Request) -> Response:
        # That it answers is the proof.
        del request
        return PlainTextResponse("ok\n")

    async def _get_readyz(self, request: Request) -> Response:
        del request
        why_not = await self.why_not_ready()
        return PlainTextResponse(f"{why_not or 'ok'}\n", status_code=503 if why_not else 200)
