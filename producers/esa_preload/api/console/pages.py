"""The routes that show something."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import APIRouter
from starlette.responses import Response

from esa_preload.api.console import progress
from esa_preload.api.console.answering import Page as PageRoute
from esa_preload.api.console.guards import SignedIn, SiteId
from esa_preload.api.console.traffic import chart_of
from esa_preload.api.console.visits import Visit
from esa_preload.api.console.words import grouped
from esa_preload.errors import EsaPreloadError, QueueUnavailableError
from esa_preload.model import PACED_OPERATIONS, URL_STATES, Page

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from esa_preload.model import RequestInfo, RequestState, SiteStatus, UrlState

T = TypeVar("T")

router = APIRouter(route_class=PageRoute, include_in_schema=False)

SITES_SHOWN: Final = 100
ROWS: Final = 50
URLS_SHOWN: Final = 200
_URLS_FIRST: Final[tuple[UrlState, ...]] = ("refused", "unknown", "expired", "pending")
"""Which URLs of a request are shown unless others are asked for: the first of these that it has."""

PAGES_READ: Final = 20
"""Pages of all sites that are looked through for something of a token's own."""


@router.get("/")
async def show_sites(visit: SignedIn, q: str = "") -> Response:
    """Show what calls are made, and the sites, those first that need somebody."""
    sites = await own_sites(visit)
    rates = visit.console.rates.look(sites)
    found = sorted(
        (site for site in sites if q in str(site.site_id) or q.lower() in site.name.lower()), key=_need
    )
    pending = sum(site.pending for site in sites)
    return visit.page(
        "sites.html",
        sites=found[:SITES_SHOWN],
        more_sites=len(found[SITES_SHOWN:]),
        names=names_of(sites),
        rates=rates,
        wanted=q,
        chart=chart_of(await visit.preloads.traffic(), datetime.now(UTC)),
        said=f"{sum(site.state == 'blocked' for site in sites)} sites blocked, {'some' if pending else 'no'} URLs pending",
    )


def _need(site: SiteStatus) -> tuple[int, int]:
    return ("blocked", "waiting", "paused", "active").index(site.state), -site.pending


@router.get("/sites/{site_id}")
async def show_site(visit: SignedIn, site_id: SiteId) -> Response:
    """Show one site."""
    explanation = await visit.preloads.explain(site_id=site_id)
    site = await visit.preloads.site(site_id)
    return visit.page(
        "site.html",
        site=site,
        explanation=explanation,
        page=await visit.preloads.requests(site_id, limit=10),
        said=f"{site.state}: {explanation.reasons[0].text}",
    )


@router.get("/requests")
async def show_requests(visit: SignedIn, site: str = "", state: str = "", cursor: str = "") -> Response:
    """List requests, the newest first."""
    sites = await own_sites(visit)
    chosen: RequestState | None = one_of(("active", "done"), state)

    async def read(site_id: int | None, cursor: str | None) -> Page[RequestInfo]:
        return await visit.preloads.requests(site_id, state=chosen, limit=ROWS, cursor=cursor)

    page = await own_page(visit, read, await visit.site_of(site), cursor, lambda info: info.status.site_id)
    return visit.page(
        "requests.html",
        page=page,
        older=older(visit, page),
        is_first=not cursor,
        site=site,
        state=state,
        sites=sites,
        names=names_of(sites),
    )


@router.get("/requests/{request_id}")
async def show_request(visit: SignedIn, request_id: str, urls: str = "", cursor: str = "") -> Response:
    """Show how far a request has come."""
    info = await visit.own_request(request_id)
    status = info.status
    counts: dict[UrlState, int] = {state: getattr(status, state) for state in URL_STATES}
    chosen = one_of(URL_STATES, urls) or _first_of(counts)
    listed = await visit.preloads.request_urls(request_id, chosen, limit=URLS_SHOWN, cursor=cursor or None)
    return visit.page(
        "request.html",
        info=info,
        status=status,
        bar=progress.parts_of(status),
        explanation=await visit.preloads.explain(request_id) if status.state == "active" else None,
        urls=listed,
        urls_state=chosen,
        url_choices=[(state, f"{state} ({grouped(count)})") for state, count in counts.items()],
        older=older(visit, listed),
        names=names_of([await visit.preloads.site(status.site_id)]),
        said=progress.said(status),
    )


