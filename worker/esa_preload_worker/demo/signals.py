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
