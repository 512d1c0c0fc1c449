"""Time that jumps: what a worker would wait for passes at once, for all clocks together."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Coroutine


PACE = 0.05


class JumpingLoop(asyncio.SelectorEventLoop):
    """
    An event loop whose clock can be put forward: its timers fire as if that time had passed.

    By itself it goes slowly, so that a busy machine lets no deadline pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._begun_s = super().time()
        self._begun_unix_s = time.time()
        self.ahead_s = 0.0
        # What the dead leave behind (a task of theirs that wrote to a connection that was cut) has no owner to tell.
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Return the seconds of a monotonic clock."""
        return self._begun_s + self._passed_s()

    def unix(self) -> float:
        """Return UNIX seconds."""
        return self._begun_unix_s + self._passed_s()

    def _passed_s(self) -> float:
        return (super().time() - self._begun_s) * PACE + self.ahead_s


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run *main* in a loop of its own, in which time jumps."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main)


def jump(seconds: float) -> None:
    """Let *seconds* pass."""
    _loop().ahead_s += seconds


async def sleep(seconds: float) -> None:
    """Sleep, in no time."""
    jump(seconds)
    await asyncio.sleep(0)


def monotonic() -> float:
    """Return the seconds of the loop's clock, which every part of a worker shares."""
    return _loop().time()


def unix() -> float:
    """Return UNIX seconds: those of the ledger, and of ESA."""
    return _loop().unix()


def unix_ms() -> int:
    """Return UNIX milliseconds."""
    return int(unix() * 1000)


def _loop() -> JumpingLoop:
    return cast("JumpingLoop", asyncio.get_running_loop())
