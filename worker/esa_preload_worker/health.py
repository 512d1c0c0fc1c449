"""Whether this process is alive and ready, and the one log line at the begin and end of each Redis outage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from esa_preload.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from esa_preload_worker.esa import EsaError

log = get_logger()

ALIVE_S = 30.0
"""The loops of the process tick at least every few seconds; this long without one means that it is stuck."""
QUIET_S = 2.0
"""An outage is over when nothing has failed for this long: the last time-outs come in after the first replies."""
POLL_S = 15.0
"""arq polls twenty times a second; this long without a poll means that no work is picked up."""

Part = Literal["leases", "sweep", "queue"]
"""What asks Redis again and again by itself. One that failed must have succeeded before an outage is over: a server may refuse some only."""


class Health:
    """What the probes and the metrics say about this process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked_at = clock()
        self._polled_at: float | None = None
        self._down_since: float | None = None
        self._failed_at = 0.0
        self._failing: set[Part] = set()
        self._error = ""
        self._has_credentials = True
        self.is_stopping = False
        self.sees_polls = True
        """Whether polls are reported here; arq's own command does not."""

    def tick(self) -> None:
        """Note that the process makes progress, with or without Redis."""
        self._ticked_at = self._clock()

    def polled(self) -> None:
        """Note that arq came round to look for work."""
        self._polled_at = self._clock()

    def redis_answered(self, part: Part) -> None:
        """Note that *part* did what it asks of Redis; ends an outage when nothing else fails."""
        self._failing.discard(part)
        now = self._clock()
        if self._down_since is None or self._failing or now - self._failed_at < QUIET_S:
            return
        log.info("redis.recovered", after_s=round(now - self._down_since, 3))
        self._down_since = None

    def redis_failed(self, error: BaseException, part: Part | None = None) -> None:
        """Note that Redis failed, or refused what *part* asks; begins an outage unless one is under way."""
        self._failed_at = self._clock()
        if part:
            self._failing.add(part)
        if self._down_since is None:
            self._down_since = self._failed_at
            self._error = type(error).__name__
            log.error("redis.unavailable", error=self._error, message=str(error)[:300])

    def has_credentials(self) -> None:
        """Note that calls to ESA can be signed."""
        self._has_credentials = True

    def lacks_credentials(self, error: EsaError) -> None:
        """Note that calls to ESA can't be signed; said once until they can."""
        if self._has_credentials:
            log.error("worker.error", message=str(error), code=error.code, hint=error.hint)
        self._has_credentials = False

    @property
    def is_redis_up(self) -> bool:
        """Whether no outage is under way."""
        return self._down_since is None

    def why_not_alive(self) -> str:
        """Return why the process should be restarted, or nothing."""
        idle_s = self._clock() - self._ticked_at
        return f"no progress for {idle_s:.0f} s" if idle_s > ALIVE_S else ""

    def why_not_ready(self) -> str:
        """Return why no work is done here now, or nothing."""
        if self.is_stopping:
            return "stopping"
        if self._down_since is not None:
            return f"redis unavailable: {self._error}"
        if self.sees_polls and (self._polled_at is None or self._clock() - self._polled_at > POLL_S):
            return "no poll of the queue"
        if not self._has_credentials:
            return "no usable credentials"
        return ""
