"""What becomes of a batch, over a real Valkey and the sandbox: every row of the outcome table."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.keys import Keys
from esa_preload.model import Plan
from esa_preload.scripts import as_text, command
from esa_preload_worker.claims import Batch, Call, LostClaim, Turn
from esa_preload_worker.decisions import LIST_JOBS
from esa_preload_worker.esa import (
    BlockedError,
    FailedFileError,
    NotSentError,
    RefusedError,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.leases import LostClaimError
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from esa_preload_worker.submit import DELETE_JOB
from integration.worker.rig import NAMESPACE, SITE, Rig, rig, urls_of
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from redis.asyncio import Redis

    Logged = list[MutableMapping[str, Any]]

LEASES = Keys(NAMESPACE).leases


def events(logged: Logged, name: str) -> Logged:
    """Return the log lines of one event."""
    return [entry for entry in logged if entry["event"] == name]


async def test_a_batch_becomes_one_planned_job_and_one_log_line(worker: Rig, logged: Logged) -> None:
    """The usual end: every URL submitted, its job named by the batch and planned once, one line that says so, all metrics."""
    request = await worker.enqueue(urls_of(3))
    status = await worker.work(request)
    assert (status.accepted, status.submitted) == (3, 3)
    assert worker.planned() == 3
    (job,) = worker.sandbox.jobs()
    (line,) = events(logged, "batch.submitted")
    assert job["name"] == f"preload-t-{line['batch_id']}"
    assert (line["job_id"], line["plan_id"]) == (job["id"], job["plans"][0]["id"])
    assert (line["url_count"], line["url_submitted"]) == (3, 3)
    assert (line["attempt"], line["site_id"]) == (1, SITE)
    assert worker.count("urls_submitted_total", site=str(SITE)) == 3
    assert worker.count("batches_total", outcome="submitted") == 1
    assert worker.count("submit_latency_seconds_count") == 1
    assert worker.count("api_requests_total", operation=CREATE_JOB, code="ok") == 1
    assert not worker.leases.claims()


async def test_refused_urls_end_with_their_reason_and_the_others_go(worker: Rig, logged: Logged) -> None:
    """A partial success: the list behind FailedFileOss says which URLs were refused and why."""
    request = await worker.enqueue([*urls_of(2), *urls_of(1, host="www.example.net")])
    status = await worker.work(request)
    assert (status.submitted, status.refused) == (2, 1)
    (failure,) = await worker.client.failures(SITE)
    assert (failure.url, failure.reason, failure.code) == (
        "https://www.example.net/0.js",
        "invalid_domain",
        "InvalidDomain",
    )
    assert worker.count("urls_refused_total", site=str(SITE), reason="invalid_domain") == 1
    assert worker.planned() == 2
    assert len(events(logged, "batch.submitted")) == len(events(logged, "batch.refused")) == 1


async def test_an_unreadable_list_leaves_the_batch_unknown(worker: Rig) -> None:
    """Some were refused and nobody can tell which: all of the batch end as unknown, and what was taken is planned."""
    worker.between.before["read_failed_file"].append(FailedFileError("away"))
    status = await worker.work(await worker.enqueue([*urls_of(2), "https://www.example.net/"]))
    assert (status.unknown, status.submitted) == (3, 0)
    assert {failure.reason for failure in await worker.client.failures(SITE)} == {"list_unreadable"}
    assert worker.planned() == 2
    assert worker.count("urls_unknown_total", site=str(SITE)) == 3


async def test_a_batch_that_is_refused_whole_gets_no_plan(worker: Rig, logged: Logged) -> None:
    """200 with UrlSubmitted 0: every URL refused, no plan, the job deleted."""
    status = await worker.work(await worker.enqueue(urls_of(3, host="www.example.net")))
    assert status.refused == 3
    (job,) = worker.sandbox.jobs()
    assert (job["is_deleted"], job["plans_made"]) == (True, 0)
    (line,) = events(logged, "job.deleted")
    assert line["job_id"] == job["id"]
    assert "create_plans" not in worker.between.calls


async def test_a_used_up_quota_puts_back_what_is_over_it_and_pauses_the_site(worker: Rig) -> None:
    """QuotaExcess: those over it are pending again, the others are submitted, and the site waits until the reset."""
    worker.sandbox.reconfigure(url_quota_per_site=2)
    request = await worker.enqueue(urls_of(5))
    status = await worker.work(request, until=lambda s: s.submitted == 2)
    assert (status.pending, status.refused) == (3, 0)
    (site,) = await worker.client.sites()
    assert (site.state, site.reason) == ("waiting", "quota")


@pytest.mark.parametrize("hint_s", [None, 0.3], ids=["without hint", "with hint"])
async def test_a_throttled_batch_goes_back_and_everybody_waits(
    worker: Rig, hint_s: float | None, logged: Logged
) -> None:
    """Throttling costs nothing: the URLs are at the head again in order, and the cooldown is in the ledger for all workers."""
    await worker.ledger.publish({"rate_initial": 2})
    worker.between.before["create_job"].append(
        ThrottledError("slow", retry_after_s=hint_s, code="Throttling")
    )
    request = await worker.enqueue(urls_of(3))
    status = await worker.work(request, until=lambda _: bool(worker.between.calls))
    assert (status.pending, status.in_flight) == (3, 0)
    cooldown_s = (await worker.ledger.rates([CREATE_JOB]))[CREATE_JOB].cooldown_s
    assert 0.1 < cooldown_s <= (hint_s or 1.0)
    assert worker.count("throttled_total", operation=CREATE_JOB) == 1
    assert len(events(logged, "batch.throttled")) == 1
    assert (await worker.work(request)).submitted == 3
    (job,) = worker.sandbox.jobs()
    assert job["urls"] == urls_of(3)


async def test_an_endpoint_that_is_away_opens_one_circuit_and_loses_nothing(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """Surely not sent: the URLs wait, the circuit stands in the ledger, and all is submitted once the endpoint is there."""
    async with rig(redis, redis_url, sandbox, endpoint="http://127.0.0.1:9") as away:
        request = await away.enqueue(urls_of(2))
        status = await away.work(request, until=lambda _: len(away.between.calls) == 1)
        assert status.pending == 2
        assert away.count("api_requests_total", operation=CREATE_JOB, code="not_sent.refused") == 1
        await away.pump.run()
        assert len(away.between.calls) == 1, "nobody calls while the circuit is open"
    async with rig(redis, redis_url, sandbox) as back:
        assert (await back.work(request)).submitted == 2


async def test_a_busy_site_backs_off_alone(worker: Rig) -> None:
    """Site.ServiceBusy: that site waits, another goes on at once."""
    worker.sandbox.reconfigure(sites={SITE: (), 2: ()})
    worker.between.before["create_job"].append(SiteBusyError("busy", code="Site.ServiceBusy"))
    busy = await worker.enqueue(urls_of(1))
    await worker.work(busy, until=lambda _: bool(worker.between.calls))
    other = await worker.client.enqueue(2, urls_of(1))
    assert (await worker.work(other.request_id, timeout_s=2)).submitted == 1
    states = {site.site_id: (site.state, site.reason) for site in await worker.client.sites()}
    assert states == {SITE: ("waiting", "busy"), 2: ("active", "")}


async def test_a_wrong_key_blocks_the_account_until_it_is_right(worker: Rig, logged: Logged) -> None:
    """A signature that is refused drops nothing: the account is blocked, said once, and a probe after the repair ends it."""
    worker.key.secret = "another"
    request = await worker.enqueue(urls_of(2))
    status = await worker.work(request, until=lambda s: bool(worker.between.calls) and not s.in_flight)
    assert status.pending == 2
    (site,) = await worker.client.sites()
    assert (site.state, site.reason) == ("blocked", "account: SignatureDoesNotMatch")
    (line,) = events(logged, "site.blocked")
    assert (line["scope"], line["reason"]) == ("account", "signature")
    assert line["hint"]
    worker.key.secret = "sandbox-secret"
    await worker.ledger.redis.hset(worker.ledger.keys.meta, "blocked_until", "0")  # type: ignore[misc] # the minute is over
    assert (await worker.work(request)).submitted == 2
    (site,) = await worker.client.sites()
    assert site.state == "active"


async def test_an_unknown_site_is_blocked_alone(worker: Rig) -> None:
    """SiteNotFound: that site waits for a person; others go on."""
    unknown = await worker.client.enqueue(7, urls_of(1))
    await worker.work(unknown.request_id, until=lambda _: bool(worker.between.calls))
    assert (await worker.work(await worker.enqueue(urls_of(1)))).submitted == 1
    blocked = next(site for site in await worker.client.sites() if site.site_id == 7)
    assert (blocked.state, blocked.reason, blocked.pending) == ("blocked", "SiteNotFound", 1)


async def test_a_full_site_waits(worker: Rig) -> None:
    """JobCountOfSiteFull: nothing is lost, the site waits and says why."""
    worker.sandbox.reconfigure(max_jobs_per_site=0)
    status = await worker.work(
        await worker.enqueue(urls_of(2)), until=lambda s: bool(worker.between.calls) and not s.in_flight
    )
    assert status.pending == 2
    (site,) = await worker.client.sites()
    assert (site.state, site.reason) == ("waiting", "job_cap")


def refuses(bad: Sequence[str]) -> Any:
    """Return what refuses, with a 4xx, each list that holds one of *bad*."""

    def refuse(urls: Sequence[str]) -> RefusedError | None:
        return (
            RefusedError("no", code="InvalidParameter.Url", http_status=400) if set(bad) & set(urls) else None
        )

    return refuse


async def test_a_4xx_is_split_down_to_the_offenders(worker: Rig, logged: Logged) -> None:
    """Two URLs that make ESA refuse the whole list stand alone in the end, refused; all others are submitted, once."""
    bad = [urls_of(20)[3], urls_of(20)[17]]
    worker.between.refuse = refuses(bad)
    status = await worker.work(await worker.enqueue(urls_of(20)))
    assert (status.submitted, status.refused) == (18, 2)
    assert sorted(failure.url for failure in await worker.client.failures(SITE)) == sorted(bad)
    assert worker.planned() == 18
    assert worker.count("urls_refused_total", site=str(SITE), reason="refused") == 2
    assert not events(logged, "site.blocked")


async def test_a_4xx_of_every_url_is_the_requests_fault(worker: Rig, logged: Logged) -> None:
    """Not one URL gets through down to single ones: none is refused, and the site is blocked, once and aloud."""
    worker.between.refuse = refuses(urls_of(4))
    request = await worker.enqueue(urls_of(4))

    def is_blocked(_: object) -> bool:
        return bool(events(logged, "site.blocked"))

    status = await worker.work(request, until=is_blocked)
    assert (status.pending, status.refused) == (4, 0)
    (site,) = await worker.client.sites()
    assert (site.state, site.reason) == ("blocked", "InvalidParameter.Url")
    assert len(events(logged, "site.blocked")) == 1
    assert not events(logged, "batch.refused"), "nothing was"


async def test_a_list_that_is_too_large_makes_smaller_batches(worker: Rig) -> None:
    """An error about size halves the batch; nothing is refused for it."""

    def refuse(urls: Sequence[str]) -> SizeError | None:
        return SizeError("large", code="UrlList.ExceedLimit", http_status=400) if len(urls) > 5 else None

    worker.between.refuse = refuse
    status = await worker.work(await worker.enqueue(urls_of(20)))
    assert status.submitted == 20
    assert max(len(job["urls"]) for job in worker.sandbox.jobs()) <= 5
    assert worker.planned() == 20


async def test_a_part_that_is_too_large_is_split_again(worker: Rig) -> None:
    """A part of a split batch can't go back to its lane: told that it is too large it must not be sent for ever as it is."""

    def refuse(urls: Sequence[str]) -> RefusedError | SizeError | None:
        if len(urls) > 4:
            return RefusedError("no", code="Odd", http_status=400)
        return SizeError("large", code="TooLarge", http_status=413) if len(urls) > 1 else None

    worker.between.refuse = refuse
    status = await worker.work(await worker.enqueue(urls_of(8)))
    assert status.submitted == 8
    assert worker.planned() == 8
    assert len(worker.between.calls) < 60


