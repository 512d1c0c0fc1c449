"""
A worker is stopped at every point of take, submit and settle, and the end is the same.

Points are not listed anywhere: a run counts its calls and its suspensions, and the next run stops the worker one further, until
one gets through. A new ``await`` is a new point by itself.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from integration.crash_points.scenarios import SCENARIOS
from integration.crash_points.seams import Strike
from integration.crash_points.strikes import strike_at

if TYPE_CHECKING:
    from typing import Literal


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("how", ["dies", "freezes", "pauses"])
def test_calls(name: str, how: Literal["dies", "freezes", "pauses"], redis_url: str) -> None:
    """Before each command to Redis and each request to ESA, and after the other side has done what it asks."""
    points = 0
    for number in count(1):
        for when in ("before", "after"):
            first = strike_at(name, redis_url, Strike(how=how, when=when, at=number))
            points += first.fate.struck.is_set()
        if len(first.fate.calls) < number:
            break
    assert points > 2
    print(f"crash points: {points} {how} calls {name}")


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("how", ["dies", "freezes"])
def test_suspensions(name: str, how: Literal["dies", "freezes"], redis_url: str) -> None:
    """At each moment at which its coroutine waits for anything: it is driven so far, and not driven on."""
    points = 0
    for number in count(1):
        first = strike_at(name, redis_url, Strike(how=how, when="suspended", at=number))
        if not first.fate.struck.is_set():
            break
        points += 1
    assert points > 4
    print(f"crash points: {points} {how} suspensions {name}")
