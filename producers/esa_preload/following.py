"""Follow a request to its end, for every client: when to look, and what to say when time is up."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from esa_preload.arguments import parse_interval, parse_timeout
from esa_preload.cancellation import heed_cancellation
from esa_preload.errors import WaitTimeoutError
from esa_preload.reasons import counted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from esa_preload.model import RequestStatus

_PAUSE_S = (0.05, 1.0)
"""First and longest pause between two looks."""


class Wait:
    """How long to sleep after each look: ever longer, until *timeout* has gone."""

    def __init__(self, timeout: float | None) -> None:
        self._timeout_s = parse_timeout(timeout)
        self._until = time.monotonic() + self._timeout_s
        self._pause_s, self._longest_s = _PAUSE_S

    def pause_s(self, status: RequestStatus) -> float:
        """
        Return how many seconds to sleep after a look that saw *status*.

        Raises:
            WaitTimeoutError: no time is left.
        """
        left_s = self._until - time.monotonic()
        if left_s <= 0:
            open_urls = counted(status.pending + status.in_flight, "URL")
            raise WaitTimeoutError(
                f"request {status.request_id} still has {open_urls} pending or in flight after {self._timeout_s:g} s",
                hint="it goes on; `esa-preload status` follows it",
            )
        pause_s = min(self._pause_s, left_s)
        self._pause_s = min(self._pause_s * 1.5, self._longest_s)
        return pause_s


async def wait_for_end(
    look: Callable[[], Awaitable[RequestStatus]],
    *,
    timeout: float | None,
    progress: Callable[[RequestStatus], object] | None,
) -> RequestStatus:
    """Look until a status is done, and return it; *progress* is called with each."""
    wait = Wait(timeout)
    while True:
        status = await look()
        heed_cancellation()
        if progress:
            progress(status)
        if status.state == "done":
            return status
        await asyncio.sleep(wait.pause_s(status))


async def changes(
    look: Callable[[], Awaitable[RequestStatus]], *, interval_s: float
) -> AsyncIterator[RequestStatus]:
    """Look every *interval_s*, and yield each status that differs from the one before; the last one is done."""
    interval_s = parse_interval(interval_s)
    last: RequestStatus | None = None
    while last is None or last.state != "done":
        if last is not None:
            await asyncio.sleep(interval_s)
        status = await look()
        heed_cancellation()
        if status != last:
            yield status
        last = status
