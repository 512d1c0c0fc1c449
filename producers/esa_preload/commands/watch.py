"""``esa-preload wait`` and ``watch``: follow a request, or all sites."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from esa_preload.commands.documents import has_failed, print_status, site_document
from esa_preload.commands.output import live_table, print_json, wait_with_progress
from esa_preload.commands.running import json_option, run
from esa_preload.shell import EXIT_FAILED

if TYPE_CHECKING:
    from esa_preload.interface import Preloads

_SITE_COLUMNS = ("site_id", "name", "state", "reason", "pending", "in_flight", "submitted", "refused")
_REQUEST_COLUMNS = ("state", "accepted", "pending", "in_flight", "submitted", "refused", "expired", "unknown")


@click.command()
@click.argument("request_id")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="S", help="Longest wait, in seconds.")
@json_option
def wait(request_id: str, timeout: float | None, *, as_json: bool) -> None:
    """
    Wait until every URL of a request has ended; 1 when some of them were refused, expired, or ended as unknown.

    Example: esa-preload wait 5f0c… --timeout 600
    """

    async def do(client: Preloads) -> int:
        status = await wait_with_progress(client, request_id, timeout)
        if as_json:
            print_json(asdict(status))
        else:
            print_status(status)
        return EXIT_FAILED if has_failed(status) else 0

    run(do)


@click.command()
@click.argument("request_id", required=False)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.05, max=3600),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between two looks.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON document a line, one each change.")
def watch(request_id: str | None, interval_s: float, *, as_json: bool) -> None:
    """
    Show a request until it is done, or all sites until you interrupt: live on a terminal, else a line each change.

    Of a request it ends with 1 when some URLs were refused, expired, or ended as unknown, as `wait` does.

    Example: esa-preload watch 5f0c… --json
    """

    async def do(client: Preloads) -> int:
        columns = _SITE_COLUMNS if request_id is None else _REQUEST_COLUMNS
        with live_table(columns, is_live=sys.stdout.isatty() and not as_json) as show:
            if request_id is not None:
                return await _watch_request(client, show, request_id, interval_s, as_json=as_json)
            await _watch_sites(client, show, interval_s, as_json=as_json)
        return 0

    run(do)


async def _watch_request(
    client: Preloads, show: Any, request_id: str, interval_s: float, *, as_json: bool
) -> int:
    code = 0
    async for status in client.watch(request_id, interval_s=interval_s):
        code = EXIT_FAILED if has_failed(status) else 0
        document = asdict(status)
        if as_json:
            print_json(document)
        else:
            show([document], [document])
    return code


async def _watch_sites(client: Preloads, show: Any, interval_s: float, *, as_json: bool) -> None:
    import asyncio  # noqa: PLC0415 - keeps --help quick

    seen: dict[int, dict[str, Any]] = {}
    while True:
        now = {site.site_id: site_document(site) for site in await client.sites()}
        # How long the oldest URL waits changes by itself.
        changed = [
            document
            for number, document in now.items()
            if document | {"oldest_pending_s": 0} != seen.get(number, {}) | {"oldest_pending_s": 0}
        ]
        if as_json:
            for document in changed:
                print_json(document)
        elif changed:
            show(list(now.values()), changed)
        seen = now
        await asyncio.sleep(interval_s)