async def test_a_lost_reply_is_adopted(worker: Rig, logged: Logged) -> None:
    """ESA committed and the reply was lost: the name is looked up, the job adopted, and exactly one job is planned."""
    worker.between.after["create_job"].append(UncertainError("lost", code="uncertain.reset"))
    status = await worker.work(await worker.enqueue(urls_of(3)))
    assert status.submitted == 3
    assert len(worker.sandbox.jobs()) == 1
    assert worker.planned() == 3
    assert worker.between.calls.count("create_job") == 1
    assert worker.count("reconciled_total", result="adopted") == 1
    assert [
        len(events(logged, name)) for name in ("batch.uncertain", "batch.adopted", "batch.submitted")
    ] == [
        1,
        1,
        1,
    ]


async def test_what_was_not_committed_is_created_again_but_not_too_soon(worker: Rig) -> None:
    """Nothing was created: a second Create comes only when the first can't appear any more, under the same name."""
    worker.between.before["create_job"].append(UncertainError("late", code="uncertain.timeout"))
    begun = asyncio.get_running_loop().time()
    status = await worker.work(await worker.enqueue(urls_of(3)))
    took_s = asyncio.get_running_loop().time() - begun
    assert status.submitted == 3
    assert took_s >= worker.settings.call_timeout + worker.settings.list_lag
    assert worker.between.calls.count("create_job") == 2
    assert worker.planned() == 3
    assert worker.count("reconciled_total", result="recreated") == 1


