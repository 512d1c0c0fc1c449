"""
End tasks that talk to Redis.

redis-py sends inside ``asyncio.wait_for``, which until Python 3.12 loses a cancellation that comes just as the inner call
completes (python/cpython issue 86296). A loop that is cancelled once may so go on for ever.
"""

from __future__ import annotations

import asyncio
from typing import Any

AGAIN_S = 2.0
"""Long enough for a task to put its things in order before it is asked once more."""


def heed_cancellation() -> None:
    """Raise ``CancelledError`` if the running task has been asked to end; call it in each round of such a loop."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end_tasks(*tasks: asyncio.Task[Any]) -> None:
    """Cancel *tasks* until they have ended, however often that gets lost; what they raised is dropped."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=AGAIN_S)
    for task in tasks:
        if not task.cancelled():
            task.exception()
