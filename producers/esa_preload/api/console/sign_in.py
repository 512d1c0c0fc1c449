"""Signing in with a token, and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from esa_preload.api.console.answering import Page
from esa_preload.api.console.guards import Posted, get_visit
from esa_preload.api.console.visits import Visit, local_path
from esa_preload.api.tokens import digest_of
from esa_preload.logs import get_logger

log = get_logger()

router = APIRouter(route_class=Page, include_in_schema=False)

Anybody = Annotated[Visit, Depends(get_visit)]


@router.get("/sign-in")
async def show_sign_in(visit: Anybody, back: str = "/") -> Response:
    """Ask for a token."""
    if visit.console.context.tokens is None:
        return visit.go("/")
    return _ask(visit, back)


@router.post("/sign-in")
async def sign_in(visit: Anybody, form: Posted) -> Response:
    """Begin the session of a token."""
    tokens, attempts = visit.console.context.tokens, visit.console.attempts
    if tokens is None:
        return visit.go("/")
    back = local_path(form.text("back"))
    address = visit.request.client.host if visit.request.client else ""
    principal = tokens.find(form.text("token"))
    if principal is None and (wait_s := attempts.wait_s(address)):
        return _ask(
            visit, back, error=f"Too many wrong tokens. Try again in {wait_s} s.", code=429, after_s=wait_s
        )
    if principal is None:
        attempts.note_wrong(address)
        log.warning("console.refused", address=address)
        return _ask(visit, back, error="This token is not known, was revoked, or has expired.", code=401)
    visit.session = visit.console.sessions.begin(digest_of(form.text("token")))
    log.info("console.signed_in", token=principal.name, role=principal.role)
    return visit.go(back)


@router.post("/sign-out")
async def sign_out(visit: Anybody, form: Posted) -> Response:
    """End the session in this browser."""
    del form
    visit.session = visit.console.sessions.begin()
    return visit.go("/sign-in", notice="You are signed out.")


def _ask(
    visit: Visit, back: str, *, error: str = "", code: int = 200, after_s: int | None = None
) -> Response:
    response = visit.page("sign_in.html", code=code, back=local_path(back), error=error)
    if after_s is not None:
        response.headers["Retry-After"] = str(after_s)
    return response