async def test_jobs_of_one_name_keep_one(worker: Rig) -> None:
    """Two jobs of one name, however they came about: the first is adopted, the others are deleted and never planned."""
    worker.between.after["create_job"].append(UncertainError("lost", code="uncertain.reset"))
    request = await worker.enqueue(urls_of(2))
    await worker.work(request, until=lambda _: worker.between.calls == ["create_job"])
    (first,) = worker.sandbox.jobs()
    await worker.between.esa.create_job(site_id=SITE, name=first["name"], urls=urls_of(2))
    assert (await worker.work(request)).submitted == 2
    assert [job["is_deleted"] for job in worker.sandbox.jobs()].count(False) == 1
    assert worker.planned() == 2


async def test_a_throttled_look_up_waits_for_its_own_operation(worker: Rig) -> None:
    """What throttles the look-up slows the look-up, and what Create did stays unknown until it is told."""
    worker.between.after["create_job"].append(UncertainError("lost", code="uncertain.reset"))
    worker.between.before["find_jobs"].append(ThrottledError("slow", retry_after_s=0.2, code="Throttling"))
    assert (await worker.work(await worker.enqueue(urls_of(2)))).submitted == 2
    assert worker.count("throttled_total", operation=LIST_JOBS) == 1
    assert worker.count("throttled_total", operation=CREATE_JOB) == 0
    assert worker.planned() == 2


