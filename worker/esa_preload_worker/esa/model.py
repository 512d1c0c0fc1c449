"""What ESA is asked for and what it answers, parsed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A scheduled preload job, as Create, Get and List return it.

    Attributes:
        url_count: URLs in the list that was given.
        url_submitted: URLs of it that ESA accepted.
        task_submitted: URLs handed to the prefetch system so far.
        error_info: kinds of refusal, separated by commas; empty when there is none. Free text in Get and List.
        failed_file_url: where the refused URLs are listed; empty when there is no list.
        execution_count: number of its plans; only List says it.
        esa_request_id: of the call that returned this; empty within a list.
    """

    job_id: str
    site_id: int
    name: str
    url_count: int
    url_submitted: int
    task_submitted: int
    error_info: str = ""
    failed_file_url: str = ""
    created_at: datetime | None = None
    execution_count: int = 0
    esa_request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """One page of a site's jobs; ``total`` counts all pages."""

    jobs: tuple[Job, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOrder:
    """A plan to create: ``interval_s`` seconds between slices of ``slice_len`` URLs; times know their zone."""

    start: datetime | None
    end: datetime | None
    interval_s: int
    slice_len: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanState:
    """A plan as ESA keeps it; ``status`` is waiting, running, finished, failed or stopped."""

    plan_id: str
    job_id: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlansCreated:
    """What became of the plans asked for; ``failed_messages`` says why ``failed_count`` of them were not made."""

    created: tuple[PlanState, ...]
    failed_count: int
    failed_messages: tuple[str, ...]
    esa_request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedUrl:
    """A line of the failed file: the URL and, where the line gives one, the reason."""

    url: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A website of the account; ``status`` is pending, active, offline or moved."""

    site_id: int
    name: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SitePage:
    """One page of sites; ``total`` counts all pages."""

    sites: tuple[Site, ...]
    total: int
