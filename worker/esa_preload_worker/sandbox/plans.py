"""A plan's progress: how far a clock has carried it, without anything running."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Status = Literal["waiting", "running", "finished", "failed", "stopped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """
    A plan as it was asked for.

    Attributes:
        start: the text of ``StartTime``, echoed as it came; ``None``: at once.
        end: the text of ``EndTime``; ``None``: when all is done.
        start_s: UNIX seconds of ``start``.
        end_s: UNIX seconds of ``end``.
        interval_s: seconds between two slices.
        slice_len: URLs a slice.
    """

    start: str | None
    end: str | None
    start_s: float | None
    end_s: float | None
    interval_s: int
    slice_len: int


class Plan:
    """
    One plan of a job of ``url_count`` accepted URLs.

    Slice *k* runs ``k * interval_s`` after the start, and the plan is finished one interval after the last. Past
    ``EndTime`` no slice runs: what is left over stays undone. Neither is documented; both are the inferred reading.

    Attributes:
        made_s: when it was made, by the clock that no offset moves.
    """

    __slots__ = (
        "_first_s",
        "_is_stopped",
        "_slices_before",
        "_url_count",
        "job_id",
        "made_s",
        "order",
        "plan_id",
    )

    def __init__(
        self,
        *,
        plan_id: str,
        job_id: str,
        order: Order,
        url_count: int,
        now_s: float,
        made_s: float = -math.inf,
    ) -> None:
        self.plan_id = plan_id
        self.job_id = job_id
        self.order = order
        self.made_s = made_s
        self._url_count = url_count
        self._first_s = now_s if order.start_s is None else max(now_s, order.start_s)
        self._slices_before = 0
        self._is_stopped = False

    @property
    def first_slice_s(self) -> float:
        """UNIX seconds of its first slice, or of the next one when it was started again."""
        return self._first_s

    def status(self, now_s: float) -> Status:
        """Return what ESA would call its state at *now_s*."""
        if self._is_stopped:
            return "stopped"
        if now_s <= self._first_s and not self._is_done():
            return "waiting"
        return "finished" if self._is_over(now_s) else "running"

    def tasks(self, now_s: float) -> int:
        """Return how many URLs were handed to the prefetch system by *now_s*."""
        return min(self._url_count, self._slices(now_s) * self.order.slice_len)

    def stop(self, now_s: float) -> None:
        """Pause it; a plan that has finished stays finished."""
        if self.status(now_s) in {"waiting", "running"}:
            self._slices_before = self._slices(now_s)
            self._is_stopped = True

    def start(self, now_s: float) -> None:
        """Continue a stopped plan with the slice that is due; any other plan is left as it is."""
        if self._is_stopped:
            self._is_stopped = False
            self._first_s = max(now_s, self._first_s)

    def _slices(self, now_s: float) -> int:
        until_s = now_s if self.order.end_s is None else min(now_s, self.order.end_s)
        if self._is_stopped or until_s <= self._first_s:
            return self._slices_before
        run = int((until_s - self._first_s) // self.order.interval_s) + 1
        return min(self._slices_needed(), self._slices_before + run)

    def _slices_needed(self) -> int:
        return -(-self._url_count // self.order.slice_len)

    def _is_done(self) -> bool:
        return self._slices_before > 0 and self._slices_before >= self._slices_needed()

    def _is_over(self, now_s: float) -> bool:
        if self.order.end_s is not None and now_s >= self.order.end_s:
            return True
        left = self._slices_needed() - self._slices_before
        return now_s >= self._first_s + left * self.order.interval_s
