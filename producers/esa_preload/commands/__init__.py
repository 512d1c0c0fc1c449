"""The command line of producers and operators: ``esa-preload``."""

from __future__ import annotations

import click

from esa_preload.api.commands import serve, token
from esa_preload.commands.audit import audit
from esa_preload.commands.enqueue import enqueue
from esa_preload.commands.failures import failures, requeue
from esa_preload.commands.limits import limits
from esa_preload.commands.requests import cancel, explain, requests, status
from esa_preload.commands.sites import pause, resume, sites
from esa_preload.commands.watch import wait, watch
from esa_preload.shell import run_cli


def main() -> None:
    """Run the command line."""
    run_cli(cli, extra="http", extras={"httpx": "http-client"})


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="esa-preload", prog_name="esa-preload")
def cli() -> None:
    """
    Have new content warm at the edge of Alibaba Cloud ESA before the first visitor comes.

    The queue is where ESA_PRELOAD_REDIS_URL says, in the namespace of ESA_PRELOAD_NAMESPACE (default); or behind the
    HTTP API at ESA_PRELOAD_API_URL, with the token of ESA_PRELOAD_TOKEN.

    Exit codes: 0 all well; 1 some URLs rejected or refused, unknown id, queue full; 2 usage or settings; 3 Redis
    unreachable; 4 a wait timed out.
    """


for _command in (
    enqueue,
    requests,
    status,
    wait,
    watch,
    explain,
    sites,
    failures,
    cancel,
    pause,
    resume,
    limits,
    requeue,
    audit,
    serve,
    token,
):
    cli.add_command(_command)
