"""When and how fast: which plans may be asked for, and which may share a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from esa_preload.errors import InvalidRequestError
from esa_preload.model import Plan

NOW = datetime(2030, 1, 1, 12, 0, 10, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return a time so long after NOW."""
    return NOW + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("start_s", "end_s", "why"),
    [
        (60, 60, "later than its start"),
        (60, 0, "later than its start"),
        (10, 40, "rounded up to the minute"),
        (0, 49.999, "rounded up to the minute"),
    ],
)
def test_a_plan_without_a_window_is_refused(start_s: float, end_s: float, why: str) -> None:
    """End before start, or the same once both are rounded: ESA would refuse it when nobody looks any more."""
    with pytest.raises(InvalidRequestError, match=why):
        Plan(start=at(start_s), end=at(end_s))


def test_what_may_be_asked_for_can_be_read_back() -> None:
    """The shortest window is a minute, on the minute, whatever the zone it was written in; nothing is fetched before the start."""
    beijing = timezone(timedelta(hours=8))
    plan = Plan(start=at(1).astimezone(beijing), end=at(51), interval_s=60, slice_len=5)
    read = Plan.from_lane_key(plan.lane_key(NOW))
    assert (read.start, read.end) == (at(50), at(110))
    assert (read.interval_s, read.slice_len) == (60, 5)
    assert plan.lane_key(at(2)) == f",{round(at(110).timestamp() * 1000)},60,5"


def test_the_hour_that_the_clock_shows_twice_is_two_hours() -> None:
    """In autumn 02:10 of the second time is later than 02:30 of the first, whatever the zone's clock shows: the moments count."""
    berlin = ZoneInfo("Europe/Berlin")
    first, second = (
        datetime(2030, 10, 27, 2, minute, fold=fold, tzinfo=berlin) for minute, fold in ((30, 0), (10, 1))
    )
    plan = Plan(start=first, end=second)
    assert plan.lane_key(NOW) == f"{round(first.timestamp() * 1000)},{round(second.timestamp() * 1000)},,"
    with pytest.raises(InvalidRequestError, match="later than its start"):
        Plan(start=second, end=first.replace(minute=45))
