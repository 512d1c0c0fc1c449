"""The verbs over the HTTP API, for services that cannot reach Redis (extra ``http-client``)."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC
from typing import TYPE_CHECKING, Any, cast

from esa_preload.arguments import (
    PAGE_MOST,
    parse_limit,
    parse_list_count,
    parse_patience,
    parse_request_id,
    parse_text,
)
from esa_preload.calls import Call, parse_call, parse_changes, parse_subject
from esa_preload.channel import Channel, NothingAcceptedError
from esa_preload.documents import read_field, read_items, read_page, read_value
from esa_preload.environment import read_secret
from esa_preload.errors import (
    EsaPreloadError,
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
)
from esa_preload.explanation import Explanation
from esa_preload.interface import Preloads
from esa_preload.model import (
    AuditEntry,
    Failure,
    OperationLimit,
    Page,
    Plan,
    Priority,
    Receipt,
    RequestInfo,
    RequestStatus,
    RequestUrl,
    SiteStatus,
    TrafficPoint,
    parse_site_id,
)
from esa_preload.ndjson import Lines
from esa_preload.site_names import parse_site_name
from esa_preload.tracing import current_trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime, timedelta

    import httpx

    from esa_preload.channel import About
    from esa_preload.interface import Progress, Urls
    from esa_preload.model import RequestState, UrlState

TOKEN = "ESA_PRELOAD_TOKEN"  # noqa: S105 - the name of a variable

REQUESTS_MAX = 1_000
"""Entries that the service puts on a page of requests, or of the audit."""


class PreloadClient(Preloads):
    """
    Enqueue URLs for ESA to fetch, and follow them, through a service that runs ``esa-preload serve``.

    Its verbs are those of the client over Redis, with the same errors, and AccessDeniedError besides; sites, and their names,
    are those of the token that had a URL, and requests and the audit come at most 1,000 a page. Each call has one
    Idempotency-Key from its first attempt to its last: a retry takes nothing twice. Use it as an async context manager; any
    number of tasks may share it.

    Args:
        base_url: of the service, ``https://…``; ``http://`` only on loopback.
        token: made by ``esa-preload token new``; from ``ESA_PRELOAD_TOKEN``, or the file that ``ESA_PRELOAD_TOKEN_FILE``
            names, unless given. None is needed where the service has none.
        wait_for_service: seconds (or a timedelta) for which a call is repeated while the service cannot be reached, or says that
            it cannot take it now (429, 503); 0: fail fast. URLs from an iterator that was begun cannot be repeated.
        allow_insecure: send the token over ``http://`` to any host, where something else keeps it out of sight.
        transport: of httpx, instead of a connection to the service; for tests.

    Raises:
        SettingsError: the URL, the token or the time is none.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        wait_for_service: float | timedelta = 0.0,
        allow_insecure: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._channel = Channel(
            base_url,
            token=read_secret(TOKEN) if token is None else token,
            patience_s=parse_patience("wait_for_service", wait_for_service),
            allow_insecure=allow_insecure,
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"<esa_preload.http.PreloadClient {self._channel.url}>"

    async def aclose(self) -> None:
        await self._channel.aclose()

    async def enqueue(
        self,
        site_id: int,
        urls: Urls,
        *,
        plan: Plan | None = None,
        priority: Priority = "normal",
        expires_in: float | timedelta | None = None,
        request_id: str | None = None,
        source: str | None = None,
        durable: bool = False,
        progress: Progress | None = None,
    ) -> Receipt:
        call = parse_call(
            site_id,
            plan=plan,
            priority=priority,
            expires_in=expires_in,
            request_id=request_id,
            source=source,
            progress=progress,
        )
        lines = Lines(urls, progress)
        params = _present(**_document(call), **_shape(call.plan), durable=durable or None)
        try:
            return await self._enqueue(call, params=params, lines=lines)
        except InvalidRequestError as exc:
            # Raised by *urls* itself: the service never saw their end.
            if not lines.is_broken or not lines.sent_bytes:
                raise
            raise IncompleteError(str(exc), receipt=await self._taken(call), hint=exc.hint) from exc

    async def _taken(self, call: Call) -> Receipt:
        """Return what the service has taken, as far as it says so by now, of a call that it never saw the end of."""
        try:
            status = await self.status(call.request_id)
        except EsaPreloadError:
            return call.nothing()
        return replace(call.nothing(), accepted=status.accepted, merged=status.merged)

    async def enqueue_oss(
        self,
        site_id: int,
        oss_url: str,
        count: int | None = None,
        *,
        plan: Plan | None = None,
        priority: Priority = "normal",
        expires_in: float | timedelta | None = None,
        request_id: str | None = None,
        source: str | None = None,
        durable: bool = False,
    ) -> Receipt:
        call = parse_call(
            site_id,
            plan=plan,
            priority=priority,
            expires_in=expires_in,
            request_id=request_id,
            source=source,
        )
        document = _some(
            **_document(call),
            plan=_shape(call.plan) or None,
            durable=durable or None,
            oss_url=oss_url,
            count=parse_list_count(count) or None,
        )
        return await self._enqueue(call, document=document)

    async def _enqueue(self, call: Call, **body: Any) -> Receipt:
        headers = {"Idempotency-Key": call.request_id, **current_trace()}
        try:
            answer = await self._channel.ask("POST", "/v1/preloads", about="site", headers=headers, **body)
        except NothingAcceptedError as exc:
            return exc.receipt
        except (QueueFullError, QueueUnavailableError, NotDurableError) as exc:
            exc.receipt = exc.receipt or call.nothing()
            if isinstance(exc, QueueUnavailableError):
                exc.request_id = call.request_id
                exc.hint = f"{exc.hint}; then repeat the call with the same request_id"
            raise
        return read_value(Receipt, answer)

    async def status(self, request_id: str) -> RequestStatus:
        return read_value(RequestStatus, await self._channel.ask("GET", _path(request_id)))

    async def request(self, request_id: str) -> RequestInfo:
        return read_value(RequestInfo, await self._channel.ask("GET", f"{_path(request_id)}/info"))

    async def requests(
        self,
        site_id: int | None = None,
        *,
        state: RequestState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        params = _present(
            site_id=None if site_id is None else parse_site_id(site_id),
            state=state,
            limit=_page_limit(limit, REQUESTS_MAX),
            cursor=cursor,
        )
        return read_page(
            RequestInfo, await self._channel.ask("GET", "/v1/preloads", about="site", params=params)
        )

    async def request_urls(
        self, request_id: str, state: UrlState, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[RequestUrl]:
        params = _present(state=state, limit=_page_limit(limit), cursor=cursor)
        return read_page(
            RequestUrl, await self._channel.ask("GET", f"{_path(request_id)}/urls", params=params)
        )

    async def explain(
        self, request_id: str | None = None, *, site_id: int | None = None, url: str | None = None
    ) -> Explanation:
        subject = parse_subject(request_id, site_id, url)
        about: About = "request" if isinstance(subject, str) else "site"
        params = _present(**{f"{about}_id": subject}, url=url)
        answer = await self._channel.ask("GET", "/v1/explain", about=about, params=params)
        return read_value(Explanation, answer)

    async def cancel(self, request_id: str) -> tuple[int, int]:
        answer = await self._channel.ask("DELETE", _path(request_id))
        cancelled, in_flight = (cast("int", read_field(name, answer)) for name in ("cancelled", "in_flight"))
        return cancelled, in_flight

    async def sites(self) -> list[SiteStatus]:
        return read_items(SiteStatus, await self._channel.ask("GET", "/v1/sites", about="site"))

    async def site(self, site_id: int) -> SiteStatus:
        path = f"/v1/sites/{parse_site_id(site_id)}"
        return read_value(SiteStatus, await self._channel.ask("GET", path, about="site"))

    async def site_id(self, name_or_id: str | int) -> int:
        if not isinstance(name_or_id, str) or name_or_id.isdecimal():
            return parse_site_id(name_or_id)
        params = {"name": parse_site_name(name_or_id)}
        answer = await self._channel.ask("GET", "/v1/site-id", about="site", params=params)
        return parse_site_id(read_field("site_id", answer))

    async def pause(self, site_id: int, *, reason: str | None = None) -> bool:
        path = f"/v1/sites/{parse_site_id(site_id)}/pause"
        document = _present(reason=parse_text("reason", reason) or None)
        answer = await self._channel.ask("POST", path, about="site", document=document)
        return bool(read_field("changed", answer))

    async def resume(self, site_id: int | None) -> bool:
        path = "/v1/account/resume" if site_id is None else f"/v1/sites/{parse_site_id(site_id)}/resume"
        answer = await self._channel.ask("POST", path, about="site")
        return bool(read_field("changed", answer))

    async def failures(self, site_id: int | None = None, *, limit: int = 10_000) -> list[Failure]:
        parse_limit(limit)
        numbers = (
            [site.site_id for site in await self.sites()] if site_id is None else [parse_site_id(site_id)]
        )
        found: list[Failure] = []
        for number in numbers:
            found += reversed([failure async for failure in self._newest_failures(number, limit)])
        return found

    async def _newest_failures(self, site_id: int, limit: int) -> AsyncIterator[Failure]:
        cursor: str | None = None
        while limit > 0:
            page = await self.failure_page(site_id, limit=min(limit, PAGE_MOST), cursor=cursor)
            for failure in page.items:
                yield failure
            limit, cursor = limit - len(page.items), page.cursor
            if cursor is None:
                return

    async def failure_page(
        self, site_id: int, *, reason: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> Page[Failure]:
        params = _present(
            site_id=parse_site_id(site_id), reason=reason, limit=_page_limit(limit), cursor=cursor
        )
        return read_page(Failure, await self._channel.ask("GET", "/v1/failures", about="site", params=params))

    async def requeue(
        self, site_id: int, *, ids: Sequence[str] | None = None, limit: int = 10_000
    ) -> list[Receipt]:
        number = parse_site_id(site_id)
        document = _some(site_id=number, ids=None if ids is None else list(ids), limit=_page_limit(limit))
        answer = await self._channel.ask("POST", "/v1/failures/requeue", about="site", document=document)
        return read_items(Receipt, answer, name="receipts")

    async def limits(self) -> list[OperationLimit]:
        return read_items(OperationLimit, await self._channel.ask("GET", "/v1/limits"))

    async def change_limits(self, changes: Iterable[tuple[str, float | None]]) -> None:
        document = [{"operation": operation, "rate": rate} for operation, rate in parse_changes(changes)]
        if document:
            await self._channel.ask("PATCH", "/v1/limits", document={"changes": document})

    async def audit(
        self, *, site_id: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditEntry]:
        params = _present(
            site_id=None if site_id is None else parse_site_id(site_id),
            limit=_page_limit(limit, REQUESTS_MAX),
            cursor=cursor,
        )
        return read_page(AuditEntry, await self._channel.ask("GET", "/v1/audit", about="site", params=params))

    async def traffic(self, *, minutes: int = 15) -> list[TrafficPoint]:
        params = {"minutes": str(minutes)}
        return read_items(TrafficPoint, await self._channel.ask("GET", "/v1/traffic", params=params))


def _document(call: Call) -> dict[str, Any]:
    """Return what a query and a document say alike of an enqueue."""
    return {
        "site_id": call.site_id,
        "priority": call.priority,
        "expires_in": call.expires_in_ms / 1000 or None,
        "source": call.source or None,
    }


def _shape(plan: Plan) -> dict[str, Any]:
    return _some(
        start=_moment(plan.start),
        end=_moment(plan.end),
        interval_s=plan.interval_s,
        slice_len=plan.slice_len,
    )


def _some(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _present(**values: Any) -> dict[str, str]:
    """Return those of *values* that are given, as text."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in _some(**values).items()
    }


def _moment(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat()


def _path(request_id: str) -> str:
    key = parse_request_id(request_id)
    # An id of dots alone is no step up the path.
    return f"/v1/preloads/{key if key.strip('.') else key.replace('.', '%2E')}"


def _page_limit(limit: int, most: int = PAGE_MOST) -> int:
    return min(parse_limit(limit, most=PAGE_MOST), most)
