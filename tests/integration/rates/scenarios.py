"""The limits of the design's table, and the bands that the pace is held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from integration.rates.limits import Bucket, Window
from integration.rates.simulation import Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

    from integration.rates.limits import Limit
    from integration.rates.simulation import Hints

LATENCIES_S = (0.05, 0.2, 0.8)
WORKERS = (1, 4, 16)
HINTS: tuple[Hints, ...] = ("none", "ms", "s")

LEAST_USE = 0.95
MOST_THROTTLED = 0.03


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of limit: ``make`` one of it for a seed; ``rate``: calls/s that it lets in on the mean."""

    name: str
    make: Callable[[int], Limit]
    rate: float
    warm_s: float = 0.0


def _bucket(rate: int, burst: int) -> Shape:
    return Shape(f"bucket {rate}/s burst {burst}", lambda _: Bucket(rate, burst), rate)


def _window(calls: int) -> Shape:
    return Shape(
        f"window {calls}/60 s", lambda seed: Window(calls, phase=seed * 17.0 % 60), calls / 60, warm_s=120
    )


SHAPES = (
    *(_bucket(rate, burst) for rate in (5, 20, 50) for burst in (1, 5, 20, 100)),
    _window(100),
    _window(200),
    Shape("steps 20-8-20 burst 20", lambda _: Bucket(20, 20, ((200, 8), (400, 20))), 16),
)
BY_NAME = {shape.name: shape for shape in SHAPES}


def scenario(
    shape: Shape, *, latency_s: float, workers: int, hints: Hints, seed: int, duration_s: float = 600
) -> Scenario:
    """Return one run."""
    return Scenario(
        limit=shape.make(seed),
        latency_s=latency_s,
        workers=workers,
        hints=hints,
        seed=seed,
        duration_s=duration_s,
        warm_s=shape.warm_s,
    )
