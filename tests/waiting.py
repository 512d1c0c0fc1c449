"""Wait for what will be true soon, instead of sleeping for as long as it might take."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")


async def wait_until(look: Callable[[], T], *, timeout_s: float = 15, every_s: float = 0.02) -> T:
    """Return what *look* returns once it is true; fails when it is not within *timeout_s*."""

    async def look_later() -> T:
        return look()

    return await wait_until_async(look_later, timeout_s=timeout_s, every_s=every_s)


async def wait_until_async(
    look: Callable[[], Awaitable[T]], *, timeout_s: float = 15, every_s: float = 0.02
) -> T:
    """As :func:`wait_until`, for a look that must be awaited."""
    until = time.monotonic() + timeout_s
    while not (found := await look()):
        if time.monotonic() > until:
            raise AssertionError(f"not true within {timeout_s} s; last seen: {found!r}")
        await asyncio.sleep(every_s)
    return found
