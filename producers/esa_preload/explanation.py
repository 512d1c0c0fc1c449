"""Why something is not submitted yet, as a value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime

ReasonCode = Literal[
    "no_worker",
    "newer_release",
    "paused",
    "account_blocked",
    "site_blocked",
    "concurrency",
    "quota",
    "job_cap",
    "site_busy",
    "site_waits",
    "endpoint",
    "cooldown",
    "probe",
    "age",
    "quiet",
    "behind_lanes",
    "behind_urls",
    "behind_sites",
    "pace",
    "due",
    "in_flight",
    "ended",
    "failed",
    "unwanted",
    "not_pending",
]
"""The closed set of reasons; what each means is in docs/how-to/read-a-status.md."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """
    One thing that keeps it from being submitted, or what became of it.

    Attributes:
        text: one sentence.
        hint: what to do about it; empty when there is nothing to do.
        until: when it ends by itself, where that is known.
    """

    code: ReasonCode
    text: str
    hint: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """
    Why something is not submitted yet.

    Attributes:
        state: ``pending``; ``in_flight``: a batch has it; ``ended``; ``idle``: nothing of it is in the queue.
        reasons: all that apply, the one that decides first; never empty.
        next_at: when a worker would take it if nothing changed; ``None`` when that cannot be told.
    """

    site_id: int
    request_id: str | None = None
    url: str | None = None
    state: Literal["pending", "in_flight", "ended", "idle"]
    reasons: tuple[Reason, ...]
    next_at: datetime | None = None
