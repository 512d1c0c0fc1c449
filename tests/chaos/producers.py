"""Producers that never give up: each request is repeated under its id until the queue has it whole."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.options import FOREIGN_DOMAIN, OWNED_DOMAIN, SITES
from esa_preload import Plan, PreloadClient, QueueUnavailableError, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from esa_preload.model import Priority

_PLANS = (None, None, None, None, Plan(interval_s=10, slice_len=20), Plan(interval_s=60))
_PRIORITIES: tuple[Priority, ...] = ("normal", "normal", "normal", "high", "low")
_RETRY_S = 0.2
_PATIENCE_S = 120.0
"""A producer that cannot reach the queue for so long has found a fault of its own."""


@dataclass(slots=True, kw_only=True)
class Request:
    """
    One request, and what its producer was told.

    Attributes:
        urls: no URL is in two requests, so that each must be planned exactly once.
        expires_in: seconds, or ``None``.
        is_cancelled: it is cancelled once it is in.
        tries: calls of enqueue that it took.
    """

    request_id: str
    site_id: int
    urls: list[str]
    priority: Priority
    plan: Plan | None
    expires_in: float | None
    is_cancelled: bool
    breaks_off: bool
    starts_at_s: float
    receipt: Receipt | None = None
    tries: int = 0
    seen: list[str] = field(default_factory=list[str])


def requests_of(dice: Random, *, urls: int, seconds: float, longest: int) -> list[Request]:
    """Lay out requests of *urls* URLs in all, *longest* at most each, over *seconds*."""
    requests: list[Request] = []
    made = 0
    while made < urls:
        count = min(urls - made, dice.randint(1, longest))
        number = len(requests)
        is_special = dice.random()
        requests.append(
            Request(
                request_id=f"r{number}",
                site_id=dice.choice(SITES),
                urls=[_url(dice, number, i) for i in range(count)],
                priority=dice.choice(_PRIORITIES),
                plan=dice.choice(_PLANS),
                expires_in=dice.uniform(0.3, 3) if is_special < 0.05 else None,
                is_cancelled=0.05 < is_special < 0.1,
                breaks_off=0.1 < is_special < 0.25,
                starts_at_s=dice.uniform(0, seconds),
            )
        )
        made += count
    return sorted(requests, key=lambda request: request.starts_at_s)


async def produce(client: PreloadClient, requests: list[Request], clock: Callable[[], float]) -> None:
    """Enqueue each request when its time has come; *clock* counts seconds since the begin."""
    async with asyncio.TaskGroup() as group:
        for request in requests:
            await asyncio.sleep(max(0.0, request.starts_at_s - clock()))
            group.create_task(_enqueue(client, request))


async def _enqueue(client: PreloadClient, request: Request) -> None:
    async with asyncio.timeout(_PATIENCE_S):
        if request.breaks_off:
            # As if the producer had been killed on the way: the repetition finds what came in.
            task = asyncio.create_task(_call(client, request))
            await asyncio.sleep(0.003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        while request.receipt is None:
            try:
                request.receipt = await _call(client, request)
            except QueueUnavailableError as exc:
                request.seen.append(str(exc)[:100])
                await asyncio.sleep(_RETRY_S)
        while request.is_cancelled:
            try:
                await client.cancel(request.request_id)
            except QueueUnavailableError:
                await asyncio.sleep(_RETRY_S)
            else:
                return


async def _call(client: PreloadClient, request: Request) -> Receipt:
    request.tries += 1
    return await client.enqueue(
        request.site_id,
        request.urls,
        plan=request.plan,
        priority=request.priority,
        expires_in=request.expires_in,
        request_id=request.request_id,
    )


def _url(dice: Random, request: int, number: int) -> str:
    domain = FOREIGN_DOMAIN if dice.random() < 0.005 else OWNED_DOMAIN
    return f"https://{domain}/r{request}/{number}.js"
