"""What concerns the account: the pace of ESA's operations, who did what, how many calls are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Path, Query, Request

from esa_preload.api.auth import Anybody, Operator, require_all_sites
from esa_preload.api.bodies import read_document
from esa_preload.api.context import Api
from esa_preload.api.openapi import BODY, json_body, problems
from esa_preload.api.routes_preloads import Cursor, own_site
from esa_preload.api.schemas import (
    Audit,
    AuditEntry,
    Limit,
    LimitChanges,
    Limits,
    RateInput,
    SiteId,
    Traffic,
    TrafficPoint,
)
from esa_preload.model import PACED_OPERATIONS

if TYPE_CHECKING:
    from esa_preload.interface import Preloads

router = APIRouter(prefix="/v1", tags=["account"])

Operation = Annotated[str, Path(json_schema_extra={"enum": list(PACED_OPERATIONS)})]


@router.get("/limits", responses=problems())
async def list_limits(context: Api, principal: Anybody) -> Limits:
    """Show the pace of each of ESA's operations, and what was learnt of its limit."""
    del principal
    return await _limits(context.client)


@router.patch("/limits", responses=problems(*BODY), openapi_extra=json_body(LimitChanges))
async def change_limits(request: Request, context: Api, principal: Operator) -> Limits:
    """Set and reset several limits: in order, all or none. Takes a token of all sites."""
    require_all_sites(principal)
    document = await read_document(request, context.settings, LimitChanges)
    client = context.acting_as(principal)
    await client.change_limits((each.operation, each.rate) for each in document.changes)
    return await _limits(client)


@router.put("/limits/{operation}", responses=problems(*BODY, "not-found"), openapi_extra=json_body(RateInput))
async def set_limit(request: Request, context: Api, principal: Operator, operation: Operation) -> Limits:
    """Have an operation called at a rate, and at less only while ESA throttles at that. Takes a token of all sites."""
    require_all_sites(principal)
    document = await read_document(request, context.settings, RateInput)
    client = context.acting_as(principal)
    await client.set_limit(operation, document.rate)
    return await _limits(client)


@router.delete("/limits/{operation}", responses=problems("not-found"))
async def reset_limit(context: Api, principal: Operator, operation: Operation) -> Limits:
    """Forget what was learnt or set of an operation, but for a cooldown: its limit is learnt anew. Takes a token of all sites."""
    require_all_sites(principal)
    client = context.acting_as(principal)
    await client.reset_limits(operation)
    return await _limits(client)


async def _limits(client: Preloads) -> Limits:
    return Limits(items=[Limit.model_validate(each) for each in await client.limits()])


@router.get("/audit", responses=problems("not-found"))
async def list_audit(
    context: Api,
    principal: Anybody,
    site_id: Annotated[SiteId | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: Cursor = None,
) -> Audit:
    """List who did what, the newest first; what concerns the account only with a token of all sites."""
    if site_id is not None:
        own_site(principal, site_id)
    page = await context.client.audit(site_id=site_id, limit=limit, cursor=cursor)
    own = [AuditEntry.model_validate(each) for each in page.items if principal.sees(each.site_id)]
    return Audit(items=own, cursor=page.cursor)


@router.get("/traffic", responses=problems())
async def list_traffic(
    context: Api, principal: Anybody, minutes: Annotated[int, Query(ge=1, le=60)] = 15
) -> Traffic:
    """Return the calls of all workers in the last minutes, in buckets of 10 s."""
    del principal
    found = await context.client.traffic(minutes=minutes)
    return Traffic(items=[TrafficPoint.model_validate(each) for each in found])
