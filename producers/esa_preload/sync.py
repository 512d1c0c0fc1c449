"""
The verbs without ``await``, for Django, Flask and scripts.

What each does, and raises, is said in :class:`esa_preload.interface.Preloads`. A client may be shared by any number of threads:
its calls take turns, so that a long enqueue holds up the others (``wait`` and ``watch`` do not, while they sleep). *urls* are
iterated over, and *progress* is called, in the thread of the caller and outside any event loop: they see its
transactions. After a fork the child's calls go down a connection of its own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from esa_preload.arguments import parse_interval
from esa_preload.errors import SettingsError
from esa_preload.following import Wait
from esa_preload.private_loop import PrivateLoop, iterated_outside, outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import timedelta
    from types import TracebackType

    from esa_preload.explanation import Explanation
    from esa_preload.interface import Preloads, Progress
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


class SyncPreloads:
    """
    The verbs of any client without ``await``, such as those of a :class:`esa_preload.testing.RecordingClient` in tests.

    Use it as a context manager, or keep it for the life of the process.

    Args:
        make: returns the client; called at once, and once more in each process that is forked from this one.

    Raises:
        InvalidRequestError: by every verb, when an event loop runs in the thread: use the client with ``await`` there.
    """

    def __init__(self, make: Callable[[], Preloads]) -> None:
        self._loop = PrivateLoop(make)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._loop!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A closed client cannot be used again."""
        self._loop.close()

    def enqueue(
        self,
        site_id: int,
        urls: Iterable[str],
        *,
        plan: Plan | None = None,
        priority: Priority = "normal",
        expires_in: float | timedelta | None = None,
        request_id: str | None = None,
        source: str | None = None,
        durable: bool = False,
        progress: Progress | None = None,
    ) -> Receipt:
        """Put *urls* into the queue of a site and return at once what became of them; the workers submit them."""
        urls = iterated_outside(urls)
        told = outside(progress) if callable(progress) else progress
        return self._loop.run(
            lambda client: client.enqueue(
                site_id,
                urls,
                plan=plan,
                priority=priority,
                expires_in=expires_in,
                request_id=request_id,
                source=source,
                durable=durable,
                progress=told,
            )
        )

    def enqueue_oss(
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
        """Enqueue a list of URLs that ESA reads itself: one batch, one job, never merged nor split."""
        return self._loop.run(
            lambda client: client.enqueue_oss(
                site_id,
                oss_url,
                count,
                plan=plan,
                priority=priority,
                expires_in=expires_in,
                request_id=request_id,
                source=source,
                durable=durable,
            )
        )

    def status(self, request_id: str) -> RequestStatus:
        """Return what became of every URL of a request."""
        return self._loop.run(lambda client: client.status(request_id))

    def request(self, request_id: str) -> RequestInfo:
        """Return a request as :meth:`requests` lists it: who made it, when and how, and its status."""
        return self._loop.run(lambda client: client.request(request_id))

    def wait(
        self,
        request_id: str,
        *,
        timeout: float | None = None,
        progress: Callable[[RequestStatus], object] | None = None,
    ) -> RequestStatus:
        """Wait until every URL of a request has ended."""
        wait = Wait(timeout)
        while True:
            status = self.status(request_id)
            if progress:
                progress(status)
            if status.state == "done":
                return status
            time.sleep(wait.pause_s(status))

    def watch(self, request_id: str, *, interval_s: float = 1.0) -> Iterator[RequestStatus]:
        """Yield the status of a request, at once and whenever it has changed; the last one when it is done."""
        interval_s = parse_interval(interval_s)
        last: RequestStatus | None = None
        while last is None or last.state != "done":
            if last is not None:
                time.sleep(interval_s)
            status = self.status(request_id)
            if status != last:
                yield status
            last = status

    def requests(
        self,
        site_id: int | None = None,
        *,
        state: RequestState | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[RequestInfo]:
        """Return requests, of a site or of all, the newest first."""
        return self._loop.run(
            lambda client: client.requests(site_id, state=state, limit=limit, cursor=cursor)
        )

    def request_urls(
        self, request_id: str, state: UrlState, *, limit: int = 1000, cursor: str | None = None
    ) -> Page[RequestUrl]:
        """Return the URLs of a request that are pending, or that ended as refused, expired or unknown."""
        return self._loop.run(
            lambda client: client.request_urls(request_id, state, limit=limit, cursor=cursor)
        )

    def explain(
        self, request_id: str | None = None, *, site_id: int | None = None, url: str | None = None
    ) -> Explanation:
        """Tell why a request, a site, or a URL of a site is not submitted yet."""
        return self._loop.run(lambda client: client.explain(request_id, site_id=site_id, url=url))

    def cancel(self, request_id: str) -> tuple[int, int]:
        """Give up what a request still has pending. Idempotent."""
        return self._loop.run(lambda client: client.cancel(request_id))

    def sites(self) -> list[SiteStatus]:
        """Return the totals and the state of every site, the first seen first."""
        return self._loop.run(lambda client: client.sites())

    def site(self, site_id: int) -> SiteStatus:
        """Return the totals and the state of one site, without a look at the others."""
        return self._loop.run(lambda client: client.site(site_id))

    def site_id(self, name_or_id: str | int) -> int:
        """Return the id of a site: a number as it is, a name by the list of the account's sites that the workers keep."""
        return self._loop.run(lambda client: client.site_id(name_or_id))

    def pause(self, site_id: int, *, reason: str | None = None) -> bool:
        """Submit nothing more for a site until :meth:`resume`; what is in flight goes on."""
        return self._loop.run(lambda client: client.pause(site_id, reason=reason))

    def resume(self, site_id: int | None) -> bool:
        """Let a site go on, whatever held it: a pause, a block, a quota, a wait. ``None``: unblock the account."""
        return self._loop.run(lambda client: client.resume(site_id))

    def failures(self, site_id: int | None = None, *, limit: int = 10_000) -> list[Failure]:
        """Return the URLs that ended as refused, expired or unknown, newest last, *limit* a site at most."""
        return self._loop.run(lambda client: client.failures(site_id, limit=limit))

    def failure_page(
        self, site_id: int, *, reason: str | None = None, limit: int = 1000, cursor: str | None = None
    ) -> Page[Failure]:
        """Return the failures of a site, the newest first; with *reason* only those that failed for it."""
        return self._loop.run(
            lambda client: client.failure_page(site_id, reason=reason, limit=limit, cursor=cursor)
        )

    def requeue(
        self, site_id: int, *, ids: Sequence[str] | None = None, limit: int = 10_000
    ) -> list[Receipt]:
        """Enqueue the URLs of a site's failures anew, each plan as a request of its own, and forget the failures."""
        return self._loop.run(lambda client: client.requeue(site_id, ids=ids, limit=limit))

    def limits(self) -> list[OperationLimit]:
        """Return the pace of each operation of ESA that was called, or set, since its limit was last reset."""
        return self._loop.run(lambda client: client.limits())

    def set_limit(self, operation: str, rate: float) -> None:
        """Have *operation* called *rate* times a second, whatever was learnt of its limit; cooldowns are kept."""
        return self._loop.run(lambda client: client.set_limit(operation, rate))

    def reset_limits(self, operation: str | None = None) -> None:
        """Forget what was learnt or set of *operation*, or of all: its limit is learnt anew, from ``RATE_INITIAL`` on."""
        return self._loop.run(lambda client: client.reset_limits(operation))

    def change_limits(self, changes: Iterable[tuple[str, float | None]]) -> None:
        """Do what several :meth:`set_limit` (operation, rate) and :meth:`reset_limits` (operation, ``None``) do: in order, all or nothing."""
        return self._loop.run(lambda client: client.change_limits(changes))

    def audit(
        self, *, site_id: int | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[AuditEntry]:
        """Return who did what, the newest first; with *site_id* only what was done to that site."""
        return self._loop.run(lambda client: client.audit(site_id=site_id, limit=limit, cursor=cursor))

    def traffic(self, *, minutes: int = 15) -> list[TrafficPoint]:
        """Return the calls of all workers in the last *minutes*, in buckets of 10 s, the oldest first, none left out."""
        return self._loop.run(lambda client: client.traffic(minutes=minutes))


class PreloadClient(SyncPreloads):
    """
    Enqueue URLs for ESA to fetch, and follow them, over Redis.

    Args:
        redis: where the queue is, as a URL (``redis://…``).
        namespace: of the workers that are to submit.
        wait_for_redis: seconds (or a timedelta) that each step of a call waits for a Redis that is away; 0: fail fast.
        actor: who calls, for the audit; ``user@host`` unless given.

    Raises:
        SettingsError: the URL, the namespace or the time is none.
    """

    def __init__(
        self,
        redis: str,
        *,
        namespace: str = "default",
        wait_for_redis: float | timedelta = 0.0,
        actor: str | None = None,
    ) -> None:
        from esa_preload.client import PreloadClient as Client  # noqa: PLC0415 - loads the library for Redis

        if not isinstance(redis, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without types
            raise SettingsError(
                f"redis must be a URL, not {type(redis).__name__}: connections belong to an event loop"
            )
        super().__init__(
            lambda: Client(redis, namespace=namespace, wait_for_redis=wait_for_redis, actor=actor)
        )


class HttpPreloadClient(SyncPreloads):
    """
    Enqueue URLs for ESA to fetch, and follow them, over the HTTP API (extra ``http-client``).

    Its arguments are those of :class:`esa_preload.http.PreloadClient`.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str | None = None,
        wait_for_service: float | timedelta = 0.0,
        allow_insecure: bool = False,
    ) -> None:
        from esa_preload.http import PreloadClient as Client  # noqa: PLC0415 - loads the library for HTTP

        super().__init__(
            lambda: Client(
                base_url, token=token, wait_for_service=wait_for_service, allow_insecure=allow_insecure
            )
        )
