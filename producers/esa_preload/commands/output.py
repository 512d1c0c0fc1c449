"""What commands print: JSON for programs, tables and progress for people."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from rich.table import Table

    from esa_preload.interface import Preloads
    from esa_preload.model import RequestStatus


def print_json(document: object) -> None:
    """Print *document* on one line."""
    click.echo(json.dumps(document, default=str))


def print_table(columns: Sequence[str], rows: Sequence[dict[str, Any]], *, empty: str) -> None:
    """Print *rows* under *columns*, in full width where nobody sees it; *empty* when there are none."""
    if not rows:
        click.echo(empty)
        return
    from rich.console import Console  # noqa: PLC0415

    console = Console(soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 1_000)
    console.print(_table(columns, rows))


def _table(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> Table:
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("site_id", "batch_id", "request_id"))
    for row in rows:
        table.add_row(*(Text(_cell(row[column])) for column in columns))
    return table


@contextlib.contextmanager
def live_table(
    columns: Sequence[str], *, is_live: bool
) -> Generator[Callable[[Sequence[dict[str, Any]], Sequence[dict[str, Any]]], None]]:
    """Yield what shows rows: all of them in place of those before, or the changed ones as lines where nobody looks on."""
    if not is_live:
        yield lambda _, changed: _print_lines(columns, changed)
        return
    from rich.live import Live  # noqa: PLC0415

    with Live(auto_refresh=False) as live:
        yield lambda rows, _: live.update(_table(columns, rows), refresh=True)


def _print_lines(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(" ".join(f"{name}={_cell(row[name])}" for name in columns))


def _cell(value: object) -> str:
    if value is None:
        return ""
    if not isinstance(value, float):
        from esa_preload.urls import printable  # noqa: PLC0415 - keeps --help quick

        # It may come from whoever can write to Redis: nothing in it moves the cursor, or ends the row.
        return printable(str(value))
    return f"{value:.0f}" if abs(value) >= 1_000 else f"{value:.4g}"


@contextlib.contextmanager
def enqueue_progress() -> Generator[Callable[[int], None] | None]:
    """Show on a terminal how many URLs were handled; yields what to tell that to."""
    if not sys.stderr.isatty():
        yield None
        return
    with _progress_bar() as bar:
        task = bar.add_task("enqueued", total=None)
        yield lambda urls: bar.update(task, completed=urls)


async def wait_with_progress(client: Preloads, request_id: str, timeout: float | None) -> RequestStatus:
    """Wait for the end of a request, and show on a terminal how far it is."""
    if not sys.stderr.isatty():
        return await client.wait(request_id, timeout=timeout)
    with _progress_bar() as bar:
        task = bar.add_task("ended")

        def update(status: RequestStatus) -> None:
            bar.update(
                task, total=status.accepted, completed=status.accepted - status.pending - status.in_flight
            )

        return await client.wait(request_id, timeout=timeout, progress=update)


def _progress_bar() -> Any:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
