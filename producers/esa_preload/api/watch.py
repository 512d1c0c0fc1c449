"""Around every request: its id, the headers of every answer, one line in the log, its metrics, and what nobody else caught."""

from __future__ import annotations

import re
import time
import uuid
from typing import TYPE_CHECKING, Any, Final, cast

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response

from esa_preload.api.metrics import OTHER
from esa_preload.api.problems import MEDIA_TYPE, problem
from esa_preload.logs import get_logger

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from esa_preload.api.metrics import Metrics

log = get_logger()

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every answer that does not set its own."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:~-]{1,128}")


class Watch:
    """The outermost part of the app."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        began, status = time.monotonic(), 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-Id"] = request_id
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(http_request_id=request_id):
            try:
                await self._app(scope, receive, send_on)
            except Exception:
                log.exception("http.error", message="an error of our own")
                if not status:
                    await _internal()(scope, receive, send_on)
            finally:
                self._tell(scope, status, time.monotonic() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        self._metrics.observe(route, scope["method"], status, seconds)
        principal = scope.get("state", {}).get("principal")
        log.info(
            "http.request",
            method=scope["method"][:16],
            route=route,
            status=status,
            duration_s=round(seconds, 4),
            token=principal.name if principal else None,
        )


def route_of(scope: Scope) -> str:
    """Return the template of the route that a request came to: never its path, which has no bound."""
    return cast("str", getattr(cast("Any", scope.get("route")), "path", OTHER))


def _internal() -> Response:
    document = problem(
        "internal", "an error of the server's own; its log has it under this request's X-Request-Id"
    )
    return Response(document.json_text(), status_code=500, media_type=MEDIA_TYPE)
