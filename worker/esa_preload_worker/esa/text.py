"""Make text that came over the network fit to be logged, stored and printed."""

from __future__ import annotations

import re

MESSAGE_MAX_CHARS = 300
"""More of a message or a code that ESA words freely helps nobody."""

_QUERY = re.compile(r"(\?|%3F)\S+", re.IGNORECASE)


def one_line(text: str, max_chars: int) -> str:
    """Return *text* on one line, cut to *max_chars*, with nothing that moves a cursor, turns a line around or is half a character."""
    return "".join(char if char.isprintable() else " " for char in text[:max_chars])


def loggable(text: str, max_chars: int = MESSAGE_MAX_CHARS) -> str:
    """As :func:`one_line`, and without what stands behind the question mark of a URL, encoded or not."""
    return one_line(_QUERY.sub(r"\1…", text[: 4 * max_chars]), max_chars)
