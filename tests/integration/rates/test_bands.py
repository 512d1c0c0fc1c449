"""The pace finds limits that nobody tells, and stays at them: the real scripts in virtual time."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from integration.rates.reference import Controller
from integration.rates.scenarios import BY_NAME, LEAST_USE, MOST_THROTTLED, scenario
from integration.rates.simulation import START_MS, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from integration.rates.on_valkey import Scripts
    from integration.rates.simulation import Hints, Outcome, Scenario

Cell = tuple[str, float, int, "Hints"]

ON_VALKEY: tuple[Cell, ...] = (
    ("bucket 5/s burst 20", 0.8, 16, "ms"),
    ("window 100/60 s", 0.2, 4, "s"),
    ("window 200/60 s", 0.05, 1, "none"),
)
CELLS: tuple[Cell, ...] = (
    *ON_VALKEY,
    ("bucket 5/s burst 5", 0.05, 4, "none"),
    ("bucket 5/s burst 5", 0.8, 1, "ms"),
    ("bucket 20/s burst 5", 0.2, 4, "none"),
    ("bucket 20/s burst 20", 0.05, 1, "s"),
    ("bucket 20/s burst 100", 0.8, 4, "none"),
    ("bucket 50/s burst 5", 0.05, 4, "none"),
    ("bucket 50/s burst 20", 0.2, 16, "ms"),
    ("bucket 50/s burst 100", 0.05, 4, "s"),
    ("steps 20-8-20 burst 20", 0.05, 4, "none"),
)
"""A selection; `python -m benchmarks rates` runs them all."""


def runs_of(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Scenario]:
    """Return the runs of *cells*, each over *seeds*."""
    return [
        scenario(BY_NAME[shape], latency_s=latency_s, workers=workers, hints=hints, seed=seed)
        for shape, latency_s, workers, hints in cells
        for seed in seeds
    ]


def hold_to_bands(cells: Sequence[Cell], outcomes: Sequence[Outcome]) -> None:
    """Hold the mean of each cell over its seeds to the bands."""
    seeds = len(outcomes) // len(cells)
    outside: list[str] = []
    for i, (shape, latency_s, workers, hints) in enumerate(cells):
        mine = outcomes[i * seeds : (i + 1) * seeds]
        use = statistics.mean(outcome.use for outcome in mine)
        throttled = statistics.mean(outcome.throttled for outcome in mine)
        figures = f"{shape}, {latency_s * 1000:.0f} ms, {workers} workers, hints {hints}: {use:.1%} used, {throttled:.1%} throttled"
        print(figures)
        if use < LEAST_USE or throttled > MOST_THROTTLED:
            outside.append(figures)
    assert not outside, outside


def test_at_the_limit_never_over_it(scripts: Scripts) -> None:
    """Of a limit that nobody tells at least 95 % are used, and at most 3 % of the calls are refused, its learning included."""
    hold_to_bands(ON_VALKEY, scripts.run(runs_of(ON_VALKEY, (1,))))


def test_the_specification_holds_them_too() -> None:
    """More limits and seeds, by the specification that the script agrees with to the last bit."""
    runs = runs_of(CELLS, (101, 102))
    hold_to_bands(CELLS, [run(Controller(now=START_MS), each) for each in runs])


@pytest.mark.slow
def test_at_fast_limits_too(scripts: Scripts) -> None:
    """All of the selection on the scripts themselves."""
    hold_to_bands(CELLS, scripts.run(runs_of(CELLS, (1,))))
