"""What held a server up, by name: its SLOWLOG, with the ledger's scripts known by their hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import esa_preload.ledger
import esa_preload_worker.check.reader
import esa_preload_worker.ledger
from esa_preload.scripts import Script, as_text, command

if TYPE_CHECKING:
    from redis.asyncio import Redis

SLOW_US = 2_000
OURS = ("SLOWLOG", "INFO", "CONFIG")
"""Commands of the benchmark's own."""
LONG_MS = 10.0
_KEPT = 1_000
"""Enough: reading ten thousand would itself take a second of the server's time."""
_NAMES = {
    value.sha: value.name
    for module in (esa_preload.ledger, esa_preload_worker.ledger, esa_preload_worker.check.reader)
    for value in vars(module).values()
    if isinstance(value, Script)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slow:
    """
    What took longest.

    Attributes:
        ms: of the longest, as the server's clock had it: time in which the system ran others is in it.
        name: of a script, or of a command.
        long: how many of the last thousand took longer than ``LONG_MS``.
    """

    ms: float = 0.0
    name: str = ""
    long: int = 0

    def __str__(self) -> str:
        if not self.name:
            return f"under {SLOW_US / 1000:g} ms"
        return f"{self.name} {self.ms:.1f} ms" + (f", {self.long} over {LONG_MS:g} ms" if self.long else "")


async def watch(redis: Redis) -> None:
    """Begin: from now on what is slow is kept, and what was kept is forgotten."""
    settings = {"slowlog-log-slower-than": SLOW_US, "slowlog-max-len": _KEPT}
    await command(redis, "CONFIG", "SET", *(part for item in settings.items() for part in item))
    await command(redis, "SLOWLOG", "RESET")


async def slowest(redis: Redis) -> Slow:
    """Return what took longest since :func:`watch`; the scripts before the commands that they call."""
    entries: list[Any] = await command(redis, "SLOWLOG", "GET", _KEPT)
    took = [(int(entry[2]) / 1000, _name(entry[3])) for entry in entries if _name(entry[3]) not in OURS]
    if not took:
        return Slow()
    ms, name = max(took)
    return Slow(ms=ms, name=name, long=sum(one > LONG_MS for one, _ in took))


def _name(arguments: list[Any]) -> str:
    verb = as_text(arguments[0])
    if verb.upper() == "EVALSHA":
        return _NAMES.get(as_text(arguments[1]), verb)
    return f"first {verb}" if verb.upper() == "EVAL" else verb
