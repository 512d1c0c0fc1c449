"""The routes that do something. Each is a form's, and ends on the page that shows what came of it."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.responses import Response

from esa_preload.api.console.answering import Page
from esa_preload.api.console.forms import Form
from esa_preload.api.console.guards import Enqueuer, Limiter, Operator, Posted, SiteId
from esa_preload.api.console.pages import own_sites
from esa_preload.api.console.visits import Visit, local_path
from esa_preload.api.console.words import grouped
from esa_preload.arguments import parse_priority
from esa_preload.errors import EsaPreloadError, InvalidRequestError, QueueUnavailableError

if TYPE_CHECKING:
    from esa_preload.model import Receipt

router = APIRouter(route_class=Page, include_in_schema=False)


@router.post("/sites/{site_id}/pause")
async def pause(visit: Operator, form: Posted, site_id: SiteId) -> Response:
    """Submit nothing more for a site."""
    changed = await visit.preloads.pause(site_id, reason=form.text("reason") or None)
    notice = f"Site {site_id} is paused" + ("" if changed else ", as it was before")
    return visit.go(local_path(form.text("back") or f"/sites/{site_id}"), notice=notice)


@router.post("/sites/{site_id}/resume")
async def resume(visit: Operator, form: Posted, site_id: SiteId) -> Response:
    """Let a site go on."""
    changed = await visit.preloads.resume(site_id)
    notice = f"Site {site_id} goes on" if changed else f"Nothing held site {site_id}"
    return visit.go(local_path(form.text("back") or f"/sites/{site_id}"), notice=notice)


@router.post("/sites/{site_id}/requeue")
async def requeue(visit: Operator, form: Posted, site_id: SiteId) -> Response:
    """Enqueue failures of a site anew, all or those that were chosen."""
    is_all = form.text("which") == "all"
    ids = form.texts("id")
    back = f"/failures?site={site_id}"
    if not ids and not is_all:
        return visit.go(back, notice="None was chosen: nothing was requeued")
    receipts = await visit.preloads.requeue(site_id, ids=None if is_all else ids)
    count = sum(receipt.accepted for receipt in receipts)
    notice = f"{grouped(count)} {'URL' if count == 1 else 'URLs'} enqueued anew"
    return visit.go(f"/requests/{receipts[0].request_id}" if len(receipts) == 1 else back, notice=notice)


@router.post("/requests/{request_id}/cancel")
async def cancel(visit: Enqueuer, form: Posted, request_id: str) -> Response:
    """Give up what a request has pending."""
    del form
    await visit.own_request(request_id)
    cancelled, in_flight = await visit.preloads.cancel(request_id)
    notice = f"{grouped(cancelled)} URLs cancelled; {grouped(in_flight)} in flight go on"
    return visit.go(f"/requests/{request_id}", notice=notice)


@router.post("/limits")
async def change_limit(visit: Limiter, form: Posted) -> Response:
    """Set the pace of an operation, or have it learnt anew."""
    operation = form.text("operation")
    if form.text("verb") == "reset":
        await visit.preloads.reset_limits(operation)
        return visit.go("/limits", notice=f"The pace of {operation} is learnt anew")
    await visit.preloads.set_limit(operation, _rate(form.text("rate")))
    return visit.go("/limits", notice=f"The pace of {operation} is set")


def _rate(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidRequestError(f"a rate is a number of calls/s above 0, not {text[:40]!r}") from None


@router.get("/enqueue")
async def show_enqueue(visit: Enqueuer, site: str = "") -> Response:
    """Ask for URLs."""
    return await _enqueue_page(visit, Form({"site": [site]}))


@router.post("/enqueue")
async def enqueue(visit: Enqueuer, form: Posted) -> Response:
    """Enqueue the URLs of a form. Sent twice, it is the same request."""
    try:
        receipt = await _enqueue(visit, form)
    except QueueUnavailableError:
        raise
    except EsaPreloadError as exc:
        return await _enqueue_page(visit, form, error=exc)
    visit.console.context.metrics.count(receipt)
    return visit.page("enqueued.html", receipt=receipt)


async def _enqueue(visit: Visit, form: Form) -> Receipt:
    site_id = await visit.site_of(form.text("site"))
    if site_id is None:
        raise InvalidRequestError("say for which site")
    return await visit.preloads.enqueue(
        site_id,
        form.text("urls").split(),
        plan=form.plan(),
        priority=parse_priority(form.text("priority") or "normal"),
        expires_in=form.number("expires_in"),
        request_id=form.text("request_id") or None,
        source=form.text("source") or None,
    )


async def _enqueue_page(visit: Visit, form: Form, *, error: EsaPreloadError | None = None) -> Response:
    """Return the form as it was sent, under a new id: what was refused may be corrected."""
    return visit.page(
        "enqueue.html",
        code=422 if error else 200,
        form=form,
        request_id=uuid.uuid4().hex,
        sites=await own_sites(visit),
        error=error,
    )
