"""Who is on a page, what they may see and do there, and how a page is made for them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from fastapi import Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from esa_preload.api.auth import LOCAL
from esa_preload.api.console.attempts import Attempts
from esa_preload.api.console.rendering import HEADERS, make_templates
from esa_preload.api.console.sessions import LIFETIME_S, Session, Sessions
from esa_preload.api.console.traffic import Rates
from esa_preload.api.routes_preloads import find_own_site, own_request
from esa_preload.errors import EsaPreloadError, UnknownSiteError

if TYPE_CHECKING:
    from jinja2 import Environment

    from esa_preload.api.context import Context
    from esa_preload.api.tokens import Principal
    from esa_preload.interface import Preloads
    from esa_preload.model import RequestInfo

PAGES = (
    ("/", "Sites"),
    ("/requests", "Requests"),
    ("/failures", "Failures"),
    ("/limits", "Limits"),
    ("/explain", "Explain"),
    ("/audit", "Audit"),
)


class SignInNeededError(EsaPreloadError):
    """Nobody is signed in, or not any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Console:
    """What the pages work with, made once for each app."""

    context: Context
    sessions: Sessions
    templates: Environment
    attempts: Attempts
    rates: Rates

    @classmethod
    def of(cls, context: Context) -> Console:
        """Make the console of an app."""
        key = context.settings.http_session_key.get_secret_value() or secrets.token_urlsafe(32)
        return cls(
            context=context,
            sessions=Sessions(key),
            templates=make_templates(),
            attempts=Attempts(),
            rates=Rates(),
        )


@dataclass(slots=True, kw_only=True)
class Visit:
    """
    One request of a browser for a page.

    Attributes:
        session: a new one when the browser brought none.
        principal: who is signed in; without tokens whoever is on this machine.
    """

    request: Request
    console: Console
    session: Session
    principal: Principal | None = None

    @classmethod
    def of(cls, request: Request) -> Visit:
        """Return the visit of *request*, with the session of its cookie."""
        console = cast("Console", request.app.state.console)
        cookie = request.cookies.get(cookie_name(request, console), "")
        session = console.sessions.read(cookie) or console.sessions.begin()
        visit = cls(request=request, console=console, session=session)
        request.state.visit = visit
        return visit

    @property
    def preloads(self) -> Preloads:
        """The verbs, done in the name of who is signed in."""
        return self.console.context.acting_as(self._known)

    @property
    def _known(self) -> Principal:
        if self.principal is None:
            raise SignInNeededError("nobody is signed in")
        return self.principal

    @property
    def is_poll(self) -> bool:
        """Whether a page renews itself: that is not somebody doing something."""
        return "hx-request" in self.request.headers

    @property
    def is_from_elsewhere(self) -> bool:
        """Whether another site's page led here: browsers keep our cookie back then, and it must not be replaced."""
        return self.request.headers.get("sec-fetch-site") in ("cross-site", "same-site")

    @property
    def here(self) -> str:
        """The address of the page; one that leads to another host is none."""
        query = self.request.url.query
        return local_path(f"{self.request.url.path}?{query}" if query else self.request.url.path)

    @property
    def pages(self) -> tuple[tuple[str, str], ...]:
        """What the navigation leads to."""
        return PAGES

    @property
    def section(self) -> str:
        """The page of the navigation that this one belongs to."""
        first = self.request.url.path.split("/")[1]
        return "/" if first in ("", "sites") else f"/{first}"

    @property
    def who(self) -> str:
        """Who is signed in, for people."""
        known = self._known
        return "no tokens: this machine only" if known is LOCAL else f"{known.name}, {known.role}"

    @property
    def can_sign_out(self) -> bool:
        """Whether there is something to sign out of."""
        return self.principal is not LOCAL

    @property
    def may_enqueue(self) -> bool:
        """Whether the role allows to enqueue, and to cancel."""
        return self._known.role in ("producer", "operator")

    @property
    def may_operate(self) -> bool:
        """Whether the role allows to pause, resume and requeue."""
        return self._known.role == "operator"

    @property
    def may_limit(self) -> bool:
        """Whether the pace, which concerns every site, may be changed."""
        return self.may_operate and self._known.sites is None

    def sees(self, site_id: int | None) -> bool:
        """Tell whether a site may be seen."""
        return self._known.sees(site_id)

    def own(self, site_id: int) -> int:
        """
        Return *site_id*, which may be seen.

        Raises:
            UnknownSiteError: it may not: whether there is such a site is not told.
        """
        if not self.sees(site_id):
            raise UnknownSiteError(f"site {site_id} has never been seen")
        return site_id

    async def site_of(self, name_or_id: str) -> int | None:
        """Return the site that somebody wrote into a field, ``None`` for an empty one; raises as :func:`find_own_site`."""
        return await find_own_site(self.console.context, self._known, name_or_id) if name_or_id else None

    async def own_request(self, request_id: str) -> RequestInfo:
        """
        Return a request whose site may be seen.

        Raises:
            UnknownRequestError: there is none, or it is of another site.
        """
        return await own_request(self.console.context, self._known, request_id)

    def page(self, template: str, *, code: int = 200, **facts: Any) -> Response:
        """Return a page."""
        notice = "" if self.is_poll else self.session.notice
        text = self.console.templates.get_template(template).render(
            visit=self if self.principal else None,
            csrf=self._csrf_field,
            here=self.here,
            now=datetime.now(UTC),
            notice=notice,
            **facts,
        )
        if notice:
            self.session = replace(self.session, notice="")
        return HTMLResponse(text, status_code=code)

    def go(self, to: str, *, notice: str = "") -> Response:
        """Return the way to another page, after something was done; that page says *notice*."""
        self.session = replace(self.session, notice=notice)
        return RedirectResponse(to, status_code=303)

    def finish(self, response: Response) -> Response:
        """Give an answer its headers, and the browser its session."""
        response.headers.update(HEADERS)
        if not self.is_poll and not self.is_from_elsewhere:
            is_secure = self.request.url.scheme == "https"
            response.set_cookie(
                cookie_name(self.request, self.console),
                self.console.sessions.write(self.console.sessions.touch(self.session)),
                max_age=LIFETIME_S,
                secure=is_secure,
                httponly=True,
                samesite="strict",
            )
        return response

    def _csrf_field(self) -> Markup:
        return Markup('<input type="hidden" name="csrf" value="{}">').format(self.session.csrf)


def cookie_name(request: Request, console: Console) -> str:
    """Return the name of the session's cookie; over TLS one that no other host of the domain can set."""
    prefix = "__Host-" if request.url.scheme == "https" else ""
    return f"{prefix}esa-preload-{console.context.settings.namespace}"


def local_path(text: str) -> str:
    """Return *text* when it is the path of a page here, else that of the first page."""
    return quote(text, safe="/?&=%+:~._-") if text.startswith("/") and text[1:2] not in ("/", "\\") else "/"
