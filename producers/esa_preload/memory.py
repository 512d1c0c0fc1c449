"""The queue of a :class:`esa_preload.testing.RecordingClient`: requests, failures and sites as plain values. No I/O."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from esa_preload.errors import (
    InvalidRequestError,
    RequestConflictError,
    UnknownRequestError,
    UnknownSiteError,
)
from esa_preload.model import (
    AuditEntry,
    Failure,
    Page,
    Plan,
    Priority,
    Receipt,
    RequestInfo,
    RequestStatus,
    SiteStatus,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from esa_preload.model import AuditAction

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Enqueued:
    """
    What one enqueue put in.

    Attributes:
        urls: in their normal form, without repeats and without those rejected, in the order given; empty for a list in OSS.
        oss_url: of a list in OSS, and ``count`` as it was given.
    """

    request_id: str
    site_id: int
    urls: tuple[str, ...] = ()
    plan: Plan = field(default_factory=Plan)
    priority: Priority = "normal"
    expires_in: timedelta | None = None
    source: str = ""
    durable: bool = False
    oss_url: str | None = None
    count: int | None = None


@dataclass(slots=True, kw_only=True)
class Request:
    """
    A request and the ends of its URLs.

    Attributes:
        ends: how each URL ended, or ``pending``; a list in OSS stands for its URLs.
    """

    call: Enqueued
    receipt: Receipt
    created_at: datetime
    ends: dict[str, str]

    @property
    def lane(self) -> tuple[int, str]:
        """URLs that wait in the same lane are submitted together, once."""
        return self.call.site_id, self.call.plan.lane_key(self.created_at)

    @property
    def weight(self) -> int:
        """How many URLs each entry stands for."""
        return 1 if self.call.oss_url is None else self.call.count or 0

    def pending(self) -> list[str]:
        """Return what has not ended."""
        return [url for url, end in self.ends.items() if end == "pending"]

    def status(self) -> RequestStatus:
        """Return the counts."""
        ends = Counter(self.ends.values())
        counts = {name: ends[name] * self.weight for name in _ENDS}
        return RequestStatus(
            request_id=self.call.request_id,
            site_id=self.call.site_id,
            state="active" if ends["pending"] else "done",
            accepted=self.receipt.accepted,
            merged=self.receipt.merged,
            **counts,
        )

    def info(self, actor: str) -> RequestInfo:
        """Return who made it, what was asked for, and the counts."""
        call = self.call
        return RequestInfo(
            status=self.status(),
            created_at=self.created_at,
            source=call.source,
            actor=actor,
            priority=call.priority,
            plan=_kept(call.plan),
            expires_at=None if call.expires_in is None else self.created_at + call.expires_in,
        )


_ENDS = ("pending", "submitted", "refused", "expired", "cancelled", "unknown")


@dataclass(slots=True, kw_only=True)
class Memory:
    """What was enqueued, and what became of it."""

    actor: str
    names: dict[int, str]
    requests: dict[str, Request] = field(default_factory=dict[str, Request])
    failures: list[Failure] = field(default_factory=list[Failure])
    paused: dict[int, str] = field(default_factory=dict[int, str])
    audit: list[AuditEntry] = field(default_factory=list[AuditEntry])
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def accept(self, call: Enqueued, entries: tuple[str, ...]) -> tuple[Receipt, bool]:
        """
        Keep a request, and return its receipt, and whether it is new: the same one again is not.

        Raises:
            RequestConflictError: the id is known with other content.
        """
        if (known := self.requests.get(call.request_id)) is not None:
            _require_same(known.call, call)
            return known.receipt, False
        request = Request(
            call=call,
            receipt=Receipt(request_id=call.request_id, site_id=call.site_id),
            created_at=datetime.now(UTC),
            ends=dict.fromkeys(entries, "pending"),
        )
        request.receipt = Receipt(
            request_id=call.request_id,
            site_id=call.site_id,
            accepted=len(entries) * request.weight,
            merged=sum(any(self._waiting(request.lane, url)) for url in entries),
        )
        self.requests[call.request_id] = request
        self.note("enqueued", site_id=call.site_id, request_id=call.request_id, source=call.source)
        return request.receipt, True

    def end(self, request: Request, url: str, how: str, *, reason: str, code: str) -> None:
        """Let *url* end for all who wait for it; what was not submitted is a failure of the site."""
        for other in list(self._waiting(request.lane, url)):
            other.ends[url] = how
        if how != "submitted":
            self.failures.append(
                Failure(
                    url=url,
                    site_id=request.call.site_id,
                    reason=reason or how,
                    code=code,
                    at=datetime.now(UTC),
                    batch_id="",
                    id=self._id(),
                )
            )

    def request(self, request_id: str) -> Request:
        """Return a request by its id."""
        if request_id not in self.requests:
            raise UnknownRequestError(f"no request {request_id}", hint="check the id")
        return self.requests[request_id]

    def site_ids(self) -> list[int]:
        """Return every site that had a URL, the first seen first."""
        return list(dict.fromkeys(request.call.site_id for request in self.requests.values()))

    def site(self, site_id: int) -> int:
        """Return a site that had a URL."""
        if site_id not in self.site_ids():
            raise UnknownSiteError(f"site {site_id} has never had a URL", hint="see `sites`")
        return site_id

    def site_status(self, site_id: int) -> SiteStatus:
        """Return the totals of a site; what several requests wait for counts once."""
        statuses = [each.status() for each in self.requests.values() if each.call.site_id == site_id]
        pending = {
            (each.lane, url)
            for each in self.requests.values()
            if each.call.site_id == site_id
            for url in each.pending()
        }
        return SiteStatus(
            site_id=site_id,
            state="paused" if site_id in self.paused else "active",
            reason=self.paused.get(site_id, ""),
            pending=len(pending),
            submitted=sum(status.submitted for status in statuses),
            refused=sum(status.refused for status in statuses),
            name=self.names.get(site_id, ""),
        )

    def failures_of(self, site_id: int) -> list[Failure]:
        """Return the failures of a site, oldest first."""
        return [failure for failure in self.failures if failure.site_id == site_id]

    def note(
        self,
        action: AuditAction,
        *,
        site_id: int | None = None,
        request_id: str | None = None,
        source: str = "",
        detail: str = "",
    ) -> None:
        """Write down what was done."""
        self.audit.append(
            AuditEntry(
                id=self._id(),
                at=datetime.now(UTC),
                action=action,
                actor=self.actor,
                source=source,
                site_id=site_id,
                request_id=request_id,
                detail=detail,
            )
        )

    def _waiting(self, lane: tuple[int, str], url: str) -> Iterator[Request]:
        return (
            each for each in self.requests.values() if each.lane == lane and each.ends.get(url) == "pending"
        )

    def _id(self) -> str:
        return f"{next(self._numbers)}-0"


def _kept(plan: Plan) -> Plan:
    """Return *plan* as the ledger keeps it: to the minute, in UTC."""
    return Plan.from_lane_key(plan.lane_key(datetime.fromtimestamp(0, UTC)))


def _require_same(known: Enqueued, call: Enqueued) -> None:
    for what, differs in (
        ("another site", known.site_id != call.site_id),
        ("another plan", _kept(known.plan) != _kept(call.plan)),
        ("another priority", known.priority != call.priority),
        ("another expires_in", known.expires_in != call.expires_in),
        (
            "other URLs",
            (known.urls, known.oss_url, known.count) != (call.urls, call.oss_url, call.count),
        ),
    ):
        if differs:
            raise RequestConflictError(
                f"request {call.request_id} is known with {what}",
                hint="choose another request_id, or repeat the first call exactly",
            )


def page_of(items: Sequence[T], limit: int, cursor: str | None) -> Page[T]:
    """Return the page of *items* that begins at *cursor*."""
    if cursor is not None and not cursor.isdigit():
        raise InvalidRequestError("cursor is none of a page of this list")
    begin = int(cursor or 0)
    end = begin + limit
    return Page(items=tuple(items[begin:end]), cursor=str(end) if end < len(items) else None)
