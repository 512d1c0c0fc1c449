"""Who calls, when nobody says so."""

from __future__ import annotations

import getpass
import os
import socket

ACTOR_MAX_CHARS = 128


def default_actor() -> str:
    """Return ``user@host`` of this process, in printable characters; the number of a user who has no name."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # which of them, depends on Python
        user = str(os.getuid())
    return printable(f"{user}@{socket.gethostname()}")


def printable(text: str) -> str:
    """Return *text* in one line of at most 128 characters, whatever it held: nothing in it formats a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text[:ACTOR_MAX_CHARS])
