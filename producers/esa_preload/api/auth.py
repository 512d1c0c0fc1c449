"""Who asks, and what they may: bearer tokens, or nobody but this machine."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes

from esa_preload.addresses import is_loopback
from esa_preload.api.context import Api, Context
from esa_preload.api.problems import ProblemError
from esa_preload.api.tokens import Principal

LOCAL: Final = Principal(name="local", role="operator", sites=None)
"""Whoever is on this machine, while there are no tokens."""

_BEARER = HTTPBearer(
    auto_error=False,
    description="A token made by `esa-preload token new`. Without tokens the API serves loopback only.",
)


async def authenticated(
    request: Request,
    context: Api,
    roles: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Security(_BEARER)],
) -> Principal:
    """
    Return who asks.

    Args:
        roles: one of which it takes; none: any will do.

    Raises:
        ProblemError: 401 without a valid token; 403 for another role, or when there are no tokens and a page of another origin
            asks.
    """
    principal = _who(request, context, credentials)
    # For the log, also of what is refused.
    request.state.principal = principal
    if roles.scopes and principal.role not in roles.scopes:
        raise ProblemError(
            "forbidden",
            f"the role {principal.role} may not do this",
            hint=f"it takes {' or '.join(roles.scopes)}",
        )
    return principal


def _who(request: Request, context: Context, credentials: HTTPAuthorizationCredentials | None) -> Principal:
    if context.tokens is None:
        require_local(request)
        return LOCAL
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
    return found


def require_local(request: Request) -> None:
    """
    Refuse what a page of another origin, or of a name that leads here, may have sent.

    Raises:
        ProblemError: 403.
    """
    host, origin = request.headers.get("host", ""), request.headers.get("origin")
    is_foreign = request.headers.get("sec-fetch-site") in ("cross-site", "same-site")
    if not is_loopback(_name_of(host)):
        raise ProblemError("forbidden", "without tokens only loopback is served, by its own name")
    if is_foreign or (origin is not None and origin.partition("://")[2] != host):
        raise ProblemError("forbidden", "without tokens no page of another origin is served")


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


Anybody = Annotated[Principal, Security(authenticated)]
Producer = Annotated[Principal, Security(authenticated, scopes=["producer", "operator"])]
Operator = Annotated[Principal, Security(authenticated, scopes=["operator"])]


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
