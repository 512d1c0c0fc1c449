"""How a daemon is asked to stop, and on which event loop it runs."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """
    The wish to stop: the first SIGTERM or SIGINT. The second ends the process at once, with 128 + its number.

    Handlers of the loop would leave gaps before it runs and after: a signal there would kill us, and orphan the embedded
    Valkey. These stand from the first to the last, and none raises: an exception just after a child began would orphan it too.
    Afterwards all is done, and a late signal does not change the exit code.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._wake: Callable[[], object] = lambda: None

    def __enter__(self) -> Self:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    async def wait(self) -> None:
        """Wait until a stop is asked for."""
        loop, asked = asyncio.get_running_loop(), asyncio.Event()
        self._wake = lambda: loop.call_soon_threadsafe(asked.set)
        try:
            if not self.is_asked:
                await asked.wait()
        finally:
            self._wake = lambda: None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.is_asked:
            os._exit(128 + number)
        self.is_asked = True
        self._wake()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes uvloop's event loop, where that is installed."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop
