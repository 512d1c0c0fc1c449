"""
The parts of the docs that are printed from the code.

Run this file to write them: ``.venv/bin/python tests/docs/generated.py``.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click
from click.testing import CliRunner

import esa_preload
from esa_preload import http, sync, testing
from esa_preload.api.app import create_app
from esa_preload.api.problems import KINDS
from esa_preload.api.settings import load
from esa_preload.commands import cli as producers_cli
from esa_preload_worker.commands import cli as worker_cli
from esa_preload_worker.esa.codes import LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from esa_preload.api.context import SharedPreloads

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
WIDTH = 100

CLIENTS: dict[str, type[Any]] = {
    "esa_preload.PreloadClient": esa_preload.PreloadClient,
    "esa_preload.http.PreloadClient": http.PreloadClient,
    "esa_preload.sync.PreloadClient": sync.PreloadClient,
    "esa_preload.sync.HttpPreloadClient": sync.HttpPreloadClient,
    "esa_preload.sync.SyncPreloads": sync.SyncPreloads,
    "esa_preload.testing.RecordingClient": testing.RecordingClient,
}
_ROLE = re.compile(r":\w+:`([^`]+)`")


def parts() -> dict[tuple[str, str], str]:
    """Return page and name of each generated part, with its text."""
    return {
        ("settings.md", "settings"): output_of(worker_cli, "settings", "--markdown"),
        ("settings.md", "settings of serve"): output_of(producers_cli, "serve", "--settings", "markdown"),
        ("http.md", "routes"): routes_table(),
        ("http.md", "problems"): problems_table(),
        ("python.md", "python"): python_reference(),
        ("telemetry.md", "codes"): ", ".join(f"`{code}`" for code in sorted(LABELS)) + "\n",
        ("commands.md", "esa-preload"): help_of(producers_cli, "esa-preload"),
        ("commands.md", "esa-preload-worker"): help_of(worker_cli, "esa-preload-worker"),
    }


def openapi() -> dict[str, Any]:
    """Return the OpenAPI document of the HTTP API."""
    settings = load({"ESA_PRELOAD_REDIS_URL": "redis://localhost"}).settings
    return create_app(cast("SharedPreloads", testing.RecordingClient()), settings=settings).openapi()


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


def python_reference() -> str:
    """Return the clients, the verbs, the values and the errors, each with what its code says of it."""
    exported: list[Any] = [getattr(esa_preload, name) for name in esa_preload.__all__]
    values: list[Any] = [kind for kind in exported if hasattr(kind, "__dataclass_fields__")]
    errors = [kind for kind in exported if inspect.isclass(kind) and issubclass(kind, Exception)]
    parts = ["## Clients\n", *(_entry(name, _call(name, kind), kind) for name, kind in CLIENTS.items())]
    parts += ["## Verbs\n", *(_entry(name, _call(name, verb), verb) for name, verb in verbs())]
    parts += ["## In tests\n", *(_entry(name, _call(name, verb), verb) for name, verb in _of_tests())]
    parts += [
        "## Values\n",
        *(_entry(kind.__name__, _fields(kind), kind) for kind in [*values, testing.Enqueued]),
    ]
    parts += ["## Errors\n", *(_entry(kind.__name__, _bases(kind), kind) for kind in errors)]
    return "\n".join(parts)


def verbs() -> Iterator[tuple[str, Callable[..., object]]]:
    """Yield the verbs of the interface."""
    for name, verb in vars(esa_preload.Preloads).items():
        if inspect.isfunction(verb) and not name.startswith("_"):
            yield name, verb


def _of_tests() -> Iterator[tuple[str, Callable[..., object]]]:
    known = dict(verbs())
    for name, verb in vars(testing.RecordingClient).items():
        if inspect.isfunction(verb) and not name.startswith("_") and name not in known:
            yield name, verb


def _entry(name: str, shape: str, kind: object) -> str:
    doc = _ROLE.sub(r"\1", inspect.getdoc(kind) or "").replace("``", "")
    return f"### {name}\n\n```text\n{shape}\n\n{doc}\n```\n"


def _call(name: str, function: Callable[..., object]) -> str:
    signature = inspect.signature(function)
    parameters: list[str] = []
    for each in signature.parameters.values():
        if each.name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and "*" not in parameters:
            parameters.append("*")
        default = "" if each.default is each.empty else f" = {each.default!r}"
        parameters.append(f"{each.name}: {each.annotation}{default}")
    word = "await " if inspect.iscoroutinefunction(function) else ""
    returned = "" if inspect.isclass(function) else f" -> {signature.return_annotation}"
    line = f"{word}{name.rpartition('.')[2]}({', '.join(parameters)}){returned}"
    if len(line) <= 110:
        return line
    inner = "".join(f"    {parameter},\n" for parameter in parameters)
    return f"{word}{name.rpartition('.')[2]}(\n{inner}){returned}"


def _fields(kind: type[Any]) -> str:
    lines: list[str] = []
    for each in dataclasses.fields(kind):
        default = "" if each.default is dataclasses.MISSING else f" = {each.default!r}"
        lines.append(f"{each.name}: {each.type}{default}")
    return "\n".join(lines)


def _bases(kind: type[Exception]) -> str:
    return f"{kind.__name__}({', '.join(base.__name__ for base in kind.__bases__)})"


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
