"""What the commands share: their options, and a client to act with."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload.client import PreloadClient

F = TypeVar("F", bound="Callable[..., object]")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else, on standard output."
)


def run(act: Callable[[PreloadClient], Awaitable[int]], *, wait_for_redis: float = 0.0) -> None:
    """Await *act* with a client of the queue that the environment names; what it returns is the exit code."""
    import asyncio  # noqa: PLC0415 - keeps --help quick

    from esa_preload.client import PreloadClient  # noqa: PLC0415
    from esa_preload.environment import read_environment  # noqa: PLC0415

    environment = read_environment()

    async def with_client() -> int:
        async with PreloadClient(
            environment.redis_url, namespace=environment.namespace, wait_for_redis=wait_for_redis
        ) as client:
            return await act(client)

    if code := asyncio.run(with_client()):
        raise click.exceptions.Exit(code)


def site_option(text: str = "The ESA site's name or id.", *, required: bool = False) -> Callable[[F], F]:
    """Return the option ``--site``; ``client.site_id`` makes a number of what it is given."""
    return click.option("--site", required=required, metavar="NAME|ID", help=text)
