"""What ESA answers to Create, as it really answers: the sandbox's faults, limits and clock, through the real client."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from esa_preload.scripts import command
from esa_preload_worker.decisions import LIST_JOBS
from esa_preload_worker.esa import BlockedError
from esa_preload_worker.ledger import CREATE_JOB
from esa_preload_worker.sandbox import BucketLimit, Credential, Fault, Sandbox, SandboxConfig
from integration.worker.answers import ALWAYS, Logged, names, refusing, state_of
from integration.worker.rig import SITE, Rig, rig, urls_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload.model import RequestStatus
    from esa_preload_worker.sandbox.faults import FaultKind

# -- quota --------------------------------------------------------------------------------------------------------------


async def test_a_quota_is_waited_for_and_the_site_goes_on_by_itself(
    redis: Redis, redis_url: str, sandbox: Sandbox, logged: Logged
) -> None:
    """Each wait is QUOTA_RETRY_AFTER and no longer, however often; said once; the reset needs no person."""
    sandbox.reconfigure(url_quota_per_site=2)
    async with rig(redis, redis_url, sandbox, quota_retry_after=1) as worker:
        request = await worker.enqueue(urls_of(5))
        status = await worker.work(request, until=lambda s: s.submitted == 2)
        assert (status.pending, status.refused) == (3, 0)
        assert await state_of(worker) == ("waiting", "quota")
        begun = asyncio.get_running_loop().time()
        await worker.work(request, until=lambda _: worker.calls() == 3)
        took_s = asyncio.get_running_loop().time() - begun
        assert 1.5 < took_s < 3, "two waits of a second: neither none nor ever longer"
        assert worker.planned() == 2
        sandbox.reconfigure(url_quota_per_site=10)
        assert (await worker.work(request)).submitted == 5
        assert await state_of(worker) == ("active", "")
        assert worker.planned() == 5
    assert names(logged) == ["site.waiting"]


async def test_a_quota_that_refuses_all_or_nothing_puts_all_back(worker: Rig) -> None:
    """UrlSubmitted 0 with QuotaExcess: nothing is refused, the job is deleted, the site waits."""
    worker.sandbox.reconfigure(url_quota_per_site=2, quota_is_all_or_nothing=True)
    request = await worker.enqueue(urls_of(5))
    status = await worker.work(request, until=lambda s: bool(worker.sandbox.jobs()) and not s.in_flight)
    assert (status.pending, status.refused) == (5, 0)
    assert worker.sandbox.jobs()[0]["is_deleted"]
    assert await state_of(worker) == ("waiting", "quota")


@pytest.mark.parametrize("is_error", [False, True], ids=["in a 200", "as an error"])
async def test_a_quota_smaller_than_a_batch_is_used_up(
    redis: Redis, redis_url: str, sandbox: Sandbox, logged: Logged, *, is_error: bool
) -> None:
    """A quota that refuses any batch larger than what is left: batches shrink until they fit, once a wait, and grow again at the reset."""
    sandbox.reconfigure(url_quota_per_site=3, quota_is_all_or_nothing=True)
    async with rig(redis, redis_url, sandbox, quota_retry_after=0.1) as worker:
        if is_error:
            over = BlockedError("", scope="site", code="QuotaExcess")
            worker.between.refuse = lambda urls: over if len(urls) > 3 - worker.planned() else None
        request = await worker.enqueue(urls_of(9))
        status = await worker.work(request, until=lambda s: s.submitted == 3)
        assert (status.pending, status.refused, worker.planned()) == (6, 0, 3)
        assert len(names(logged, "batch.submitted")) == 2, "two, then one"
        worker.between.refuse = lambda _: None
        sandbox.reconfigure(url_quota_per_site=1_000)
        later = await worker.enqueue(urls_of(100, host="later.example.com"))
        assert (await worker.work(request)).submitted == 9
        await worker.work(later)
        sizes = [len(job["urls"]) for job in sandbox.jobs() if not job["is_deleted"]]
        assert max(sizes[2:]) > 30, "each that got through makes room for more"
        assert worker.planned() == 109


@pytest.mark.parametrize("is_list", [False, True], ids=["URLs", "a list in OSS"])
async def test_a_producer_is_told_until_when_a_quota_is_waited_for(worker: Rig, *, is_list: bool) -> None:
    """`Receipt.waiting_until` and `sites` name the end of the wait, which is that in the ledger, for all ways to enqueue."""
    worker.sandbox.reconfigure(url_quota_per_site=2, quota_is_all_or_nothing=True)
    before = datetime.now(UTC)
    first = await worker.client.enqueue(SITE, urls_of(5))
    assert first.waiting_until is None
    await worker.work(first.request_id, until=lambda s: bool(worker.sandbox.jobs()) and not s.in_flight)
    receipt = await (
        worker.client.enqueue_oss(SITE, "https://oss.example.com/list", 4)
        if is_list
        else worker.client.enqueue(SITE, urls_of(5, host="later.example.com"))
    )
    assert receipt.waiting_until is not None
    wait_s = worker.settings.quota_retry_after
    assert 0 <= (receipt.waiting_until - before).total_seconds() - wait_s < 60
    (site,) = await worker.client.sites()
    assert (site.state, site.reason, site.waiting_until) == ("waiting", "quota", receipt.waiting_until)
    await worker.pump.run()
    assert worker.calls() == 1, "nothing is asked of ESA meanwhile"


async def test_a_list_over_the_quota_waits(redis: Redis, redis_url: str) -> None:
    """A list in OSS is never split: refused as a whole for the quota it goes back, and is sent again after each wait."""
    address = "https://bucket.oss-cn-hangzhou.aliyuncs.com/list.txt"
    config = SandboxConfig(
        sites={SITE: ("example.com",)},
        oss_objects={address: "\n".join(urls_of(4))},
        url_quota_per_site=2,
        quota_is_all_or_nothing=True,
    )
    async with Sandbox(config) as sandbox, rig(redis, redis_url, sandbox, quota_retry_after=0.3) as worker:
        receipt = await worker.client.enqueue_oss(SITE, address, 4)
        await worker.work(receipt.request_id, until=lambda s: worker.calls() == 1 and not s.in_flight)
        assert await state_of(worker) == ("waiting", "quota")
        await worker.work(receipt.request_id, until=lambda s: worker.calls() == 2 and not s.in_flight)
        sandbox.reconfigure(url_quota_per_site=4)
        assert (await worker.work(receipt.request_id)).submitted == 4
        assert worker.calls() == 3


async def test_a_quota_with_an_unreadable_list_is_unknown_and_waits(worker: Rig) -> None:
    """Some went and nobody can tell which: unknown, never back to pending, where they might go twice; the site waits all the same."""
    worker.sandbox.reconfigure(
        url_quota_per_site=2, faults=(Fault(kind="file_elsewhere", operation=CREATE_JOB, first=1),)
    )
    status = await worker.work(await worker.enqueue(urls_of(5)))
    assert (status.unknown, status.pending) == (5, 0)
    assert await state_of(worker) == ("waiting", "quota")
    assert worker.planned() == 2


@pytest.mark.parametrize("code", ["QuotaExcess", "Preload.QuotaExceeded"])
async def test_a_quota_as_an_error_code_is_a_quota(
    redis: Redis, redis_url: str, sandbox: Sandbox, logged: Logged, code: str
) -> None:
    """Refused with a 4xx instead of in a 200: the site waits as long, is not blocked, and goes on by itself."""
    sandbox.reconfigure(faults=refusing(code))
    async with rig(redis, redis_url, sandbox, quota_retry_after=1) as worker:
        request = await worker.enqueue(urls_of(3))
        status = await worker.work(request, until=lambda s: worker.calls() == 1 and not s.in_flight)
        assert (status.pending, await state_of(worker)) == (3, ("waiting", "quota"))
        assert (await worker.work(request)).submitted == 3
        assert worker.calls() == 3, "of three that were too many one goes, then two"
    assert names(logged) == ["site.waiting"]


# -- waits --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["Site.ServiceBusy", "LockFailed", "SystemBusy"])
async def test_a_busy_site_waits_longer_each_time_and_says_so_once(
    worker: Rig, logged: Logged, code: str
) -> None:
    """One line an episode, however often it is met; all of it is submitted in the end."""
    worker.sandbox.reconfigure(faults=refusing(code, first=3))
    request = await worker.enqueue(urls_of(2))

    async def met(times: int) -> float:
        await worker.work(request, until=lambda s: worker.calls() == times and not s.in_flight)
        now_s, micros = await command(worker.ledger.redis, "TIME")
        until = await command(worker.ledger.redis, "HGET", worker.ledger.keys.site(SITE), "wait_until")
        await worker.due()
        return float(until) / 1000 - int(now_s) - int(micros) / 1e6

    waits = [await met(times) for times in (1, 2, 3)]
    assert 0.8 < waits[0] <= 2
    assert waits[2] > 3.5, waits
    assert (await worker.work(request)).submitted == 2
    assert names(logged) == ["site.waiting"]


async def test_a_full_site_goes_on_when_there_is_room(worker: Rig, logged: Logged) -> None:
    """JobCountOfSiteFull: a minute's wait each time, one line, nothing lost."""
    worker.sandbox.reconfigure(max_jobs_per_site=0)
    request = await worker.enqueue(urls_of(2))
    for times in (1, 2):

        def was_told(status: RequestStatus, times: int = times) -> bool:
            return worker.calls() == times and not status.in_flight

        status = await worker.work(request, until=was_told)
        assert (status.pending, await state_of(worker)) == (2, ("waiting", "job_cap"))
        await worker.due()
    worker.sandbox.reconfigure(max_jobs_per_site=None)
    assert (await worker.work(request)).submitted == 2
    assert names(logged) == ["site.waiting"]


