"""The words of the contract as values: plans, receipts, states."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Generic, Literal, Self, TypeVar

from esa_preload.errors import InvalidRequestError

T = TypeVar("T")

Priority = Literal["high", "normal", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "normal", "low")

SITE_ID_MAX = 2**63 - 1
"""Site ids are int64."""

INT32_MAX = 2**31 - 1

YEARS = (2000, 9000)
"""Between which plans lie: what is reckoned with them stays a time."""


def parse_site_id(value: object) -> int:
    """
    Return *value* as a site id.

    Raises:
        InvalidRequestError: not a whole number from 1 to 2**63 - 1.
    """
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= SITE_ID_MAX:
        raise InvalidRequestError(f"site_id must be a whole number from 1 to {SITE_ID_MAX}, not {value!r}")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """
    When and how fast ESA fetches the URLs of a job (ESA calls it an execution).

    Attributes:
        start: when fetching begins; ``None`` for at once. Must know its time zone.
        end: when fetching stops, later than ``start``; ``None`` for as long as it takes.
        interval_s: seconds between two slices; ``None`` for the worker's default.
        slice_len: URLs a slice; ``None`` for the worker's default.
    """

    start: datetime | None = None
    end: datetime | None = None
    interval_s: int | None = None
    slice_len: int | None = None

    def __post_init__(self) -> None:
        for name in ("start", "end"):
            when = getattr(self, name)
            if when is not None and (not isinstance(when, datetime) or when.tzinfo is None):
                raise InvalidRequestError(f"plan {name} must be a datetime that knows its time zone")
            if when is not None and not YEARS[0] <= when.year < YEARS[1]:
                raise InvalidRequestError(f"plan {name} must lie between the years {YEARS[0]} and {YEARS[1]}")
        for name in ("interval_s", "slice_len"):
            number = getattr(self, name)
            if number is not None and (type(number) is not int or not 1 <= number <= INT32_MAX):
                raise InvalidRequestError(f"plan {name} must be a whole number from 1 to {INT32_MAX}")
        if self.start is not None and self.end is not None:
            # Not the datetimes themselves: within one zone Python compares what the clock on the wall shows, which goes back in autumn.
            if self.end.timestamp() <= self.start.timestamp():
                raise InvalidRequestError("plan end must be later than its start")
            if _round_up_to_minute_ms(self.end) == _round_up_to_minute_ms(self.start):
                raise InvalidRequestError(
                    "plan start and end are rounded up to the minute, and must not be the same then"
                )

    def lane_key(self, now: datetime) -> str:
        """
        Name the lane of this plan: equal for plans that may share an ESA job.

        A start that is not after *now* means at once; other times are rounded to the minute (the start up, so that nothing
        is fetched early, and the end up with it). The empty string is the default plan.
        """
        start = _round_up_to_minute_ms(self.start) if self.start and self.start > now else None
        end = _round_up_to_minute_ms(self.end) if self.end else None
        parts = (start, end, self.interval_s, self.slice_len)
        if parts == (None, None, None, None):
            return ""
        return ",".join("" if part is None else str(part) for part in parts)

    @classmethod
    def from_lane_key(cls, key: str) -> Self:
        """Read what :meth:`lane_key` wrote, or the lane of a list in OSS, which ends with it."""
        key = key.rpartition(":")[2]
        if not key:
            return cls()
        start, end, interval_s, slice_len = (int(part) if part else None for part in key.split(","))
        return cls(
            start=_from_ms(start),
            end=_from_ms(end),
            interval_s=interval_s,
            slice_len=slice_len,
        )


LIST_LANE = "oss:"
"""How the lane of a list in OSS begins; its request and the key of its plan follow."""


def _from_ms(at_ms: int | None) -> datetime | None:
    return None if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC)


def _round_up_to_minute_ms(when: datetime) -> int:
    minute = 60_000
    return -(-int(when.timestamp() * 1000) // minute) * minute


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A URL that was never accepted, and why (one sentence)."""

    url: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """
    What became of one ``enqueue`` call.

    Attributes:
        accepted: URLs now in the queue for this request, those merged among them.
        merged: of these, URLs that were already pending for somebody else: submitted once, both see the outcome.
        duplicates: repeats within this call, counted once in ``accepted``.
        rejected_count: URLs that break a rule.
        rejected: the first 1,000 of them, with reasons.
        waiting_until: when the site will be submitted again, if it is known to wait (quota).
    """

    request_id: str
    site_id: int
    accepted: int = 0
    merged: int = 0
    duplicates: int = 0
    rejected_count: int = 0
    rejected: tuple[Rejection, ...] = field(default=())
    waiting_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatus:
    """
    What became of every URL of a request.

    ``accepted == pending + in_flight + submitted + refused + expired + cancelled + unknown`` at any instant.

    Attributes:
        warming: of the submitted ones, those whose plan has started; ``finished`` and ``failed``: whose plan has come to that.
            ``done`` does not wait for them.
    """

    request_id: str
    site_id: int
    state: Literal["active", "done"]
    accepted: int = 0
    merged: int = 0
    pending: int = 0
    in_flight: int = 0
    submitted: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0
    unknown: int = 0
    warming: int = 0
    finished: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """
    A part of a list.

    Attributes:
        cursor: what to ask with for the next page, a text safe in URLs; ``None``: there are no more.
    """

    items: tuple[T, ...]
    cursor: str | None = None