async def test_each_page_of_a_look_up_has_a_turn_of_its_own(worker: Rig) -> None:
    """A look-up that takes several calls spends as many turns, and reports each."""
    for i in range(60):
        await worker.between.esa.create_job(site_id=SITE, name=f"other-{i}", urls=urls_of(1))
    worker.between.after["create_job"].append(UncertainError("lost", code="uncertain.reset"))
    assert (await worker.work(await worker.enqueue(urls_of(2)))).submitted == 2
    listed = sum(worker.sandbox.stats()["calls"][LIST_JOBS].values())
    assert listed > 2
    reported = await command(worker.ledger.redis, "HGET", worker.ledger.keys.rate(LIST_JOBS), "good")
    assert int(as_text(reported)) == listed


async def test_a_blocked_look_up_blocks(worker: Rig) -> None:
    """A key that was disabled between Create and the look-up blocks the account, not only this batch."""
    worker.between.after["create_job"].append(UncertainError("lost", code="uncertain.reset"))
    error = BlockedError("no", scope="account", code="InvalidAccessKeyId.Inactive", hint="see")
    worker.between.before["find_jobs"].append(error)
    await worker.work(await worker.enqueue(urls_of(1)), until=lambda _: "find_jobs" in worker.between.calls)
    (site,) = await worker.client.sites()
    assert site.state == "blocked"


async def take_over(worker: Rig) -> None:
    """Let another worker take the batch that is in flight, as if its lease had run out, and end it."""
    (batch_id,) = worker.leases.claims()
    await worker.ledger.redis.zadd(worker.ledger.keys.leases, {batch_id: 1})


