"""How a check is shown: a table on a terminal, plain lines in a pipe, one JSON document on request."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from esa_preload_worker.check.audit import Audit
    from esa_preload_worker.check.model import Outcome, Violation

    Progress = Callable[[str, int, int], object]

SHOWN_A_NAME = 20
"""Violations of one name that people are shown; the rest are counted."""
JSON_MAX = 10_000
_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "skipped": "dim"}


def show_outcomes(outcomes: Sequence[Outcome], *, is_good: bool, as_json: bool) -> None:
    """Print what the checks of the environment found."""
    if as_json:
        print_json({"ok": is_good, "checks": [asdict(outcome) for outcome in outcomes]})
    elif sys.stdout.isatty():
        _show_table(outcomes)
    else:
        for outcome in outcomes:
            click.echo(f"{outcome.state:<8}{outcome.name:<14}{outcome.sentence}")
            if outcome.hint:
                click.echo(f"{'':<22}hint: {outcome.hint}")


def _show_table(outcomes: Sequence[Outcome]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only people wait for it
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, show_header=False)
    for column in ("state", "name"):
        table.add_column(column, no_wrap=True)
    table.add_column("sentence")
    for outcome in outcomes:
        said = Text(outcome.sentence)
        if outcome.hint:
            said.append(f"\n{outcome.hint}", style="dim")
        table.add_row(Text(outcome.state, style=_STYLES[outcome.state]), outcome.name, said)
    Console().print(table)


def audit_json(audit: Audit) -> dict[str, object]:
    """Return what ``--json`` prints of an audit."""
    return {
        "counts": dict(sorted(audit.counts.items())),
        "violation_count": len(audit.violations),
        "violations": [violation.as_json() for violation in audit.violations[:JSON_MAX]],
    }


def show_audit(audit: Audit) -> None:
    """Print for people what was looked at, and what is wrong."""
    shown = ", ".join(f"{name} {count:,}" for name, count in sorted(audit.counts.items()) if count)
    click.echo(f"looked at: {shown or 'an empty ledger'}")
    if moving := audit.counts["requests_moving"]:
        click.echo(f"{moving:,} requests moved all the while: the owners of their URLs were not compared")
    _show_violations(audit.violations)
    several = "1 violation" if len(audit.violations) == 1 else f"{len(audit.violations):,} violations"
    click.echo(several if audit.violations else "every invariant holds")


def _show_violations(violations: Sequence[Violation]) -> None:
    seen: Counter[str] = Counter()
    for violation in violations:
        seen[violation.name] += 1
        if seen[violation.name] <= SHOWN_A_NAME:
            click.echo(f"{violation.name}: {violation.key}: {violation.found}; expected {violation.expected}")
    for name, count in seen.items():
        if count > SHOWN_A_NAME:
            click.echo(f"{name}: … and {count - SHOWN_A_NAME:,} more")


def print_json(document: object) -> None:
    """Print one JSON document."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


@contextlib.contextmanager
def progress_bar() -> Generator[Progress | None]:
    """Yield what shows progress on standard error; ``None`` when that is no terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only people wait for it
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("ledger", total=None)
        yield lambda step, done, total: bar.update(task, description=step, completed=done, total=total)
