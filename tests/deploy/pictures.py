"""Draw what Prometheus answers to a panel's queries, for a person to look at: build/panels."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deploy.panels import Panel

PANELS_DIR = Path(__file__).resolve().parents[2] / "build" / "panels"

Line = tuple[str, list[float], list[float]]
"""Name, moments and values."""


def lines(legend: str, results: list[dict[str, Any]]) -> list[Line]:
    """Return a query's answer as lines, called as Grafana would."""
    return [
        (
            _named(legend, result["metric"]),
            [float(moment) for moment, _ in result["values"]],
            [float(value) for _, value in result["values"]],
        )
        for result in results
    ]


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], "?"), legend)


def draw(page: str, panel: Panel, shown: list[Line]) -> Path:
    """Draw a panel into a file, whose path is returned."""
    matplotlib: Any = importlib.import_module("matplotlib")  # takes long to load
    matplotlib.use("Agg")
    plt: Any = importlib.import_module("matplotlib.pyplot")
    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    begin = min((moments[0] for _, moments, _ in shown), default=0)
    for name, moments, values in shown:
        axes.plot([moment - begin for moment in moments], values, label=name, marker=".", markersize=3)
    axes.set(title=f"{panel.title} [{panel.unit}]", xlabel=f"seconds. {panel.description}")
    axes.xaxis.label.set_fontsize("small")
    axes.set_ylim(bottom=0)
    if shown:
        axes.legend(fontsize="small")
    else:
        axes.text(0.5, 0.5, "none", transform=axes.transAxes, ha="center")
    PANELS_DIR.mkdir(parents=True, exist_ok=True)
    path = PANELS_DIR / f"{page}-{re.sub(r'[^a-z0-9]+', '-', panel.title.lower()).strip('-')}.png"
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path
