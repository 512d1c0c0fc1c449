"""Wait for Redis to come back, for those who were told to."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, TypeVar

from esa_preload.cancellation import heed_cancellation
from esa_preload.errors import QueueUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

PAUSE_S = (0.1, 2.0)
"""First and longest pause: Redis may be back in a moment, and is not hurried by all its producers when it loads for minutes."""


async def patiently(act: Callable[[], Awaitable[T]], *, patience_s: float) -> T:
    """
    Return what *act* returns, and call it anew while Redis is away, for *patience_s* from now at most.

    The first call takes the time that it takes. *act* must be safe to repeat.

    Raises:
        QueueUnavailableError: the last one that *act* raised; at once when it is none that passes by itself.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + patience_s
    try:
        return await act()
    except QueueUnavailableError as exc:
        if patience_s <= 0 or not exc.is_outage:
            raise
        last = exc
    try:
        async with asyncio.timeout_at(until):
            longest_s = PAUSE_S[0]
            while True:
                await asyncio.sleep(random.uniform(longest_s / 2, longest_s))  # noqa: S311 - no secret
                heed_cancellation()
                try:
                    return await act()
                except QueueUnavailableError as exc:
                    if not exc.is_outage:
                        raise
                    last = exc
                longest_s = min(longest_s * 2, PAUSE_S[1])
    except TimeoutError:
        raise last from last.__cause__
