"""
What a freeze costs in the one instant that nobody can guard: after the last look at the clock, before the first byte leaves.

No deadline helps there: nothing of the process runs between the two but the building of the request.
"""

from __future__ import annotations

from integration.crash_points.seams import Strike
from integration.crash_points.strikes import strike_at

CREATE, PLAN = 3, 5
"""The numbers of these calls on the straight way; the first loads the scripts."""


def test_at_create_it_costs_a_job_that_is_deleted(redis_url: str) -> None:
    """Another created the job again; the one that wakes makes a second, gives it no plan, and deletes it."""
    first = strike_at("cancelled in flight", redis_url, Strike(how="stalls", when="before", at=CREATE))
    assert first.fate.struck.is_set()
    assert first.fate.calls[CREATE - 1 :] == [
        "CreateScheduledPreloadJob",
        "created",
        "created",
        "pace",
        "ListScheduledPreloadExecutions",
        "pace",
        "DeleteScheduledPreloadJob",
        "report",
        "take",
    ]


def test_at_the_plan_it_costs_a_second_plan_of_the_same_job(redis_url: str) -> None:
    """Another made the plan; the one that wakes makes a second of the same job, and settles nothing."""
    first = strike_at(
        "cancelled in flight", redis_url, Strike(how="stalls", when="before", at=PLAN), second_plans=1
    )
    assert first.fate.calls[PLAN - 1 :] == ["CreateScheduledPreloadExecutions", "settle+take"]