async def test_a_frozen_worker_that_finds_its_job_adopted_leaves_it(
    worker: Rig, redis: Redis, redis_url: str, logged: Logged
) -> None:
    """The other found the job by its name, planned it and settled: the one that made it must not delete it on waking up."""
    worker.between.hold["create_job"] = asyncio.Event()
    request = await worker.enqueue(urls_of(3))
    await asyncio.sleep(0.1)
    frozen = asyncio.create_task(worker.pump.run())
    await wait_until(lambda: len(worker.sandbox.jobs()) == 1)
    await take_over(worker)
    async with rig(redis, redis_url, worker.sandbox) as other:
        assert (await other.work(request)).submitted == 3
    worker.between.hold["create_job"].set()
    await frozen
    (job,) = worker.sandbox.jobs()
    assert not job["is_deleted"]
    assert worker.planned() == 3
    assert worker.count("batches_total", outcome="lost") == 1
    assert (await worker.client.status(request)).submitted == 3


async def test_a_frozen_worker_that_comes_second_deletes_its_job(
    worker: Rig, redis: Redis, redis_url: str
) -> None:
    """The other created a job of its own before ours was listed: ours gets no plan and is deleted, theirs stays."""
    first = asyncio.Event()

    async def late(**_: object) -> tuple[()]:
        return ()

    worker.between.hold["create_job"] = first
    request = await worker.enqueue(urls_of(3))
    await asyncio.sleep(0.1)
    frozen = asyncio.create_task(worker.pump.run())
    await wait_until(lambda: len(worker.sandbox.jobs()) == 1)
    await take_over(worker)
    async with rig(redis, redis_url, worker.sandbox) as other:
        other.between.find_jobs = late  # type: ignore[method-assign]
        assert (await other.work(request)).submitted == 3
    first.set()
    await frozen
    ours, theirs = worker.sandbox.jobs()
    assert (ours["is_deleted"], ours["plans_made"]) == (True, 0)
    assert (theirs["is_deleted"], theirs["plans_made"]) == (False, 1)
    assert worker.planned() == 3


async def test_a_frozen_worker_leaves_a_job_that_another_may_have_planned(
    worker: Rig, redis: Redis, redis_url: str
) -> None:
    """A plan was refused and the worker froze before it deleted the job; another planned it: it is not deleted on waking up."""
    asked = asyncio.Event()
    worker.between.before["create_plans"].append(RefusedError("no", code="InvalidEndTime.Mismatch"))
    pace = worker.ledger.pace

    async def frozen_at_delete(
        operation: str, batch: Batch | None = None, *, calls: Sequence[Call] = ()
    ) -> Turn | LostClaim:
        if operation == DELETE_JOB:
            asked.set()
            await thawed.wait()
        return await pace(operation, batch, calls=calls)

    thawed = asyncio.Event()
    worker.ledger.pace = frozen_at_delete  # type: ignore[method-assign]
    request = await worker.enqueue(urls_of(3))
    await asyncio.sleep(0.1)
    frozen = asyncio.create_task(worker.pump.run())
    await asked.wait()
    await take_over(worker)
    async with rig(redis, redis_url, worker.sandbox) as other:
        assert (await other.work(request)).submitted == 3
    thawed.set()
    await frozen
    (job,) = worker.sandbox.jobs()
    assert (job["is_deleted"], worker.planned()) == (False, 3)
    assert worker.count("batches_total", outcome="lost") == 1


async def test_a_late_job_is_left_to_whoever_looks_for_its_name(
    worker: Rig, redis: Redis, redis_url: str
) -> None:
    """While the batch that was taken over has no job yet, ours may be the one that is adopted: it is not deleted."""
    first = worker.between.hold["create_job"] = asyncio.Event()
    request = await worker.enqueue(urls_of(3))
    await asyncio.sleep(0.1)
    frozen = asyncio.create_task(worker.pump.run())
    await wait_until(lambda: len(worker.sandbox.jobs()) == 1)
    await take_over(worker)
    taken = await worker.ledger.take(token="other", pump="p", new_batch_id="1" * 24)
    assert isinstance(taken, Batch)
    first.set()
    await frozen
    assert worker.count("batches_total", outcome="lost") == 1
    assert "delete_job" not in worker.between.calls
    await worker.ledger.redis.zadd(worker.ledger.keys.leases, {taken.batch_id: 1})
    worker.leases.release(taken)
    async with rig(redis, redis_url, worker.sandbox) as other:
        assert (await other.work(request)).submitted == 3
    (job,) = worker.sandbox.jobs()
    assert (job["is_deleted"], worker.planned()) == (False, 3)


