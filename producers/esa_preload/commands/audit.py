"""``esa-preload audit``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from esa_preload.commands.output import print_json, print_table
from esa_preload.commands.running import json_option, run, site_option

if TYPE_CHECKING:
    from esa_preload.interface import Preloads


@click.command()
@site_option("Of this site only, by name or id.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=100,
    show_default=True,
    metavar="N",
    help="The newest so many.",
)
@json_option
def audit(site: str | None, limit: int, *, as_json: bool) -> None:
    """
    List who enqueued, cancelled, paused, resumed, requeued and changed limits, the newest first.

    Who works with Redis itself is who it says it is: user@host, unless the program gave another name.

    Example: esa-preload audit --site www.example.com
    """

    async def show(client: Preloads) -> int:
        number = None if site is None else await client.site_id(site)
        page = await client.audit(site_id=number, limit=limit)
        found = [asdict(entry) | {"at": entry.at.isoformat(timespec="milliseconds")} for entry in page.items]
        if as_json:
            print_json(found)
        else:
            columns = ("at", "action", "actor", "source", "site_id", "request_id", "detail")
            print_table(columns, found, empty="Nobody has changed anything yet.")
        return 0

    run(show)
