"""Limits as ESA may have them, in virtual time (s): token buckets and fixed windows, whose rate may change in steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol


class Limit(Protocol):
    """What a simulation asks of a limit."""

    def call(self, at: float) -> float | None:
        """Let a call in (``None``), or say in how many s the next one would be."""
        ...

    def capacity(self, since: float, until: float) -> float:
        """Return how many calls it lets in meanwhile, without what it saved before."""
        ...

    def span(self, warm: float, duration: float) -> tuple[float, float]:
        """Return the part of a run that is judged: whole windows."""
        ...

    def saved(self, at: float) -> float:
        """Return how many calls it would let in at once."""
        ...


@dataclass(slots=True)
class Bucket:
    """A token bucket of ``burst`` calls; ``steps``: (from, calls/s)."""

    rate: float
    burst: float
    steps: tuple[tuple[float, float], ...] = ()
    _tokens: float = field(init=False)
    _at: float = 0.0

    def __post_init__(self) -> None:
        self._tokens = self.burst

    def rate_at(self, at: float) -> float:
        """Return calls/s at a moment."""
        return next((rate for since, rate in reversed(self.steps) if at >= since), self.rate)

    def saved(self, at: float) -> float:
        """Return the tokens in it."""
        while self._at < at:
            until = min([since for since, _ in self.steps if since > self._at] + [at])
            until = min(until, at)
            self._tokens = min(self.burst, self._tokens + (until - self._at) * self.rate_at(self._at))
            self._at = until
        return self._tokens

    def call(self, at: float) -> float | None:
        """Take a token."""
        if self.saved(at) >= 1:
            self._tokens -= 1
            return None
        return (1 - self._tokens) / self.rate_at(at)

    def capacity(self, since: float, until: float) -> float:
        """Return what flows in."""
        points = sorted({since, until, *(at for at, _ in self.steps if since < at < until)})
        return sum((after - at) * self.rate_at(at) for at, after in pairwise(points))

    def span(self, warm: float, duration: float) -> tuple[float, float]:
        """Return all of it."""
        return warm, duration


@dataclass(slots=True)
class Window:
    """``calls`` in each window of ``length`` s; the first one began ``phase`` s before the run."""

    calls: int
    length: float = 60.0
    phase: float = 0.0
    _window: int = -1
    _used: int = 0

    def call(self, at: float) -> float | None:
        """Use one of the window's calls."""
        window = math.floor((at + self.phase) / self.length)
        if window != self._window:
            self._window, self._used = window, 0
        if self._used < self.calls:
            self._used += 1
            return None
        return (window + 1) * self.length - self.phase - at

    def capacity(self, since: float, until: float) -> float:
        """Return the calls of the windows meanwhile."""
        return self.calls * (until - since) / self.length

    def span(self, warm: float, duration: float) -> tuple[float, float]:
        """Return whole windows."""
        return (
            math.ceil((warm + self.phase) / self.length) * self.length - self.phase,
            math.floor((duration + self.phase) / self.length) * self.length - self.phase,
        )

    def saved(self, at: float) -> float:
        """Nothing is carried over from window to window."""
        del at
        return 0.0