async def test_a_job_whose_plan_redis_forgot_is_planned_once(worker: Rig, redis: Redis) -> None:
    """Redis came back as it was when the batch was claimed: the job is found by its name, and its plan too."""
    request = await worker.enqueue(urls_of(3))
    await asyncio.sleep(0.1)
    batch = await worker.ledger.take(token="t", pump="p", new_batch_id="2" * 24)
    assert isinstance(batch, Batch)
    names = await command(redis, "KEYS", "*")
    before = {name: await command(redis, "DUMP", name) for name in names}
    worker.leases.hold(batch, since=asyncio.get_running_loop().time())
    await worker.submitter.submit(batch)
    assert worker.planned() == 3
    await command(redis, "FLUSHALL")
    for name, value in before.items():
        await command(redis, "RESTORE", name, 0, value)
    worker.leases.release(batch)
    await command(redis, "ZADD", worker.ledger.keys.leases, 1, batch.batch_id)
    assert (await worker.work(request)).submitted == 3
    assert (worker.planned(), worker.between.calls.count("create_plans")) == (3, 1)
    await command(redis, "FLUSHALL")  # what was restored has no time to live any more


async def test_a_stalled_process_sends_nothing(worker: Rig) -> None:
    """A process that stood still for a lease between claim and Create must not send: the clock alone tells it."""
    request = await worker.enqueue(urls_of(1))
    await asyncio.sleep(0.1)
    batch = await worker.ledger.take(token="t1", pump="p1", new_batch_id="0" * 24)
    worker.leases.hold(batch, since=asyncio.get_running_loop().time() - 5)  # type: ignore[arg-type]
    with pytest.raises(LostClaimError):
        await worker.submitter.submit(batch)  # type: ignore[arg-type]
    assert not worker.between.calls
    await worker.ledger.redis.zadd(worker.ledger.keys.leases, {"0" * 24: 1})
    assert (await worker.work(request)).submitted == 1


async def test_a_batch_claimed_after_a_slow_call_is_not_lost(worker: Rig) -> None:
    """The lease of the next batch counts from its own claim, not from before the slow call that came before it."""
    worker.sandbox.reconfigure(latency_s=0.0)
    held = worker.between.hold["create_plans"] = asyncio.Event()
    first = await worker.enqueue(urls_of(1))
    await asyncio.sleep(0.1)
    pumping = asyncio.create_task(worker.pump.run())
    await wait_until(lambda: "create_plans" in worker.between.calls)
    second = await worker.enqueue(urls_of(1, start=1))
    await asyncio.sleep(worker.settings.lease + 0.1)  # longer than a lease; the ledger is told that we live
    await worker.ledger.renew("w", worker.leases.claims())
    held.set()
    await pumping
    for request in (first, second):
        assert (await worker.work(request)).submitted == 1
    assert worker.count("batches_total", outcome="lost") == 0
    assert worker.count("batches_total", outcome="submitted") == 2


async def test_a_lost_reply_to_the_plan_makes_no_second_plan(worker: Rig) -> None:
    """The plan was created and the reply lost: the plans are listed, and the one that is there is taken."""
    worker.between.after["create_plans"].append(UncertainError("lost", code="uncertain.reset"))
    assert (await worker.work(await worker.enqueue(urls_of(3)))).submitted == 3
    assert worker.planned() == 3
    assert worker.between.calls.count("create_plans") == 1


async def test_a_plan_that_commits_late_is_waited_for(worker: Rig) -> None:
    """No second plan before the first can't appear any more: what commits late would have every URL fetched twice."""
    worker.between.before["create_plans"].append(UncertainError("late", code="uncertain.timeout"))
    request = await worker.enqueue(urls_of(3))
    begun = asyncio.get_running_loop().time()
    await worker.work(request)
    took_s = asyncio.get_running_loop().time() - begun
    assert took_s >= worker.settings.call_timeout + worker.settings.list_lag
    assert worker.planned() == 3


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("slow", retry_after_s=0.1, code="Throttling"),
        NotSentError("away", code="not_sent.refused"),
    ],
    ids=["throttled", "not sent"],
)
async def test_a_plan_that_surely_was_not_made_is_made_soon(
    worker: Rig, error: ThrottledError | NotSentError
) -> None:
    """The job exists, only the plan is missing: it is created as soon as the operation may be called."""
    worker.between.before["create_plans"].append(error)
    assert (await worker.work(await worker.enqueue(urls_of(3)))).submitted == 3
    assert worker.between.calls.count("create_job") == 1
    assert worker.planned() == 3
    throttles = worker.count("throttled_total", operation=CREATE_PLANS)
    assert throttles == isinstance(error, ThrottledError)


