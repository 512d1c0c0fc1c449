"""Who asks, and what they may: bearer tokens, or nobody but this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from esa_preload.addresses import is_loopback
from esa_preload.api.context import Context, get_context
from esa_preload.api.problems import ProblemError
from esa_preload.api.tokens import Principal

if TYPE_CHECKING:
    from collections.abc import Callable

LOCAL: Final = Principal(name="local", role="operator", sites=None)
"""Whoever is on this machine, while there are no tokens."""

_BEARER = HTTPBearer(
    auto_error=False,
    description="A token made by `esa-preload token new`. Without tokens the API serves loopback only.",
)


def authenticated(
    request: Request,
    context: Annotated[Context, Depends(get_context)],
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Principal:
    """
    Return who asks.

    Raises:
        ProblemError: 401 without a valid token; 403 when there are no tokens and a page of another origin asks.
    """
    if context.tokens is None:
        require_local(request)
        return _known(request, LOCAL)
    found = context.tokens.find(credentials.credentials) if credentials else None
    if found is None:
        raise ProblemError(
            "unauthorized",
            "the token is not known, was revoked, or has expired"
            if credentials
            else "a bearer token is needed",
            hint="send `Authorization: Bearer TOKEN`",
            headers={"WWW-Authenticate": "Bearer"},
        )
    return _known(request, found)


def _known(request: Request, principal: Principal) -> Principal:
    request.state.principal = principal
    return principal


def require_local(request: Request) -> None:
    """
    Refuse what a page of another origin, or of a name that leads here, may have sent.

    Raises:
        ProblemError: 403.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    name = urlsplit(f"//{host}").hostname or ""
    if not is_loopback(name):
        raise ProblemError("forbidden", "without tokens only loopback is served, by its own name")
    if origin is not None and urlsplit(origin).netloc != host:
        raise ProblemError("forbidden", "without tokens no page of another origin is served")


def _with_role(*roles: str) -> Callable[[Principal], Principal]:
    def check(principal: Annotated[Principal, Depends(authenticated)]) -> Principal:
        if principal.role not in roles:
            raise ProblemError(
                "forbidden",
                f"the role {principal.role} may not do this",
                hint=f"it takes {' or '.join(roles)}",
            )
        return principal

    return check


Anybody = Annotated[Principal, Depends(authenticated)]
Producer = Annotated[Principal, Depends(_with_role("producer", "operator"))]
Operator = Annotated[Principal, Depends(_with_role("operator"))]


def require_all_sites(principal: Principal) -> None:
    """
    Refuse what concerns every site to a token of some.

    Raises:
        ProblemError: 403.
    """
    if principal.sites is not None:
        raise ProblemError(
            "forbidden",
            "this concerns every site, and the token is for some",
            hint="it takes a token with the sites *",
        )
