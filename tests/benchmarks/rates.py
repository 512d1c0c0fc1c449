"""How much of an unknown limit is used, and what share of the calls is refused for it: ours beside what others do, in virtual time."""

from __future__ import annotations

import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from typing import TYPE_CHECKING

from benchmarks.page import Section
from benchmarks.peers import Botocore, Constant, FullJitter, SharedPause, run_alone
from integration.rates.reference import Controller
from integration.rates.scenarios import (
    BY_NAME,
    HINTS,
    LATENCIES_S,
    LEAST_USE,
    MOST_THROTTLED,
    SHAPES,
    WORKERS,
    scenario,
)
from integration.rates.simulation import SLOTS, START_MS, run

if TYPE_CHECKING:
    from integration.rates.simulation import Hints, Scenario

SEEDS = (101, 102, 103, 104)
"""None of them was used to choose anything."""
CONSTANTS = (
    *(0.03, 0.045, 0.06, 0.08, 0.1, 0.13, 0.17, 0.22, 0.28, 0.34, 0.4, 0.46, 0.52, 0.58, 0.64, 0.7, 0.75),
    *(0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0, 1.01, 1.02, 1.03),
)
"""Of the limit's mean: the best constant pace is sought among these."""
FAST, SLOW_S = 50, 0.8
BESIDE = ((0.05, "none"), (0.8, "none"), (0.2, "s"))
"""Latency and hints at which others run beside; 4 workers."""

Cell = tuple[str, float, int, "Hints"]
Figures = tuple[float, float]
"""Use of the limit, share of the calls that were refused."""


def _mean(found: list[Figures]) -> Figures:
    return statistics.mean(use for use, _ in found), statistics.mean(throttled for _, throttled in found)


def ours(cell: Cell) -> Figures:
    """Run our pace, by the specification that the script agrees with to the last bit."""
    found: list[Figures] = []
    for seed in SEEDS:
        outcome = run(Controller(now=START_MS), _scenario(cell, seed))
        found.append((outcome.use, outcome.throttled))
    return _mean(found)


def best_constant(cell: Cell) -> Figures:
    """Return the constant pace that uses most at 3 % refused: what somebody who knew the limit would set."""
    best = (0.0, 0.0)
    for part in CONSTANTS:
        outcome = run(Constant(BY_NAME[cell[0]].rate * part), _scenario(cell, SEEDS[0]))
        if outcome.throttled > 4 * MOST_THROTTLED:
            break
        if outcome.throttled <= MOST_THROTTLED and outcome.use > best[0]:
            best = (outcome.use, outcome.throttled)
    return best


def peers(cell: Cell) -> list[Figures]:
    """Run a shared pause, and each process for itself: full jitter, and botocore's adaptive mode."""
    outcomes = [
        run(SharedPause(), _scenario(cell, SEEDS[0])),
        run_alone(FullJitter(), _scenario(cell, SEEDS[0])),
        run_alone(Botocore(), _scenario(cell, SEEDS[0])),
    ]
    return [(outcome.use, outcome.throttled) for outcome in outcomes]


def measure() -> tuple[Section, ...]:
    """Run every cell of the table, and the peers at four workers without hints."""
    cells: list[Cell] = [
        (shape.name, latency_s, workers, hints)
        for shape in SHAPES
        for latency_s in LATENCIES_S
        for workers in WORKERS
        for hints in HINTS
    ]
    compared = [cell for cell in cells if (cell[1], cell[3]) in BESIDE and cell[2] == 4]
    hard = [cell for cell in cells if _kind(cell) == "hard"]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        found = dict(zip(cells, pool.map(ours, cells, chunksize=4), strict=True))
        constant = dict(
            zip({*compared, *hard}, pool.map(best_constant, {*compared, *hard}, chunksize=2), strict=True)
        )
        others = dict(zip(compared, pool.map(peers, compared), strict=True))
    return _bands(found, constant), _missed(found, constant), _beside(compared, found, constant, others)


def _scenario(cell: Cell, seed: int) -> Scenario:
    name, latency_s, workers, hints = cell
    return scenario(BY_NAME[name], latency_s=latency_s, workers=workers, hints=hints, seed=seed)


def _kind(cell: Cell) -> str:
    """Return which band of the design a cell belongs to; ``slots``: they cannot reach the limit."""
    name, latency_s, workers, _ = cell
    shape = BY_NAME[name]
    if workers * SLOTS / latency_s < 1.1 * shape.rate:
        return "slots"
    if name.endswith("burst 1") or (shape.rate == FAST and latency_s == SLOW_S):
        return "hard"
    return name.partition(" ")[0].partition("-")[0]


NAMES = {
    "bucket": "buckets of burst 5 to 100",
    "window": "windows, after the second",
    "steps": "steps 20 - 8 - 20",
    "hard": "burst 1, or 50/s at 800 ms: of the best constant pace",
}


