"""Commands about URLs that did not get through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esa_preload.commands.documents import failure_document, print_receipt, receipt_document
from esa_preload.commands.export import export, failures_of
from esa_preload.commands.output import print_json, print_table
from esa_preload.commands.running import json_option, run, site_option

if TYPE_CHECKING:
    from esa_preload.interface import Preloads


@click.command()
@site_option("Of this site only, by name or id.")
@click.option(
    "--export",
    "form",
    type=click.Choice(["csv", "jsonl"]),
    help="Print all of them, the newest of a site first, a row or a JSON document a line.",
)
@json_option
def failures(site: str | None, form: str | None, *, as_json: bool) -> None:
    """
    List the URLs that ESA refused, that expired, or whose end it did not tell.

    Example: esa-preload failures --site 190007158391808 --export csv > failures.csv
    """
    if form and as_json:
        raise click.UsageError("--export and --json each print something else.")

    async def show(client: Preloads) -> int:
        number = None if site is None else await client.site_id(site)
        if form:
            await export(failures_of(client, number), form, lambda text: click.echo(text, nl=False))
            return 0
        found = [failure_document(failure) for failure in await client.failures(number)]
        if as_json:
            print_json(found)
        else:
            print_table(("at", "site_id", "reason", "code", "batch_id", "url"), found, empty="No failures.")
        return 0

    run(show)


@click.command()
@site_option(required=True)
@json_option
def requeue(site: str, *, as_json: bool) -> None:
    """
    Enqueue the URLs of a site's failures anew.

    Example: esa-preload requeue --site 190007158391808
    """

    async def do(client: Preloads) -> int:
        receipts = await client.requeue(await client.site_id(site))
        if as_json:
            print_json([receipt_document(receipt) for receipt in receipts])
        elif receipts:
            for receipt in receipts:
                print_receipt(receipt)
        else:
            click.echo("There are no failures to take up: lists in OSS, and plans that have ended, are not.")
        return 0

    run(do)
