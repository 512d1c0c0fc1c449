"""Requests: enqueue, follow, cancel."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Header, Path, Query, Request

from esa_preload.api.auth import Anybody, Producer
from esa_preload.api.bodies import JSON, NDJSON, TEXT, media_type_of, read_document, read_urls
from esa_preload.api.context import Api, Context
from esa_preload.api.openapi import BODY, list_body, problems
from esa_preload.api.problems import ProblemError
from esa_preload.api.schemas import (
    CURSOR,
    REQUEST_ID,
    Cancelled,
    EnqueueInput,
    EnqueueQuery,
    Receipt,
    RequestInfo,
    Requests,
    RequestUrl,
    RequestUrls,
    SiteId,
    Status,
)
from esa_preload.errors import EsaPreloadError, UnknownSiteError
from esa_preload.model import RequestState, UrlState
from esa_preload.reading import unknown_request
from esa_preload.tracing import continue_trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Generator, Iterable

    from esa_preload import model
    from esa_preload.api.tokens import Principal

router = APIRouter(prefix="/v1/preloads", tags=["preloads"])

RequestId = Annotated[str, Path(pattern=REQUEST_ID)]
Cursor = Annotated[str | None, Query(pattern=CURSOR, description="Of the page before.")]


@router.post(
    "",
    status_code=202,
    responses=problems(
        *BODY, "not-found", "conflict", "nothing-accepted", "queue-full", "busy", "not-durable"
    ),
    openapi_extra=list_body(EnqueueInput),
)
async def enqueue(
    request: Request,
    context: Api,
    principal: Producer,
    query: Annotated[EnqueueQuery, Query()],
    idempotency_key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            pattern=REQUEST_ID,
            description="The request_id: repeat a call with it to resume the call.",
        ),
    ] = None,
) -> Receipt:
    """
    Put URLs into the queue of a site.

    A list may have any length: as `text/plain`, one URL a line, or as `application/x-ndjson`, a JSON string or `{"url": …}` a line, it is
    taken as it comes in. A JSON document has up to 16 MiB. `Content-Encoding: gzip` is read.
    """
    media_type = media_type_of(request, JSON, TEXT, NDJSON)
    with continue_trace(request.headers), context.streams.place(request, principal.name), _counting(context):
        if media_type == JSON:
            document = await read_document(request, context.settings, EnqueueInput)
            receipt = await _enqueue_document(context, principal, query, document, idempotency_key)
        else:
            urls = read_urls(request, context.settings, media_type)
            receipt = await _enqueue_urls(context, principal, query, urls, idempotency_key)
        if receipt.rejected_count and not receipt.accepted:
            raise _NothingAcceptedError(receipt)
    context.metrics.count(receipt)
    return Receipt.model_validate(receipt)


class _NothingAcceptedError(ProblemError):
    def __init__(self, receipt: model.Receipt) -> None:
        first = receipt.rejected[0]
        super().__init__("nothing-accepted", f"no URL was accepted; the first one: {first.reason}")
        self.receipt = receipt


@contextlib.contextmanager
def _counting(context: Context) -> Generator[None]:
    """Count what was taken before something went wrong."""
    try:
        yield
    except EsaPreloadError as exc:
        if receipt := getattr(exc, "receipt", None):
            context.metrics.count(receipt)
        raise


async def _enqueue_document(
    context: Context,
    principal: Principal,
    query: EnqueueQuery,
    document: EnqueueInput,
    request_id: str | None,
) -> model.Receipt:
    given = document.model_dump(exclude_none=True, include=set(EnqueueQuery.model_fields))
    arguments = query.model_copy(update=given)
    plan = document.plan.plan() if document.plan else arguments.plan()
    if document.oss_url is None:
        return await _enqueue_urls(context, principal, arguments, document.urls or (), request_id, plan)
    return await context.acting_as(principal).enqueue_oss(
        await _site_of(context, principal, arguments),
        document.oss_url,
        document.count,
        plan=plan,
        priority=arguments.priority,
        expires_in=arguments.expires_in,
        request_id=request_id,
        source=arguments.source,
        durable=arguments.durable,
    )


async def _enqueue_urls(
    context: Context,
    principal: Principal,
    arguments: EnqueueQuery,
    urls: Iterable[str] | AsyncIterable[str],
    request_id: str | None,
    plan: model.Plan | None = None,
) -> model.Receipt:
    return await context.acting_as(principal).enqueue(
        await _site_of(context, principal, arguments),
        urls,
        plan=plan or arguments.plan(),
        priority=arguments.priority,
        expires_in=arguments.expires_in,
        request_id=request_id,
        source=arguments.source,
        durable=arguments.durable,
    )


async def _site_of(context: Context, principal: Principal, arguments: EnqueueQuery) -> int:
    if (arguments.site_id is None) == (arguments.site is None):
        raise ProblemError("invalid", "give site_id, or site", errors=[])
    if arguments.site_id is not None:
        return own_site(principal, arguments.site_id)
    return await find_own_site(context, principal, arguments.site or "")


def own_site(principal: Principal, site_id: int) -> int:
    """
    Return *site_id* if it is one of the token's.

    Raises:
        UnknownSiteError: it is not; whether there is such a site is not told.
    """
    if not principal.sees(site_id):
        raise UnknownSiteError(
            f"site {site_id} is not one of this token's", hint="`GET /v1/sites` lists them"
        )
    return site_id


async def find_own_site(context: Context, principal: Principal, name_or_id: str) -> int:
    """
    Return the id of a site if it is one of the token's.

    Raises:
        UnknownSiteError: it is not. A token of some sites is not told what others are named, or whether there is such a site.
    """
    try:
        found = await context.client.site_id(name_or_id)
    except UnknownSiteError:
        if principal.sites is None:
            raise
        found = None
    if found is None or not principal.sees(found):
        raise UnknownSiteError(
            f"{name_or_id} is none of this token's sites",
            hint="a new site is known by its name within a minute, and by its id at once",
        )
    return found


@router.get("", responses=problems("not-found"))
async def list_requests(
    context: Api,
    principal: Anybody,
    site_id: Annotated[SiteId | None, Query()] = None,
    state: RequestState | None = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 50,
    cursor: Cursor = None,
) -> Requests:
    """List requests, of a site or of all sites of the token, the newest first."""
    if site_id is not None:
        own_site(principal, site_id)
    page = await context.client.requests(site_id, state=state, limit=limit, cursor=cursor)
    own = [RequestInfo.model_validate(each) for each in page.items if principal.sees(each.status.site_id)]
    return Requests(items=own, cursor=page.cursor)


@router.get("/{request_id}", responses=problems("not-found"))
async def get_status(context: Api, principal: Anybody, request_id: RequestId) -> Status:
    """Tell what became of every URL of a request."""
    found = await own_request(context, principal, request_id)
    return Status.model_validate(found.status)


@router.get("/{request_id}/info", responses=problems("not-found"))
async def get_request(context: Api, principal: Anybody, request_id: RequestId) -> RequestInfo:
    """Tell who made a request, when, from which source, with which plan and priority, and what became of its URLs."""
    return RequestInfo.model_validate(await own_request(context, principal, request_id))


@router.get("/{request_id}/urls", responses=problems("not-found"))
async def list_urls(
    context: Api,
    principal: Anybody,
    request_id: RequestId,
    state: UrlState,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    cursor: Cursor = None,
) -> RequestUrls:
    """List the URLs of a request that are pending, or ended as refused, expired or unknown. What was submitted is counted, not kept by name."""
    await own_request(context, principal, request_id)
    page = await context.client.request_urls(request_id, state, limit=limit, cursor=cursor)
    return RequestUrls(items=[RequestUrl.model_validate(each) for each in page.items], cursor=page.cursor)


@router.delete("/{request_id}", responses=problems("not-found"))
async def cancel(context: Api, principal: Producer, request_id: RequestId) -> Cancelled:
    """Give up what a request still has pending; what is in flight goes on. May be repeated."""
    await own_request(context, principal, request_id)
    cancelled, in_flight = await context.acting_as(principal).cancel(request_id)
    return Cancelled(request_id=request_id, cancelled=cancelled, in_flight=in_flight)


async def own_request(context: Context, principal: Principal, request_id: str) -> model.RequestInfo:
    """
    Return a request of one of the token's sites.

    Raises:
        UnknownRequestError: there is no such request, or it is another's.
    """
    found = await context.client.request(request_id)
    if not principal.sees(found.status.site_id):
        raise unknown_request(request_id)
    return found
