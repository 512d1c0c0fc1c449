"""The documents of the API: what its routes take and answer. Times are ISO 8601 with ``Z``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import WithJsonSchema

from esa_preload.arguments import EXPIRES_MAX_S, TEXT_MAX_CHARS
from esa_preload.errors import InvalidRequestError
from esa_preload.model import INT32_MAX, SITE_ID_MAX, Plan, Priority, parse_site_id
from esa_preload.site_names import NAME_MAX_CHARS

REQUEST_ID = r"^[A-Za-z0-9._:~-]{1,128}$"
CURSOR = r"^[A-Za-z0-9._~:-]{1,256}$"


def _site_id(value: object) -> int:
    try:
        return parse_site_id(value)
    except InvalidRequestError as exc:
        raise ValueError(str(exc)) from None


_SITE_ID_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "integer", "format": "int64", "minimum": 1, "maximum": SITE_ID_MAX},
        {"type": "string", "pattern": "^0*[1-9][0-9]{0,17}$", "maxLength": 19},
    ],
    "description": "The ESA site's id, an int64: as a number, or as its digits.",
}
SiteId = Annotated[int, BeforeValidator(_site_id), WithJsonSchema(_SITE_ID_SCHEMA, mode="validation")]
_Text = Annotated[str, Field(max_length=TEXT_MAX_CHARS)]
_Count = Annotated[int, Field(strict=True, ge=1, le=INT32_MAX)]


class Document(BaseModel):
    """What the API answers with: made from the values of :mod:`esa_preload.model`."""

    model_config = ConfigDict(from_attributes=True)


class Input(BaseModel):
    """What the API takes: nothing that it does not know."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Rejection(Document):
    """A URL that was never accepted, and why."""

    url: str
    reason: str


class Receipt(Document):
    """What became of one enqueue."""

    request_id: str
    site_id: int
    accepted: int = Field(description="URLs now in the queue for this request, merged ones among them.")
    merged: int = Field(description="Of these, URLs that were already pending for somebody else.")
    duplicates: int = Field(description="Repeats within this call.")
    rejected_count: int = Field(description="URLs that break a rule.")
    rejected: list[Rejection] = Field(description="The first 1,000 of them, with reasons.")
    waiting_until: datetime | None = Field(
        description="When the site will be submitted again, if it is known to wait."
    )


class Receipts(Document):
    """One for each request that was made."""

    receipts: list[Receipt]


class PlanInput(Input):
    """When and how fast ESA fetches; at once unless said."""

    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    interval_s: _Count | None = Field(None, description="Seconds between two slices.")
    slice_len: _Count | None = Field(None, description="URLs a slice.")

    def plan(self) -> Plan:
        """Return it as the client takes it."""
        return Plan(start=self.start, end=self.end, interval_s=self.interval_s, slice_len=self.slice_len)


class EnqueueQuery(Input):
    """The arguments of an enqueue, beside a list of URLs."""

    site_id: SiteId | None = None
    site: str | None = Field(
        None, min_length=1, max_length=NAME_MAX_CHARS, description="The site's name, instead of its id."
    )
    priority: Priority = "normal"
    expires_in: float | None = Field(
        None, gt=0, le=EXPIRES_MAX_S, description="Seconds after which what is still pending is given up."
    )
    source: _Text | None = Field(None, description="On whose behalf, for the audit.")
    durable: bool = Field(False, description="Answer only when all of it outlives a crash of Redis.")
    start: AwareDatetime | None = Field(None, description="Of the plan.")
    end: AwareDatetime | None = Field(None, description="Of the plan.")
    interval_s: int | None = Field(None, ge=1, le=INT32_MAX, description="Of the plan.")
    slice_len: int | None = Field(None, ge=1, le=INT32_MAX, description="Of the plan.")

    def plan(self) -> Plan:
        """Return the plan as the client takes it."""
        return Plan(start=self.start, end=self.end, interval_s=self.interval_s, slice_len=self.slice_len)


class EnqueueInput(Input):
    """URLs, or a list in OSS, with what the parameters of the query say: these go before them."""

    site_id: SiteId | None = None
    site: str | None = Field(
        None, min_length=1, max_length=NAME_MAX_CHARS, description="The site's name, instead of its id."
    )
    urls: list[str] | None = Field(None, min_length=1)
    oss_url: str | None = Field(
        None, description="Instead of URLs: https address of a list that ESA reads itself from OSS."
    )
    count: _Count | None = Field(None, description="How many URLs that list holds.")
    plan: PlanInput | None = None
    priority: Priority | None = None
    expires_in: float | None = Field(
        None,
        strict=True,
        gt=0,
        le=EXPIRES_MAX_S,
        description="Seconds after which what is still pending is given up.",
    )
    source: _Text | None = Field(None, description="On whose behalf, for the audit.")
    durable: bool | None = Field(
        None, strict=True, description="Answer only when all of it outlives a crash of Redis."
    )

    @model_validator(mode="after")
    def _are_urls_one_thing(self) -> Self:
        if (self.urls is None) == (self.oss_url is None):
            raise ValueError("give urls, or oss_url")
        if self.count is not None and self.oss_url is None:
            raise ValueError("count goes with oss_url")
        return self


