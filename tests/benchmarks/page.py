"""The tables of docs/performance.md: each stands between two marks, and is replaced when it was measured again."""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "build" / "measured.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """
    What one measure came to.

    Attributes:
        name: of its marks in the page.
        note: a sentence above the table.
        document: the single values, for JSON.
    """

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    document: Any = None

    def show(self) -> None:
        """Print the table."""
        table = Table(*self.columns, box=None, pad_edge=False, title=self.name, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        Console(width=150).print(table, self.note)

    def write(self) -> None:
        """Put the table into the page, and the single values beside those of other measures."""
        where = f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"
        lines = [f"| {' | '.join(row)} |" for row in [self.columns, ("---",) * len(self.columns), *self.rows]]
        told = f"Measured {where}.{' ' if self.note else ''}{self.note}"
        begin, end = f"<!-- {self.name}: written by `make bench` -->", f"<!-- end of {self.name} -->"
        before, _, rest = PAGE.read_text().partition(begin)
        _, mark, after = rest.partition(end)
        assert mark, f"{PAGE} has no place for {self.name}"
        PAGE.write_text(f"{before}{begin}\n\n{told}\n\n" + "\n".join(lines) + f"\n\n{end}{after}")
        RESULTS.parent.mkdir(exist_ok=True)
        known = cast("dict[str, Any]", json.loads(RESULTS.read_text())) if RESULTS.exists() else {}
        RESULTS.write_text(json.dumps({**known, self.name: self.document}, indent=2) + "\n")
