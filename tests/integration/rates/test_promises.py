"""What the pace promises whatever ESA says, over random histories; the script agrees with this specification (test_agreement)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from integration.rates.limits import Bucket, Window
from integration.rates.reference import PROBE_TIMEOUT_MS, Controller
from integration.rates.scenarios import HINTS
from integration.rates.simulation import START_MS, Scenario, run

if TYPE_CHECKING:
    import random


@dataclass(slots=True)
class Life:
    """A pace at work, held to its promises at each step."""

    pace: Controller = field(default_factory=lambda: Controller(now=START_MS))
    now: int = START_MS
    hinted: int = 0
    under_way: list[int] = field(default_factory=list[int])

    def ask(self) -> None:
        """Nobody calls before a hint or a cooldown is over; while a probe is under way, nobody else does."""
        s = self.pace.s
        probe = s.probe
        if self.pace.ask(self.now):
            return
        assert self.now >= max(self.hinted, s.cooldown)
        if probe > 0:
            assert self.now >= probe + PROBE_TIMEOUT_MS, "a second probe"
        self.under_way.append(self.now)

    def tell(self, sent: int, outcome: str, hint_ms: int) -> None:
        """A cooldown is never shortened, an episode is cut once, and the bounds hold."""
        s = self.pace.s
        cooldown, rate, is_news = s.cooldown, s.rate, sent > s.cut and not s.strikes
        match outcome:
            case "ok":
                self.pace.ok(self.now, sent)
            case "throttled":
                self.pace.throttled(self.now, sent, hint_ms)
                self.hinted = max(self.hinted, self.now + hint_ms)
                assert s.rate == rate or is_news, "two cuts in an episode"
                assert s.rate <= rate
            case _:
                self.pace.other(sent)
                assert s.rate == rate
        assert s.cooldown >= cooldown
        assert self.pace.least <= s.rate <= self.pace.most


@settings(max_examples=150, deadline=None)
@given(dice=st.randoms(use_true_random=False), bad=st.sampled_from((0.02, 0.3, 0.9)))
def test_the_promises_hold_in_any_history(dice: random.Random, bad: float) -> None:
    """Calls at any time, answered late and out of order: refused with and without hints, failed, or never answered."""
    life = Life()
    for _ in range(200):
        life.now += int(dice.choice((1, 10, 100, 1_000, 5_000)) * dice.random())
        for _ in range(dice.randrange(4)):
            life.ask()
        for _ in range(dice.randrange(4)):
            if life.under_way:
                sent = life.under_way.pop(dice.randrange(len(life.under_way)))
                outcome = "throttled" if dice.random() < bad else dice.choice(("ok", "ok", "ok", "other"))
                if dice.random() > 0.02:
                    life.tell(sent, outcome, dice.choice((0, 0, 50, 1_000, 7_000)))


def test_one_probe_of_a_hundred_and_another_when_it_is_lost() -> None:
    """After a cooldown one of a hundred goes; when its outcome is never told, one more ten seconds later."""
    pace = Controller(now=START_MS)
    assert pace.ask(START_MS) == 0
    pace.throttled(START_MS + 100, START_MS, 2_000)
    for at, calls in ((2_099, 0), (2_100, 1), (12_099, 0), (12_100, 1)):
        assert [pace.ask(START_MS + at) for _ in range(100)].count(0) == calls


def test_idle_time_is_no_credit() -> None:
    """After an hour of nothing a backlog begins where it was, not with a burst."""
    pace = Controller(now=START_MS, initial=20)
    pace.ask(START_MS)
    later = START_MS + 3_600_000
    assert [pace.ask(later) for _ in range(100)].count(0) == 2


def test_a_pace_that_does_not_hold_anybody_back_does_not_grow() -> None:
    """While fewer calls are wanted than are allowed, their success says nothing about the limit."""
    pace = Controller(now=START_MS, initial=20)
    for i in range(1_000):
        at = START_MS + 500 * i
        assert pace.ask(at) == 0
        pace.ok(at + 50, at)
    assert pace.rate < 25


def test_an_outage_of_the_limit_costs_few_calls() -> None:
    """While nothing at all is let in for a minute, a dozen calls find that out, not a thousand; then it goes on."""
    limit = Bucket(20, 20, ((200, 1e-6), (260, 20)))
    outcome = run(Controller(now=START_MS), Scenario(limit=limit))
    shut = [accepted for at, accepted in outcome.trace if 201 < at < 260]
    after = [accepted for at, accepted in outcome.trace if at > 300]
    assert shut.count(False) <= 20
    assert after.count(True) >= 0.85 * 300 * 20


def test_a_slump_of_the_limit_is_over_when_it_is_over() -> None:
    """After a minute (or five) at 0.1 calls/s all of the old limit is used again within a minute, not after many."""
    for slump_s in (60, 300):
        back_s = 200 + slump_s
        limit = Bucket(20, 20, ((200, 0.1), (back_s, 20)))
        outcome = run(Controller(now=START_MS), Scenario(limit=limit, duration_s=back_s + 180))
        after = [accepted for at, accepted in outcome.trace if at > back_s + 60]
        assert after.count(True) >= 0.95 * 120 * 20
        assert after.count(False) <= 0.03 * len(after)


def test_a_limit_that_was_always_low_is_not_tried_for_more() -> None:
    """A limit under a call a second is not taken for a slump: hardly more calls are refused than at any other."""
    outcome = run(Controller(now=START_MS), Scenario(limit=Bucket(0.5, 2), duration_s=7_200))
    assert outcome.use >= 0.95
    assert outcome.throttled <= 0.03


def test_a_start_in_a_spent_window_is_no_slow_one() -> None:
    """Begun or reset when others have used up nearly all of a window, it takes what the next ones let in, hints or none."""
    for left in (0, 5):
        for hints in HINTS:
            limit = Window(200)
            for _ in range(200 - left):
                limit.call(0)
            outcome = run(Controller(now=START_MS), Scenario(limit=limit, hints=hints, warm_s=60))
            assert outcome.use >= 0.9, (left, hints)
            assert outcome.throttled <= 0.03, (left, hints)