@pytest.mark.parametrize("hint", [True, False], ids=["hint", "no hint"])
async def test_a_limit_costs_no_url_and_no_attempt(worker: Rig, hint: bool) -> None:
    """TooManyRequests is HTTP 400: told by its code. All goes through, once, and nothing ends for it."""
    worker.sandbox.reconfigure(limits={CREATE_JOB: BucketLimit(rate_per_s=5, burst=1)}, send_hint=hint)
    for start in range(0, 6, 2):
        await worker.enqueue(urls_of(2, start=start), priority="high")
        await asyncio.sleep(0.06)
        await worker.pump.run()
    last = await worker.enqueue(urls_of(2, start=6))
    assert (await worker.work(last)).submitted == 2
    assert worker.planned() == 8
    assert worker.count("throttled_total", operation=CREATE_JOB) >= 1
    assert not await worker.client.failures(SITE)


# -- what nobody knows --------------------------------------------------------------------------------------------------

COMMITTED: list[FaultKind] = [
    "lost_after",
    "reset_after",
    "error_after",
    "html_after",
    "half",
    "garbage",
    "slow_after",
    "drip",
    "slow_before",
]
NOT_COMMITTED: list[FaultKind] = ["lost_before", "reset_before", "error_before", "html_before"]
UNKNOWN = [(kind, 0.0) for kind in (*COMMITTED, *NOT_COMMITTED)]
LAGGING: list[tuple[FaultKind, float]] = [("lost_after", 0.4), ("slow_before", 0.4), ("lost_before", 0.4)]


