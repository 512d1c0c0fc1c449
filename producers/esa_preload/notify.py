"""
Tell systemd how this process is: ``sd_notify(3)``, datagrams to the socket that ``NOTIFY_SOCKET`` names.

Not under systemd, where there is no such name, nothing is sent.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOOK_S = 1.0
"""So often, at least, a process looks how it is."""
BEATS_A_WATCHDOG = 4
"""Signs of life in the time after which systemd kills: one may be late, and one lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """
    The way to systemd.

    Attributes:
        address: of its socket; ``@`` begins an abstract one. Empty: nobody listens.
        watchdog_s: after so long without a sign of life it kills this process; ``None``: it does not ask for any.
    """

    address: str
    watchdog_s: float | None = None

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier:
        """Return the notifier that systemd asks for in *environ*."""
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        is_asked = microseconds.isascii() and microseconds.isdigit() and pid in ("", str(os.getpid()))
        return cls(
            address=environ.get("NOTIFY_SOCKET", ""),
            watchdog_s=int(microseconds) / 1e6 if is_asked else None,
        )

    def send(self, state: str) -> None:
        """Send *state*, such as ``STOPPING=1``. A systemd that does not take it is no reason to fail, or to wait."""
        if not self.address:
            return
        name = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto(state.encode(), name)
        except OSError:
            return

    async def report(self, *, why_not_alive: Callable[[], str], why_not_ready: Callable[[], str]) -> None:
        """
        Send until cancelled how the process is: ``READY=1`` once it is ready, ``STATUS=`` whenever that changes, and
        ``WATCHDOG=1`` as long as it is alive. A loop that is stuck sends nothing, and neither does one that only turns.
        """
        is_known_ready, told = False, ""
        while True:
            why_not = why_not_ready()
            if not why_not and not is_known_ready:
                self.send("READY=1")
                is_known_ready = True
            if told != (status := why_not or "ready"):
                self.send(f"STATUS={status}")
                told = status
            if self.watchdog_s and not why_not_alive():
                self.send("WATCHDOG=1")
            await asyncio.sleep(min(LOOK_S, (self.watchdog_s or LOOK_S) / BEATS_A_WATCHDOG))
