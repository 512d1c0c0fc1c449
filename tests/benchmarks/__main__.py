"""``make bench``: measure what docs/performance.md states, print it, and write it there."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from benchmarks import (
    bulk,
    calls,
    crowds,
    durability,
    growth,
    http,
    idle,
    limits,
    measures,
    plots,
    rates,
    recovery,
    traffic,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.page import Section


SECTIONS: dict[str, Callable[[], Sequence[Section]]] = {
    "figures": lambda: [asyncio.run(measures.measure())],
    "recovery": lambda: [asyncio.run(recovery.measure())],
    "durability": lambda: [asyncio.run(durability.measure())],
    "calls": lambda: [asyncio.run(calls.measure())],
    "idle": lambda: asyncio.run(idle.measure()),
    "rates": rates.measure,
    "limits": lambda: [asyncio.run(limits.measure())],
    "fairness": lambda: [traffic.fairness()],
    "trickle": lambda: [traffic.trickles()],
    "bulk": lambda: [asyncio.run(bulk.measure())],
    "growth": lambda: [asyncio.run(growth.measure())],
    "http": lambda: [asyncio.run(http.measure())],
    "crowds": lambda: [asyncio.run(crowds.measure())],
}
FULL: dict[str, Callable[[], Sequence[Section]]] = {
    "bulk": lambda: [asyncio.run(bulk.measure(bulk.MANY_URLS))],
    "growth": lambda: [asyncio.run(growth.measure(growth.DEPTHS_FULL))],
}
"""What is measured in the place of a section with ``--full``."""


def main() -> None:
    """Measure what was asked for, or everything."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "what",
        nargs="*",
        choices=[*SECTIONS, []],
        help=", ".join(SECTIONS) + "; all unless given",
        metavar="WHAT",
    )
    parser.add_argument(
        "--plots",
        action="store_true",
        help="only draw the pictures of rates, into docs/images; measures nothing",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="bulk with a million URLs: half an hour, with a line every ten seconds; growth to ten million: ten minutes, 5 GB of memory",
    )
    arguments = parser.parse_args()
    if arguments.plots:
        for path in plots.draw():
            print(path)
        return
    for name in arguments.what or SECTIONS:
        measure = FULL.get(name, SECTIONS[name]) if arguments.full else SECTIONS[name]
        for section in measure():
            section.show()
            section.write()


if __name__ == "__main__":
    main()
