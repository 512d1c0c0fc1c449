"""What both command lines share: an expected error is one sentence, a hint and its exit code, never a traceback."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from esa_preload.errors import (
    EsaPreloadError,
    InvalidRequestError,
    QueueUnavailableError,
    SettingsError,
    WaitTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from esa_preload.settings import SettingRow

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_REDIS = 3
EXIT_TIMEOUT = 4
EXIT_INTERRUPTED = 130


def run_cli(
    cli: Callable[..., object], *, extra: str = "worker", extras: Mapping[str, str] | None = None
) -> NoReturn:
    """
    Run a click command line and end the process with the documented exit code.

    Args:
        extra: what brings along the libraries that its commands need; ``extras``: those that another one brings.
    """
    try:
        code = cli(standalone_mode=False)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.exit(EXIT_INTERRUPTED)
    except click.ClickException as exc:
        exc.show()
        sys.exit(EXIT_USAGE)
    except EsaPreloadError as exc:
        click.echo(f"Error: {exc}" + (f"\n  {exc.hint}" if exc.hint else ""), err=True)
        sys.exit(exit_code(exc))
    except ModuleNotFoundError as exc:
        if (exc.name or "").startswith("esa_preload"):
            raise
        extra = (extras or {}).get((exc.name or "").partition(".")[0], extra)
        click.echo(f"Error: {exc.name} is not installed\n  pip install 'esa-preload[{extra}]'", err=True)
        sys.exit(EXIT_USAGE)
    except BrokenPipeError:
        sys.stderr.close()  # the reader went away: nothing to say to it
        sys.exit(EXIT_FAILED)
    # click returns what a command gave to Exit.
    sys.exit(code if isinstance(code, int) else 0)


def exit_code(error: EsaPreloadError) -> int:
    """Return the documented exit code of *error*."""
    match error:
        case SettingsError() | InvalidRequestError():
            return EXIT_USAGE
        case QueueUnavailableError():
            return EXIT_REDIS
        case WaitTimeoutError():
            return EXIT_TIMEOUT
        case _:
            return EXIT_FAILED


def print_settings(rows: Sequence[SettingRow], form: str) -> None:
    """Print a daemon's settings as ``table``, ``json``, ``env`` (a sample environment file) or ``markdown`` (the table of the docs)."""
    match form:
        case "json":
            documents = [{"variable": r.variable, "default": r.default, "help": r.help} for r in rows]
            click.echo(json.dumps(documents, indent=2))
        case "env":
            # None is set: an empty line of the file would win over what a unit or a container sets.
            for row in rows:
                click.echo(f"# {row.help}\n#{row.variable}={row.default}\n")
        case "markdown":
            click.echo("| variable | default | meaning |\n|---|---|---|")
            for row in rows:
                click.echo(f"| `{row.variable}` | {f'`{row.default}`' if row.default else ''} | {row.help} |")
        case _:
            _print_settings_table(rows)


def _print_settings_table(rows: Sequence[SettingRow]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    shown = Table("variable", "default", "meaning", box=None, pad_edge=False)
    for row in rows:
        shown.add_row(row.variable, row.default, row.help)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
