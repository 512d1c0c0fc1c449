"""The subcommands ``sandbox`` and ``demo``."""

from __future__ import annotations

import sys
from typing import Any

import click


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8787,
    show_default=True,
    help="Port to listen on; 0 for a free one.",
)
@click.option(
    "--rate", type=float, metavar="CALLS/S", help="Throttle each operation by a token bucket of this rate."
)
@click.option("--burst", type=int, metavar="N", help="Size of that bucket; one second's worth unless given.")
@click.option("--window", metavar="N/SECONDS", help="Throttle by a fixed window instead, such as 200/60.")
@click.option("--no-hint", is_flag=True, help="Do not say in a throttled reply when to come back.")
@click.option("--job-cap", type=int, metavar="N", help="Jobs that a site may hold.")
@click.option("--quota", type=int, metavar="N", help="URLs that a site may submit, in all.")
@click.option(
    "--site",
    "sites",
    multiple=True,
    metavar="ID=DOMAIN[,DOMAIN…]",
    help="A site and its domains; may be repeated. Without any, every site owns every domain.",
)
@click.option("--latency", type=float, default=0.0, metavar="S", help="Seconds that a call takes.")
@click.option("--jitter", type=float, default=0.0, metavar="S", help="Up to so many seconds more.")
@click.option("--no-verify", is_flag=True, help="Do not check signatures.")
def sandbox(*, host: str, port: int, **options: Any) -> None:
    """
    Run a simulated ESA endpoint until SIGTERM, with a simulated OSS at the same address.

    Example: esa-preload-worker sandbox --rate 20 --burst 20
    """
    from esa_preload_worker.demo.sandbox import parse_config, run  # noqa: PLC0415 - keeps --help quick

    try:
        config = parse_config(**options)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    sys.exit(run(config, host=host, port=port))


@click.command()
@click.option("--urls", metavar="FILE", help="Your own list, one URL a line, gzip or not.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else, on standard output."
)
def demo(*, urls: str | None, as_json: bool) -> None:
    """
    Take a list of URLs the whole way: queue, two workers, a simulated ESA that throttles.

    Ends by itself; 0 when all figures add up, 1 when they do not.

    Example: esa-preload-worker demo --urls new-assets.txt
    """
    from esa_preload_worker.demo.run import run  # noqa: PLC0415 - keeps --help quick

    sys.exit(run(urls, as_json=as_json))
