"""
For the tests of those who enqueue: a client that keeps everything in memory.

It has the verbs and the errors of the real ones, applies the same rules to URLs, and needs neither Redis nor workers: a
test says how URLs end. Without ``await``: ``SyncPreloads(lambda: client)`` of :mod:`esa_preload.sync`.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from esa_preload.arguments import (
    PAGE_MOST,
    parse_limit,
    parse_list_count,
    parse_minutes,
    parse_request_id,
    parse_state,
    parse_text,
    parse_url_state,
)
from esa_preload.calls import Call, parse_call, parse_changes, parse_list_url, parse_subject
from esa_preload.chunks import Chunker, read_chunks
from esa_preload.errors import (
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
    UnknownSiteError,
)
from esa_preload.explanation import Explanation, Reason
from esa_preload.interface import Preloads
from esa_preload.memory import Enqueued, Memory, page_of
from esa_preload.model import (
    PACED_OPERATIONS,
    OperationLimit,
    Page,
    Receipt,
    RequestUrl,
    TrafficPoint,
    parse_site_id,
)
from esa_preload.site_names import normal_name, parse_site_name
from esa_preload.urls import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from esa_preload.interface import Progress, Urls
    from esa_preload.model import (
        AuditEntry,
        Failure,
        Plan,
        Priority,
        RequestInfo,
        RequestState,
        RequestStatus,
        SiteStatus,
        UrlState,
    )

__all__ = ["End", "Enqueued", "RecordingClient"]

BUCKET_S = 10

End = Literal["submitted", "refused", "expired", "unknown"]
"""How a test may have a URL end; ``cancelled`` is what the verb ``cancel`` is for."""


class RecordingClient(Preloads):
    """
    Record what is enqueued; nothing is ever sent.

    What it promises is what :class:`esa_preload.interface.Preloads` says, but that nobody submits: URLs stay pending until
    :meth:`finish`. Expiry is recorded, and does not come by itself.

    Args:
        sites: names of sites with their ids, for ``site_id``.
        actor: who calls, for ``audit``.

    Attributes:
        enqueued: every enqueue that was accepted, in order; a repeat of one is not in it again.
    """

    def __init__(self, *, sites: Mapping[str, int] | None = None, actor: str = "test") -> None:
        names = {parse_site_id(number): name for name, number in (sites or {}).items()}
        self._memory = Memory(actor=actor, names=names)
        self._rates: dict[str, float] = {}
        self._next_errors: deque[Exception] = deque()
        self.enqueued: list[Enqueued] = []

    def __repr__(self) -> str:
        return f"<RecordingClient with {len(self.enqueued)} enqueued>"

    def fail_next(self, error: Exception) -> None:
        """Have the next call of a verb raise *error*, and do nothing; several are raised one after the other."""
        self._next_errors.append(error)

    def finish(
        self,
        request_id: str,
        urls: Iterable[str] | None = None,
        *,
        how: End = "submitted",
        reason: str = "",
        code: str = "",
    ) -> None:
        """
        Let *urls* of a request, or all that are pending, end; other requests that wait for the same URL see it, too.

        Args:
            reason: of a failure; *how* unless given. ``code``: ESA's.

        Raises:
            UnknownRequestError: no such request.
            InvalidRequestError: a URL of *urls* is not pending in it.
        """
        request = self._memory.request(request_id)
        pending = request.pending()
        wanted = pending if urls is None else [normalise(url) for url in urls]
        if strangers := set(wanted) - set(pending):
            raise InvalidRequestError(f"not pending in request {request_id}: {', '.join(sorted(strangers))}")
        for url in wanted:
            self._memory.end(request, url, how, reason=reason, code=code)

    async def aclose(self) -> None:
        """Do nothing: what was recorded can still be read."""

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
        parsed = parse_call(
            site_id,
            plan=plan,
            priority=priority,
            expires_in=expires_in,
            request_id=request_id,
            source=source,
            progress=progress,
        )
        call = _enqueued(parsed, durable=durable)
        self._begin(call)
        chunker = Chunker()
        normal = await _read(chunker, urls, progress, call)
        if not normal and not chunker.rejected_count:
            raise InvalidRequestError("urls is empty: there is nothing to enqueue")
        # What came back after the window in which repeats are seen is dropped by a lane.
        distinct = tuple(dict.fromkeys(normal))
        return replace(
            self._accept(replace(call, urls=distinct), distinct),
            duplicates=chunker.duplicates + len(normal) - len(distinct),
            rejected_count=chunker.rejected_count,
            rejected=chunker.rejected,
        )

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
        parse_list_count(count)
        parsed = parse_call(
            site_id,
            plan=plan,
            priority=priority,
            expires_in=expires_in,
            request_id=request_id,
            source=source,
        )
        call = _enqueued(parsed, durable=durable)
        self._begin(call)
        url = parse_list_url(oss_url)
        return self._accept(replace(call, oss_url=url, count=count), (f"{url} of {call.request_id}",))

    async def status(self, request_id: str) -> RequestStatus:
        self._begin()
        return self._memory.request(parse_request_id(request_id)).status()

    async def request(self, request_id: str) -> RequestInfo:
        self._begin()
        return self._memory.request(parse_request_id(request_id)).info(self._memory.actor)

    async def requests(
        self,
        site_id: int | None = None,
        *,
        state: RequestState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        self._begin()
        wanted, state = None if site_id is None else parse_site_id(site_id), parse_state(state)
        found = [request.info(self._memory.actor) for request in reversed(self._memory.requests.values())]
        shown = [
            info
            for info in found
            if wanted in (None, info.status.site_id) and state in (None, info.status.state)
        ]
        return page_of(shown, parse_limit(limit, most=PAGE_MOST), cursor)

    async def request_urls(
        self, request_id: str, state: UrlState, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[RequestUrl]:
        self._begin()
        request, state = self._memory.request(parse_request_id(request_id)), parse_url_state(state)
        failed = {failure.url: failure for failure in self._memory.failures_of(request.call.site_id)}
        found = [
            _request_url(url, state, request.created_at, failed.get(url))
            for url, end in request.ends.items()
            if end == state
        ]
        return page_of(found, parse_limit(limit, most=PAGE_MOST), cursor)

    async def explain(
        self, request_id: str | None = None, *, site_id: int | None = None, url: str | None = None
    ) -> Explanation:
        """Tell that nobody submits what is pending, or that it has ended."""
        self._begin()
        subject = parse_subject(request_id, site_id, url)
        if isinstance(subject, str):
            request = self._memory.request(subject)
            number, ends = request.call.site_id, list(request.ends.values())
        else:
            number, ends = self._ends(subject, url)
        state, reason = _explained(ends)
        return Explanation(site_id=number, request_id=request_id, url=url, state=state, reasons=(reason,))

    async def cancel(self, request_id: str) -> tuple[int, int]:
        self._begin()
        request = self._memory.request(parse_request_id(request_id))
        pending = request.pending()
        request.ends |= dict.fromkeys(pending, "cancelled")
        self._memory.note("cancelled", site_id=request.call.site_id, request_id=request_id)
        return len(pending) * request.weight, 0

    async def sites(self) -> list[SiteStatus]:
        self._begin()
        return [self._memory.site_status(number) for number in self._memory.site_ids()]

    async def site(self, site_id: int) -> SiteStatus:
        self._begin()
        return self._memory.site_status(self._memory.site(parse_site_id(site_id)))

    async def site_id(self, name_or_id: str | int) -> int:
        self._begin()
        if not isinstance(name_or_id, str) or name_or_id.isdecimal():
            return parse_site_id(name_or_id)
        wanted = parse_site_name(name_or_id)
        for number, name in self._memory.names.items():
            if normal_name(name) == wanted:
                return number
        raise UnknownSiteError(f"no site is named {wanted}", hint="give `sites` to RecordingClient")

    async def pause(self, site_id: int, *, reason: str | None = None) -> bool:
        self._begin()
        text = parse_text("reason", reason)
        number = self._memory.site(parse_site_id(site_id))
        changed = number not in self._memory.paused
        if text or changed:
            self._memory.paused[number] = text or "by an operator"
        self._memory.note("paused", site_id=number, detail=self._memory.paused[number])
        return changed

    async def resume(self, site_id: int | None) -> bool:
        self._begin()
        number = None if site_id is None else self._memory.site(parse_site_id(site_id))
        self._memory.note("resumed", site_id=number)
        return number is not None and self._memory.paused.pop(number, None) is not None

    async def failures(self, site_id: int | None = None, *, limit: int = 10_000) -> list[Failure]:
        self._begin()
        parse_limit(limit)
        numbers = self._memory.site_ids() if site_id is None else [parse_site_id(site_id)]
        return [failure for number in numbers for failure in self._memory.failures_of(number)[-limit:]]

    async def failure_page(
        self, site_id: int, *, reason: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> Page[Failure]:
        self._begin()
        found = self._memory.failures_of(parse_site_id(site_id))
        shown = [failure for failure in reversed(found) if reason in (None, failure.reason)]
        return page_of(shown, parse_limit(limit, most=PAGE_MOST), cursor)

    async def requeue(
        self, site_id: int, *, ids: Sequence[str] | None = None, limit: int = 10_000
    ) -> list[Receipt]:
        self._begin()
        parse_limit(limit)
        number = parse_site_id(site_id)
        taken = [each for each in self._memory.failures_of(number) if ids is None or each.id in ids][:limit]
        if not taken:
            return []
        receipt = await self.enqueue(number, [each.url for each in taken], source="requeue")
        self._memory.failures = [failure for failure in self._memory.failures if failure not in taken]
        self._memory.note("requeued", site_id=number)
        return [receipt]

    async def limits(self) -> list[OperationLimit]:
        """Return the rates that were set."""
        self._begin()
        return [
            OperationLimit(operation=operation, rate=rate, is_fixed=True, set_rate=rate)
            for operation in PACED_OPERATIONS
            if (rate := self._rates.get(operation))
        ]

    async def change_limits(self, changes: Iterable[tuple[str, float | None]]) -> None:
        self._begin()
        for operation, rate in parse_changes(changes):
            if rate is None:
                self._rates.pop(operation, None)
                self._memory.note("limit_reset", detail=operation)
            else:
                self._rates[operation] = rate
                self._memory.note("limit_set", detail=f"{operation} {rate:g}")

    async def audit(
        self, *, site_id: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditEntry]:
        self._begin()
        shown = [entry for entry in reversed(self._memory.audit) if site_id in (None, entry.site_id)]
        return page_of(shown, parse_limit(limit, most=PAGE_MOST), cursor)

    async def traffic(self, *, minutes: int = 15) -> list[TrafficPoint]:
        """Return buckets without a call: nobody calls ESA."""
        self._begin()
        now = datetime.now(UTC).replace(microsecond=0)
        last = now - timedelta(seconds=now.second % BUCKET_S)
        return [
            TrafficPoint(at=last - timedelta(seconds=BUCKET_S * back), seconds=BUCKET_S)
            for back in reversed(range(parse_minutes(minutes) * 60 // BUCKET_S))
        ]

    def _begin(self, call: Enqueued | None = None) -> None:
        """Raise what this call is to fail with, if it is to."""
        if not self._next_errors:
            return
        error = self._next_errors.popleft()
        if call is not None and isinstance(error, QueueUnavailableError):
            error.request_id = call.request_id
        if call is not None and isinstance(error, (QueueFullError, QueueUnavailableError, NotDurableError)):
            error.receipt = error.receipt or Receipt(request_id=call.request_id, site_id=call.site_id)
        raise error

    def _accept(self, call: Enqueued, entries: tuple[str, ...]) -> Receipt:
        receipt, is_new = self._memory.accept(call, entries)
        if is_new:
            self.enqueued.append(call)
        return receipt

    def _ends(self, site_id: int, url: str | None) -> tuple[int, list[str]]:
        number = self._memory.site(site_id)
        requests = [each for each in self._memory.requests.values() if each.call.site_id == number]
        if url is None:
            return number, [end for each in requests for end in each.ends.values()]
        normal = normalise(url)
        return number, [each.ends[normal] for each in requests if normal in each.ends]


async def _read(chunker: Chunker, urls: Urls, progress: Progress | None, call: Enqueued) -> list[str]:
    normal: list[str] = []
    try:
        async for chunk in read_chunks(chunker, urls):
            normal += chunk.urls
            if progress:
                progress(len(normal) + chunker.duplicates + chunker.rejected_count)
    except InvalidRequestError as exc:
        if not normal:
            raise
        nothing = Receipt(request_id=call.request_id, site_id=call.site_id)
        raise IncompleteError(str(exc), receipt=nothing, hint=exc.hint) from exc
    return normal


def _enqueued(call: Call, *, durable: bool) -> Enqueued:
    return Enqueued(
        request_id=call.request_id,
        site_id=call.site_id,
        plan=call.plan,
        priority=call.priority,
        expires_in=timedelta(milliseconds=call.expires_in_ms) if call.expires_in_ms else None,
        source=call.source,
        durable=durable,
    )


def _request_url(url: str, state: UrlState, accepted_at: datetime, failure: Failure | None) -> RequestUrl:
    if failure is None or state == "pending":
        return RequestUrl(url=url, state=state, at=accepted_at)
    return RequestUrl(url=url, state=state, reason=failure.reason, code=failure.code, at=failure.at)


def _explained(ends: list[str]) -> tuple[Literal["pending", "ended", "idle"], Reason]:
    if "pending" in ends:
        return "pending", Reason(code="no_worker", text="no worker is alive: this client only records")
    if ends:
        return "ended", Reason(code="ended", text="all of it has ended")
    return "idle", Reason(code="not_pending", text="nothing of it is in the queue")