@pytest.mark.parametrize(("kind", "list_lag_s"), [*UNKNOWN, *LAGGING])
async def test_an_unknown_create_becomes_one_planned_job(
    redis: Redis, redis_url: str, sandbox: Sandbox, kind: FaultKind, list_lag_s: float
) -> None:
    """Whatever becomes of the reply: adopted where ESA committed, made again where it did not, planned once, counted once."""
    sandbox.reconfigure(
        list_lag_s=list_lag_s, faults=(Fault(kind=kind, operation=CREATE_JOB, first=1, delay_s=0.55),)
    )
    async with rig(redis, redis_url, sandbox, list_lag=0.6) as worker:
        status = await worker.work(await worker.enqueue(urls_of(3)))
        assert (status.submitted, worker.planned()) == (3, 3)
        result = "recreated" if kind in NOT_COMMITTED else "adopted"
        assert worker.count("reconciled_total", result=result) == 1
        assert worker.calls() == (2 if kind in NOT_COMMITTED else 1)
        assert len([job for job in sandbox.jobs() if not job["is_deleted"]]) == 1
        assert worker.count("urls_submitted_total", site=str(SITE)) == 3
        assert worker.count("tasks_submitted_total", site=str(SITE)) <= 3
        assert worker.count("submit_latency_seconds_count") == worker.count("batch_urls_count") == 1
        assert worker.count("batches_total", outcome="submitted") == 1


async def test_a_4xx_page_of_a_proxy_is_unknown_too(worker: Rig) -> None:
    """A 403 that is no JSON is not ESA's: it blocks nothing and refuses nothing."""
    worker.sandbox.reconfigure(faults=(Fault(kind="html_before", operation=CREATE_JOB, first=1, status=403),))
    status = await worker.work(await worker.enqueue(urls_of(3)))
    assert (status.submitted, worker.planned()) == (3, 3)
    assert await state_of(worker) == ("active", "")


