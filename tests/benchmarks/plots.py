"""Pictures for docs/performance.md: what the pace allows and what gets through over time, beside the limit that nobody tells it."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from benchmarks.page import ROOT
from integration.rates.limits import Bucket, Window
from integration.rates.reference import Controller
from integration.rates.scenarios import BY_NAME, scenario
from integration.rates.simulation import START_MS, answer, simulate

if TYPE_CHECKING:
    from pathlib import Path

    from integration.rates.limits import Limit
    from integration.rates.simulation import Outcome

IMAGES = ROOT / "docs" / "images"
SEED = 101
STEP_S = 5
"""Calls are counted over so long."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One run, and the file that shows it."""

    file: str
    title: str
    shape: str
    latency_s: float
    workers: int
    top: float


PICTURES = (
    Picture(
        file="rate-bucket.svg",
        title="Token bucket, 20 calls/s, burst 20; 4 workers, 200 ms",
        shape="bucket 20/s burst 20",
        latency_s=0.2,
        workers=4,
        top=40,
    ),
    Picture(
        file="rate-steps.svg",
        title="Token bucket that falls from 20 to 8 calls/s and rises again; 4 workers, 200 ms",
        shape="steps 20-8-20 burst 20",
        latency_s=0.2,
        workers=4,
        top=40,
    ),
    Picture(
        file="rate-window.svg",
        title="Fixed window, 200 calls in 60 s (3.3 calls/s); 4 workers, 200 ms",
        shape="window 200/60 s",
        latency_s=0.2,
        workers=4,
        top=12,
    ),
    Picture(
        file="rate-16-workers.svg",
        title="Token bucket, 20 calls/s, burst 20; 16 workers, 800 ms",
        shape="bucket 20/s burst 20",
        latency_s=0.8,
        workers=16,
        top=40,
    ),
)


def draw(into: Path = IMAGES) -> list[Path]:
    """Write every picture; the same bytes each time."""
    into.mkdir(exist_ok=True)
    return [_draw(picture, into / picture.file) for picture in PICTURES]


def _run(picture: Picture) -> tuple[Outcome, list[tuple[float, float]], Limit]:
    """Return what came of the run, the pace at each second, and the limit."""
    run = scenario(
        BY_NAME[picture.shape],
        latency_s=picture.latency_s,
        workers=picture.workers,
        hints="none",
        seed=SEED,
    )
    pace, running = Controller(now=START_MS), simulate(run)
    allowed: list[tuple[float, float]] = []
    question = next(running)
    try:
        while True:
            reply = answer(pace, question)
            at = (question.now_ms - START_MS) / 1000
            if not allowed or at >= allowed[-1][0] + 1:
                allowed.append((at, round(pace.rate, 2)))
            question = running.send(reply)
    except StopIteration as end:
        return end.value, allowed, run.limit


def _limit_line(limit: Limit, until: int) -> tuple[list[float], list[float]]:
    if isinstance(limit, Window):
        return [0, until], [limit.calls / limit.length] * 2
    assert isinstance(limit, Bucket)
    points = [(0.0, limit.rate), *limit.steps, (float(until), limit.rate_at(until))]
    return [at for at, _ in points], [rate for _, rate in points]


def _draw(picture: Picture, path: Path) -> Path:
    outcome, allowed, limit = _run(picture)
    until = 600
    times = list(range(0, until, STEP_S))
    accepted = [0] * len(times)
    for at, is_accepted in outcome.trace:
        accepted[int(at) // STEP_S] += is_accepted
    refused = sorted({int(at) for at, is_accepted in outcome.trace if not is_accepted})

    matplotlib: Any = importlib.import_module("matplotlib")
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.hashsalt": "esa-preload", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
    )
    pyplot: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    axes.step(
        *_limit_line(limit, until),
        where="post",
        color="#888888",
        linewidth=1.2,
        linestyle="--",
        label="limit",
    )
    axes.stairs(
        [count / STEP_S for count in accepted],
        [*times, until],
        color="#1f77b4",
        alpha=0.35,
        fill=True,
        label=f"let in, over {STEP_S} s",
    )
    axes.plot(*zip(*allowed, strict=True), color="#d95f02", linewidth=1.3, label="pace")
    axes.plot(
        refused,
        [-0.035 * picture.top] * len(refused),
        linestyle="none",
        marker="|",
        markersize=5,
        color="#c00000",
        label=f"refused: {outcome.throttled:.1%}",
    )
    axes.set(xlim=(0, until), ylim=(-0.07 * picture.top, picture.top), xlabel="s", ylabel="calls/s")
    axes.set_title(picture.title, fontsize=10, loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4, alpha=0.6)
    axes.legend(ncols=4, frameon=False, loc="upper right", fontsize=8)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    return path
