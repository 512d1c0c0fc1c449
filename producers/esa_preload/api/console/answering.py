"""How the console answers what cannot be shown or done: with a page, where the API has a document."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from fastapi.routing import APIRoute
from starlette.responses import RedirectResponse, Response

from esa_preload.api.console.guards import signed_in
from esa_preload.api.console.visits import SignInNeededError, Visit
from esa_preload.api.problems import ProblemError, problem_of
from esa_preload.errors import EsaPreloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import Request


class Page(APIRoute):
    """A route of the console: begins the visit, and answers errors for people."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        answer = super().get_route_handler()

        async def answer_visit(request: Request) -> Response:
            visit = Visit.of(request)
            try:
                if request.method == "POST":
                    require_same_origin(request)
                elif visit.is_from_elsewhere:
                    # By a page of ours, which the browser then comes from: to that it brings its cookie.
                    return visit.finish(visit.page("arrive.html"))
                response = await answer(request)
            except SignInNeededError:
                response = ask_to_sign_in(visit)
            except EsaPreloadError as exc:
                response = problem_page(visit, exc)
            return visit.finish(response)

        return answer_visit


def require_same_origin(request: Request) -> None:
    """
    Refuse what a browser says that the page of another site sends.

    Raises:
        ProblemError: 403.
    """
    headers = request.headers
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_foreign = origin is not None and urlsplit(origin).netloc != headers.get("host")
    if site not in ("same-origin", None) or (site is None and is_foreign):
        raise ProblemError("forbidden", "another site's page sent this; nothing was done")


def problem_page(visit: Visit, error: EsaPreloadError) -> Response:
    """Return the page that tells *error*."""
    problem, headers = problem_of(error)
    response = visit.page(
        "problem.html", code=problem.status, title=problem.title, detail=problem.detail, hint=problem.hint
    )
    response.headers.update(headers)
    return response


def is_for_people(request: Request) -> bool:
    """Tell whether a browser asks for an address that is none of the API's."""
    wants_page = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    return wants_page and not request.url.path.startswith("/v1/")


def unknown_page(request: Request, error: EsaPreloadError) -> Response:
    """Return the page that tells *error* at an address that no page has; who is signed in finds the way on from it."""
    visit = Visit.of(request)
    with contextlib.suppress(EsaPreloadError):
        signed_in(visit)
    return visit.finish(problem_page(visit, error))


def ask_to_sign_in(visit: Visit) -> Response:
    """Return the way to the sign-in, and from there back."""
    back = visit.here if visit.request.method == "GET" else "/"
    to = f"/sign-in?{urlencode({'back': back})}"
    return Response(headers={"HX-Redirect": to}) if visit.is_poll else RedirectResponse(to, status_code=303)
