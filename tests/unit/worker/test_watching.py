"""What follows from the plans of a job: every arm of the decision, as a table."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.claims import WatchedJob
from esa_preload_worker.esa import PlanOrder, PlanState
from esa_preload_worker.watching import (
    AGAIN_MOST_MS,
    AGAIN_MS,
    FOLLOWED_MS,
    LATE_MS,
    Look,
    expected_end_ms,
    judge,
    look_later,
)

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000
JOB = WatchedJob(
    job_id="j",
    token="t",
    site_id=1,
    batch_id="b",
    plan_id="p",
    urls=7,
    state="warming",
    starts_ms=NOW_MS - 60_000,
    done_ms=NOW_MS,
    ended_ms=0,
    looks=0,
    now_ms=NOW_MS,
)
LOOKED_AT = replace(JOB, looks=1)
WAITING = replace(JOB, state="waiting", starts_ms=NOW_MS + 5_000, done_ms=NOW_MS + 60_000)
ENDED = replace(JOB, state="finished", ended_ms=NOW_MS - HOUR_MS)


def plans(*statuses: str) -> tuple[PlanState, ...]:
    """Return our plan, and further ones of the job."""
    ids = ("p", "q", "r")
    return tuple(PlanState(plan_id=i, job_id="j", status=s) for i, s in zip(ids, statuses, strict=False))


CASES = {
    "runs": (JOB, plans("running"), Look(state="warming", then=AGAIN_MS)),
    "paused": (JOB, plans("stopped"), Look(state="warming", then=AGAIN_MS)),
    "of a status that we do not know": (JOB, plans("odd"), Look(state="warming", then=AGAIN_MS)),
    "is looked at early": (
        replace(JOB, done_ms=NOW_MS + 9),
        plans("running"),
        Look(state="warming", then=9),
    ),
    "has not started": (WAITING, plans("waiting"), Look(state="waiting", then=5_000)),
    "should have started": (
        replace(WAITING, starts_ms=NOW_MS),
        plans("waiting"),
        Look(state="warming", then=60_000),
    ),
    "has finished": (LOOKED_AT, plans("finished"), Look(state="finished", then=HOUR_MS, ended_ms=NOW_MS)),
    "has finished when it should": (
        JOB,
        plans("finished"),
        Look(state="finished", then=HOUR_MS - LATE_MS, ended_ms=NOW_MS - LATE_MS),
    ),
    "has failed": (
        LOOKED_AT,
        plans("failed"),
        Look(state="failed", then=HOUR_MS, ended_ms=NOW_MS, why="plan_failed"),
    ),
    "was deleted": (
        LOOKED_AT,
        plans(),
        Look(state="failed", then=HOUR_MS, ended_ms=NOW_MS, why="plan_gone"),
    ),
    "was deleted, and another is there": (
        JOB,
        (PlanState(plan_id="q", job_id="j", status="running"),),
        Look(state="failed", then=AGAIN_MS, others=1, why="plan_gone"),
    ),
    "its job is gone": (JOB, None, Look(state="failed", then="gone", why="job_gone")),
    "its job is gone before it started": (WAITING, None, Look(state="failed", then="gone", why="job_gone")),
    "its job is gone after its end": (ENDED, None, Look(state="finished", then="gone")),
    "retention is over": (
        ENDED,
        plans("finished"),
        Look(state="finished", then=0, ended_ms=NOW_MS - HOUR_MS, deletes=True),
    ),
    "retention is over, and it is gone": (
        ENDED,
        plans(),
        Look(state="finished", then=0, ended_ms=NOW_MS - HOUR_MS, deletes=True),
    ),
    "retention is not over": (
        replace(ENDED, ended_ms=NOW_MS - HOUR_MS + 1),
        plans("finished"),
        Look(state="finished", then=1, ended_ms=NOW_MS - HOUR_MS + 1),
    ),
    "somebody added another": (
        ENDED,
        plans("finished", "waiting"),
        Look(state="finished", then=AGAIN_MS, others=1),
    ),
    "somebody added another, which has ended": (
        ENDED,
        plans("finished", "failed"),
        Look(state="finished", then=HOUR_MS, ended_ms=NOW_MS, others=1),
    ),
    "somebody added another, which ended a retention ago": (
        replace(ENDED, others=1),
        plans("finished", "failed"),
        Look(state="finished", then=0, ended_ms=NOW_MS - HOUR_MS, others=1, deletes=True),
    ),
    "is looked at late, and another has ended": (
        replace(JOB, done_ms=NOW_MS - HOUR_MS),
        plans("finished", "finished"),
        Look(state="finished", then=HOUR_MS, ended_ms=NOW_MS, others=1),
    ),
    "is gone, and another in its place has ended": (
        ENDED,
        plans("finished", "finished")[1:],
        Look(state="finished", then=HOUR_MS, ended_ms=NOW_MS, others=1),
    ),
    "has not ended for a day": (
        replace(JOB, done_ms=NOW_MS - FOLLOWED_MS),
        plans("stopped"),
        Look(state="failed", then="left", why="overdue"),
    ),
    "others have not ended for a day": (
        replace(JOB, state="finished", done_ms=NOW_MS - FOLLOWED_MS),
        plans("finished", "running"),
        Look(state="finished", then="left"),
    ),
    "never was": (replace(JOB, state="unplanned"), plans(), Look(state="unplanned", then=0, deletes=True)),
    "never was, and its job is gone": (
        replace(JOB, state="unplanned"),
        None,
        Look(state="unplanned", then="gone"),
    ),
    "is somebody else's": (
        replace(JOB, state="unplanned"),
        plans("finished"),
        Look(state="unplanned", then="left"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_becomes_of_a_job_whose_plan(case: str) -> None:
    """Each arm, by its name."""
    job, listed, expected = CASES[case]
    assert judge(job, listed, now_ms=NOW_MS, retention_ms=HOUR_MS) == expected


@given(
    statuses=st.lists(
        st.sampled_from(("waiting", "running", "finished", "failed", "stopped", "")), max_size=3
    ),
    state=st.sampled_from(("waiting", "warming", "finished", "failed")),
    ended=st.integers(-2 * HOUR_MS, 0) | st.none(),
    others=st.integers(0, 2),
    done=st.integers(-2 * FOLLOWED_MS, HOUR_MS),
)
def test_a_job_is_deleted_only_when_every_plan_has_ended(
    statuses: list[str], state: str, ended: int | None, others: int, done: int
) -> None:
    """Whatever is on record: no plan that was listed is unfinished or new, and all of them ended a retention ago; and no pause is negative."""
    job = replace(
        JOB,
        state=state,  # type: ignore[arg-type]
        ended_ms=0 if ended is None else NOW_MS + ended,
        others=others,
        done_ms=NOW_MS + done,
    )
    look = judge(job, plans(*statuses), now_ms=NOW_MS, retention_ms=HOUR_MS)
    if look.deletes:
        assert set(statuses) <= {"finished", "failed"}
        assert len(statuses) - 1 <= others
        assert (ended if ended is not None else min(0, done - LATE_MS)) <= -HOUR_MS
    assert not isinstance(look.then, int) or look.then >= 0


def test_pauses_grow_to_ten_minutes() -> None:
    """A plan that is late costs two calls a minute at first, and six an hour for the rest of the day."""
    pauses = [look_later(replace(JOB, looks=looks)) for looks in (0, 1, 2, 3, 4, 5, 500)]
    assert pauses == [30_000, 60_000, 120_000, 240_000, 480_000, AGAIN_MOST_MS, AGAIN_MOST_MS]


def test_the_expected_end_is_that_of_the_last_slice() -> None:
    """So many slices as the URLs need, an interval each, but not beyond the plan's end; from now where no start is given."""
    start = datetime(2027, 1, 1, tzinfo=UTC)
    start_ms = round(start.timestamp() * 1000)
    order = PlanOrder(start=start, end=None, interval_s=30, slice_len=100)
    assert expected_end_ms(order, 101, 0) == (start_ms, start_ms + 60_000 + LATE_MS)
    soon = replace(order, end=start + timedelta(seconds=40))
    assert expected_end_ms(soon, 101, 0) == (start_ms, start_ms + 40_000 + LATE_MS)
    assert expected_end_ms(replace(order, start=None), 100, 7) == (7, 30_007 + LATE_MS)
