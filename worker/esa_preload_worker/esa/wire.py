"""Build the request of each operation; no I/O."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Literal

from esa_preload_worker.esa.signing import canonical_query, form_encode

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from esa_preload_worker.esa.model import PlanOrder

API_VERSION = "2024-09-10"
FORM = "application/x-www-form-urlencoded"

_VISIBLE = bytes(range(33, 127))

CREATE_JOB = "CreateScheduledPreloadJob"
GET_JOB = "GetScheduledPreloadJob"
LIST_JOBS = "ListScheduledPreloadJobs"
DELETE_JOB = "DeleteScheduledPreloadJob"
CREATE_PLANS = "CreateScheduledPreloadExecutions"
LIST_PLANS = "ListScheduledPreloadExecutions"
DELETE_PLAN = "DeleteScheduledPreloadExecution"
LIST_SITES = "ListSites"

NOT_REPEATABLE = frozenset({CREATE_JOB, CREATE_PLANS})
"""Carried out twice they make two; everything else may be repeated."""

OPERATIONS = (
    CREATE_JOB,
    GET_JOB,
    LIST_JOBS,
    DELETE_JOB,
    CREATE_PLANS,
    LIST_PLANS,
    DELETE_PLAN,
    LIST_SITES,
)
"""Every operation that is called, by ESA's name: the values of the metrics' label ``operation``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest:
    """
    One call, not yet signed.

    Attributes:
        operation: ESA's name of it.
        query: encoded, sorted by key; empty when there is none.
        body: form-encoded, sorted by key; empty when there is none.
    """

    operation: str
    method: Literal["GET", "POST"]
    query: str = ""
    body: bytes = b""


def create_job(*, site_id: int, name: str, urls: Sequence[str]) -> WireRequest:
    """
    Create a job of *urls*, which ESA reads one a line.

    Raises:
        ValueError: there is no URL, or one holds white space or a control character and could be read as two.
    """
    if not urls:
        raise ValueError("a job needs at least one URL")
    # Checked together, not one by one: this is the hot path.
    if not all(urls) or not _is_visible("".join(urls)):
        raise ValueError("a URL is empty or holds white space or control characters")
    url_list = form_encode("\n".join(urls))
    return WireRequest(
        operation=CREATE_JOB,
        method="POST",
        body=f"InsertWay=textBox&Name={form_encode(name)}&SiteId={site_id}&UrlList={url_list}".encode(),
    )


def create_job_from_list(*, site_id: int, name: str, oss_url: str) -> WireRequest:
    """
    Create a job of the URLs in the object at *oss_url*.

    Raises:
        ValueError: *oss_url* is empty or holds white space or a control character.
    """
    if not oss_url or not _is_visible(oss_url):
        raise ValueError("the list's URL is empty or holds white space or control characters")
    body = f"InsertWay=oss&Name={form_encode(name)}&OssUrl={form_encode(oss_url)}&SiteId={site_id}"
    return WireRequest(operation=CREATE_JOB, method="POST", body=body.encode())


def get_job(job_id: str) -> WireRequest:
    """Read one job."""
    return WireRequest(operation=GET_JOB, method="GET", query=canonical_query([("Id", job_id)]))


def list_jobs(*, site_id: int, start_ms: int, end_ms: int, page: int, page_size: int) -> WireRequest:
    """List the jobs of a site that were created from *start_ms* to *end_ms* (Unix milliseconds); pages from 1."""
    return WireRequest(
        operation=LIST_JOBS,
        method="GET",
        query=f"EndTime={end_ms}&PageNumber={page}&PageSize={page_size}&SiteId={site_id}&StartTime={start_ms}",
    )


def delete_job(job_id: str) -> WireRequest:
    """Delete one job."""
    return WireRequest(operation=DELETE_JOB, method="POST", query=canonical_query([("Id", job_id)]))


def create_plans(job_id: str, plans: Sequence[PlanOrder]) -> WireRequest:
    """
    Create *plans* of a job.

    Raises:
        ValueError: there is no plan, or a time does not know its zone.
    """
    if not plans:
        raise ValueError("at least one plan is needed")
    orders = json.dumps([_plan_fields(plan) for plan in plans], separators=(",", ":"))
    return WireRequest(
        operation=CREATE_PLANS,
        method="POST",
        query=canonical_query([("Id", job_id)]),
        body=f"Executions={form_encode(orders)}".encode(),
    )


def list_plans(job_id: str) -> WireRequest:
    """List all plans of a job."""
    return WireRequest(operation=LIST_PLANS, method="GET", query=canonical_query([("Id", job_id)]))


def delete_plan(plan_id: str) -> WireRequest:
    """Delete one plan."""
    return WireRequest(operation=DELETE_PLAN, method="POST", query=canonical_query([("Id", plan_id)]))


def list_sites(*, name: str, page: int, page_size: int) -> WireRequest:
    """List the account's sites: all, or the one whose name is *name*; pages from 1, up to 500 each."""
    query = [("PageNumber", str(page)), ("PageSize", str(page_size))]
    if name:
        query += [("SiteName", name), ("SiteSearchType", "exact")]
    return WireRequest(operation=LIST_SITES, method="GET", query=canonical_query(query))


def _is_visible(text: str) -> bool:
    """Say whether *text* is free of white space and control characters, of any alphabet."""
    if text.isascii():
        return not text.encode().translate(None, _VISIBLE)
    return " " not in text and text.isprintable()


def _plan_fields(plan: PlanOrder) -> dict[str, str | int]:
    """Leave unset times out; the order of the keys is the official client's."""
    fields: dict[str, str | int] = {}
    if plan.end is not None:
        fields["EndTime"] = _utc(plan.end)
    fields["Interval"] = plan.interval_s
    fields["SliceLen"] = plan.slice_len
    if plan.start is not None:
        fields["StartTime"] = _utc(plan.start)
    return fields


def _utc(when: datetime) -> str:
    if when.tzinfo is None:
        raise ValueError("a plan's time must know its zone")
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
