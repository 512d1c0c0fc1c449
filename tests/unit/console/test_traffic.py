"""The chart, and how fast each site goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from esa_preload.api.console.traffic import LOOK_EVERY_S, LOOKS, Rates, chart_of
from esa_preload.model import SiteStatus, TrafficPoint

NOW = datetime(2026, 11, 30, 12, 0, 5, tzinfo=UTC)


def points(*calls: tuple[int, int]) -> list[TrafficPoint]:
    """Return buckets of 10 s, the last of which began 5 s ago."""
    begin = NOW - timedelta(seconds=5 + 10 * (len(calls) - 1))
    return [
        TrafficPoint(
            at=begin + timedelta(seconds=10 * n), seconds=10, calls=made, throttled=refused, urls_submitted=7
        )
        for n, (made, refused) in enumerate(calls)
    ]


def test_the_chart_has_calls_a_second_without_the_bucket_that_is_not_over() -> None:
    """The last 5 s would look like a fall; the sum counts them."""
    chart = chart_of(points((100, 0), (250, 5), (1_000, 0)), NOW)
    assert chart.points[1:] == ([10.0, 25.0], [0.0, 0.5])
    assert chart.points[0][1] - chart.points[0][0] == 10
    assert chart.summary == (
        "In the last 15 minutes: 1,350 calls of ESA, 5 of them throttled (0.4%); 21 URLs submitted."
    )


def test_a_quiet_queue_has_a_chart_too() -> None:
    """No call, no share of calls."""
    assert "0 calls of ESA, 0 of them throttled; " in chart_of(points((0, 0), (0, 0)), NOW).summary


def site(submitted: int, site_id: int = 1) -> SiteStatus:
    """Return a site that has submitted so many."""
    return SiteStatus(site_id=site_id, state="active", reason="", submitted=submitted)


def test_a_site_goes_as_fast_as_it_did_over_the_last_minute() -> None:
    """By the oldest look of the minute, whoever looked and however often."""
    now = 0.0
    rates = Rates(clock=lambda: now)
    found: list[dict[int, float]] = []
    for second in range(301):
        now = float(second)
        found.append(rates.look([site(100 + 20 * min(second, 200))]))
    assert found[0] == {}
    assert found[100] == {1: 20.0}
    assert found[300] == {1: 0.0}


def test_a_site_that_is_new_or_whose_totals_were_reset_has_no_odd_rate() -> None:
    """None, and never below 0."""
    now = 0.0
    rates = Rates(clock=lambda: now)
    rates.look([site(100)])
    now = 10.0
    assert rates.look([site(5), site(1_000, site_id=2)]) == {1: 0.0}


def test_after_a_long_time_without_a_look_there_is_no_rate() -> None:
    """An average over a night says nothing about now."""
    now = 0.0
    rates = Rates(clock=lambda: now)
    rates.look([site(100)])
    now = LOOKS * LOOK_EVERY_S + 1
    assert rates.look([site(1_000_000)]) == {}
