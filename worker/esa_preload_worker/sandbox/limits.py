"""Rate limits per operation: a token bucket or a fixed window, decided from the time they are given."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

from esa_preload_worker.sandbox.config import EVERY_OPERATION, BucketLimit, RateLimit

if TYPE_CHECKING:
    from collections.abc import Mapping

# A caller who waits exactly as long as the hint says must get in: UNIX seconds in a float are 0.2 microseconds apart.
_ROUNDING_S = 1e-6


class Limiter(Protocol):
    """One limit with its count."""

    def admit(self, now_s: float) -> float | None:
        """Count a call at *now_s* and return ``None``; or count nothing and return the seconds to wait."""
        ...


class TokenBucket:
    """At most ``burst + rate_per_s * t`` calls in any ``t`` seconds."""

    __slots__ = ("_at_s", "_burst", "_rate_per_s", "_tokens")

    def __init__(self, *, rate_per_s: float, burst: int, now_s: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at_s = now_s

    def admit(self, now_s: float) -> float | None:
        """Take a token, or say when there will be one. A clock that steps back adds none."""
        elapsed_s = max(0.0, now_s - self._at_s)
        self._at_s = max(self._at_s, now_s)
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate_per_s)
        wait_s = (1 - self._tokens) / self._rate_per_s
        if wait_s > _ROUNDING_S:
            return wait_s
        self._tokens -= 1
        return None


class FixedWindow:
    """At most ``calls`` in each window of ``window_s`` seconds; the first window begins at *now_s*."""

    __slots__ = ("_calls", "_left", "_starts_s", "_window_s")

    def __init__(self, *, calls: int, window_s: float, now_s: float) -> None:
        self._calls = calls
        self._window_s = window_s
        self._starts_s = now_s
        self._left = calls

    def admit(self, now_s: float) -> float | None:
        """Take one of the window's calls, or say when the next window begins."""
        windows_passed = math.floor((now_s - self._starts_s + _ROUNDING_S) / self._window_s)
        if windows_passed > 0:
            self._starts_s += windows_passed * self._window_s
            self._left = self._calls
        if self._left > 0:
            self._left -= 1
            return None
        return self._starts_s + self._window_s - now_s


def hint_ms(wait_s: float) -> int:
    """Return *wait_s* as ``x-acs-retry-after`` says it: whole milliseconds, rounded up, at least one."""
    return max(1, math.ceil((wait_s - _ROUNDING_S) * 1000))


class Limits:
    """The limits in force; each operation is counted alone, also under ``*``."""

    __slots__ = ("_limiters", "_limits")

    def __init__(self, limits: Mapping[str, RateLimit | None]) -> None:
        self._limits = dict(limits)
        self._limiters: dict[str, Limiter | None] = {}

    def admit(self, operation: str, now_s: float) -> float | None:
        """Count a call of *operation*; return the seconds to wait when it is one too many."""
        try:
            limiter = self._limiters[operation]
        except KeyError:
            limiter = self._limiters[operation] = _limiter(self._limit_of(operation), now_s)
        return None if limiter is None else limiter.admit(now_s)

    def change(
        self, limits: Mapping[str, RateLimit | None], operations: tuple[str, ...], now_s: float
    ) -> None:
        """Put *limits* into force from *now_s*; an operation whose limit stays the same keeps its count."""
        before = {operation: self._limit_of(operation) for operation in operations}
        self._limits = dict(limits)
        for operation in operations:
            limit = self._limit_of(operation)
            if limit != before[operation]:
                self._limiters[operation] = _limiter(limit, now_s)

    def _limit_of(self, operation: str) -> RateLimit | None:
        if operation in self._limits:
            return self._limits[operation]
        return self._limits.get(EVERY_OPERATION)


def _limiter(limit: RateLimit | None, now_s: float) -> Limiter | None:
    if limit is None:
        return None
    if isinstance(limit, BucketLimit):
        return TokenBucket(rate_per_s=limit.rate_per_s, burst=limit.burst, now_s=now_s)
    return FixedWindow(calls=limit.calls, window_s=limit.window_s, now_s=now_s)
