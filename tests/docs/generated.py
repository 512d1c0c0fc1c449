"""
The parts of the docs that are printed from the code.

Run this file to write them: ``.venv/bin/python tests/docs/generated.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

from esa_preload.commands import cli as producers_cli
from esa_preload_worker.commands import cli as worker_cli
from esa_preload_worker.esa.codes import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
WIDTH = 100


def parts() -> dict[tuple[str, str], str]:
    """Return page and name of each generated part, with its text."""
    return {
        ("settings.md", "settings"): output_of(worker_cli, "settings", "--markdown"),
        ("settings.md", "settings of serve"): output_of(producers_cli, "serve", "--settings", "markdown"),
        ("telemetry.md", "codes"): ", ".join(f"`{code}`" for code in sorted(LABELS)) + "\n",
        ("commands.md", "esa-preload"): help_of(producers_cli, "esa-preload"),
        ("commands.md", "esa-preload-worker"): help_of(worker_cli, "esa-preload-worker"),
    }


def output_of(cli: click.Group, *arguments: str) -> str:
    """Return what a command prints."""
    return CliRunner().invoke(cli, arguments, catch_exceptions=False).output


def help_of(cli: click.Group, name: str) -> str:
    """Return the help of each command of *cli*, and of those below it, under a heading of its own."""
    return "\n".join(_sections(cli, name))


def _sections(cli: click.Group, name: str) -> Iterator[str]:
    for command_name, command in cli.commands.items():
        if command.hidden:
            continue
        path = f"{name} {command_name}"
        context = click.Context(
            command,
            info_name=path,
            terminal_width=WIDTH,
            max_content_width=WIDTH,
            help_option_names=["-h", "--help"],
        )
        yield f"### {path}\n\n```text\n{command.get_help(context)}\n```\n"
        if isinstance(command, click.Group):
            yield from _sections(command, path)


def main() -> None:
    """Write every generated part into its page."""
    for (page, name), text in parts().items():
        path = REFERENCE / page
        head, _, rest = path.read_text(encoding="utf-8").partition(f"<!-- generated: {name} -->\n")
        _, _, tail = rest.partition("<!-- /generated -->")
        path.write_text(
            f"{head}<!-- generated: {name} -->\n{text}<!-- /generated -->{tail}", encoding="utf-8"
        )
        sys.stdout.write(f"{page}: {name}\n")


if __name__ == "__main__":
    main()
