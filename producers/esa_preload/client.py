"""What a service calls: enqueue, and ask what became of it."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from esa_preload.actor import default_actor
from esa_preload.arguments import (
    PAGE_MOST,
    parse_entry_cursor,
    parse_entry_ids,
    parse_limit,
    parse_list_count,
    parse_minutes,
    parse_number_cursor,
    parse_patience,
    parse_request_id,
    parse_state,
    parse_text,
    parse_url_state,
)
from esa_preload.calls import Call, parse_call, parse_changes, parse_list_url, parse_subject
from esa_preload.chunks import Chunker, digest_urls
from esa_preload.connection import SERVER_AWAY, away_hint, connect
from esa_preload.errors import (
    InvalidRequestError,
    SettingsError,
)
from esa_preload.explain import explain
from esa_preload.interface import Preloads
from esa_preload.keys import Keys
from esa_preload.ledger import Header, Ledger
from esa_preload.model import (
    LIST_LANE,
    PRIORITIES,
    AuditEntry,
    Failure,
    OperationLimit,
    Page,
    Plan,
    Priority,
    Receipt,
    RequestInfo,
    RequestState,
    RequestStatus,
    RequestUrl,
    SiteStatus,
    TrafficPoint,
    UrlState,
    parse_site_id,
)
from esa_preload.sending import Sending, require_whole, telling
from esa_preload.site_names import parse_site_name
from esa_preload.tracing import enqueue_span
from esa_preload.urls import URL_MAX_CHARS, UrlRejectedError, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from redis.asyncio import Redis

    from esa_preload.explanation import Explanation
    from esa_preload.interface import Progress, Urls

_NOTHING: Mapping[str, Sequence[str]] = {}

_BROKEN: Any = (RedisConnectionError, ConnectionError, FileNotFoundError)
_FAIL_FAST: dict[str, Any] = {
    # A refused or broken connection is tried again at once; what has timed out took long enough.
    "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), 2, _BROKEN),
    "retry_on_error": list(_BROKEN),
}
"""A producer has callers of its own that wait: see the times in docs/how-to/live-through-an-outage-of-redis.md."""


class PreloadClient(Preloads):
    """
    Enqueue URLs for ESA to fetch, and follow them.

    Use it as an async context manager; any number of tasks may share it.

    Args:
        redis: where the queue is (``redis://…``, see :func:`esa_preload.connection.connect`), or a client of
            ``redis.asyncio``, which stays yours to close.
        namespace: of the workers that are to submit.
        wait_for_redis: seconds (or a timedelta) that each step of a call, such as a chunk of an enqueue, waits for a Redis
            that is away, before it raises QueueUnavailableError; 0: fail fast.
        actor: who it is that changes something, for the audit; at most 128 printable characters, ``user@host`` unless given.

    Raises:
        SettingsError: the URL, the namespace or the time is none.
        InvalidRequestError: the actor is none.
    """

    def __init__(
        self,
        redis: str | Redis,
        *,
        namespace: str = "default",
        wait_for_redis: float | timedelta = 0.0,
        actor: str | None = None,
    ) -> None:
        if not isinstance(redis, str) and not hasattr(redis, "execute_command"):
            raise SettingsError(
                f"redis must be a URL or a client of redis.asyncio, not {type(redis).__name__}"
            )
        actor = default_actor() if actor is None else parse_text("actor", actor)
        self._is_ours = isinstance(redis, str)
        patience_s = parse_patience("wait_for_redis", wait_for_redis)
        self._redis = connect(redis, options=_FAIL_FAST) if isinstance(redis, str) else redis
        hint = away_hint(redis) if isinstance(redis, str) else SERVER_AWAY
        self._ledger = Ledger(
            self._redis, Keys(namespace), actor=actor, patience_s=patience_s, away_hint=hint
        )
        self._longest_url: list[int] = []  # read once, for all that act by this connection

    def __repr__(self) -> str:
        return f"<PreloadClient {self._ledger.keys.namespace}>"

    def acting_as(self, actor: str) -> Self:
        """
        Return this client under another name in the audit: it shares the connections, which stay this one's to close.

        Raises:
            InvalidRequestError: *actor* is more than 128 characters, or not printable.
        """
        other = copy.copy(self)
        other._ledger = self._ledger.acting_as(parse_text("actor", actor))  # noqa: SLF001 - of this class
        other._is_ours = False  # noqa: SLF001 - likewise
        return other

    async def aclose(self) -> None:
        if self._is_ours:
            await self._redis.aclose()

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
        return await self._enqueue(header_of(call), urls, durable=durable, progress=progress)

    async def _enqueue(
        self,
        header: Header,
        urls: Urls,
        *,
        durable: bool = False,
        progress: Progress | None = None,
        forget: Mapping[str, Sequence[str]] = _NOTHING,
    ) -> Receipt:
        """Send *urls* in chunks; with each of them go those failures of its URLs that are to be forgotten."""
        with enqueue_span(site_id=header.site_id, request_id=header.request_id) as span:
            with telling(lambda: Receipt(request_id=header.request_id, site_id=header.site_id)):
                chunker = Chunker(url_max_chars=await self._url_max_chars())
            traced = replace(header, trace=span.trace)
            sending = Sending(self._ledger, traced, chunker, progress=progress, forget=forget)
            receipt = await sending.send(urls, durable=durable)
            span.tell(receipt)
        return receipt

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
        weight = parse_list_count(count)
        call = parse_call(
            site_id,
            plan=plan,
            priority=priority,
            expires_in=expires_in,
            request_id=request_id,
            source=source,
        )
        header, receipt = header_of(call), call.nothing()
        header = replace(header, lane=f"{LIST_LANE}{header.request_id}:{header.lane}")
        with (
            enqueue_span(site_id=header.site_id, request_id=header.request_id) as span,
            telling(lambda: receipt),
        ):
            header = replace(header, trace=span.trace)
            url = parse_list_url(oss_url, url_max_chars=await self._url_max_chars())
            digest = digest_urls([url, str(weight)])
            accepted = await self._ledger.accept(
                header, [url], number=0, digest=digest, total=1, weight=weight, durable=durable
            )
            receipt = replace(receipt, accepted=accepted.accepted, waiting_until=accepted.waiting_until)
            span.tell(receipt)
            require_whole(header.request_id, accepted)
        return receipt

    async def status(self, request_id: str) -> RequestStatus:
        return await self._ledger.status(parse_request_id(request_id))

    async def request(self, request_id: str) -> RequestInfo:
        return await self._ledger.request(parse_request_id(request_id))

    async def explain(
        self, request_id: str | None = None, *, site_id: int | None = None, url: str | None = None
    ) -> Explanation:
        subject = parse_subject(request_id, site_id, url)
        if isinstance(subject, str):
            return explain(await self._ledger.explain(subject))
        try:
            url = None if url is None else normalise(url)
        except UrlRejectedError as exc:
            raise InvalidRequestError(f"{url!r} is never accepted: {exc}") from exc
        return explain(await self._ledger.explain(site_id=subject, url=url), url=url)

    async def sites(self) -> list[SiteStatus]:
        return await self._ledger.site_statuses()

    async def site(self, site_id: int) -> SiteStatus:
        return await self._ledger.site(parse_site_id(site_id))

    async def site_id(self, name_or_id: str | int) -> int:
        if not isinstance(name_or_id, str) or name_or_id.isdecimal():
            return parse_site_id(name_or_id)
        return await self._ledger.find_site(parse_site_name(name_or_id))

    async def failures(self, site_id: int | None = None, *, limit: int = 10_000) -> list[Failure]:
        number = None if site_id is None else parse_site_id(site_id)
        return await self._ledger.failures(number, limit=parse_limit(limit))

    async def failure_page(
        self, site_id: int, *, reason: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> Page[Failure]:
        items, next_cursor = await self._ledger.failure_page(
            parse_site_id(site_id),
            reason=reason,
            limit=parse_limit(limit, most=PAGE_MOST),
            before=parse_entry_cursor(cursor),
        )
        return Page(items=tuple(items), cursor=next_cursor)

    async def requests(
        self,
        site_id: int | None = None,
        *,
        state: RequestState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        items, next_cursor = await self._ledger.requests(
            None if site_id is None else parse_site_id(site_id),
            state=parse_state(state),
            limit=parse_limit(limit, most=PAGE_MOST),
            below=parse_number_cursor(cursor),
        )
        return Page(items=tuple(items), cursor=next_cursor)

    async def request_urls(
        self, request_id: str, state: UrlState, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[RequestUrl]:
        request_id, state, limit = (
            parse_request_id(request_id),
            parse_url_state(state),
            parse_limit(limit, most=PAGE_MOST),
        )
        if state == "pending":
            start = parse_number_cursor(cursor) or "0"
            items, next_cursor = await self._ledger.pending_urls(request_id, limit=limit, cursor=start)
        else:
            before = parse_entry_cursor(cursor)
            items, next_cursor = await self._ledger.ended_urls(request_id, state, limit=limit, before=before)
        return Page(items=tuple(items), cursor=next_cursor)

    async def cancel(self, request_id: str) -> tuple[int, int]:
        return await self._ledger.end_request(parse_request_id(request_id), "cancelled")

    async def pause(self, site_id: int, *, reason: str | None = None) -> bool:
        changed, _ = await self._ledger.switch_site(
            parse_site_id(site_id), "pause", parse_text("reason", reason)
        )
        return changed

    async def limits(self) -> list[OperationLimit]:
        return await self._ledger.limits()

    async def change_limits(self, changes: Iterable[tuple[str, float | None]]) -> None:
        await self._ledger.set_rates(parse_changes(changes))

    async def resume(self, site_id: int | None) -> bool:
        number = None if site_id is None else parse_site_id(site_id)
        changed, _ = await self._ledger.switch_site(number, "resume")
        return changed

    async def audit(
        self, *, site_id: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditEntry]:
        return await self._ledger.audit(
            None if site_id is None else parse_site_id(site_id),
            limit=parse_limit(limit, most=PAGE_MOST),
            before=parse_entry_cursor(cursor),
        )

    async def traffic(self, *, minutes: int = 15) -> list[TrafficPoint]:
        return await self._ledger.traffic(minutes=parse_minutes(minutes))

    async def requeue(
        self, site_id: int, *, ids: Sequence[str] | None = None, limit: int = 10_000
    ) -> list[Receipt]:
        site_id = parse_site_id(site_id)
        entries = await self._ledger.failure_entries(
            site_id, ids=parse_entry_ids(ids), limit=parse_limit(limit)
        )
        by_lane: dict[str, dict[str, list[str]]] = {}
        for entry_id, fields in entries:
            by_lane.setdefault(fields.get("lane", ""), {}).setdefault(fields["url"], []).append(entry_id)
        receipts: list[Receipt] = []
        for lane, failed in by_lane.items():
            plan = Plan.from_lane_key(lane)
            if lane.startswith(LIST_LANE) or (plan.end and plan.end <= datetime.now(UTC)):
                continue
            # Named after what it takes up, so that a repeat is the same request. Sites number their failures alike.
            digest = digest_urls([str(site_id), *(entry_id for some in failed.values() for entry_id in some)])
            call = parse_call(site_id, plan=plan, request_id=f"requeue-{digest}", source="requeue")
            header = replace(header_of(call), action="requeued")
            receipts.append(await self._enqueue(header, failed, forget=failed))
        return receipts

    async def _url_max_chars(self) -> int:
        if not self._longest_url:
            self._longest_url.append(await self._ledger.url_max_chars() or URL_MAX_CHARS)
        return self._longest_url[0]


def header_of(call: Call) -> Header:
    """Return what each chunk of an enqueue that begins now says of it."""
    return Header(
        request_id=call.request_id,
        site_id=call.site_id,
        plan=call.plan.lane_key(datetime.fromtimestamp(0, UTC)),
        lane=call.plan.lane_key(datetime.now(UTC)),
        band=PRIORITIES.index(call.priority),
        expires_in_ms=call.expires_in_ms,
        source=call.source,
    )