async def test_a_refused_look_up_blocks_and_refuses_nothing(worker: Rig, logged: Logged) -> None:
    """A list refused as such is not asked for every second for ever: the site is blocked; after `resume` the job is adopted."""
    worker.sandbox.reconfigure(
        faults=(
            Fault(kind="lost_after", operation=CREATE_JOB, first=1),
            *refusing("InvalidParameter.StartTime", first=ALWAYS, operation=LIST_JOBS),
        )
    )
    request = await worker.enqueue(urls_of(3))
    status = await worker.work(request, until=lambda _: worker.calls(LIST_JOBS) == 1)
    assert (status.in_flight, status.refused) == (3, 0)
    assert await state_of(worker) == ("blocked", "InvalidParameter.StartTime")
    await worker.due()
    await worker.work(request, until=lambda _: worker.calls(LIST_JOBS) == 2)
    worker.sandbox.reconfigure(faults=())
    await worker.client.resume(SITE)
    assert (await worker.work(request)).submitted == 3
    assert worker.planned() == 3
    assert names(logged) == ["site.blocked"]


# -- credentials and clocks ---------------------------------------------------------------------------------------------


async def test_a_token_that_is_rotated_is_fetched_and_used_at_once(redis: Redis, redis_url: str) -> None:
    """The token of an STS session ends between two batches: one refused call, one refresh, the same claim goes through."""
    first, second = Credential(security_token="token-1"), Credential(security_token="token-2")
    config = SandboxConfig(sites={SITE: ("example.com",)}, credentials=(first,))
    async with Sandbox(config) as sandbox, rig(redis, redis_url, sandbox) as worker:
        worker.key.token = "token-1"
        assert (await worker.work(await worker.enqueue(urls_of(2)))).submitted == 2
        ended = Credential(security_token="token-1", expires_at_s=1)
        sandbox.reconfigure(credentials=(ended, second))
        worker.key.next_token = "token-2"
        assert (await worker.work(await worker.enqueue(urls_of(2, start=2)))).submitted == 2
        assert (worker.key.refreshed, worker.calls()) == (1, 3)
        assert worker.count("batches_total", outcome="submitted") == 2
        assert worker.count("batches_total", outcome="blocked") == 0
        assert worker.planned() == 4


@pytest.mark.parametrize("offset_s", [3600, -3600])
async def test_a_clock_that_is_off_is_measured(worker: Rig, offset_s: int) -> None:
    """Refused once, measured, right from then on: also in the window in which a lost job is looked up."""
    worker.sandbox.reconfigure(
        clock_offset_s=offset_s, faults=(Fault(kind="lost_after", operation=CREATE_JOB, calls=(2,)),)
    )
    assert (await worker.work(await worker.enqueue(urls_of(2)))).submitted == 2
    assert worker.count("api_requests_total", operation=CREATE_JOB, code="InvalidTimeStamp.Expired") == 1
    assert worker.count("reconciled_total", result="adopted") == 1
    assert (worker.calls(), worker.planned()) == (2, 2)
    assert await state_of(worker) == ("active", "")


# -- the endpoint -------------------------------------------------------------------------------------------------------


async def test_three_workers_share_one_circuit(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """While the endpoint is down all workers together make a few calls, not a few each; then everything goes through."""
    away = "http://127.0.0.1:9"
    async with (
        rig(redis, redis_url, sandbox, endpoint=away) as one,
        rig(redis, redis_url, sandbox, endpoint=away) as two,
        rig(redis, redis_url, sandbox, endpoint=away) as three,
    ):
        for site_id in range(1, 21):
            await one.client.enqueue(site_id, urls_of(2))
        until = asyncio.get_running_loop().time() + 3
        while asyncio.get_running_loop().time() < until:
            await asyncio.gather(*(each.pump.run() for each in (one, two, three)))
            await asyncio.sleep(0.02)
        calls = one.calls() + two.calls() + three.calls()
        assert 2 <= calls <= 9, f"{calls} calls in 3 s of an outage, over 20 sites"
    sandbox.reconfigure(sites={})
    async with rig(redis, redis_url, sandbox) as back:
        assert (await back.client.sites())[0].pending == 2

        def all_submitted(_: RequestStatus) -> bool:
            return back.count("batches_total", outcome="submitted") == 21

        await back.work(await back.enqueue(urls_of(1)), until=all_submitted, timeout_s=12)
