"""Commands about sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from esa_preload.commands.documents import site_document
from esa_preload.commands.output import print_json, print_table
from esa_preload.commands.running import json_option, run

if TYPE_CHECKING:
    from esa_preload.interface import Preloads


@click.command()
@json_option
def sites(*, as_json: bool) -> None:
    """
    List the sites, their state and totals.

    Example: esa-preload sites
    """

    async def show(client: Preloads) -> int:
        found = [site_document(site) for site in await client.sites()]
        if as_json:
            print_json(found)
        else:
            print_table(
                (
                    "site_id",
                    "name",
                    "state",
                    "reason",
                    "pending",
                    "in_flight",
                    "submitted",
                    "refused",
                    "oldest_pending_s",
                    "waiting_until",
                    "jobs",
                    "job_cap",
                ),
                found,
                empty="No site has had a URL yet.",
            )
        return 0

    run(show)


@click.command()
@click.argument("site")
@click.option("--reason", metavar="TEXT", help='Shown by `sites`; "by an operator" unless given.')
def pause(site: str, reason: str | None) -> None:
    """
    Submit nothing more for a site, by name or id, until `resume`; what is in flight goes on.

    A site that is paused already keeps its reason, unless --reason gives another.

    Example: esa-preload pause 190007158391808 --reason "origin is down"
    """

    async def do(client: Preloads) -> int:
        number = await client.site_id(site)
        changed = await client.pause(number, reason=reason)
        before = ", as it was before" + (f"; its reason is now: {reason}" if reason else "")
        click.echo(f"site {number} is paused" + ("" if changed else before))
        return 0

    run(do)


@click.command()
@click.argument("site", required=False)
@click.option("--account", is_flag=True, help="Unblock the account instead of a site.")
def resume(site: str | None, *, account: bool) -> None:
    """
    Let a site, by name or id, go on, whatever held it: a pause, a block, a quota.

    Example: esa-preload resume 190007158391808
    """
    if account == (site is not None):
        raise click.UsageError("Give a site, or --account.")

    async def do(client: Preloads) -> int:
        number = None if site is None else await client.site_id(site)
        changed = await client.resume(number)
        what = "the account" if number is None else f"site {number}"
        click.echo(f"{what} goes on" if changed else f"nothing held {what}")
        if number is not None and (await client.site(number)).reason.startswith("account: "):
            click.echo("The account is blocked, and with it every site: see `resume --account`.", err=True)
        return 0

    run(do)
