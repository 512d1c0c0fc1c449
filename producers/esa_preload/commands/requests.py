"""Commands about requests."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from esa_preload.commands.documents import (
    explanation_document,
    print_explanation,
    print_request,
    request_document,
)
from esa_preload.commands.output import print_json, print_table
from esa_preload.commands.running import json_option, run, site_option

if TYPE_CHECKING:
    from esa_preload.interface import Preloads
    from esa_preload.model import RequestState

_COLUMNS = (
    "created_at",
    "request_id",
    "site_id",
    "state",
    "accepted",
    "pending",
    "in_flight",
    "submitted",
    "refused",
    "source",
)


@click.command()
@click.argument("request_id")
@json_option
def status(request_id: str, *, as_json: bool) -> None:
    """
    Tell what became of every URL of a request, and, without --json, who made it, when and how.

    Example: esa-preload status 5f0c… --json
    """

    async def show(client: Preloads) -> int:
        if as_json:
            print_json(asdict(await client.status(request_id)))
        else:
            print_request(await client.request(request_id))
        return 0

    run(show)


@click.command()
@site_option("Of this site only, by name or id.")
@click.option(
    "--state", type=click.Choice(["active", "done"]), help="Those with work left, or those without."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000),
    default=50,
    show_default=True,
    metavar="N",
    help="At most N of them.",
)
@json_option
def requests(site: str | None, state: RequestState | None, limit: int, *, as_json: bool) -> None:
    """
    List requests, the newest first.

    Example: esa-preload requests --site 190007158391808 --state active
    """

    async def show(client: Preloads) -> int:
        number = None if site is None else await client.site_id(site)
        page = await client.requests(number, state=state, limit=limit)
        found = [request_document(info) for info in page.items]
        if as_json:
            print_json(found)
        else:
            print_table(_COLUMNS, found, empty="No requests.")
        return 0

    run(show)


@click.command()
@click.argument("request_id", required=False)
@site_option("Explain a site, by name or id, instead of a request.")
@click.option("--url", metavar="URL", help="Explain one URL of that site.")
@json_option
def explain(request_id: str | None, site: str | None, url: str | None, *, as_json: bool) -> None:
    """
    Tell why something is not submitted yet: a request, a site, or a URL of a site.

    The first line is the answer; what else applies follows. What is in front of it in the queue is an estimate.

    Example: esa-preload explain --site 190007158391808 --url https://www.example.com/app.js
    """
    if (request_id is None) == (site is None) or (url is not None and site is None):
        raise click.UsageError("Give a request id, or --site, or --site and --url.")

    async def show(client: Preloads) -> int:
        number = None if site is None else await client.site_id(site)
        found = await client.explain(request_id, site_id=number, url=url)
        if as_json:
            print_json(explanation_document(found))
        else:
            print_explanation(found)
        return 0

    run(show)


@click.command()
@click.argument("request_id")
@json_option
def cancel(request_id: str, *, as_json: bool) -> None:
    """
    Give up what a request still has pending; what is in flight goes on.

    Example: esa-preload cancel 5f0c…
    """

    async def do(client: Preloads) -> int:
        cancelled, in_flight = await client.cancel(request_id)
        if as_json:
            print_json({"request_id": request_id, "cancelled": cancelled, "in_flight": in_flight})
        else:
            click.echo(f"{cancelled} URLs cancelled; {in_flight} in flight go on.")
        return 0

    run(do)
