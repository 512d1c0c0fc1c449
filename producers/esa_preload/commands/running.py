"""What the commands share: their options, and a client to act with."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload.environment import Environment
    from esa_preload.interface import Preloads

F = TypeVar("F", bound="Callable[..., object]")

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else, on standard output."
)


def run(act: Callable[[Preloads], Awaitable[int]], *, patience_s: float = 0.0) -> None:
    """Await *act* with a client of the queue that the environment names; what it returns is the exit code."""
    import asyncio  # noqa: PLC0415 - keeps --help quick

    from esa_preload.environment import read_environment  # noqa: PLC0415

    environment = read_environment()

    async def with_client() -> int:
        async with _client(environment, patience_s) as client:
            return await act(client)

    if code := asyncio.run(with_client()):
        raise click.exceptions.Exit(code)


def _client(environment: Environment, patience_s: float) -> Preloads:
    if environment.api_url:
        from esa_preload.http import PreloadClient as HttpClient  # noqa: PLC0415

        return HttpClient(
            environment.api_url, wait_for_service=patience_s, allow_insecure=environment.allow_insecure
        )
    from esa_preload.client import PreloadClient  # noqa: PLC0415

    return PreloadClient(environment.redis_url, namespace=environment.namespace, wait_for_redis=patience_s)


def site_option(text: str = "The ESA site's name or id.", *, required: bool = False) -> Callable[[F], F]:
    """Return the option ``--site``; ``client.site_id`` makes a number of what it is given."""
    return click.option("--site", required=required, metavar="NAME|ID", help=text)
