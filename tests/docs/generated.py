"""
The parts of the docs that are printed from the code.

Run this file to write them: ``.venv/bin/python tests/docs/generated.py``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
from click.testing import CliRunner

from esa_preload.commands import cli as producers_cli
from esa_preload_worker.commands import cli as worker_cli
from esa_preload_worker.esa.codes import LABELS

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
WIDTH = 100


def parts() -> dict[tuple[str, str], str]:
    """Return page and name of each generated part, with its text."""
    return {
        ("settings.md", "settings"): settings_table(),
        ("telemetry.md", "codes"): ", ".join(f"`{code}`" for code in sorted(LABELS)) + "\n",
        ("commands.md", "esa-preload"): help_of(producers_cli, "esa-preload"),
        ("commands.md", "esa-preload-worker"): help_of(worker_cli, "esa-preload-worker"),
    }


def settings_table() -> str:
    """Return what ``esa-preload-worker settings --markdown`` prints."""
    result = CliRunner().invoke(worker_cli, ["settings", "--markdown"], catch_exceptions=False)
    return result.output


def help_of(cli: click.Group, name: str) -> str:
    """Return the help of each command of *cli* under a heading of its own."""
    sections: list[str] = []
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
        sections.append(f"### {path}\n\n```text\n{command.get_help(context)}\n```\n")
    return "\n".join(sections)


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
