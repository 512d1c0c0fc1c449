"""The scenarios lead a worker through all of its code that waits."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

from esa_preload_worker import bulk, pump, submit, turns
from integration.crash_points.scenarios import SCENARIOS
from integration.crash_points.seams import Strike
from integration.crash_points.strikes import strike_at

if TYPE_CHECKING:
    from types import ModuleType


CALLS = [
    Strike(how=how, when=when, at=number)
    for how in ("freezes", "pauses")
    for when in ("before", "after")
    for number in (2, 3, 4)
] + [Strike(how="stalls", when="before", at=3)]
"""Around the claim, Create, and the record of its job."""


def awaits_of(module: ModuleType) -> dict[range, str]:
    """Return the lines of each ``await`` of *module*, and its text."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    return {
        range(node.lineno, (node.end_lineno or node.lineno) + 1): ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Await)
    }


def test_every_await_of_the_path_is_a_point(redis_url: str) -> None:
    """A worker has stood at each ``await`` of bulk, pump, submit and turns: one that no scenario reaches would never be struck."""
    strikes: list[tuple[str, Strike | None]] = [(name, None) for name in SCENARIOS]
    strikes += [(name, strike) for name in ("two batches",) for strike in CALLS]
    stood = {
        (str(code.co_filename), line)
        for name, strike in strikes
        for code, line in strike_at(name, redis_url, strike).fate.places
    }
    missed = [
        f"{module.__name__}:{lines.start} {text}"
        for module in (bulk, pump, submit, turns)
        for lines, text in awaits_of(module).items()
        if not any((module.__file__, line) in stood for line in lines)
    ]
    assert not missed, "\n".join(missed)
