"""Whether this process is alive and ready, and the one log line at the begin and end of each Redis outage."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from esa_preload_worker.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from esa_preload_worker.esa import EsaError

log = get_logger()

ALIVE_S = 30.0
"""The loops of the process tick at least every few seconds; this long without one means that it is stuck."""
POLL_S = 15.0
"""arq polls twenty times a second; this long without a poll means that no work is picked up."""


class Health:
    """What the probes and the metrics say about this process."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ticked_at = clock()
        self._polled_at: float | None = None
        self._down_since: float | None = None
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

    def redis_answered(self) -> None:
        """Note that Redis answers; ends an outage."""
        if self._down_since is not None:
            log.info("redis.recovered", after_s=round(self._clock() - self._down_since, 3))
            self._down_since = None

    def redis_failed(self, error: BaseException) -> None:
        """Note that Redis failed; begins an outage unless one is under way."""
        if self._down_since is None:
            self._down_since = self._clock()
            log.error("redis.unavailable", error=type(error).__name__, message=str(error)[:300])

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
        """Whether Redis answered last."""
        return self._down_since is None

    @property
    def down_s(self) -> float:
        """Seconds for which Redis has not answered."""
        return 0.0 if self._down_since is None else self._clock() - self._down_since

    def why_not_alive(self) -> str:
        """Return why the process should be restarted, or nothing."""
        idle_s = self._clock() - self._ticked_at
        return f"no progress for {idle_s:.0f} s" if idle_s > ALIVE_S else ""

    def why_not_ready(self) -> str:
        """Return why no work is done here now, or nothing."""
        if self.is_stopping:
            return "stopping"
        if self._down_since is not None:
            return "redis unavailable"
        if self.sees_polls and (self._polled_at is None or self._clock() - self._polled_at > POLL_S):
            return "no poll of the queue"
        if not self._has_credentials:
            return "no usable credentials"
        return ""
