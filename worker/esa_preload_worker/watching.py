"""What follows from the plans of a job that is on record. Pure: the record and ESA's list go in, what to do comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from esa_preload_worker.esa import NotSentError, SiteBusyError, ThrottledError, UncertainError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esa_preload_worker.claims import JobState, WatchedJob
    from esa_preload_worker.esa import EsaError, PlanOrder, PlanState

ENDED = frozenset({"finished", "failed"})
"""A plan that is ``stopped`` was paused by a person, who may start it again."""

LATE_MS = 500
"""A plan is looked at so long after its expected end: ESA's clock and the ledger's may differ a little."""
AGAIN_MS, AGAIN_MOST_MS = 30_000, 600_000
"""A plan that is late is looked at again after so long, then after twice as long each time, up to the second."""
RETRY_MS = 1_000
"""A call that failed for a reason that passes is repeated so soon, then after twice as long each time."""
FOLLOWED_MS = 86_400_000
"""A job whose plans have not all ended so long after they should have is left alone for good."""

Then = int | Literal["gone", "left"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """
    What a visit comes to.

    Attributes:
        state: of the job from now on.
        then: ms until the next visit, or why there is none.
        ended_ms: since when all its plans are known to have ended, or 0.
        others: its plans that are not ours.
        deletes: the job may be deleted, now that its plans were listed.
        why: of a plan that failed, for people.
    """

    state: JobState
    then: Then
    ended_ms: int = 0
    others: int = 0
    deletes: bool = False
    why: str = ""


def expected_end_ms(order: PlanOrder, url_count: int, now_ms: int) -> tuple[int, int]:
    """Return when a plan of *url_count* URLs starts, and when its last slice should surely be over, in ms."""
    starts_ms = now_ms if order.start is None else round(order.start.timestamp() * 1000)
    done_ms = starts_ms + -(-url_count // order.slice_len) * order.interval_s * 1000
    ends_ms = done_ms if order.end is None else round(order.end.timestamp() * 1000)
    return starts_ms, min(done_ms, ends_ms) + LATE_MS


def look_later(job: WatchedJob) -> int:
    """Return the ms until the next look at a job that keeps one waiting."""
    return min(AGAIN_MOST_MS, AGAIN_MS << min(job.looks, 10))


def retry_later(job: WatchedJob, error: EsaError) -> int:
    """Return the ms until a call that *error* ended is tried again; a cooldown holds by itself."""
    match error:
        case ThrottledError():
            return RETRY_MS
        case NotSentError() | UncertainError() | SiteBusyError():
            return min(AGAIN_MOST_MS, RETRY_MS << min(job.looks, 20))
        case _:
            return look_later(job)


def nothing_new(job: WatchedJob, error: EsaError) -> Look:
    """What a visit comes to whose call *error* ended: all stays as it was."""
    return Look(state=job.state, then=retry_later(job, error), ended_ms=job.ended_ms, others=job.others)


def judge(job: WatchedJob, plans: Sequence[PlanState] | None, *, now_ms: int, retention_ms: int) -> Look:
    """
    Decide what becomes of a job.

    Args:
        plans: all that ESA lists; ``None``: there is no such job.
    """
    if plans is None:
        lost = job.state in ("waiting", "warming")
        return Look(state="failed" if lost else job.state, then="gone", why="job_gone" if lost else "")
    if job.state == "unplanned":
        # Somebody has found a use for it: it is theirs.
        return (
            Look(state="unplanned", then="left") if plans else Look(state="unplanned", then=0, deletes=True)
        )
    state, why = _state_of(job, plans, now_ms)
    others = sum(plan.plan_id != job.plan_id for plan in plans)
    if all(plan.status in ENDED for plan in plans):
        ended_ms = job.ended_ms or (now_ms if job.looks else min(now_ms, job.done_ms - LATE_MS))
        if others > job.others:  # somebody added one, and when it ended nobody saw
            ended_ms = now_ms
        left_ms = ended_ms + retention_ms - now_ms
        return Look(
            state=state, then=max(0, left_ms), ended_ms=ended_ms, others=others, deletes=left_ms <= 0, why=why
        )
    if state == "waiting" and job.starts_ms > now_ms:
        return Look(state=state, then=job.starts_ms - now_ms, others=others)
    if now_ms >= max(job.done_ms, job.ended_ms + retention_ms) + FOLLOWED_MS:
        if state in ("waiting", "warming"):
            state, why = "failed", "overdue"
        return Look(state=state, then="left", why=why)
    then = job.done_ms - now_ms if now_ms < job.done_ms else look_later(job)
    return Look(state=state, then=then, others=others, why=why)


def _state_of(job: WatchedJob, plans: Sequence[PlanState], now_ms: int) -> tuple[JobState, str]:
    """Return what the plan of ours has come to; what was counted as ended stays so."""
    if job.state in ENDED:
        return job.state, ""
    status = next((plan.status for plan in plans if plan.plan_id == job.plan_id), None)
    if status is None:
        return "failed", "plan_gone"
    if status == "failed":
        return "failed", "plan_failed"
    if status == "finished":
        return "finished", ""
    return ("waiting" if job.state == "waiting" and now_ms < job.starts_ms else "warming"), ""
