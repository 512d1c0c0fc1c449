"""Workers with a backlog, one limit and one shared pace, in virtual time; what the pace answers comes from whoever drives it."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Generator

    from integration.rates.limits import Limit

Hints = Literal["none", "ms", "s"]

SLOTS = 16
WAKE_S = 0.003
"""A wake-up comes up to so late."""
START_MS = 1_700_000_000_000


class Question(NamedTuple):
    """What is asked of the pace: ``ask`` (answered with the ms to wait) or what became of a call sent at ``sent_ms``."""

    what: Literal["ask", "ok", "throttled"]
    now_ms: int
    sent_ms: int = 0
    hint_ms: int = 0


class Pace(Protocol):
    """One pace that all workers share; times are ms."""

    def ask(self, now: float) -> float: ...
    def ok(self, now: float, sent: float) -> None: ...
    def throttled(self, now: float, sent: float, hint: float = 0) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    One limit and those who call it.

    Attributes:
        warm_s: the judgement begins so late: after the second window, say.
        hints: what a throttled reply says: nothing, ms, or whole seconds rounded up.
    """

    limit: Limit
    latency_s: float = 0.05
    workers: int = 4
    hints: Hints = "none"
    duration_s: float = 600.0
    warm_s: float = 0.0
    seed: int = 1


@dataclass(slots=True)
class Outcome:
    """What came of it: calls accepted and refused in the judged part, and of what the limit offered how much was used."""

    accepted: int = 0
    refused: int = 0
    use: float = 0.0
    trace: list[tuple[float, bool]] = field(default_factory=list[tuple[float, bool]])

    @property
    def throttled(self) -> float:
        """The share of the calls that was refused."""
        return self.refused / max(1, self.accepted + self.refused)


def simulate(scenario: Scenario) -> Generator[Question, float, Outcome]:
    """Run *scenario*: yields what is asked of the pace, wants the ms to wait for an ``ask``, and returns what came of it."""
    s, limit, dice = scenario, scenario.limit, random.Random(scenario.seed)
    order = itertools.count()
    events: list[tuple[float, int, str, tuple[float, float]]] = []
    since, until = limit.span(s.warm_s, s.duration_s)
    out = Outcome()
    saved: float | None = None
    idle, poll = s.workers * SLOTS, 0

    def push(at: float, kind: str, *facts: float) -> None:
        heapq.heappush(events, (at, next(order), kind, (facts[0], facts[1] if len(facts) > 1 else 0.0)))

    push(0.0, "poll", 0)
    while events:
        at, _, kind, (first, second) = heapq.heappop(events)
        if at >= s.duration_s:
            break
        now_ms = START_MS + math.floor(at * 1000)
        if kind == "arrive":
            if saved is None and at >= since:
                saved = limit.saved(at)
            wait_s = limit.call(at)
            if since <= at < until:
                out.accepted += wait_s is None
                out.refused += wait_s is not None
            out.trace.append((at, wait_s is None))
            push(max(at, second), "reply", first, _hint_ms(wait_s, s.hints))
            continue
        if kind == "reply":
            idle += 1
            sent_ms = int(first)
            yield Question("ok" if second < 0 else "throttled", now_ms, sent_ms, int(max(0, second)))
        elif first != poll:
            continue
        while idle > 0:
            wait_ms = yield Question("ask", now_ms)
            if wait_ms > 0:
                poll += 1
                push(at + wait_ms / 1000 + WAKE_S * dice.random(), "poll", poll)
                break
            idle -= 1
            took = s.latency_s * (1 + 0.5 * (2 * dice.random() - 1))
            push(at + took * (0.3 + 0.4 * dice.random()), "arrive", now_ms, at + took)
    # What was saved before counts as nobody's.
    left = limit.saved(s.duration_s)
    out.use = (out.accepted - ((saved or 0.0) - left)) / limit.capacity(since, until)
    return out


def _hint_ms(wait_s: float | None, hints: Hints) -> float:
    if wait_s is None:
        return -1
    return {"none": 0, "ms": math.ceil(wait_s * 1000), "s": math.ceil(wait_s) * 1000}[hints]


def answer(pace: Pace, question: Question) -> float:
    """Let *pace* answer."""
    if question.what == "ask":
        return pace.ask(question.now_ms)
    if question.what == "ok":
        pace.ok(question.now_ms, question.sent_ms)
    else:
        pace.throttled(question.now_ms, question.sent_ms, question.hint_ms)
    return 0


def run(pace: Pace, scenario: Scenario) -> Outcome:
    """Run *scenario* with a pace in this process."""
    running = simulate(scenario)
    try:
        question = next(running)
        while True:
            question = running.send(answer(pace, question))
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome
