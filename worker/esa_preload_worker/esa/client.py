"""The operations of ESA that are used, as methods."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from functools import partial
from typing import TYPE_CHECKING, Self

import httpx

from esa_preload_worker.esa import replies, wire
from esa_preload_worker.esa.calls import BodyTooLargeError, Caller
from esa_preload_worker.esa.endpoint import Endpoint, Proxies
from esa_preload_worker.esa.errors import FailedFileError, UncertainError
from esa_preload_worker.esa.failed_file import check_source, max_bytes, parse_failed_file
from esa_preload_worker.esa.failures import BREAKS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from esa_preload_worker.esa.credentials import CredentialSource
    from esa_preload_worker.esa.model import (
        Job,
        JobPage,
        PlanOrder,
        PlansCreated,
        PlanState,
        RefusedUrl,
        Site,
    )

    PageTurn = Callable[[], AbstractAsyncContextManager[None]]

FIND_PAGE_SIZE = 50
"""ESA's neighbours allow 50; its own maximum is not documented."""
FIND_PAGES_MAX = 200
FIND_TRIES = 3
FIND_SPLIT_MIN_MS = 1_000
"""ESA's creation times are whole seconds."""
SITE_PAGE_SIZE = 500
SITE_PAGES_MAX = 20


def _observe_nothing(_operation: str, _code: str, _seconds: float) -> None:
    """Observe nothing."""


