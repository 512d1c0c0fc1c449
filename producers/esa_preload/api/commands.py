"""``esa-preload serve`` and ``esa-preload token``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from esa_preload.errors import InvalidRequestError
from esa_preload.shell import print_settings

if TYPE_CHECKING:
    from pathlib import Path

    from esa_preload.api.tokens import Token

_file_option = click.option(
    "--file",
    "file",
    envvar="ESA_PRELOAD_TOKENS_FILE",
    type=click.Path(dir_okay=False),
    metavar="F",
    help="The file of tokens; ESA_PRELOAD_TOKENS_FILE unless given.",
)


@click.command()
@click.option(
    "--settings",
    "form",
    type=click.Choice(["table", "json", "env", "markdown"]),
    is_flag=False,
    flag_value="table",
    help="List every setting, as a table unless said, and do nothing; env: a sample environment file.",
)
def serve(*, form: str | None) -> None:
    """
    Serve the HTTP API and the console until SIGTERM.

    Example: ESA_PRELOAD_REDIS_URL=redis://localhost esa-preload serve
    """
    if form is not None:
        from esa_preload.api.settings import table  # noqa: PLC0415 - keeps --help quick

        print_settings(table(), form)
        return
    from esa_preload.api.serve import run  # noqa: PLC0415 - keeps --help quick
    from esa_preload.api.settings import load  # noqa: PLC0415
    from esa_preload.logs import configure_logs  # noqa: PLC0415

    loaded = load()
    configure_logs(level=loaded.settings.log_level, log_format=loaded.settings.log_format)
    if code := run(loaded.settings, warnings=loaded.warnings):
        raise click.exceptions.Exit(code)


@click.group()
def token() -> None:
    """
    Make, list and revoke the tokens of the HTTP API.

    Example: esa-preload token new --name cms --role producer --site 190007158391808
    """


@token.command("new")
@click.option("--name", required=True, metavar="N", help="Whose it is; the audit shows it.")
@click.option(
    "--role",
    required=True,
    type=click.Choice(["producer", "viewer", "operator"]),
    help="producer: enqueue, follow, cancel; viewer: read; operator: all.",
)
@click.option(
    "--site", "sites", required=True, multiple=True, metavar="ID|*", help="A site of it; * for all."
)
@click.option(
    "--expires-in-days",
    type=click.FloatRange(min=0, min_open=True, max=36_500),
    metavar="D",
    help="Never, unless given.",
)
@_file_option
def new(
    *, name: str, role: str, sites: tuple[str, ...], expires_in_days: float | None, file: str | None
) -> None:
    """
    Make a token and print its secret, this once.

    Example: esa-preload token new --name cms --role producer --site 190007158391808
    """
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - keeps --help quick

    from esa_preload.api.token_file import new_token  # noqa: PLC0415

    expires_at = (
        None
        if expires_in_days is None
        else datetime.now(UTC).replace(microsecond=0) + timedelta(days=expires_in_days)
    )
    click.echo(new_token(_path(file), name=name, role=role, sites=sites, expires_at=expires_at))
    click.echo("Keep it: only its hash is stored.", err=True)


@token.command("list")
@_file_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else, on standard output."
)
def list_tokens(*, file: str | None, as_json: bool) -> None:
    """
    List the tokens: whose, their role, sites and end, never a secret.

    Example: esa-preload token list
    """
    from esa_preload.api.tokens import read_tokens  # noqa: PLC0415 - keeps --help quick

    rows = [_row(each) for each in read_tokens(_path(file))]
    if as_json:
        click.echo(json.dumps(rows))
        return
    for row in rows:
        sites = row["sites"] if row["sites"] == "*" else ",".join(map(str, row["sites"]))
        ends = f"until {row['expires_at']}" if row["expires_at"] else "does not expire"
        click.echo(f"{row['name']}  {row['role']}  sites {sites}  since {row['created_at']}  {ends}")
    if not rows:
        click.echo("There are no tokens.")


@token.command("revoke")
@click.argument("name")
@_file_option
def revoke(*, name: str, file: str | None) -> None:
    """
    Take a token out of the file; servers refuse it within a second.

    Example: esa-preload token revoke cms
    """
    from esa_preload.api.token_file import revoke_token  # noqa: PLC0415 - keeps --help quick

    revoke_token(_path(file), name)
    click.echo(f"{name} is no token any more")


def _row(token: Token) -> dict[str, Any]:
    document = token.document()
    del document["sha256"]
    return document


def _path(file: str | None) -> Path:
    from pathlib import Path  # noqa: PLC0415 - keeps --help quick

    if not file:
        raise InvalidRequestError(
            "there is no file of tokens", hint="give --file, or set ESA_PRELOAD_TOKENS_FILE"
        )
    return Path(file)
