"""What becomes of a job whose plan is not simply made: the sandbox's faults, through the real client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.decisions import LIST_PLANS
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.sandbox import Fault
from esa_preload_worker.submit import DELETE_JOB
from integration.worker.answers import ALWAYS, Logged, names, refusing, state_of
from integration.worker.rig import SITE, Rig, rig, urls_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload_worker.sandbox import Sandbox
    from esa_preload_worker.sandbox.faults import FaultKind


@pytest.mark.parametrize(
    ("kind", "commits"),
    [
        ("lost_after", True),
        ("reset_after", True),
        ("error_after", True),
        ("html_after", True),
        ("half", True),
        ("lost_before", False),
        ("error_before", False),
    ],
)
async def test_an_unknown_plan_becomes_one_plan(worker: Rig, kind: FaultKind, commits: bool) -> None:
    """The job is on record: its plans are listed, and a second one made only where the first cannot appear any more."""
    worker.sandbox.reconfigure(faults=(Fault(kind=kind, operation=CREATE_PLANS, first=1),))
    assert (await worker.work(await worker.enqueue(urls_of(3)))).submitted == 3
    assert (worker.planned(), worker.calls(), worker.calls(CREATE_PLANS)) == (3, 1, 1 if commits else 2)
    assert worker.count("urls_submitted_total", site=str(SITE)) == 3
    assert worker.count("submit_latency_seconds_count") == worker.count("batch_urls_count") == 1
    assert worker.count("tasks_submitted_total", site=str(SITE)) <= 3


@pytest.mark.parametrize("code", ["Site.ServiceBusy", "TooManyRequests", "LockFailed"])
async def test_a_plan_that_is_put_off_is_the_only_thing_repeated(worker: Rig, code: str) -> None:
    """Throttled or busy: the job stays, only the plan is made again."""
    worker.sandbox.reconfigure(faults=refusing(code, operation=CREATE_PLANS))
    assert (await worker.work(await worker.enqueue(urls_of(3)))).submitted == 3
    assert (worker.planned(), worker.calls(), worker.calls(CREATE_PLANS)) == (3, 1, 2)


async def test_a_job_that_is_found_late_gets_its_plan(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """InvalidJob.NotFound within LIST_LAG: tried again, the job stays, nothing goes back."""
    sandbox.reconfigure(faults=refusing("InvalidJob.NotFound", operation=CREATE_PLANS, status=404))
    async with rig(redis, redis_url, sandbox, list_lag=2) as worker:
        assert (await worker.work(await worker.enqueue(urls_of(3)))).submitted == 3
        assert (worker.planned(), worker.calls()) == (3, 1)
        assert worker.count("batches_total", outcome="requeued") == 0


async def test_a_job_that_is_never_found_puts_its_urls_back(worker: Rig) -> None:
    """InvalidJob.NotFound beyond LIST_LAG: the URLs are pending again, and end in another job, planned once."""
    gone = [
        fault
        for operation in (CREATE_PLANS, LIST_PLANS)
        for fault in refusing("InvalidJob.NotFound", operation=operation, status=404, first=ALWAYS)
    ]
    worker.sandbox.reconfigure(faults=tuple(gone))
    request = await worker.enqueue(urls_of(3))
    await worker.work(request, until=lambda _: worker.count("batches_total", outcome="requeued") == 1)
    worker.sandbox.reconfigure(faults=())
    status = await worker.work(request)
    assert (status.submitted, status.refused, worker.planned()) == (3, 0, 3)
    assert worker.count("urls_submitted_total", site=str(SITE)) == 3
    assert [job["plans_made"] for job in worker.sandbox.jobs() if not job["is_deleted"]] == [1]


async def test_a_plan_that_is_refused_for_good_is_plan_failed(worker: Rig, logged: Logged) -> None:
    """A permanent 4xx: refused with ESA's code, the job deleted, the site not blocked."""
    worker.sandbox.reconfigure(faults=refusing("InvalidEndTime.Mismatch", operation=CREATE_PLANS))
    assert (await worker.work(await worker.enqueue(urls_of(2)))).refused == 2
    failures = await worker.client.failures(SITE)
    assert {(failure.reason, failure.code) for failure in failures} == {
        ("plan_failed", "InvalidEndTime.Mismatch")
    }
    assert worker.count("urls_refused_total", site=str(SITE), reason="plan_failed") == 2
    assert worker.sandbox.jobs()[0]["is_deleted"]
    assert names(logged, "batch.") == ["batch.refused"]
    assert not names(logged, "site.")


async def test_failed_executions_are_a_code_and_a_message(worker: Rig, logged: Logged) -> None:
    """A 200 with FailedExecutions: what ESA says of it is in the log line, and never stands in for a code."""
    worker.sandbox.reconfigure(faults=(Fault(kind="plan_failed", operation=CREATE_PLANS, first=1),))
    assert (await worker.work(await worker.enqueue(urls_of(2)))).refused == 2
    assert {failure.code for failure in await worker.client.failures(SITE)} == {"FailedExecutions"}
    (line,) = (entry for entry in logged if entry["event"] == "batch.refused")
    assert (line["code"], line["reason"]) == ("FailedExecutions", "plan_failed")
    assert "limit" in line["message"]
    assert worker.sandbox.jobs()[0]["is_deleted"]


async def test_a_refused_list_of_plans_refuses_nothing(worker: Rig, logged: Logged) -> None:
    """The plan may exist: its job is not deleted, its URLs not refused; the site is blocked until the list can be read."""
    worker.sandbox.reconfigure(
        faults=(
            Fault(kind="lost_after", operation=CREATE_PLANS, first=1),
            *refusing("InvalidParameter.Id", operation=LIST_PLANS),
        )
    )
    request = await worker.enqueue(urls_of(2))
    status = await worker.work(request, until=lambda _: worker.calls(LIST_PLANS) == 1)
    assert (status.in_flight, status.refused) == (2, 0)
    assert await state_of(worker) == ("blocked", "InvalidParameter.Id")
    await worker.due()
    assert (await worker.work(request)).submitted == 2
    assert (worker.planned(), worker.calls(CREATE_PLANS)) == (2, 1)
    assert names(logged) == ["site.blocked", "site.resumed"]


async def test_a_quota_at_the_plan_leaves_the_job(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """Refused for its quota: the job waits for its plan as long as the site does."""
    sandbox.reconfigure(faults=refusing("QuotaExcess", operation=CREATE_PLANS))
    async with rig(redis, redis_url, sandbox, quota_retry_after=1) as worker:
        request = await worker.enqueue(urls_of(2))
        await worker.work(request, until=lambda _: worker.calls(CREATE_PLANS) == 1)
        assert await state_of(worker) == ("waiting", "quota")
        assert (await worker.work(request)).submitted == 2
        assert (worker.planned(), worker.calls(CREATE_JOB)) == (2, 1)


async def test_a_job_that_can_not_be_deleted_is_said(worker: Rig, logged: Logged) -> None:
    """It stays behind, unplanned, and takes one of the site's places: somebody should know which it is."""
    worker.sandbox.reconfigure(faults=refusing("TooManyRequests", operation=DELETE_JOB))
    assert (await worker.work(await worker.enqueue(urls_of(2, host="www.example.net")))).refused == 2
    (job,) = worker.sandbox.jobs()
    (line,) = (entry for entry in logged if entry["event"] == "job.kept")
    assert (line["job_id"], line["site_id"], line["code"]) == (job["id"], SITE, "TooManyRequests")
    assert (job["is_deleted"], job["plans_made"]) == (False, 0)
