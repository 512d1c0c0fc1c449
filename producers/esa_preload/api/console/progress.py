"""How far a request has come, as numbers and as the parts of a bar. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from esa_preload.model import RequestStatus

BAR_WIDTH: Final = 1_000

_RARE: Final = ("expired", "cancelled", "unknown")
"""Left out while there are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The URLs of a request that are in one state: how many, and where they are in the bar."""

    name: str
    count: int
    x: int
    width: int


def parts_of(status: RequestStatus) -> list[Part]:
    """Return the parts of the bar, from the left; together they are as long as it is."""
    total = status.accepted or 1
    parts: list[Part] = []
    before = 0
    for name in ("submitted", "refused", "expired", "cancelled", "unknown", "in_flight", "pending"):
        count: int = getattr(status, name)
        if not count and name in _RARE:
            continue
        x, end = (min(at, total) * BAR_WIDTH // total for at in (before, before + count))
        parts.append(Part(name=name, count=count, x=x, width=end - x))
        before += count
    return parts


def ended_percent(status: RequestStatus) -> int:
    """Return how many in a hundred have ended: 100 only when all have."""
    if status.state == "done":
        return 100
    left = status.pending + status.in_flight
    return min(99, (status.accepted - left) * 100 // status.accepted) if status.accepted else 0


def said(status: RequestStatus) -> str:
    """Return what a screen reader is told: a sentence that changes with every tenth, not with every look."""
    if status.state == "done":
        return f"Done: {status.submitted} of {status.accepted} URLs submitted"
    return f"{ended_percent(status) // 10 * 10} % have ended"
