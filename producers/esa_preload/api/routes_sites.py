"""Sites: what they hold, and whether they are submitted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends

from esa_preload.api.auth import Anybody
from esa_preload.api.context import Context, get_context
from esa_preload.api.schemas import Site, Sites

router = APIRouter(prefix="/v1", tags=["sites"])


@router.get("/sites")
async def list_sites(context: Annotated[Context, Depends(get_context)], principal: Anybody) -> Sites:
    """List the sites of the token, their state and totals."""
    found = await context.client.sites()
    return Sites(items=[Site.model_validate(site) for site in found if principal.sees(site.site_id)])