def is_checked(cell: Cell) -> bool:
    """Whether *cell* belongs to the half that the search for the constants did not see."""
    name, latency_s, workers, hints = cell
    place = [shape.name for shape in SHAPES].index(name) + LATENCIES_S.index(latency_s)
    return (place + WORKERS.index(workers) + HINTS.index(hints)) % 2 == 1


def _judged(found: dict[Cell, Figures], constant: dict[Cell, Figures]) -> dict[Cell, Figures]:
    """Return what the band is about: use of the limit, or of the best constant pace where no pace comes near the limit."""
    return {
        cell: (use / constant[cell][0] if _kind(cell) == "hard" and constant[cell][0] else use, throttled)
        for cell, (use, throttled) in found.items()
        if _kind(cell) in NAMES
    }


def _is_inside(figures: Figures) -> bool:
    return figures[0] >= LEAST_USE and figures[1] <= MOST_THROTTLED


def _bands(found: dict[Cell, Figures], constant: dict[Cell, Figures]) -> Section:
    judged = _judged(found, constant)
    rows: list[tuple[str, ...]] = []
    for kind, name in NAMES.items():
        for hints in (("none", "ms"), ("s",)):
            cells = [cell for cell in judged if _kind(cell) == kind and cell[3] in hints]
            checked = [cell for cell in cells if is_checked(cell)]
            uses, refused = [judged[cell][0] for cell in cells], [judged[cell][1] for cell in cells]
            rows.append(
                (
                    name,
                    "whole seconds" if hints == ("s",) else "none or ms",
                    *(
                        f"{sum(_is_inside(judged[cell]) for cell in of)} of {len(of)}"
                        for of in (cells, checked)
                    ),
                    *(f"{figure:.1%}" for figure in (statistics.mean(uses), min(uses))),
                    *(f"{figure:.1%}" for figure in (statistics.mean(refused), max(refused))),
                )
            )
    return Section(
        name="rates",
        columns=("limit", "hints", "in the band", "checked half", "used", "least", "refused", "most"),
        rows=rows,
        note=(
            f"600 s of virtual time, learning included; 50, 200 and 800 ms, 1, 4 and 16 workers of {SLOTS} slots, the mean of seeds "
            f"{SEEDS[0]} to {SEEDS[-1]}. The band: at least 95 % used, at most 3 % refused."
        ),
        document=[[*cell, *figures] for cell, figures in found.items()],
    )


def _missed(found: dict[Cell, Figures], constant: dict[Cell, Figures]) -> Section:
    judged = _judged(found, constant)
    rows: list[tuple[str, ...]] = []
    for shape, latency_s, hints in product(SHAPES, LATENCIES_S, HINTS):
        cells: list[Cell] = [(shape.name, latency_s, workers, hints) for workers in WORKERS]
        missed = [cell for cell in cells if cell in judged and not _is_inside(judged[cell])]
        if not missed:
            continue
        uses, refused = [judged[cell][0] for cell in missed], [judged[cell][1] for cell in missed]
        of = " of the best constant pace" if _kind(missed[0]) == "hard" else ""
        rows.append(
            (
                shape.name,
                f"{latency_s * 1000:.0f} ms",
                hints,
                ", ".join(str(cell[2]) for cell in missed),
                f"{min(uses):.1%}{of}",
                f"{max(refused):.1%}",
            )
        )
    return Section(
        name="rates outside the band",
        columns=("limit", "latency", "hints", "workers", "least used", "most refused"),
        rows=rows,
        note="Every cell of the table above that misses the band.",
        document=[[*cell, *figures] for cell, figures in judged.items() if not _is_inside(figures)],
    )


def _beside(
    compared: list[Cell],
    found: dict[Cell, Figures],
    constant: dict[Cell, Figures],
    others: dict[Cell, list[Figures]],
) -> Section:
    def text(figures: Figures) -> str:
        return f"{figures[0]:.1%} / {figures[1]:.1%}"

    rows = [
        (
            cell[0],
            f"{cell[1] * 1000:.0f} ms",
            cell[3],
            text(found[cell]),
            "none" if cell[0].startswith("steps") else text(constant[cell]),
            *map(text, others[cell]),
        )
        for cell in compared
    ]
    return Section(
        name="rates beside others",
        columns=(
            "limit",
            "latency",
            "hints",
            "ours",
            "best constant pace",
            "shared pause of 1 s",
            "full jitter, a slot",
            "botocore adaptive, a process",
        ),
        rows=rows,
        note="Used / refused; 4 workers. A hint is in whole seconds; full jitter and botocore read none. The best constant pace is that of somebody who knows the limit.",
        document=[[*cell, *found[cell], *constant[cell], *others[cell]] for cell in compared],
    )
