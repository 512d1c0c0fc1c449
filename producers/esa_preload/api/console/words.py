"""How numbers, times and the text of others are written on a page. No I/O."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from esa_preload.model import Plan

_UNITS = ((86_400, "day", "days"), (3_600, "h", "h"), (60, "min", "min"))
_CODE = re.compile(r"`([^`]+)`")


def grouped(count: float) -> str:
    """Return a whole number with commas between its thousands."""
    return f"{count:,.0f}"


def rate(per_s: float) -> str:
    """Return a number a second, with as many digits as tell something."""
    digits = 0 if per_s >= 100 else 1 if per_s >= 10 else 2
    text = f"{per_s:,.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}/s"


def span(seconds: float) -> str:
    """Return how long, in the largest unit that it fills; a part of a second counts as one."""
    for size, one, many in _UNITS:
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {one if count == 1 else many}"
    return f"{math.ceil(seconds)} s"


def ago(at: datetime, now: datetime) -> str:
    """Return how long before, or after, *now* something is."""
    seconds = (now - at).total_seconds()
    if abs(seconds) < 1:
        return "now"
    return f"{span(seconds)} ago" if seconds > 0 else f"in {span(-seconds)}"


def utc(at: datetime) -> str:
    """Return a time to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def iso(at: datetime) -> str:
    """Return a time for a machine."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def shown(text: str) -> str:
    """Return what somebody else wrote, with what cannot be seen, or turns the line around, spelt out."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def coded(sentence: str) -> Markup:
    """Return a sentence with what stands between backticks as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(shown(sentence)))))  # noqa: S704 - escaped just here


def plan(plan: Plan) -> str:
    """Return when and how fast ESA fetches."""
    parts = [f"from {utc(plan.start)}" if plan.start else "at once"]
    if plan.end:
        parts.append(f"until {utc(plan.end)}")
    if plan.slice_len:
        parts.append(f"{grouped(plan.slice_len)} URLs a slice")
    if plan.interval_s:
        parts.append(f"{grouped(plan.interval_s)} s between slices")
    return ", ".join(parts)
