"""The simulated account by a fake clock: jobs, plans, caps, quota."""

from __future__ import annotations

import dataclasses

import pytest

from esa_preload_worker.sandbox.config import ForeignJob, SandboxConfig
from esa_preload_worker.sandbox.plans import Order, Plan
from esa_preload_worker.sandbox.replies import ApiError
from esa_preload_worker.sandbox.state import Account, Job


class FakeClock:
    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


def urls(count: int, since: int = 0) -> str:
    return "\n".join(f"https://a.example/{number}" for number in range(since, since + count))


def create(account: Account, text: str, *, site_id: int = 1, name: str = "n") -> Job:
    return account.create_job(site_id=site_id, name=name, insert_way="textBox", url_text=text)


def order(
    *, start_s: float | None = None, end_s: float | None = None, interval_s: int = 10, slice_len: int = 4
) -> Order:
    return Order(
        start=None, end=None, start_s=start_s, end_s=end_s, interval_s=interval_s, slice_len=slice_len
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.mark.parametrize(
    ("after_s", "status", "tasks"),
    [
        (-5, "waiting", 0),
        (0, "waiting", 0),
        (0.1, "running", 4),
        (9.9, "running", 4),
        (10, "running", 8),
        (20, "running", 10),
        (29.9, "running", 10),
        (30, "finished", 10),
        (9999, "finished", 10),
    ],
)
def test_a_plan_runs_by_the_clock(after_s: float, status: str, tasks: int) -> None:
    """Ten URLs in slices of four, ten seconds apart: three slices, finished an interval after the last."""
    plan = Plan(plan_id="p", job_id="j", order=order(start_s=100), url_count=10, now_s=0)
    assert (plan.status(100 + after_s), plan.tasks(100 + after_s)) == (status, tasks)


def test_a_plan_ends_at_its_end() -> None:
    """No slice runs past EndTime; a plan whose window is past is finished at once, having done nothing."""
    plan = Plan(plan_id="p", job_id="j", order=order(start_s=100, end_s=115), url_count=100, now_s=0)
    assert (plan.status(114), plan.tasks(114)) == ("running", 8)
    assert (plan.status(9999), plan.tasks(9999)) == ("finished", 8)
    past = Plan(plan_id="p", job_id="j", order=order(start_s=1, end_s=2), url_count=100, now_s=50)
    assert (past.status(50), past.status(51), past.tasks(51)) == ("waiting", "finished", 0)


def test_a_plan_stops_and_goes_on() -> None:
    """A stopped plan keeps what it did, does nothing while it is stopped, and goes on with the next slice."""
    plan = Plan(plan_id="p", job_id="j", order=order(), url_count=10, now_s=0)
    plan.stop(5)
    assert (plan.status(500), plan.tasks(500)) == ("stopped", 4)
    plan.start(1000)
    assert (plan.status(1000), plan.tasks(1000)) == ("waiting", 4)
    assert (plan.status(1001), plan.tasks(1001)) == ("running", 8)
    assert (plan.status(1020), plan.tasks(1020)) == ("finished", 10)
    plan.stop(1020)
    plan.start(1021)
    assert plan.status(1021) == "finished"


def test_tasks_of_a_job_grow(clock: FakeClock) -> None:
    """TaskSubmitted follows the plans, never exceeds UrlSubmitted, and survives the deletion of a plan."""
    account = Account(SandboxConfig(), clock)
    job = create(account, urls(10) + "\nbad")
    made, failed = account.create_plans(job.job_id, [order()])
    assert (job.tasks(clock()), failed) == (0, [])
    clock.now_s += 1
    assert job.tasks(clock()) == 4
    account.delete_plan(made[0].plan_id)
    assert job.tasks(clock()) == 4
    account.create_plans(job.job_id, [order(slice_len=100)])
    clock.now_s += 100
    assert job.tasks(clock()) == job.url_submitted == 10


def test_plans_beyond_the_number_fail(clock: FakeClock) -> None:
    """A job takes as many plans as it may have; the rest come back as failed."""
    account = Account(SandboxConfig(max_plans_per_job=2), clock)
    job = create(account, urls(1))
    made, failed = account.create_plans(job.job_id, [order(), order(), order()])
    assert (len(made), len(failed)) == (2, 1)
    account.delete_plan(made[0].plan_id)
    assert len(account.create_plans(job.job_id, [order()])[0]) == 1


def test_cap_counts_foreign_jobs_per_site(clock: FakeClock) -> None:
    """A site is full with the jobs of others too; another site is not, and a deletion makes room."""
    account = Account(
        SandboxConfig(max_jobs_per_site=2, foreign_jobs=(ForeignJob(site_id=1, name="theirs"),)), clock
    )
    mine = create(account, urls(1))
    with pytest.raises(ApiError) as refused:
        create(account, urls(1))
    assert (refused.value.code, refused.value.status) == ("InvalidJob.JobCountOfSiteFull", 400)
    create(account, urls(1), site_id=2)
    account.delete_job(mine.job_id)
    create(account, urls(1))


def test_quota_is_a_sites_and_a_new_one_starts_anew(clock: FakeClock) -> None:
    """Submitted URLs use up their own site's quota; a changed quota is a new period."""
    config = SandboxConfig(url_quota_per_site=5)
    account = Account(config, clock)
    assert create(account, urls(3)).url_submitted == 3
    assert create(account, urls(3)).url_submitted == 2
    assert create(account, urls(3)).url_submitted == 0
    assert create(account, urls(3), site_id=2).url_submitted == 3
    account.change(dataclasses.replace(config, latency_s=1))
    assert create(account, urls(1)).url_submitted == 0
    account.change(dataclasses.replace(config, url_quota_per_site=2))
    assert create(account, urls(3)).url_submitted == 2


def test_window_of_creation(clock: FakeClock) -> None:
    """The window takes both its ends; the order is the configured one."""
    config = SandboxConfig()
    account = Account(config, clock)
    for name in ("a", "b", "c"):
        create(account, urls(1), name=name)
        clock.now_s += 1
    start_ms = 1_700_000_001_000
    assert [job.name for job in account.jobs_of_site(1, start_ms=start_ms, end_ms=None)] == ["c", "b"]
    assert [job.name for job in account.jobs_of_site(1, start_ms=None, end_ms=start_ms)] == ["b", "a"]
    account.change(dataclasses.replace(config, list_order="oldest"))
    assert [job.name for job in account.jobs_of_site(1, start_ms=None, end_ms=None)] == ["a", "b", "c"]


def test_planned_urls_are_counted_after_deletion(clock: FakeClock) -> None:
    """A URL counts once for each plan ever made for it; refused URLs, unplanned and foreign jobs do not count."""
    account = Account(
        SandboxConfig(foreign_jobs=(ForeignJob(site_id=1, name="theirs", is_planned=True),)), clock
    )
    first = create(account, urls(2) + "\nbad")
    second = create(account, urls(2, since=1))
    create(account, urls(9, since=50))
    account.create_plans(first.job_id, [order()])
    account.create_plans(second.job_id, [order()])
    account.delete_job(first.job_id)
    assert account.planned_urls() == {
        (1, "https://a.example/0"): 1,
        (1, "https://a.example/1"): 2,
        (1, "https://a.example/2"): 1,
    }


def test_memory_is_bounded(clock: FakeClock) -> None:
    """Beyond the bound the oldest lists are forgotten, and the first deleted jobs; counts stay."""
    account = Account(SandboxConfig(kept_url_bytes=400, kept_deleted_jobs=3), clock)
    jobs = [create(account, urls(5)) for _ in range(20)]
    assert sum(len(job.url_text) for job in jobs) <= 400
    assert (jobs[0].is_forgotten, jobs[0].url_count, jobs[0].accepted) == (True, 5, [])
    assert not jobs[-1].is_forgotten
    for job in jobs:
        account.delete_job(job.job_id)
    assert len(list(account.all_jobs())) == 3
    assert (account.jobs_created, account.jobs_deleted) == (20, 20)


def test_ids_are_unique_and_of_the_documented_form(clock: FakeClock) -> None:
    """Job ids are 24 hexadecimal digits, and no two are the same."""
    account = Account(SandboxConfig(), clock)
    ids = {create(account, urls(1)).job_id for _ in range(1000)}
    assert len(ids) == 1000
    assert all(
        len(job_id) == 24 and int(job_id, 16) >= 0 and job_id.islower()
        for job_id in ids
        if not job_id.isdigit()
    )


@pytest.mark.parametrize(
    "changes", [{"latency_s": -1.0}, {"jitter_s": float("nan")}, {"max_jobs_per_site": -1}]
)
def test_senseless_configurations_are_refused(changes: dict[str, float]) -> None:
    """A value out of range is a mistake that is named."""
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(SandboxConfig(), **changes)  # type: ignore[arg-type]  # wrong on purpose
