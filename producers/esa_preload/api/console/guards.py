"""What a page or a form asks for before anything is shown or done: somebody who is known, a right, a form of ours."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Annotated, cast

from fastapi import Depends, Request

from esa_preload.api.auth import LOCAL, require_local
from esa_preload.api.console.forms import Form, read_form
from esa_preload.api.console.visits import SignInNeededError, Visit
from esa_preload.api.problems import ProblemError
from esa_preload.model import parse_site_id

if TYPE_CHECKING:
    from collections.abc import Callable


def get_visit(request: Request) -> Visit:
    """Return the visit that the page's route began."""
    return cast("Visit", request.state.visit)


def signed_in(visit: Annotated[Visit, Depends(get_visit)]) -> Visit:
    """
    Return the visit of somebody who is known.

    Raises:
        SignInNeededError: there is nobody, or the token was revoked or has expired meanwhile.
        ProblemError: 403; there are no tokens, and this is not from this machine.
    """
    tokens = visit.console.context.tokens
    if tokens is None:
        require_local(visit.request)
        visit.principal = LOCAL
    else:
        visit.principal = tokens.hashed(visit.session.token) if visit.session.token else None
    if visit.principal is None:
        raise SignInNeededError("nobody is signed in")
    visit.request.state.principal = visit.principal
    return visit


async def own_form(request: Request, visit: Annotated[Visit, Depends(get_visit)]) -> Form:
    """
    Return the form that was sent, from a page of this session.

    Raises:
        ProblemError: 403, of another session; 413, too long; 422, no form.
    """
    form = await read_form(request)
    if not hmac.compare_digest(form.text("csrf").encode(), visit.session.csrf.encode()):
        raise ProblemError(
            "forbidden",
            "the form is of a session that has ended; nothing was done",
            hint="go back to the page, load it again, and repeat",
        )
    return form


def _who(may: str, what: str) -> Callable[[Visit], Visit]:
    def check(visit: Annotated[Visit, Depends(signed_in)]) -> Visit:
        if not getattr(visit, may):
            raise ProblemError("forbidden", f"your token does not allow to {what}; nothing was done")
        return visit

    return check


SignedIn = Annotated[Visit, Depends(signed_in)]
Enqueuer = Annotated[Visit, Depends(_who("may_enqueue", "enqueue or cancel"))]
Operator = Annotated[Visit, Depends(_who("may_operate", "operate sites"))]
Limiter = Annotated[Visit, Depends(_who("may_limit", "change limits"))]
Posted = Annotated[Form, Depends(own_form)]


def own_site(site_id: str, visit: SignedIn) -> int:
    """Return the site of a path; raises as :meth:`Visit.own`."""
    return visit.own(parse_site_id(site_id))


SiteId = Annotated[int, Depends(own_site)]
