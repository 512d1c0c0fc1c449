"""Run something until it ends or a signal ends it."""

from __future__ import annotations

import asyncio
import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def until_signal(work: Coroutine[Any, Any, int]) -> tuple[int, signal.Signals | None]:
    """
    Await *work*, which the first SIGINT, SIGTERM or SIGHUP cancels; later ones change nothing: it is ending already.

    Returns:
        its result, and the signal that ended it, if one did; the result is then 128 + its number.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    received: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        if not received:
            received.append(number)
            task.cancel()

    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN or number is not signal.SIGHUP:  # nohup stays nohup
            loop.add_signal_handler(number, on_signal, number)
    try:
        return await task, None
    except asyncio.CancelledError:
        if not received:
            raise
        return 128 + received[0], received[0]


def heed_cancellation() -> None:
    """
    Raise ``CancelledError`` if the running task has been asked to end; call it in loops that talk to Redis.

    redis-py sends inside ``asyncio.wait_for``, which until Python 3.12 loses a cancellation that comes just as it ends.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def end(task: asyncio.Task[Any]) -> None:
    """Cancel *task* until it has ended, however often that gets lost; what it raised is dropped."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=0.2)
    if not task.cancelled():
        task.exception()