async def test_a_plan_that_can_not_be_made_refuses_what_esa_had_taken(worker: Rig) -> None:
    """A permanent 4xx: what went into the job is refused as plan_failed, what did not keeps its own reason; the job goes."""
    worker.between.before["create_plans"].append(RefusedError("no", code="InvalidEndTime.Mismatch"))
    status = await worker.work(await worker.enqueue([*urls_of(2), "https://www.example.net/"]))
    assert status.refused == 3
    reasons = sorted(failure.reason for failure in await worker.client.failures(SITE))
    assert reasons == ["invalid_domain", "plan_failed", "plan_failed"]
    assert worker.sandbox.jobs()[0]["is_deleted"]


async def test_failed_executions_in_a_success_refuse(worker: Rig) -> None:
    """A 200 whose FailedExecutions hold the plan is a failed plan."""
    worker.sandbox.reconfigure(max_plans_per_job=0)
    status = await worker.work(await worker.enqueue(urls_of(2)))
    assert status.refused == 2
    assert worker.sandbox.jobs()[0]["is_deleted"]


async def test_a_job_that_vanished_before_its_plan_puts_its_urls_back(worker: Rig) -> None:
    """InvalidJob.NotFound beyond LIST_LAG: the URLs are pending again and end in another job."""
    worker.between.before["create_plans"].append(UncertainError("late", code="uncertain.timeout"))
    request = await worker.enqueue(urls_of(2))
    await worker.work(request, until=lambda _: "create_plans" in worker.between.calls)
    await worker.between.esa.delete_job(worker.sandbox.jobs()[0]["id"])
    assert (await worker.work(request)).submitted == 2
    assert worker.planned() == 2
    assert len(worker.sandbox.jobs()) == 2


