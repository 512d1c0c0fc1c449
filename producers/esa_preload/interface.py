"""The verbs of a client, and what each promises: over Redis, over HTTP, and in tests."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from esa_preload.following import changes, wait_for_end
from esa_preload.model import PACED_OPERATIONS

if TYPE_CHECKING:
    from datetime import timedelta
    from types import TracebackType

    from esa_preload.explanation import Explanation
    from esa_preload.model import (
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
    )

Urls = Iterable[str] | AsyncIterable[str]
Progress = Callable[[int], object]
"""Called with the number of URLs handled so far, each time a chunk is in."""


class Preloads(Protocol):
    """
    Enqueue URLs for ESA to fetch, follow them, and operate the queue.

    Any number of tasks may share a client. Every verb may raise QueueUnavailableError (the queue cannot be used now: call
    again) and InvalidRequestError (an argument is wrong: nothing was done); what else it raises stands with it. A record of a
    newer release raises UnsupportedRecordError.

    Lists that may be long come in pages. Give the ``cursor`` of one page, with the same other arguments, to get the next;
    ``limit`` is 1 to 10,000. What is there from the first page to the last is in exactly one of them, whatever comes
    and goes meanwhile; what comes later is not looked for.

    A client derives from it: what follows from other verbs is here once, and each verb's docstring is that of all clients.
    """

    async def __aenter__(self) -> Self:
        """Return the client itself."""
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Close the connections, as :meth:`aclose`."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections, unless they are yours."""
        ...

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
        """
        Put *urls* into the queue of a site and return at once what became of them; the workers submit them.

        A call that broke off can be repeated with the same ``request_id`` and the same URLs: it resumes, nothing is taken
        twice. A URL that breaks a rule is in ``Receipt.rejected`` with its reason, and takes no other along.

        Args:
            site_id: the ESA site, from 1 to 2**63 - 1.
            urls: any iterable or async iterable, of any length; memory stays flat.
            plan: when and how fast ESA fetches; at once unless said.
            priority: order within the site.
            expires_in: seconds (or a timedelta) after which what is still pending is given up, and counted as expired.
            request_id: 1 to 128 letters, digits or ``._:~-``; one is made up when not given.
            source: who asks, for the audit; at most 128 printable characters.
            durable: return only when all of the request outlives a crash of the server: in its append-only file, or on a
                replica. Waits once, at the end.
            progress: called with the number of URLs handled so far.

        Raises:
            InvalidRequestError: an argument is wrong, or *urls* is empty; nothing was enqueued.
            IncompleteError: *urls* itself raised InvalidRequestError on the way, as a damaged list does; ``receipt`` says what
                was taken.
            RequestConflictError: the request id is known with other content.
            QueueFullError: the site's queue is at its bound; ``receipt`` says what was taken.
            QueueUnavailableError: Redis cannot be used, or it came back without a part of the request; repeat with its
                ``request_id``. ``receipt`` says what was taken for certain.
            NotDurableError: all is in the queue, but not known to be out of danger; ``receipt`` is that of the request.
        """
        ...

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
        """
        Enqueue a list of URLs that ESA reads itself: one batch, one job, never merged nor split.

        Args:
            oss_url: https address of the list in OSS, one URL a line.
            count: how many URLs it holds; when not given, ``accepted`` is 0 until ESA has counted them.

        Otherwise as :meth:`enqueue`.
        """
        ...

    async def status(self, request_id: str) -> RequestStatus:
        """
        Return what became of every URL of a request.

        Raises:
            UnknownRequestError: no such request, or it ended longer ago than ``REQUEST_TTL``.
        """
        ...

    async def request(self, request_id: str) -> RequestInfo:
        """
        Return a request as :meth:`requests` lists it: who made it, when and how, and its status.

        Raises:
            UnknownRequestError: as of :meth:`status`.
        """
        ...

    async def wait(
        self,
        request_id: str,
        *,
        timeout: float | None = None,
        progress: Callable[[RequestStatus], object] | None = None,
    ) -> RequestStatus:
        """
        Wait until every URL of a request has ended.

        Args:
            timeout: seconds, without an outage of Redis that is waited for; ``None`` for as long as it takes.
            progress: called with each state seen.

        Raises:
            WaitTimeoutError: it was not done in time; it goes on.
            UnknownRequestError: no such request.
        """
        return await wait_for_end(lambda: self.status(request_id), timeout=timeout, progress=progress)

    def watch(self, request_id: str, *, interval_s: float = 1.0) -> AsyncIterator[RequestStatus]:
        """
        Yield the status of a request, at once and whenever it has changed; the last one when it is done.

        What its plans come to after that (``warming``, ``finished``, ``failed``) is not waited for.

        Args:
            interval_s: seconds between two looks, 0.05 to 3600: of changes in between only the last is seen.

        Raises:
            UnknownRequestError: no such request, or its record has ended meanwhile.
        """
        return changes(lambda: self.status(request_id), interval_s=interval_s)

    async def requests(
        self,
        site_id: int | None = None,
        *,
        state: RequestState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """
        Return requests, of a site or of all, the newest first.

        A request is listed for as long as :meth:`status` knows it. One that ends between two pages may be missing from
        those of one *state*. A page may hold fewer than *limit* while its ``cursor`` is not ``None``.
        """
        ...

    async def request_urls(
        self, request_id: str, state: UrlState, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[RequestUrl]:
        """
        Return the URLs of a request that are pending, or that ended as refused, expired or unknown.

        What was submitted is counted, not kept by name. Pending ones come in no order, and those that are taken between
        two pages are left out; a page may hold somewhat more than *limit*, or fewer, or none, while its ``cursor`` is not ``None``.
        Ended ones come newest first, from the failures of the site, of which about 10,000 are kept: the counts of
        :meth:`status` may be higher.

        Raises:
            UnknownRequestError: no such request.
            InvalidRequestError: also for another state.
        """
        ...

    async def explain(
        self, request_id: str | None = None, *, site_id: int | None = None, url: str | None = None
    ) -> Explanation:
        """
        Tell why a request, a site, or a URL of a site is not submitted yet.

        Changes nothing. The order of the queue is an estimate.

        Args:
            request_id: stands alone; else give *site_id*, and *url* for a single URL of it.

        Raises:
            UnknownRequestError: no such request.
            UnknownSiteError: the site has never been seen.
        """
        ...

    async def cancel(self, request_id: str) -> tuple[int, int]:
        """
        Give up what a request still has pending. Idempotent.

        Returns:
            URLs cancelled, and URLs in flight: those go on and end as ESA decides.

        Raises:
            UnknownRequestError: no such request.
        """
        ...

    async def sites(self) -> list[SiteStatus]:
        """Return the totals and the state of every site, the first seen first."""
        ...

    async def site(self, site_id: int) -> SiteStatus:
        """
        Return the totals and the state of one site, without a look at the others.

        Raises:
            UnknownSiteError: the site has never been seen.
        """
        ...

    async def site_id(self, name_or_id: str | int) -> int:
        """
        Return the id of a site: a number as it is, a name by the list of the account's sites that the workers keep.

        Raises:
            UnknownSiteError: no site of that name is known; the workers are asked to look.
        """
        ...

    async def pause(self, site_id: int, *, reason: str | None = None) -> bool:
        """
        Submit nothing more for a site until :meth:`resume`; what is in flight goes on.

        Args:
            reason: shown by :meth:`sites`; ``by an operator`` unless given. A site that is paused already keeps its reason
                unless another is given.

        Returns:
            whether it was not paused before.

        Raises:
            UnknownSiteError: the site has never been seen.
        """
        ...

    async def resume(self, site_id: int | None) -> bool:
        """
        Let a site go on, whatever held it: a pause, a block, a quota, a wait. ``None``: unblock the account.

        Returns:
            whether anything held it.

        Raises:
            UnknownSiteError: the site has never been seen.
        """
        ...

    async def failures(self, site_id: int | None = None, *, limit: int = 10_000) -> list[Failure]:
        """Return the URLs that ended as refused, expired or unknown, newest last, *limit* a site at most."""
        ...

    async def failure_page(
        self, site_id: int, *, reason: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> Page[Failure]:
        """Return the failures of a site, the newest first; with *reason* only those that failed for it."""
        ...

    async def requeue(
        self, site_id: int, *, ids: Sequence[str] | None = None, limit: int = 10_000
    ) -> list[Receipt]:
        """
        Enqueue the URLs of a site's failures anew, each plan as a request of its own, and forget the failures.

        Failures are URLs refused, expired or unknown; what had expired does not expire again. Safe to repeat: a failure is
        forgotten by the script that takes its URL up. Left alone are lists in OSS, and URLs whose plan has ended.

        Args:
            ids: of the failures to take up, as ``Failure.id`` has them; those that are gone are passed over.
            limit: failures taken up, the oldest first.

        Raises:
            QueueFullError: as of :meth:`enqueue`. What was not taken is among the failures as before.
        """
        ...

    async def limits(self) -> list[OperationLimit]:
        """Return the pace of each operation of ESA that was called, or set, since its limit was last reset."""
        ...

    async def set_limit(self, operation: str, rate: float) -> None:
        """
        Have *operation* called *rate* times a second, and less only while ESA throttles at that.

        What was learnt of its limit is forgotten, but for a cooldown. To set what is set already changes nothing.

        Raises:
            InvalidRequestError: there is no such operation, or the workers' settings do not allow the rate.
        """
        await self.change_limits([(operation, rate)])

    async def reset_limits(self, operation: str | None = None) -> None:
        """Forget what was learnt or set of *operation*, or of all, but for a cooldown: its limit is learnt anew, from ``RATE_INITIAL`` on."""
        operations = PACED_OPERATIONS if operation is None else (operation,)
        await self.change_limits([(each, None) for each in operations])

    async def change_limits(self, changes: Iterable[tuple[str, float | None]]) -> None:
        """
        Do what several :meth:`set_limit` (operation, rate) and :meth:`reset_limits` (operation, ``None``) do: in order, all or nothing.

        Raises:
            InvalidRequestError: as of :meth:`set_limit`; nothing was changed.
        """
        ...

    async def audit(
        self, *, site_id: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditEntry]:
        """
        Return who did what, the newest first; with *site_id* only what was done to that site.

        About 10,000 entries are kept, until 90 days after the last one.
        """
        ...

    async def traffic(self, *, minutes: int = 15) -> list[TrafficPoint]:
        """
        Return the calls of all workers in the last *minutes*, in buckets of 10 s, the oldest first, none left out.

        Args:
            minutes: 1 to 120.
        """
        ...