RequestState = Literal["active", "done"]
REQUEST_STATES: tuple[RequestState, ...] = ("active", "done")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """
    A request: who made it, what was asked for, and what became of it.

    Attributes:
        source: who asked, in the words of the call; ``actor``: who called. Empty where nobody said.
        plan: as it was asked for, its times rounded up to the minute.
        expires_at: when what is still pending is given up; ``None``: never.
    """

    status: RequestStatus
    created_at: datetime
    source: str
    actor: str
    priority: Priority
    plan: Plan
    expires_at: datetime | None = None


UrlState = Literal["pending", "refused", "expired", "unknown"]
URL_STATES: tuple[UrlState, ...] = ("pending", "refused", "expired", "unknown")
"""The states in which a URL is known by name; others are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestUrl:
    """A URL of a request; ``at``: when it ended, or was accepted if it is pending. That has no reason and no code."""

    url: str
    state: UrlState
    reason: str = ""
    code: str = ""
    at: datetime


REQUEST_COUNTS = (
    "accepted",
    "merged",
    "pending",
    "in_flight",
    "submitted",
    "refused",
    "expired",
    "cancelled",
    "unknown",
)
"""The counts of :class:`RequestStatus` that add up, in order; the ledger's records name them alike."""

PLAN_COUNTS = ("warming", "finished", "failed")
"""What has become of the plans of submitted URLs; together not more than those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteStatus:
    """
    A site's totals; each counts a URL's work once, however many requests asked for it.

    Attributes:
        name: the domain, where the workers' list of sites tells it.
        jobs: jobs of ours that ESA holds; ``job_cap``: as many as it allows us, or ``None`` while that is not known.
        waiting_until: when a site that is ``waiting`` will be submitted again.
    """

    site_id: int
    name: str = ""
    state: Literal["active", "waiting", "paused", "blocked"]
    reason: str
    pending: int = 0
    in_flight: int = 0
    submitted: int = 0
    refused: int = 0
    oldest_pending_s: float = 0.0
    waiting_until: datetime | None = None
    jobs: int = 0
    job_cap: int | None = None


PACED_OPERATIONS = (
    "CreateScheduledPreloadJob",
    "CreateScheduledPreloadExecutions",
    "ListScheduledPreloadJobs",
    "ListScheduledPreloadExecutions",
    "DeleteScheduledPreloadJob",
    "ListSites",
)
"""The operations of ESA with a pace that all workers share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationLimit:
    """
    The pace of an operation.

    Attributes:
        rate: calls/s now allowed.
        is_fixed: an operator has set them: they are never more than ``set_rate``, and less while ESA throttles at that.
        ceiling: calls/s at which ESA throttled last; ``None`` before it ever did.
        cooldown_s: nobody calls it for so long.
        window_s: length of the window in which ESA counts calls, where that was learnt.
    """

    operation: str
    rate: float
    is_fixed: bool = False
    set_rate: float | None = None
    ceiling: float | None = None
    cooldown_s: float = 0.0
    window_s: float | None = None

    @property
    def is_set_too_high(self) -> bool:
        """ESA throttled at what was set, so that the pace is below it."""
        return self.set_rate is not None and self.rate < self.set_rate


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """
    A URL that ended as refused, expired or unknown; what expired (reason ``expired``, or ``window_passed``: its plan ended) has no code and no batch.

    Attributes:
        id: names it among the failures of its site.
    """

    url: str
    site_id: int
    reason: str
    code: str
    at: datetime
    batch_id: str
    id: str


AuditAction = Literal["enqueued", "cancelled", "paused", "resumed", "requeued", "limit_set", "limit_reset"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """
    Somebody's doing.

    Attributes:
        id: names it among the entries; later ones have a greater one.
        actor: who called; ``source``: on whose behalf, in the words of the call, or empty.
        site_id, request_id: what it was done to, where it was one.
        detail: a few words more: counts, a reason, an operation and its rate.
    """

    id: str
    at: datetime
    action: AuditAction
    actor: str
    source: str = ""
    site_id: int | None = None
    request_id: str | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficPoint:
    """What all workers did in the ``seconds`` from ``at`` on: calls of ESA, those of them that it throttled, URLs submitted."""

    at: datetime
    seconds: int
    calls: int = 0
    throttled: int = 0
    urls_submitted: int = 0