def _first_of(counts: Mapping[UrlState, int]) -> UrlState:
    for state in _URLS_FIRST:
        if counts[state]:
            return state
    return "refused"


@router.get("/failures")
async def show_failures(visit: SignedIn, site: str = "", reason: str = "", cursor: str = "") -> Response:
    """List the failures of a site, or the sites that have some."""
    sites = await own_sites(visit)
    site_id = await visit.site_of(site)
    page = None
    if site_id is not None:
        page = await visit.preloads.failure_page(
            site_id, reason=reason or None, limit=URLS_SHOWN, cursor=cursor or None
        )
    return visit.page(
        "failures.html",
        page=page,
        older=page and older(visit, page),
        site=site,
        site_id=site_id,
        reason=reason,
        sites=sites,
        failing=[site for site in sites if site.refused],
        names=names_of(sites),
    )


@router.get("/limits")
async def show_limits(visit: SignedIn) -> Response:
    """List the pace of every operation of ESA."""
    known = {limit.operation: limit for limit in await visit.preloads.limits()}
    return visit.page(
        "limits.html",
        limits=[(operation, known.get(operation)) for operation in PACED_OPERATIONS],
        operations=[(operation, operation) for operation in PACED_OPERATIONS],
    )


@router.get("/explain")
async def show_explanation(visit: SignedIn, request_id: str = "", site: str = "", url: str = "") -> Response:
    """Tell why something is not submitted yet."""
    sites = await own_sites(visit)
    explanation, error = None, None
    try:
        if request_id:
            await visit.own_request(request_id)
        if request_id or site or url:
            explanation = await visit.preloads.explain(
                request_id or None, site_id=await visit.site_of(site), url=url or None
            )
    except QueueUnavailableError:
        raise
    except EsaPreloadError as exc:
        error = exc
    return visit.page(
        "explain.html",
        explanation=explanation,
        error=error,
        request_id=request_id,
        site=site,
        url=url,
        sites=sites,
        names=names_of(sites),
    )


@router.get("/audit")
async def show_audit(visit: SignedIn, site: str = "", cursor: str = "") -> Response:
    """List who did what, the newest first."""
    sites = await own_sites(visit)
    page = await own_page(
        visit,
        lambda site_id, cursor: visit.preloads.audit(site_id=site_id, limit=ROWS, cursor=cursor),
        await visit.site_of(site),
        cursor,
        lambda entry: entry.site_id,
    )
    return visit.page(
        "audit.html", page=page, older=older(visit, page), site=site, sites=sites, names=names_of(sites)
    )


def one_of(choices: Sequence[T], text: str) -> T | None:
    """Return the choice that *text* is, or ``None``."""
    return next((choice for choice in choices if choice == text), None)


async def own_sites(visit: Visit) -> list[SiteStatus]:
    """Return the sites that may be seen."""
    return [site for site in await visit.preloads.sites() if visit.sees(site.site_id)]


def names_of(sites: Sequence[SiteStatus]) -> dict[int, str]:
    """Return the names of *sites*, where they are known."""
    return {site.site_id: site.name for site in sites if site.name}


async def own_page(
    visit: Visit,
    read: Callable[[int | None, str | None], Awaitable[Page[T]]],
    site_id: int | None,
    cursor: str,
    site_of: Callable[[T], int | None],
) -> Page[T]:
    """Return a page of what concerns *site_id*, or of all that may be seen; a token of some sites may get a short one."""
    own = page = await read(site_id, cursor or None)
    for _ in range(PAGES_READ):
        own = Page(items=tuple(item for item in page.items if visit.sees(site_of(item))), cursor=page.cursor)
        if own.items or own.cursor is None:
            break
        page = await read(site_id, own.cursor)
    return own


def older(visit: Visit, page: Page[Any]) -> str:
    """Return the address of the page after *page*, empty when there is none."""
    if page.cursor is None:
        return ""
    query = {**visit.request.query_params, "cursor": page.cursor}
    return f"{visit.request.url.path}?{urlencode(query)}"
