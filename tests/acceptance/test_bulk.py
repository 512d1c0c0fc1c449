"""Large backlogs by lists in a bucket: installed workers, a real queue, and the sandbox's ESA and OSS over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload import PreloadClient
from esa_preload_worker.sandbox import Fault, Sandbox
from processes import finish, started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

SITE = 190007158391808
OWNED, FOREIGN = 3_000, 7
CREATE, PLAN = "CreateScheduledPreloadJob", "CreateScheduledPreloadExecutions"


@pytest.fixture
def env(redis: Redis, redis_url: str, sandbox: Sandbox) -> dict[str, str]:
    """The environment of a worker with a bucket, and with plans that end at once."""
    del redis
    return worker_environment(
        redis_url,
        sandbox.url,
        ESA_PRELOAD_NAMESPACE="t",
        ESA_PRELOAD_OSS_BUCKET="lists",
        ESA_PRELOAD_OSS_ENDPOINT=sandbox.url,
        ESA_PRELOAD_RATE_INITIAL="50",
        ESA_PRELOAD_CALL_TIMEOUT="1",
        ESA_PRELOAD_LIST_LAG="0.2",
        ESA_PRELOAD_PLAN_INTERVAL="1",
        ESA_PRELOAD_PLAN_SLICE="100000",
        ESA_PRELOAD_JOB_RETENTION="0.1",
    )


def urls() -> list[str]:
    """Return the backlog: most of it is the site's."""
    owned = [f"https://www.example.com/{number:05}.webp" for number in range(OWNED)]
    return owned + [f"https://other.example.net/{number}.webp" for number in range(FOREIGN)]


async def enqueue(redis_url: str) -> str:
    """Enqueue the backlog; returns the request's id."""
    async with PreloadClient(redis_url, namespace="t") as client:
        return (await client.enqueue(SITE, urls())).request_id


async def assert_all_adds_up(redis_url: str, request_id: str, sandbox: Sandbox, env: dict[str, str]) -> None:
    """Every URL ended once, as it should, and the ledger is sound."""
    async with PreloadClient(redis_url, namespace="t") as client:
        status = await client.status(request_id)
        failures = await client.failures(SITE)
    assert (status.state, status.submitted, status.refused) == ("done", OWNED, FOREIGN)
    assert {failure.url for failure in failures} == set(urls()[OWNED:])
    stats = sandbox.stats()
    assert (stats["planned_urls"], stats["urls_planned_again"]) == (OWNED, 0)
    checked = await finish("esa-preload-worker", "check", "--ledger", env=env)
    assert checked.code == 0, checked.out


@pytest.mark.parametrize(
    "faults",
    [
        (),
        (
            Fault(kind="error_before", operation="PutObject", calls=(1,)),
            Fault(kind="slow_after", operation="PutObject", calls=(2,), delay_s=1.5),
            Fault(kind="lost_after", operation=CREATE, calls=(1,)),
            Fault(kind="error_after", operation=CREATE, calls=(2,), status=500),
            Fault(kind="slow_after", operation=PLAN, calls=(1,), delay_s=1.5),
        ),
    ],
    ids=["well", "with trouble"],
)
async def test_a_backlog_goes_by_lists(
    env: dict[str, str], redis_url: str, sandbox: Sandbox, faults: tuple[Fault, ...]
) -> None:
    """In a few jobs, whatever gets lost on the way; those that ESA refuses are named one by one."""
    sandbox.reconfigure(faults=faults)
    request_id = await enqueue(redis_url)
    done = await finish("esa-preload-worker", "run", "--burst", env=env)
    assert done.code == 0, done.err
    await assert_all_adds_up(redis_url, request_id, sandbox, env)
    jobs = [job for job in sandbox.jobs() if job["plans_made"]]
    assert {job["insert_way"] for job in jobs} <= {"oss", "textBox"}
    assert sum(job["url_count"] for job in jobs if job["insert_way"] == "oss") > OWNED / 2
    assert bool(sandbox.stats()["faults"]) == bool(faults)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(kind="refuse", operation="PutObject", probability=1, status=403, code="AccessDenied"), "AccessDenied"),
        (Fault(kind="half", operation="ReadList", probability=1), "list_misread"),
    ],
)  # fmt: skip
async def test_without_lists_text_boxes_carry_it(
    env: dict[str, str], redis_url: str, sandbox: Sandbox, fault: Fault, code: str
) -> None:
    """A bucket that may not be written, or not be read, costs a line in the log, and no URL."""
    sandbox.reconfigure(faults=(fault,))
    request_id = await enqueue(redis_url)
    env |= {"ESA_PRELOAD_RATE_INITIAL": "200", "ESA_PRELOAD_RATE_MAX": "1000"}
    async with started("esa-preload-worker", "run", "--burst", env=env) as worker:
        assert await worker.ended() == 0
    await assert_all_adds_up(redis_url, request_id, sandbox, env)
    assert {event["code"] for event in worker.events("bulk.put_back")} == {code}
    assert all(event["hint"] for event in worker.events("bulk.put_back"))
    assert {job["insert_way"] for job in sandbox.jobs() if job["plans_made"]} == {"textBox"}
    assert sandbox.objects.names == []


async def test_lists_go_with_their_jobs(env: dict[str, str], redis_url: str, sandbox: Sandbox) -> None:
    """When all plans have ended and the retention is over, neither a job nor an object of ours is left."""
    request_id = await enqueue(redis_url)
    async with (
        started("esa-preload-worker", "run", env=env) as worker,
        PreloadClient(redis_url, namespace="t") as client,
    ):
        assert (await client.wait(request_id, timeout=60)).submitted == OWNED
        assert "PutObject" in sandbox.stats()["calls"]
        await wait_until(lambda: not sandbox.objects.names and not sandbox.stats()["jobs"], timeout_s=60)
        assert (await client.status(request_id)).finished == OWNED
        worker.process.terminate()
        assert await worker.ended() == 0
    assert len(worker.events("job.deleted")) == sandbox.stats()["jobs_created"]


async def test_workers_with_a_bucket_and_without_share_a_queue(
    env: dict[str, str], redis_url: str, sandbox: Sandbox
) -> None:
    """Each submits as it can; nothing is submitted twice."""
    request_id = await enqueue(redis_url)
    without = env | {"ESA_PRELOAD_OSS_BUCKET": ""}
    async with (
        started("esa-preload-worker", "run", "--burst", env=env) as one,
        started("esa-preload-worker", "run", "--burst", env=without) as other,
    ):
        assert (await one.ended(), await other.ended()) == (0, 0)
    await assert_all_adds_up(redis_url, request_id, sandbox, env)