async def test_plans_off_makes_jobs_only(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """PLAN off: something else plans the jobs."""
    async with rig(redis, redis_url, sandbox, plan="off") as worker:
        assert (await worker.work(await worker.enqueue(urls_of(2)))).submitted == 2
        assert worker.planned() == 0
        assert CREATE_PLANS not in await worker.ledger.rates([CREATE_PLANS])


async def test_a_list_in_oss_is_one_job_counted_by_esa(redis: Redis, redis_url: str) -> None:
    """A list that ESA reads itself: one job, its counts are ESA's, and what it refused is named."""
    address = "https://bucket.oss-cn-hangzhou.aliyuncs.com/list.txt"
    listed = "\n".join([*urls_of(250), "https://www.example.net/"])
    config = SandboxConfig(sites={SITE: ("example.com",)}, oss_objects={address: listed})
    async with Sandbox(config) as sandbox, rig(redis, redis_url, sandbox) as worker:
        receipt = await worker.client.enqueue_oss(SITE, address)
        assert receipt.accepted == 0
        status = await worker.work(receipt.request_id)
        assert (status.accepted, status.submitted, status.refused) == (251, 250, 1)
        (job,) = sandbox.jobs()
        assert (job["insert_way"], job["url_count"]) == ("oss", 251)
        (failure,) = await worker.client.failures(SITE)
        assert (failure.url, failure.reason) == ("https://www.example.net/", "invalid_domain")
        site, *_ = await worker.client.sites()
        assert (site.pending, site.in_flight, site.submitted) == (0, 0, 250)


async def test_leases_are_renewed_for_as_long_as_a_call_takes(worker: Rig) -> None:
    """A renewed lease keeps others away, however slow ESA is."""
    held = worker.between.hold["create_job"] = asyncio.Event()
    request = await worker.enqueue(urls_of(1))
    await asyncio.sleep(0.1)
    pumping = asyncio.create_task(worker.pump.run())
    await wait_until(lambda: bool(worker.sandbox.jobs()))
    for _ in range(4):
        await asyncio.sleep(worker.settings.lease / 3)
        claims = worker.leases.claims()
        since = asyncio.get_running_loop().time()
        worker.leases.renewed(claims, await worker.ledger.renew("w", claims), since=since)
        taken = await worker.ledger.take(token="x", pump="x", new_batch_id="f" * 24)
        assert not hasattr(taken, "batch_id")
    held.set()
    await pumping
    assert (await worker.client.status(request)).submitted == 1


async def test_a_stop_hands_back_what_was_not_sent(worker: Rig) -> None:
    """At a shutdown a batch that was just claimed goes back untouched: nothing is sent, nothing waits for a lease."""
    request = await worker.enqueue(urls_of(2))
    await asyncio.sleep(0.1)
    worker.pump.is_stopping = True
    assert await worker.pump.run() == 1
    status = await worker.client.status(request)
    assert (status.pending, status.in_flight) == (2, 0)
    assert not worker.between.calls
    worker.pump.is_stopping = False
    assert (await worker.work(request)).submitted == 2


async def test_a_cancelled_call_is_looked_up_at_once(worker: Rig, redis: Redis, redis_url: str) -> None:
    """Cancelled in the middle of Create: whoever comes next need not wait for the lease, and finds the job by its name."""
    worker.between.hold["create_job"] = asyncio.Event()
    request = await worker.enqueue(urls_of(2))
    await asyncio.sleep(0.1)
    pumping = asyncio.create_task(worker.pump.run())
    await wait_until(lambda: bool(worker.sandbox.jobs()))
    pumping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pumping
    assert not worker.leases.claims()
    async with rig(redis, redis_url, worker.sandbox) as other:
        assert (await other.work(request, timeout_s=0.8)).submitted == 2
    assert worker.planned() == 2


async def test_a_plan_of_a_producer_reaches_esa(worker: Rig) -> None:
    """Start, end, interval and slice are the producer's; two plans are two jobs."""
    start = datetime(2031, 1, 1, tzinfo=UTC)
    plan = Plan(start=start, end=start + timedelta(hours=2), interval_s=7, slice_len=3)
    await worker.work(await worker.enqueue(urls_of(2)))
    await worker.work(await worker.enqueue(urls_of(2), plan=plan))
    (made,) = worker.sandbox.jobs()[1]["plans"]
    assert (made["interval_s"], made["slice_len"]) == (7, 3)
    assert datetime.fromisoformat(made["start"]) == start
    assert datetime.fromisoformat(made["end"]) == start + timedelta(hours=2)


async def test_a_batch_nobody_can_work_on_ends_nothing_else(worker: Rig) -> None:
    """An interval beyond every date still makes a plan with an end."""
    plan = Plan(interval_s=2**31 - 1, slice_len=1)
    assert (await worker.work(await worker.enqueue(urls_of(3), plan=plan))).submitted == 3


async def test_status_is_seen_while_work_goes_on(worker: Rig) -> None:
    """In flight is in flight: the sum holds at every instant."""
    held = worker.between.hold["create_job"] = asyncio.Event()
    request = await worker.enqueue(urls_of(5))
    await asyncio.sleep(0.1)
    pumping = asyncio.create_task(worker.pump.run())

    async def in_flight() -> bool:
        return (await worker.client.status(request)).in_flight == 5

    await wait_until_async(in_flight)
    held.set()
    await pumping
    assert (await worker.client.status(request)).submitted == 5


@pytest.mark.parametrize("step", ["_find_or_create", "_judge", "_plan"])
async def test_an_error_of_our_own_puts_the_batch_off(
    worker: Rig, redis: Redis, logged: Logged, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A bug at one batch is said with its id, costs no call at every lease's end, and holds up nobody else; it goes on later."""

    def odd(*_: object, **__: object) -> None:
        raise KeyError("odd")

    monkeypatch.setattr(worker.submitter, step, odd)
    request = await worker.enqueue(urls_of(2))

    async def was_said() -> bool:
        await worker.pump.run()
        return bool(events(logged, "worker.error"))

    await wait_until_async(was_said)
    monkeypatch.undo()
    batch_id, due_ms = await command(redis, "ZRANGE", LEASES, 0, -1, "WITHSCORES")
    now_s, _ = await command(redis, "TIME")
    assert 50_000 < float(due_ms) - int(now_s) * 1000 <= 61_000
    assert not worker.leases.claims()
    await worker.work(await worker.enqueue(urls_of(1, start=9)))
    assert (await worker.client.status(request)).in_flight == 2
    await command(redis, "ZADD", LEASES, 1, batch_id)
    assert (await worker.work(request)).submitted == 2
    assert worker.planned() == 3
    (said,) = events(logged, "worker.error")
    assert said["batch_id"] == batch_id.decode()
