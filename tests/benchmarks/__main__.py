"""``make bench``: measure what docs/performance.md states, print it, and write it there."""

from __future__ import annotations

import asyncio
import json
import platform
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.measures import Figure, enqueue_rates, memory_a_url
from esa_preload_worker.embedded import embedded_valkey

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "build" / "benchmarks.json"
BEGIN, END = "<!-- figures: written by `make bench` -->", "<!-- end of figures -->"


def main() -> None:
    """Run every measure on a Valkey of its own."""
    figures: list[Figure] = []
    for measure in (memory_a_url, enqueue_rates):
        with (
            tempfile.TemporaryDirectory(prefix="esap-bench-") as directory,
            embedded_valkey(Path(directory) / "v") as socket,
        ):
            figures += asyncio.run(measure(f"unix://{socket}"))
    _show(figures)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([figure.document() for figure in figures], indent=2) + "\n")
    _write_page(figures)


def _rows(figures: list[Figure]) -> list[tuple[str, ...]]:
    return [
        (
            figure.what,
            figure.shown(statistics.median(figure.values)),
            f"{figure.shown(min(figure.values))} to {figure.shown(max(figure.values))}",
            f"{statistics.median(figure.ratios):.2f} x" if figure.ratios else "",
            f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}" if figure.ratios else "",
            figure.target,
        )
        for figure in figures
    ]


COLUMNS = ("what", "median", "spread", "ours to it", "spread", "target")


def _show(figures: list[Figure]) -> None:
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for row in _rows(figures):
        table.add_row(*row)
    Console(width=150).print(table)


def _write_page(figures: list[Figure]) -> None:
    lines = [f"| {' | '.join(row)} |" for row in [COLUMNS, ("---",) * len(COLUMNS), *_rows(figures)]]
    where = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    page = PAGE.read_text()
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\nMeasured {where}.\n\n" + "\n".join(lines) + f"\n\n{END}{after}")


if __name__ == "__main__":
    main()
