"""The pace finds limits that nobody tells, and stays at them: the real scripts in virtual time."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from integration.rates.scenarios import BY_NAME, LEAST_USE, MOST_THROTTLED, scenario

if TYPE_CHECKING:
    from integration.rates.on_valkey import Scripts
    from integration.rates.simulation import Hints

SEEDS = (1, 2)
Cell = tuple[str, float, int, "Hints"]

CELLS: tuple[Cell, ...] = (
    ("bucket 5/s burst 5", 0.05, 4, "none"),
    ("bucket 5/s burst 20", 0.2, 16, "ms"),
    ("bucket 5/s burst 5", 0.8, 1, "ms"),
    ("bucket 20/s burst 5", 0.2, 4, "none"),
    ("bucket 20/s burst 20", 0.05, 1, "s"),
    ("bucket 20/s burst 100", 0.8, 4, "none"),
    ("window 100/60 s", 0.2, 4, "s"),
    ("window 200/60 s", 0.05, 16, "none"),
    ("steps 20-8-20 burst 20", 0.05, 4, "none"),
)
"""A selection; `python -m benchmarks rates` runs them all."""


def name_of(cell: Cell) -> str:
    """Return a name for a report."""
    shape, latency_s, workers, hints = cell
    return f"{shape}, {latency_s * 1000:.0f} ms, {workers} workers, hints {hints}"


def hold_to_bands(scripts: Scripts, cells: tuple[Cell, ...], seeds: tuple[int, ...]) -> None:
    """Run *cells* side by side and hold the mean of each over *seeds* to the bands."""
    runs = [
        scenario(BY_NAME[shape], latency_s=latency_s, workers=workers, hints=hints, seed=seed)
        for shape, latency_s, workers, hints in cells
        for seed in seeds
    ]
    outcomes = scripts.run(runs)
    outside: list[str] = []
    for i, cell in enumerate(cells):
        mine = outcomes[i * len(seeds) : (i + 1) * len(seeds)]
        use = statistics.mean(outcome.use for outcome in mine)
        throttled = statistics.mean(outcome.throttled for outcome in mine)
        print(f"{name_of(cell)}: {use:.1%} used, {throttled:.1%} throttled")
        if use < LEAST_USE or throttled > MOST_THROTTLED:
            outside.append(f"{name_of(cell)}: {use:.1%} used, {throttled:.1%} throttled")
    assert not outside, outside


def test_at_the_limit_never_over_it(scripts: Scripts) -> None:
    """Of a limit that nobody tells at least 95 % are used, and at most 3 % of the calls are refused, its learning included."""
    hold_to_bands(scripts, CELLS, SEEDS[:1])


@pytest.mark.slow
def test_at_fast_limits_too(scripts: Scripts) -> None:
    """The same at 50 calls/s, and over more seeds."""
    fast: tuple[Cell, ...] = (
        ("bucket 50/s burst 5", 0.05, 4, "none"),
        ("bucket 50/s burst 20", 0.2, 16, "ms"),
        ("bucket 50/s burst 100", 0.05, 4, "s"),
    )
    hold_to_bands(scripts, (*CELLS, *fast), (1, 2, 3))
