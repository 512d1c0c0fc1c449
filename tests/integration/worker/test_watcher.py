"""Plans are followed, and jobs deleted, over the sandbox in virtual time: what a person does meanwhile counts."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.model import Plan
from esa_preload_worker.decisions import LIST_PLANS, moment
from esa_preload_worker.esa import NotSentError, PlanOrder, UncertainError
from esa_preload_worker.submit import DELETE_JOB
from integration.worker.answers import refusing
from integration.worker.rig import SITE, urls_of
from integration.worker.virtual import VirtualRig, virtual_rig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, MutableMapping

    from redis.asyncio import Redis

RETENTION_S, INTERVAL_S = 100, 10


@pytest.fixture
async def worker(redis: Redis, redis_url: str) -> AsyncIterator[VirtualRig]:
    """Plans of one slice, that take ten seconds; jobs are kept for a hundred more."""
    async with virtual_rig(redis, redis_url, job_retention=RETENTION_S, plan_interval=INTERVAL_S) as built:
        yield built


async def submit(worker: VirtualRig, count: int = 2, **options: object) -> str:
    """Enqueue and submit some URLs; returns the request."""
    request = await worker.rig.enqueue(urls_of(count), **options)
    worker.advance(1)
    await worker.turn()
    assert (await worker.status(request)).submitted == count
    return request


async def pass_time(worker: VirtualRig, seconds: float) -> None:
    """Let time pass, second by second, and jobs be looked at."""
    for _ in range(round(seconds)):
        worker.advance(1)
        await worker.look()


def counts(status: Any) -> tuple[int, int, int]:
    """Return what became of plans: warming, finished, failed."""
    return status.warming, status.finished, status.failed


def jobs_told(logged: list[MutableMapping[str, Any]], *events: str) -> list[tuple[str, str]]:
    """Return what was logged of jobs and plans: event, and why."""
    return [
        (entry["event"], str(entry.get("why") or entry.get("reason") or entry.get("code")))
        for entry in logged
        if entry["event"] in (events or ("job.deleted", "job.kept", "plan.failed"))
    ]


async def test_warming_then_finished_then_deleted(
    worker: VirtualRig, logged: list[MutableMapping[str, Any]]
) -> None:
    """Submitted, warming from the settlement on, finished when ESA says so, deleted a retention later: two lists and one deletion."""
    request = await submit(worker)
    assert counts(await worker.status(request)) == (2, 0, 0)
    await pass_time(worker, INTERVAL_S + 1)
    status = await worker.status(request)
    assert (counts(status), status.state, worker.calls(LIST_PLANS)) == ((0, 2, 0), "done", 1)
    await pass_time(worker, RETENTION_S - 5)
    assert (len(worker.jobs()), worker.calls(LIST_PLANS)) == (1, 1)
    await pass_time(worker, 6)
    assert (worker.jobs(), worker.calls(LIST_PLANS), worker.calls(DELETE_JOB)) == ([], 2, 1)
    assert jobs_told(logged) == [("job.deleted", "finished")]
    assert worker.rig.count("jobs_deleted_total", site=str(SITE)) == 1
    assert worker.rig.count("plans_ended_total", outcome="finished") == 1
    assert counts(await worker.status(request)) == (0, 2, 0)


async def test_a_plan_of_later_is_warming_from_its_start(worker: VirtualRig) -> None:
    """Not before; it costs one look more."""
    start = moment(round(worker.clock.now_s * 1000)) + timedelta(minutes=5)
    request = await submit(worker, plan=Plan(start=start))
    assert counts(await worker.status(request)) == (0, 0, 0)
    await pass_time(worker, 290)
    assert (counts(await worker.status(request)), worker.calls(LIST_PLANS)) == ((0, 0, 0), 0)
    await pass_time(worker, 70)
    assert counts(await worker.status(request)) != (0, 0, 0)
    await pass_time(worker, INTERVAL_S)
    assert counts(await worker.status(request)) == (0, 2, 0)


async def stop_plan(worker: VirtualRig) -> None:
    """Pause the one plan, as a person does in the console."""
    plan = worker.jobs()[0]["plans"][0]["id"]
    worker.rig.sandbox.account.plan(plan).stop(worker.clock.now_s)


async def add_plan(worker: VirtualRig, *, interval_s: int = 3_600) -> None:
    """Plan the one job of two URLs once more, as a person does in the console."""
    order = PlanOrder(start=None, end=None, interval_s=interval_s, slice_len=1)
    await worker.rig.between.esa.create_plans(worker.jobs()[0]["id"], [order])


async def test_a_paused_plan_keeps_its_job(
    worker: VirtualRig, logged: list[MutableMapping[str, Any]]
) -> None:
    """Stopped is not ended: the job is looked at ever more rarely, for a day; then its URLs count as failed, and it is left alone."""
    request = await submit(worker)
    await stop_plan(worker)
    await pass_time(worker, 2_000)
    assert (counts(await worker.status(request)), len(worker.jobs())) == ((2, 0, 0), 1)
    assert worker.calls(LIST_PLANS) <= 8
    for _ in range(150):
        worker.advance(600)
        await worker.look()
    assert (counts(await worker.status(request)), len(worker.jobs())) == ((0, 0, 2), 1)
    assert jobs_told(logged) == [("plan.failed", "overdue"), ("job.kept", "still_planned")]
    calls = worker.calls(LIST_PLANS)
    worker.advance(100_000)
    await worker.look()
    assert worker.calls(LIST_PLANS) == calls


async def test_a_plan_that_somebody_added_keeps_the_job(worker: VirtualRig) -> None:
    """Ours has finished; theirs runs when the retention is over: the job stays until that has ended, and its retention with it."""
    request = await submit(worker)
    await pass_time(worker, INTERVAL_S + 1)
    await add_plan(worker)
    await pass_time(worker, RETENTION_S + 60)
    assert (counts(await worker.status(request)), len(worker.jobs())) == ((0, 2, 0), 1)
    assert worker.calls(DELETE_JOB) == 0
    for _ in range(20):
        worker.advance(600)
        await worker.look()
    assert worker.jobs() == []


async def test_a_plan_that_somebody_added_and_nobody_saw_run_keeps_the_job(worker: VirtualRig) -> None:
    """It came and ended between two looks: the job is kept for a retention from the look that found it."""
    await submit(worker)
    await pass_time(worker, INTERVAL_S + RETENTION_S - 30)
    await add_plan(worker, interval_s=5)
    await pass_time(worker, 35)
    assert [plan["status"] for plan in worker.jobs()[0]["plans"]] == ["finished", "finished"]
    assert worker.calls(LIST_PLANS) == 2
    await pass_time(worker, RETENTION_S - 10)
    assert (len(worker.jobs()), worker.calls(LIST_PLANS)) == (1, 2)
    await pass_time(worker, 10)
    assert (worker.jobs(), worker.calls(LIST_PLANS)) == ([], 3)


async def test_what_somebody_deleted_has_failed(
    worker: VirtualRig, logged: list[MutableMapping[str, Any]]
) -> None:
    """The plan, or the job with it, before it was over."""
    first = await submit(worker)
    plan = worker.jobs()[0]["plans"][0]["id"]
    await worker.rig.between.esa.delete_plan(plan)
    await pass_time(worker, INTERVAL_S + 1)
    assert counts(await worker.status(first)) == (0, 0, 2)
    second = await submit(worker)
    await worker.rig.between.esa.delete_job(worker.jobs()[1]["id"])
    await pass_time(worker, INTERVAL_S + 1)
    assert counts(await worker.status(second)) == (0, 0, 2)
    assert jobs_told(logged) == [("plan.failed", "plan_gone"), ("plan.failed", "job_gone")]


async def test_a_look_that_fails_is_made_again(worker: VirtualRig) -> None:
    """Whatever went wrong, nothing is concluded from it."""
    request = await submit(worker)
    worker.rig.between.before["list_plans"] += [
        NotSentError("", code="not_sent.refused"),
        UncertainError("", code="uncertain.reset"),
    ]
    await pass_time(worker, INTERVAL_S + 1)
    assert (counts(await worker.status(request)), len(worker.jobs())) == ((2, 0, 0), 1)
    await pass_time(worker, 120)
    assert counts(await worker.status(request)) == (0, 2, 0)


async def test_a_deletion_that_fails_is_made_again(worker: VirtualRig) -> None:
    """After the plans were listed again; what was counted stays counted."""
    request = await submit(worker)
    worker.rig.between.before["delete_job"] += [NotSentError("", code="not_sent.refused")]
    worker.rig.between.after["delete_job"] += [UncertainError("", code="uncertain.reset")]
    await pass_time(worker, INTERVAL_S + RETENTION_S + 300)
    assert worker.jobs() == []
    assert (counts(await worker.status(request)), worker.calls(LIST_PLANS)) == ((0, 2, 0), 4)


class KilledError(Exception):
    """Stands for a SIGKILL."""


async def test_a_worker_that_dies_before_it_deletes_harms_nothing(worker: VirtualRig) -> None:
    """Half a minute later somebody else lists the plans again, and sees the one that came meanwhile."""
    request = await submit(worker)
    await pass_time(worker, INTERVAL_S + 1)
    worker.advance(RETENTION_S)
    worker.rig.between.before["delete_job"].append(KilledError())
    with pytest.raises(KilledError):
        await worker.look()
    await add_plan(worker)
    worker.advance(29)
    await worker.look()
    assert worker.calls(LIST_PLANS) == 2
    worker.advance(1)
    await worker.look()
    assert (worker.calls(LIST_PLANS), worker.calls(DELETE_JOB)) == (3, 0)
    assert counts(await worker.status(request)) == (0, 2, 0)


async def test_a_worker_that_dies_after_it_deleted_harms_nothing(redis: Redis, redis_url: str) -> None:
    """Whoever looks next finds no job; its plan had been counted before, in the very visit that deleted it."""
    async with virtual_rig(redis, redis_url) as worker:
        request = await submit(worker)
        worker.rig.between.after["delete_job"].append(KilledError())
        with pytest.raises(KilledError):
            await pass_time(worker, INTERVAL_S + 5)
        assert worker.jobs() == []
        assert counts(await worker.status(request)) == (0, 2, 0)
        await pass_time(worker, 31)
        assert counts(await worker.status(request)) == (0, 2, 0)
        (site,) = await worker.rig.reader.site_statuses()
        assert site.jobs == 0


async def test_a_list_that_is_old_is_asked_for_again(
    worker: VirtualRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that stood still between list and deletion lists the plans once more: one may have been added since."""
    await submit(worker)
    await pass_time(worker, INTERVAL_S + 1)
    worker.advance(RETENTION_S)
    pace = worker.rig.ledger.pace

    async def stands_still(*arguments: Any, **options: Any) -> Any:
        worker.advance(10)
        monkeypatch.undo()
        return await pace(*arguments, **options)

    monkeypatch.setattr(worker.rig.ledger, "pace", stands_still)
    await worker.rig.watcher.step()
    assert (worker.calls(LIST_PLANS), worker.calls(DELETE_JOB), len(worker.jobs())) == (2, 0, 1)
    await worker.look()
    assert (worker.calls(LIST_PLANS), worker.calls(DELETE_JOB), worker.jobs()) == (3, 1, [])


async def test_a_job_that_was_kept_is_deleted_later(redis: Redis, redis_url: str) -> None:
    """All its URLs were refused and the deletion throttled: a minute later it goes, if it has no plan."""
    async with virtual_rig(redis, redis_url) as worker:
        worker.rig.sandbox.reconfigure(faults=refusing("TooManyRequests", operation=DELETE_JOB))
        await worker.rig.enqueue(urls_of(2, host="www.example.net"))
        worker.advance(1)
        await worker.turn()
        assert len(worker.jobs()) == 1
        worker.rig.sandbox.reconfigure(faults=())
        await pass_time(worker, 62)
        assert worker.jobs() == []
