"""What a demo shows while it runs: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from esa_preload.urls import printable
from esa_preload_worker.demo.tally import REJECTED_SHOWN, rows

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from esa_preload.model import Rejection
    from esa_preload_worker.demo.scrape import Scraped
    from esa_preload_worker.demo.tally import Tally

LINE_EVERY_S = 2.0
_PIPE_WIDTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """
    A moment of a demo.

    Attributes:
        is_enqueued: the whole list is in; until then ``accepted`` grows.
        ended: URLs that are neither pending nor in flight.
    """

    elapsed_s: float
    accepted: int
    is_enqueued: bool
    ended: int
    jobs: int
    scraped: Scraped
    calls_per_s: float


def describe(progress: Progress) -> str:
    """Return *progress* as one line."""
    of = f"{progress.accepted:,}" if progress.is_enqueued else f"{progress.accepted:,} so far"
    scraped = progress.scraped
    pace = f", now at {scraped.create_rate:.1f} jobs/s" if scraped.create_rate else ""
    return (
        f"{progress.elapsed_s:5.1f} s  {progress.ended:,} of {of} URLs submitted, {progress.jobs:,} jobs,"
        f" {scraped.calls:,} calls ({progress.calls_per_s:.1f}/s), {scraped.throttled_calls:,} throttled{pace}"
    )


def console(*, to_stderr: bool) -> Console:
    """Return where a demo talks: as wide as the terminal, or wide enough for paths."""
    shown = Console(stderr=to_stderr, highlight=False)
    return shown if shown.is_terminal else Console(stderr=to_stderr, highlight=False, width=_PIPE_WIDTH)


class View:
    """Show progress while inside; call :meth:`show` as often as you like."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None
        self._next_line_at = time.monotonic() + LINE_EVERY_S
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Bring the view up to date."""
        if self._live:
            self._live.update(_bar(progress), refresh=True)
        elif time.monotonic() >= self._next_line_at:
            self._next_line_at = time.monotonic() + LINE_EVERY_S
            say(self._console, describe(progress))


def say(console: Console, text: str) -> None:
    """Print *text* as it is: no markup, no line breaks of rich's own."""
    console.print(Text(text), soft_wrap=True)


def show_rejected(console: Console, rejected: Sequence[Rejection], count: int) -> None:
    """Print the first rejected URLs with their reasons."""
    for rejection in rejected[:REJECTED_SHOWN]:
        say(console, f"rejected {printable(rejection.url, 120)}: {rejection.reason}")
    if count > REJECTED_SHOWN:
        say(console, f"… and {count - REJECTED_SHOWN:,} more")


def show_table(console: Console, tally: Tally) -> None:
    """Print the figures of the end."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="bold")
    table.add_column(style="dim")
    for row in rows(tally):
        table.add_row(*row)
    console.print()
    console.print(table)
    console.print()


def _bar(progress: Progress) -> Table:
    grid = Table.grid(expand=True)
    grid.add_row(
        ProgressBar(total=max(1, progress.accepted), completed=progress.ended, pulse=not progress.accepted)
    )
    grid.add_row(Text(describe(progress)))
    return grid
