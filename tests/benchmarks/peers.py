"""What others do about an unknown limit, in the same virtual time. Times are s."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from integration.rates.simulation import SLOTS, Outcome

if TYPE_CHECKING:
    from integration.rates.simulation import Scenario


@dataclass(slots=True)
class Constant:
    """A pace that somebody set, for all workers; ms. With a hint nobody calls until it is over."""

    rate: float
    next: float = 0.0
    cooldown: float = 0.0

    def ask(self, now: float) -> float:
        """Space the calls."""
        wait = max(self.cooldown, self.next) - now
        if wait > 0:
            return wait
        self.next = max(self.next, now - 20) + 1000 / self.rate
        return 0

    def ok(self, now: float, sent: float) -> None:
        """Learn nothing."""

    def throttled(self, now: float, sent: float, hint: float = 0) -> None:
        """Obey a hint."""
        del sent
        self.cooldown = max(self.cooldown, now + hint) if hint else self.cooldown


@dataclass(slots=True)
class SharedPause:
    """Nobody calls for a second, or as long as a hint says, after any throttled call; else as fast as the slots go; ms."""

    cooldown: float = 0.0

    def ask(self, now: float) -> float:
        """Wait for the pause only."""
        return max(0, self.cooldown - now)

    def ok(self, now: float, sent: float) -> None:
        """Learn nothing."""

    def throttled(self, now: float, sent: float, hint: float = 0) -> None:
        """Pause."""
        del sent
        self.cooldown = max(self.cooldown, now + (hint or 1000))


class Alone(Protocol):
    """What each process does by itself."""

    def ask(self, at: float, worker: int) -> float: ...
    def heard(self, at: float, worker: int, *, accepted: bool) -> None: ...


class FullJitter:
    """Each slot by itself: no pace, only the backoff that all of these have."""

    def ask(self, at: float, worker: int) -> float:
        """Go."""
        del at, worker
        return 0.0

    def heard(self, at: float, worker: int, *, accepted: bool) -> None:
        """Learn nothing."""


@dataclass(slots=True)
class _Client:
    is_on: bool = False
    fill: float = 1.0
    most: float = 1.0
    tokens: float = 0.0
    at: float = 0.0
    w_max: float = 0.0
    k: float = 0.0
    failed_at: float = 0.0
    measured: float = 0.0
    count: int = 0
    bucket: float = 0.0


@dataclass(slots=True)
class Botocore:
    """Botocore 1.35's retries/adaptive.py in each process: a token bucket filled at a CUBIC rate, capped at twice the measured one."""

    clients: dict[int, _Client] = field(default_factory=dict[int, _Client])

    def ask(self, at: float, worker: int) -> float:
        """Take a token, once a call was throttled."""
        c = self.clients.setdefault(worker, _Client())
        if not c.is_on:
            return 0.0
        self._refill(c, at)
        if c.tokens >= 1 - 1e-9:
            c.tokens -= 1
            return 0.0
        return (1 - c.tokens) / c.fill

    def heard(self, at: float, worker: int, *, accepted: bool) -> None:
        """Grow by CUBIC, or cut by 30 %."""
        c = self.clients[worker]
        c.count += 1
        half = math.floor(at * 2) / 2
        if half > c.bucket:
            c.measured = 0.8 * c.count / (half - c.bucket) + 0.2 * c.measured
            c.count, c.bucket = 0, half
        if accepted:
            rate = 0.4 * (at - c.failed_at - c.k) ** 3 + c.w_max
        else:
            c.w_max = min(c.measured, c.fill) if c.is_on else c.measured
            c.k, c.failed_at, c.is_on = (c.w_max * 0.3 / 0.4) ** (1 / 3), at, True
            rate = c.w_max * 0.7
        self._refill(c, at)
        rate = min(rate, 2 * c.measured)
        c.fill, c.most = max(rate, 0.5), max(rate, 1.0)
        c.tokens = min(c.tokens, c.most)

    @staticmethod
    def _refill(c: _Client, at: float) -> None:
        c.tokens, c.at = min(c.most, c.tokens + (at - c.at) * c.fill), at


def run_alone(peer: Alone, scenario: Scenario) -> Outcome:
    """Run *scenario* with slots that each decide for themselves, and back off with full jitter, 1 to 20 s, when throttled."""
    s, dice = scenario, random.Random(scenario.seed)
    order = itertools.count()
    since, until = s.limit.span(s.warm_s, s.duration_s)
    out, saved = Outcome(), None
    events: list[tuple[float, int, str, int, int, float]] = []

    def push(at: float, kind: str, worker: int, attempt: int, back: float = 0.0) -> None:
        heapq.heappush(events, (at, next(order), kind, worker, attempt, back))

    for worker in range(s.workers):
        for _ in range(SLOTS):
            push(dice.random() * 0.01, "ask", worker, 0)
    while events:
        at, _, kind, worker, attempt, back = heapq.heappop(events)
        if at >= s.duration_s:
            break
        if kind == "ask":
            wait = peer.ask(at, worker)
            if wait > 0:
                push(at + max(wait, 0.0005), "ask", worker, attempt)
                continue
            took = s.latency_s * (1 + 0.5 * (2 * dice.random() - 1))
            push(at + took * (0.3 + 0.4 * dice.random()), "arrive", worker, attempt, at + took)
        elif kind == "arrive":
            if saved is None and at >= since:
                saved = s.limit.saved(at)
            accepted = s.limit.call(at) is None
            if since <= at < until:
                out.accepted += accepted
                out.refused += not accepted
            push(max(at, back), "ok" if accepted else "refused", worker, attempt)
        else:
            peer.heard(at, worker, accepted=kind == "ok")
            if kind == "ok":
                push(at, "ask", worker, 0)
            else:
                push(at + dice.random() * min(20.0, 2.0**attempt), "ask", worker, attempt + 1)
    out.use = (out.accepted - ((saved or 0.0) - s.limit.saved(s.duration_s))) / s.limit.capacity(since, until)
    return out
