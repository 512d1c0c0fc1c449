"""The app: its routes, and how its errors are answered."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from esa_preload.api import docs, routes_account, routes_preloads, routes_sites
from esa_preload.api.bodies import Streams
from esa_preload.api.console import add_console
from esa_preload.api.console.answering import is_for_people, unknown_page
from esa_preload.api.context import Context
from esa_preload.api.metrics import Metrics
from esa_preload.api.openapi import describe
from esa_preload.api.problems import MEDIA_TYPE, Problem, ProblemError, field_errors, problem_of
from esa_preload.api.watch import Watch, route_of
from esa_preload.errors import EsaPreloadError

if TYPE_CHECKING:
    from esa_preload.api.context import SharedPreloads
    from esa_preload.api.settings import Settings
    from esa_preload.api.tokens import Tokens

DESCRIPTION = """
Enqueue URLs for Alibaba Cloud ESA to preload, and follow them.

Site ids are int64: a number in every answer, a number or its digits in a request. JavaScript reads numbers above 2**53 wrongly;
those of ESA are far below.
"""


def create_app(
    client: SharedPreloads,
    *,
    settings: Settings,
    tokens: Tokens | None = None,
    metrics: Metrics | None = None,
) -> FastAPI:
    """
    Return the HTTP API over *client*, which stays the caller's to close.

    Args:
        tokens: without them only requests of this machine are served, by a loopback address.
    """
    app = FastAPI(
        title="esa-preload",
        version=version("esa-preload"),
        description=DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        openapi_url="/openapi.json",
    )
    metrics = metrics or Metrics(version=app.version)
    app.state.context = Context(
        client=client,
        tokens=tokens,
        settings=settings,
        metrics=metrics,
        streams=Streams(settings.http_max_streams),
    )
    for routes in (routes_preloads, routes_sites, routes_account, docs):
        app.include_router(routes.router)
    add_console(app, app.state.context)
    app.openapi = partial(describe, app)  # type: ignore[method-assign] # as FastAPI's documentation has it
    app.add_exception_handler(EsaPreloadError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)
    app.add_middleware(Watch, metrics=metrics)
    return app


def answer(document: Problem, headers: dict[str, str]) -> Response:
    """Return *document* as an answer."""
    return Response(
        document.json_text(),
        status_code=document.status,
        headers=headers,
        media_type=MEDIA_TYPE,
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    del request
    return answer(*problem_of(cast("EsaPreloadError", error)))


async def _answer_invalid(request: Request, error: Exception) -> Response:
    errors = field_errors(error)
    detail = "; ".join(f"{each.field}: {each.message}" for each in errors)
    return await _answer_error(request, ProblemError("invalid", detail, errors=errors))


async def _answer_http(request: Request, error: Exception) -> Response:
    """Answer what the framework itself refuses: no such path, or not with this method."""
    found = cast("HTTPException", error)
    kind = {404: "not-found", 405: "method-not-allowed"}.get(found.status_code, "invalid")
    headers = dict(found.headers or {})
    if kind == "method-not-allowed" and (allowed := _methods_of(request)):
        headers["Allow"] = ", ".join(allowed)
    problem = ProblemError(kind, str(found.detail), headers=headers)
    return unknown_page(request, problem) if is_for_people(request) else answer(*problem_of(problem))


def _methods_of(request: Request) -> list[str]:
    """Return all methods of the path that was asked for: the framework tells those of one route of it only."""
    operations = cast("FastAPI", request.app).openapi()["paths"].get(route_of(request.scope), {})
    return [method.upper() for method in operations]