class EsaClient:
    """
    Calls ESA's scheduled-preload operations: signed, bounded in time and size, each outcome a class of its own.

    Nothing is repeated, but for what can be put right at once: a call refused for its token, its time stamp or its nonce is
    made once more with a new one. A Create whose nonce was seen before is uncertain instead: its twin may have been carried
    out. Use it as an async context manager; any number of tasks may share it.

    Args:
        endpoint: ``https://host[:port]``; http only on loopback or under *allow_insecure_endpoint*.
        call_timeout_s: total time of a call, repetition included.
        observe: called after each request with the operation, a code of ``codes.LABELS`` and seconds; must not raise.
        allow_insecure_endpoint: http anywhere, and the list of refused URLs from anywhere.
        environ: where ``HTTPS_PROXY`` and ``NO_PROXY`` are read; the process's environment when ``None``.

    Raises:
        ValueError: *endpoint* is none.
    """

    def __init__(
        self,
        endpoint: str,
        credentials: CredentialSource,
        call_timeout_s: float,
        observe: Callable[[str, str, float], None] = _observe_nothing,
        *,
        allow_insecure_endpoint: bool = False,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._endpoint = Endpoint.parse(endpoint, allow_insecure=allow_insecure_endpoint)
        self._allow_any_source = allow_insecure_endpoint
        self._caller = Caller(
            endpoint=self._endpoint,
            proxies=Proxies(os.environ if environ is None else environ),
            credentials=credentials,
            call_timeout_s=call_timeout_s,
            observe=observe,
        )

    def __repr__(self) -> str:
        return f"<EsaClient {self._endpoint.url}>"

    async def __aenter__(self) -> Self:
        await self._caller.__aenter__()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._caller.__aexit__(exc_type, exc, tb)

    @property
    def clock_offset_s(self) -> float:
        """Seconds that ESA's clock is ahead of ours, as far as a refused time stamp taught us; else 0."""
        return self._caller.clock_offset.total_seconds()

    @property
    def esa_ms(self) -> int | None:
        """ESA's clock now, Unix milliseconds, right to about a second; ``None`` until a reply has told it."""
        return self._caller.server_ms

    async def create_job(self, *, site_id: int, name: str, urls: Sequence[str]) -> Job:
        """
        Create a job of *urls*; look at its counts, since a success may have refused some or all.

        Not safe to repeat: ESA knows no idempotency token. Look *name* up with :meth:`find_jobs` first.

        Args:
            name: unique; what an uncertain outcome is looked up by.
            urls: 1 or more, normalised, without white space.

        Raises:
            ValueError: a URL holds white space or a control character; nothing was sent.
            UncertainError: the outcome is unknown; look before calling again.
            EsaError: of the class that says what to do next.

        Source: CreateScheduledPreloadJob, 2024-09-10.
        """
        return await self._caller.call(
            wire.create_job(site_id=site_id, name=name, urls=urls), replies.parse_job
        )

    async def create_job_from_list(self, *, site_id: int, name: str, oss_url: str) -> Job:
        """
        Create a job of the URLs in the object at *oss_url*; otherwise as :meth:`create_job`.

        Source: CreateScheduledPreloadJob, 2024-09-10.
        """
        request = wire.create_job_from_list(site_id=site_id, name=name, oss_url=oss_url)
        return await self._caller.call(request, replies.parse_job)

    async def get_job(self, job_id: str) -> Job:
        """
        Read one job.

        Raises:
            NotFoundError: there is none, or ESA does not show it yet.

        Source: GetScheduledPreloadJob, 2024-09-10.
        """
        return await self._caller.call(wire.get_job(job_id), replies.parse_job)

    async def list_jobs(
        self, *, site_id: int, start_ms: int, end_ms: int, page: int, page_size: int
    ) -> JobPage:
        """
        Read one page of a site's jobs.

        Args:
            start_ms: with *end_ms*, when they were created; Unix milliseconds.
            page: from 1.

        Source: ListScheduledPreloadJobs, 2024-09-10.
        """
        request = wire.list_jobs(
            site_id=site_id, start_ms=start_ms, end_ms=end_ms, page=page, page_size=page_size
        )
        return await self._caller.call(request, replies.parse_job_page)

    async def find_jobs(
        self,
        *,
        site_id: int,
        name: str,
        since_ms: int,
        until_ms: int,
        turn: PageTurn = contextlib.nullcontext,
    ) -> tuple[Job, ...]:
        """
        Return every job of a site with exactly this *name*, oldest first.

        Args:
            since_ms: with *until_ms*, when they were created, by ESA's clock; Unix milliseconds.
            turn: each page is read inside one of these; what it raises ends the search.

        Raises:
            UncertainError: also when the list changes under our hands time and again: then nothing is known.
        """
        found: dict[str, Job] = {}
        windows = [(since_ms, until_ms)]
        while windows:
            start_ms, end_ms = windows.pop()
            if end_ms - start_ms <= FIND_SPLIT_MIN_MS:
                jobs = await self._list_all_jobs(site_id, start_ms, end_ms, turn)
            else:
                page = await self._find_page(site_id, start_ms, end_ms, 1, turn)
                if page.total > len(page.jobs):
                    # One page is one answer: nothing can slip from page to page while it is read. So ask for less.
                    middle_ms = (start_ms + end_ms) // 2  # in both halves, whichever way ESA rounds
                    windows += [(start_ms, middle_ms), (middle_ms, end_ms)]
                    continue
                jobs = page.jobs
            found |= {job.job_id: job for job in jobs if job.name == name}
        # Ids begin with a time stamp, so they decide where the times do not.
        return tuple(sorted(found.values(), key=lambda job: (_timestamp(job), job.job_id)))

    async def delete_job(self, job_id: str) -> None:
        """
        Delete one job; safe to repeat.

        Raises:
            NotFoundError: there is none (any more).

        Source: DeleteScheduledPreloadJob, 2024-09-10.
        """
        await self._caller.call(wire.delete_job(job_id), replies.parse_deleted)

    async def create_plans(self, job_id: str, plans: Sequence[PlanOrder]) -> PlansCreated:
        """
        Create plans of a job; look at ``failed_count``, since a success may have made some or none.

        Not safe to repeat: list the job's plans after an uncertain outcome.

        Raises:
            ValueError: no plan is given, or a time does not know its zone; nothing was sent.

        Source: CreateScheduledPreloadExecutions, 2024-09-10.
        """
        parse = partial(replies.parse_plans_created, job_id=job_id, asked=len(plans))
        return await self._caller.call(wire.create_plans(job_id, plans), parse)

    async def list_plans(self, job_id: str) -> tuple[PlanState, ...]:
        """
        Read all plans of a job.

        Source: ListScheduledPreloadExecutions, 2024-09-10.
        """
        return await self._caller.call(wire.list_plans(job_id), partial(replies.parse_plans, job_id=job_id))

    async def delete_plan(self, plan_id: str) -> None:
        """
        Delete one plan; safe to repeat.

        Raises:
            NotFoundError: there is none (any more).

        Source: DeleteScheduledPreloadExecution, 2024-09-10.
        """
        await self._caller.call(wire.delete_plan(plan_id), replies.parse_deleted)

    async def list_sites(
        self, *, name: str = "", turn: PageTurn = contextlib.nullcontext
    ) -> tuple[Site, ...]:
        """
        Read all sites of the account, or the one whose name is *name*; in ESA's order, 10,000 at most.

        Args:
            turn: each page is read inside one of these; what it raises ends the reading.

        Source: ListSites, 2024-09-10.
        """
        sites: list[Site] = []
        for page in range(1, SITE_PAGES_MAX + 1):
            request = wire.list_sites(name=name, page=page, page_size=SITE_PAGE_SIZE)
            async with turn():
                found = await self._caller.call(request, replies.parse_site_page)
            sites += found.sites
            if not found.sites or len(sites) >= found.total:
                break
        return tuple(sites)

    async def read_failed_file(self, url: str, *, among: Collection[str] = ()) -> tuple[RefusedUrl, ...]:
        """
        Read the list of refused URLs behind a job's ``failed_file_url``, in its order; without credentials.

        Args:
            among: the batch's URLs, which decide whether a comma belongs to a URL.

        Raises:
            FailedFileError: not allowed from there, away, too large, not in time or not such a list.
        """
        check_source(url, allow_loopback=self._endpoint.is_loopback, allow_any=self._allow_any_source)
        try:
            status, content = await self._caller.read(url, max_bytes=max_bytes(len(among)))
        except (*BREAKS, BodyTooLargeError, httpx.InvalidURL, ValueError) as exc:
            # An address that only the library finds odd ends here too. Without the cause: its text may show the URL, and with it a signature.
            raise FailedFileError(f"the list cannot be read: {type(exc).__name__}") from None
        if status != 200:
            raise FailedFileError(f"the list cannot be read: HTTP {status}")
        # In a thread: a long one takes longer than the worker's loop should stand still.
        return await asyncio.to_thread(parse_failed_file, content, among=among)

    async def _find_page(
        self, site_id: int, start_ms: int, end_ms: int, page: int, turn: PageTurn
    ) -> JobPage:
        async with turn():
            return await self.list_jobs(
                site_id=site_id, start_ms=start_ms, end_ms=end_ms, page=page, page_size=FIND_PAGE_SIZE
            )

    async def _list_all_jobs(
        self, site_id: int, start_ms: int, end_ms: int, turn: PageTurn
    ) -> tuple[Job, ...]:
        for _ in range(FIND_TRIES):
            jobs = await self._read_pages(site_id, start_ms, end_ms, turn)
            if jobs is not None:
                return jobs
        raise UncertainError("the list of jobs changes while it is read", code="uncertain.list_moving")

    async def _read_pages(
        self, site_id: int, start_ms: int, end_ms: int, turn: PageTurn
    ) -> tuple[Job, ...] | None:
        """Read all pages; ``None`` when the list moved meanwhile, so that a job may have slipped through."""
        jobs: dict[str, Job] = {}
        total: int | None = None
        for page in range(1, FIND_PAGES_MAX + 1):
            found = await self._find_page(site_id, start_ms, end_ms, page, turn)
            seen = len(jobs) + len(found.jobs)
            jobs |= {job.job_id: job for job in found.jobs}
            if total not in (None, found.total) or len(jobs) != seen:
                return None
            total = found.total
            if len(jobs) >= total:
                return tuple(jobs.values())
            if not found.jobs:
                return None
        raise UncertainError("the list of jobs is too long to be read", code="uncertain.too_large")


def _timestamp(job: Job) -> float:
    return job.created_at.timestamp() if job.created_at else math.inf
