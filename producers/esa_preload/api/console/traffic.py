"""What all workers call, for the chart; and how fast each site goes."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from esa_preload.api.console.words import grouped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    from esa_preload.model import SiteStatus, TrafficPoint

MINUTES: Final = 15

LOOK_EVERY_S: Final = 4.0
LOOKS: Final = 15
"""A site's rate is reckoned over a minute of looks, whoever looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """
    The chart and what it shows in words.

    Attributes:
        points: seconds since 1970, calls/s, throttled calls/s: a list each, as uPlot takes them.
    """

    points: tuple[list[float], list[float], list[float]]
    summary: str
    minutes: int = MINUTES


def chart_of(traffic: Sequence[TrafficPoint], now: datetime) -> Chart:
    """Return the chart of *traffic*, without the bucket that is not over yet: it would look like a fall."""
    whole = [point for point in traffic if (now - point.at).total_seconds() >= point.seconds]
    calls, throttled, urls = (
        sum(getattr(point, name) for point in traffic) for name in ("calls", "throttled", "urls_submitted")
    )
    share = f" ({throttled / calls:.1%})" if throttled else ""
    return Chart(
        points=(
            [point.at.timestamp() for point in whole],
            [point.calls / point.seconds for point in whole],
            [point.throttled / point.seconds for point in whole],
        ),
        summary=f"In the last {MINUTES} minutes: {grouped(calls)} calls of ESA, {grouped(throttled)} of them throttled{share}; "
        f"{grouped(urls)} URLs submitted.",
    )


class Rates:
    """How many URLs of each site are submitted a second, from the looks of the last minute; no look, no rate."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, Mapping[int, int]]] = deque(maxlen=LOOKS)

    def look(self, sites: Iterable[SiteStatus]) -> dict[int, float]:
        """Take in what the sites have submitted by now, and return the rate of those that were seen before."""
        now = self._clock()
        submitted = {site.site_id: site.submitted for site in sites}
        while self._looks and now - self._looks[0][0] > LOOKS * LOOK_EVERY_S:
            self._looks.popleft()
        rates = self._rates(now, submitted)
        if not self._looks or now - self._looks[-1][0] >= LOOK_EVERY_S:
            self._looks.append((now, submitted))
        return rates

    def _rates(self, now: float, submitted: Mapping[int, int]) -> dict[int, float]:
        if not self._looks or now - self._looks[0][0] < 1:
            return {}
        at, before = self._looks[0]
        return {
            site_id: max(0, count - before[site_id]) / (now - at)
            for site_id, count in submitted.items()
            if site_id in before
        }
