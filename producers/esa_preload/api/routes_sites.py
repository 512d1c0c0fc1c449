"""Sites, and what an operator does to them: pause, resume, take up failures."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request

from esa_preload.api.auth import Anybody, Operator, require_all_sites
from esa_preload.api.bodies import read_document
from esa_preload.api.context import Api, Context
from esa_preload.api.failures import page_of_sites
from esa_preload.api.openapi import BODY, json_body, problems
from esa_preload.api.problems import ProblemError
from esa_preload.api.routes_preloads import Cursor, find_own_site, own_request, own_site
from esa_preload.api.schemas import (
    REQUEST_ID,
    Explanation,
    Failure,
    Failures,
    PauseInput,
    Receipt,
    Receipts,
    RequeueInput,
    Site,
    SiteId,
    SiteName,
    Sites,
    Switched,
)
from esa_preload.site_names import NAME_MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from esa_preload.api.tokens import Principal

router = APIRouter(prefix="/v1", tags=["sites"])

OwnSiteId = Annotated[SiteId, Path()]


@router.get("/sites", responses=problems())
async def list_sites(context: Api, principal: Anybody) -> Sites:
    """List the sites of the token, their state and totals."""
    found = await context.client.sites()
    return Sites(items=[Site.model_validate(site) for site in found if principal.sees(site.site_id)])


@router.get("/sites/{site_id}", responses=problems("not-found"))
async def get_site(context: Api, principal: Anybody, site_id: OwnSiteId) -> Site:
    """Tell the state and the totals of one site."""
    return Site.model_validate(await context.client.site(own_site(principal, site_id)))


@router.get("/site-id", responses=problems("not-found"))
async def find_site(
    context: Api, principal: Anybody, name: Annotated[str, Query(min_length=1, max_length=NAME_MAX_CHARS)]
) -> SiteName:
    """Tell the id of a site by its name, as the workers have read it from ESA: also before the site had a URL."""
    return SiteName(site_id=await find_own_site(context, principal, name), name=name)


@router.post(
    "/sites/{site_id}/pause",
    responses=problems(*BODY, "not-found"),
    openapi_extra=json_body(PauseInput, is_required=False),
)
async def pause(request: Request, context: Api, principal: Operator, site_id: OwnSiteId) -> Switched:
    """Submit nothing more for a site until it is resumed; what is in flight goes on. May be repeated."""
    own_site(principal, site_id)
    document = await read_document(request, context.settings, PauseInput)
    return Switched(changed=await context.acting_as(principal).pause(site_id, reason=document.reason))


@router.post("/sites/{site_id}/resume", responses=problems("not-found"))
async def resume(context: Api, principal: Operator, site_id: OwnSiteId) -> Switched:
    """Let a site go on, whatever held it: a pause, a block, a quota."""
    own_site(principal, site_id)
    return Switched(changed=await context.acting_as(principal).resume(site_id))


@router.post("/account/resume", responses=problems())
async def resume_account(context: Api, principal: Operator) -> Switched:
    """Unblock the account, and with it every site. Takes a token of all sites."""
    require_all_sites(principal)
    return Switched(changed=await context.acting_as(principal).resume(None))


@router.get("/failures", responses=problems("not-found"))
async def list_failures(
    context: Api,
    principal: Anybody,
    site_id: Annotated[SiteId | None, Query()] = None,
    reason: Annotated[str | None, Query(min_length=1, max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    cursor: Cursor = None,
) -> Failures:
    """List the URLs of a site, the newest first, or of all sites of the token, site after site, that ended as refused, expired or unknown."""
    read = partial(context.client.failure_page, reason=reason)
    if site_id is None:
        page = await page_of_sites(read, await _site_ids(context, principal), limit=limit, cursor=cursor)
    else:
        page = await read(own_site(principal, site_id), limit=limit, cursor=cursor)
    return Failures(items=[Failure.model_validate(each) for each in page.items], cursor=page.cursor)


async def _site_ids(context: Context, principal: Principal) -> Iterable[int]:
    if principal.sites is not None:
        return principal.sites
    return [site.site_id for site in await context.client.sites()]


@router.post(
    "/failures/requeue",
    responses=problems(*BODY, "not-found", "queue-full"),
    openapi_extra=json_body(RequeueInput),
)
async def requeue(request: Request, context: Api, principal: Operator) -> Receipts:
    """Enqueue the URLs of a site's failures anew, each plan as a request of its own, and forget the failures."""
    document = await read_document(request, context.settings, RequeueInput)
    own_site(principal, document.site_id)
    client = context.acting_as(principal)
    receipts = await client.requeue(document.site_id, ids=document.ids, limit=document.limit)
    return Receipts(receipts=[Receipt.model_validate(each) for each in receipts])


@router.get("/explain", responses=problems("not-found"))
async def explain(
    context: Api,
    principal: Anybody,
    request_id: Annotated[str | None, Query(pattern=REQUEST_ID, description="Stands alone.")] = None,
    site_id: Annotated[SiteId | None, Query()] = None,
    url: Annotated[
        str | None, Query(min_length=1, max_length=8_192, description="One URL of that site.")
    ] = None,
) -> Explanation:
    """Tell why a request, a site, or a URL of a site is not submitted yet. Changes nothing."""
    if request_id is not None:
        await own_request(context, principal, request_id)
    elif site_id is not None:
        own_site(principal, site_id)
    else:
        raise ProblemError("invalid", "give request_id, or site_id, or site_id and url")
    return Explanation.model_validate(await context.client.explain(request_id, site_id=site_id, url=url))
