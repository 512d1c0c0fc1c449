"""A pace that an operator has set, in virtual time: it is kept where ESA takes it, and learnt where it does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from integration.rates.limits import Bucket, Window
from integration.rates.simulation import START_MS, Question, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from integration.rates.limits import Limit
    from integration.rates.on_valkey import Scripts
    from integration.rates.simulation import Hints, Outcome

HINTS: Final[tuple[Hints, ...]] = ("none", "ms")


def run_set(scripts: Scripts, rate: float, limit: Callable[[], Limit], duration_s: float) -> list[Outcome]:
    """Set *rate* and run into *limit*, without hints of ESA and with them."""
    runs = [Scenario(limit=limit(), hints=hints, duration_s=duration_s) for hints in HINTS]
    for i in range(len(runs)):
        scripts.publish(f"n{i}", {"rate_initial": 5, "rate_min": 0.1, "rate_max": 100})
        scripts.set_rate(f"n{i}", rate, START_MS)
    return scripts.run(runs)


def spent() -> Window:
    """Return a window that others have used up."""
    limit = Window(100)
    for _ in range(100):
        limit.call(0)
    return limit


def refused(outcome: Outcome, since: float, until: float) -> int:
    """Count the calls that ESA refused meanwhile."""
    return sum(since <= at < until and not accepted for at, accepted in outcome.trace)


def accepted(outcome: Outcome, since: float, until: float) -> int:
    """Count the others."""
    return sum(since <= at < until and accepted for at, accepted in outcome.trace)


def test_a_rate_that_esa_takes_is_kept(scripts: Scripts) -> None:
    """Below the limit nothing is refused, and the calls are as many as were set: it neither creeps up nor down."""
    for outcome in run_set(scripts, 15, lambda: Bucket(20, 20), 60):
        assert outcome.refused == 0
        assert abs(outcome.accepted - 15 * 60) <= 5


def test_a_rate_far_above_the_limit_is_learnt_down(scripts: Scripts) -> None:
    """At six times what ESA takes no more calls are refused than while a limit is learnt, and few at first."""
    for outcome in run_set(scripts, 30, lambda: Bucket(5, 5), 300):
        print(
            f"{outcome.use:.1%} used, {outcome.throttled:.1%} throttled, {refused(outcome, 0, 15)} at first"
        )
        assert outcome.use >= 0.95
        assert outcome.throttled <= 0.03
        assert refused(outcome, 0, 15) <= 12


def test_a_rate_that_is_set_in_a_spent_window(scripts: Scripts) -> None:
    """The next windows are used, though the first call at the rate was refused."""
    for outcome in run_set(scripts, 20, spent, 240):
        assert outcome.accepted >= 0.9 * 100 * 3
        assert outcome.refused <= 40


@pytest.mark.parametrize("rate", [None, 5])
def test_a_cooldown_is_no_part_of_the_next_window(scripts: Scripts, rate: float | None) -> None:
    """ESA told when a spent window ends, and meanwhile a rate was set, or reset: the next windows are used from the first one on."""
    runs = [Scenario(limit=spent(), hints=hints, duration_s=480) for hints in HINTS]
    for i in range(len(runs)):
        name = f"n{i}"
        scripts.publish(name, {"rate_initial": 5, "rate_min": 0.1, "rate_max": 100})
        scripts.answers([(name, Question("ask", START_MS))])
        scripts.answers([(name, Question("throttled", START_MS, START_MS, 60_000))])
        scripts.set_rate(name, rate, START_MS)
    for outcome in scripts.run(runs):
        assert outcome.accepted >= 0.9 * 100 * 7
        assert outcome.refused <= 40


def test_a_rate_that_is_set_comes_back_after_a_slump(scripts: Scripts) -> None:
    """ESA takes next to nothing for a minute, which few calls find out; the rate is in use again a minute later."""
    for outcome in run_set(scripts, 8, lambda: Bucket(20, 20, ((60, 0.2), (120, 20))), 240):
        print(refused(outcome, 60, 120), accepted(outcome, 180, 240))
        assert refused(outcome, 60, 120) <= 20
        assert accepted(outcome, 180, 240) >= 0.9 * 8 * 60