class Status(Document):
    """What became of every URL of a request: accepted is the sum of those from pending to unknown."""

    request_id: str
    site_id: int
    state: Literal["active", "done"]
    accepted: int
    merged: int
    pending: int
    in_flight: int
    submitted: int
    refused: int
    expired: int
    cancelled: int
    unknown: int
    warming: int = Field(description="Of the submitted ones: their plan has started.")
    finished: int
    failed: int


class PlanDocument(Document):
    """When and how fast ESA fetches; null: as the worker does unless told."""

    start: datetime | None
    end: datetime | None
    interval_s: int | None
    slice_len: int | None


class RequestInfo(Document):
    """A request: who made it, what was asked for, and what became of it."""

    status: Status
    created_at: datetime
    source: str
    actor: str = Field(description="Who called.")
    priority: Priority
    plan: PlanDocument
    expires_at: datetime | None


class Page(Document):
    """A part of a list, of which there is more while it has a cursor."""

    cursor: str | None = Field(
        description="What to ask with for the next page; null: there are no more. A page may have few items, or none, and yet a cursor."
    )


class Requests(Page):
    """Requests, the newest first."""

    items: list[RequestInfo]


class RequestUrl(Document):
    """A URL of a request."""

    url: str
    state: Literal["pending", "refused", "expired", "unknown"]
    reason: str
    code: str
    at: datetime = Field(description="When it ended, or was accepted if it is pending.")


class RequestUrls(Page):
    """URLs of a request that are known by name."""

    items: list[RequestUrl]


class Cancelled(Document):
    """What a cancel came to."""

    request_id: str
    cancelled: int
    in_flight: int = Field(description="URLs that go on, and end as ESA decides.")


class Site(Document):
    """A site, its state and its totals."""

    site_id: int
    name: str
    state: Literal["active", "waiting", "paused", "blocked"]
    reason: str
    pending: int
    in_flight: int
    submitted: int
    refused: int
    oldest_pending_s: float
    waiting_until: datetime | None
    jobs: int = Field(description="Jobs of ours that ESA holds.")
    job_cap: int | None = Field(description="As many as it allows us, once that is known.")


class SiteName(Document):
    """Which site is meant by a name."""

    site_id: int
    name: str


class Sites(Document):
    """All sites that the token may see, the first seen first."""

    items: list[Site]


class PauseInput(Input):
    """Why a site is paused."""

    reason: _Text | None = None


class Switched(Document):
    """Whether a pause or a resume changed anything."""

    changed: bool


class Failure(Document):
    """A URL that ended as refused, expired or unknown."""

    id: str
    url: str
    site_id: int
    reason: str
    code: str
    at: datetime
    batch_id: str


class Failures(Page):
    """Failures of a site, the newest first, or of several, one site after the other by their ids."""

    items: list[Failure]


class RequeueInput(Input):
    """Which failures of a site are to be enqueued anew: those of *ids*, or the oldest."""

    site_id: SiteId
    ids: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(None, max_length=10_000)
    limit: int = Field(10_000, strict=True, ge=1, le=10_000)


class Limit(Document):
    """The pace of an operation of ESA."""

    operation: str
    rate: float = Field(description="Calls/s now allowed.")
    is_fixed: bool = Field(description="An operator has set a rate.")
    set_rate: float | None = Field(
        description="Calls/s that an operator has set: never exceeded; `rate` is below it while ESA throttles at that."
    )
    ceiling: float | None = Field(description="Calls/s at which ESA throttled last.")
    cooldown_s: float
    window_s: float | None


class Limits(Document):
    """Of every operation that was called, or set."""

    items: list[Limit]


class RateInput(Input):
    """Calls/s."""

    rate: float = Field(strict=True, gt=0, le=1e6)


class LimitChange(Input):
    """A rate to be held to, or, with null, a limit to be learnt anew."""

    operation: Annotated[str, Field(max_length=64)]
    rate: float | None = Field(strict=True, gt=0, le=1e6)


class LimitChanges(Input):
    """Changes that are done in order, all or none."""

    changes: list[LimitChange] = Field(min_length=1, max_length=100)


class Reason(Document):
    """One thing that keeps it from being submitted, or what became of it."""

    code: str
    text: str
    hint: str
    until: datetime | None


class Explanation(Document):
    """Why something is not submitted yet: the first reason decides."""

    site_id: int
    request_id: str | None
    url: str | None
    state: Literal["pending", "in_flight", "ended", "idle"]
    reasons: list[Reason]
    next_at: datetime | None


class AuditEntry(Document):
    """Somebody's doing."""

    id: str
    at: datetime
    action: str
    actor: str
    source: str
    site_id: int | None
    request_id: str | None
    detail: str


class Audit(Page):
    """Who did what, the newest first."""

    items: list[AuditEntry]


class TrafficPoint(Document):
    """What all workers did in some seconds."""

    at: datetime
    seconds: int
    calls: int
    throttled: int
    urls_submitted: int


class Traffic(Document):
    """One point after the other, without gaps, the oldest first."""

    items: list[TrafficPoint]
