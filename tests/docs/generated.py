"""
The parts of the docs that are printed from the code.

Run this file to write them: ``.venv/bin/python tests/docs/generated.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.testing import CliRunner

from esa_preload.api.app import create_app
from esa_preload.api.problems import KINDS
from esa_preload.api.settings import load
from esa_preload.commands import cli as producers_cli
from esa_preload.testing import RecordingClient
from esa_preload_worker.commands import cli as worker_cli
from esa_preload_worker.esa.codes import LABELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from esa_preload.api.context import SharedPreloads

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
WIDTH = 100


def parts() -> dict[tuple[str, str], str]:
    """Return page and name of each generated part, with its text."""
    return {
        ("settings.md", "settings"): output_of(worker_cli, "settings", "--markdown"),
        ("settings.md", "settings of serve"): output_of(producers_cli, "serve", "--settings", "markdown"),
        ("http.md", "routes"): routes_table(),
        ("http.md", "problems"): problems_table(),
        ("telemetry.md", "codes"): ", ".join(f"`{code}`" for code in sorted(LABELS)) + "\n",
        ("commands.md", "esa-preload"): help_of(producers_cli, "esa-preload"),
        ("commands.md", "esa-preload-worker"): help_of(worker_cli, "esa-preload-worker"),
    }


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the HTTP API."""
    settings = load({"ESA_PRELOAD_REDIS_URL": "redis://localhost"}).settings
    return create_app(cast("SharedPreloads", RecordingClient()), settings=settings).openapi()


def openapi_text() -> str:
    """Return what docs/reference/openapi.json holds: without the version of the package, which changes by itself."""
    document = openapi()
    document["info"]["version"] = "0"
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def routes_table() -> str:
    """Return the routes of the HTTP API, the roles that each takes, and what each does."""
    rows = ["| route | role | |", "|---|---|---|"]
    for path, operations in openapi()["paths"].items():
        for method, operation in operations.items():
            (roles,) = operation["security"][0].values()
            first, _, _ = operation["description"].partition("\n\n")
            rows.append(f"| `{method.upper()} {path}` | {' or '.join(roles) or 'any'} | {first} |")
    return "\n".join(rows) + "\n"


def problems_table() -> str:
    """Return the kinds of problems with their status."""
    rows = ["| kind | status | | `Retry-After` |", "|---|---|---|---|"]
    for name, kind in KINDS.items():
        after = "" if kind.retry_after_s is None else f"{kind.retry_after_s} s"
        rows.append(f"| `{name}` | {kind.status} | {kind.title} | {after} |")
    return "\n".join(rows) + "\n"


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
    (REFERENCE / "openapi.json").write_text(openapi_text(), encoding="utf-8")
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
