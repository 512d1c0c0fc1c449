"""What needs a person, or a smaller list: blocks, their probes and `resume`, refusals of everything, sizes, expiry."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from esa_preload.model import Plan
from esa_preload.scripts import as_text, command
from esa_preload_worker.esa import RefusedError, SizeError
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.sandbox import Fault
from integration.worker.answers import ALWAYS, Logged, names, refusing, state_of
from integration.worker.rig import SITE, Rig, urls_of
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esa_preload.model import RequestStatus

UNKNOWN_SITE = 7


def know(worker: Rig, *site_ids: int) -> None:
    """Let the sandbox have these sites and no others."""
    worker.sandbox.reconfigure(sites=dict.fromkeys(site_ids, ("example.com",)))


@pytest.mark.parametrize("by", ["probe", "person"])
async def test_a_blocked_site_is_probed_slowly_and_goes_on(worker: Rig, logged: Logged, by: str) -> None:
    """One call a minute while it is unknown, said once; the first that gets through ends it, as does `resume`."""
    requests = [
        (await worker.client.enqueue(UNKNOWN_SITE, urls_of(2, start=start))).request_id for start in (0, 2)
    ]
    for probes in (1, 2, 3):

        def was_probed(status: RequestStatus, probes: int = probes) -> bool:
            return worker.calls() == probes and not status.in_flight

        await worker.work(requests[0], until=was_probed)
        assert await state_of(worker, UNKNOWN_SITE) == ("blocked", "SiteNotFound")
        for _ in range(3):
            await worker.pump.run()
        assert worker.calls() == probes, "nobody calls for it until the next probe"
        await worker.due(UNKNOWN_SITE)
    await worker.work(requests[0], until=lambda s: worker.calls() == 4 and not s.in_flight)
    know(worker, SITE, UNKNOWN_SITE)
    if by == "person":
        assert await worker.client.resume(UNKNOWN_SITE)
    else:
        await worker.due(UNKNOWN_SITE)
    for request in requests:
        assert (await worker.work(request)).submitted == 2
    assert await state_of(worker, UNKNOWN_SITE) == ("active", "")
    assert names(logged) == (["site.blocked", "site.resumed"] if by == "probe" else ["site.blocked"])


@pytest.mark.parametrize("by", ["probe", "person"])
async def test_a_blocked_account_stops_all_sites_and_all_go_on(worker: Rig, logged: Logged, by: str) -> None:
    """A wrong key: one probe at a time for all sites; the first that gets through lets every site go on, and is said."""
    sites = (SITE, 2, 3)
    know(worker, *sites)
    worker.key.secret = "wrong"
    requests = [(await worker.client.enqueue(site_id, urls_of(2))).request_id for site_id in sites]

    def is_refused(status: RequestStatus) -> bool:
        return bool(worker.calls()) and not status.in_flight

    await worker.work(requests[0], until=is_refused)
    for site_id in sites:
        assert await state_of(worker, site_id) == ("blocked", "account: SignatureDoesNotMatch")
    for _ in range(3):
        await worker.pump.run()
    assert worker.calls() == 1
    await worker.due()
    await worker.work(requests[0], until=lambda _: worker.calls() == 2)
    worker.key.secret = "sandbox-secret"
    if by == "person":
        assert await worker.client.resume(None)
    else:
        await worker.due()
    for request in requests:
        assert (await worker.work(request)).submitted == 2
    for site_id in sites:
        assert await state_of(worker, site_id) == ("active", "")
    assert names(logged) == (["site.blocked", "site.resumed"] if by == "probe" else ["site.blocked"])
    (begun, *ended) = (entry for entry in logged if str(entry["event"]).startswith("site."))
    assert {(entry["scope"], entry["site_id"]) for entry in (begun, *ended)} == {("account", None)}


@pytest.mark.parametrize("by", ["probe", "person"])
async def test_an_account_blocked_at_the_plan_gets_its_plan(worker: Rig, logged: Logged, by: str) -> None:
    """A policy without the action for plans: the job waits for its plan and is not made again; when that goes, all is well."""
    worker.sandbox.reconfigure(faults=refusing("Forbidden.RAM", operation=CREATE_PLANS, status=403))
    request = await worker.enqueue(urls_of(2))
    status = await worker.work(request, until=lambda _: worker.calls(CREATE_PLANS) == 1)
    assert status.in_flight == 2
    assert await state_of(worker) == ("blocked", "account: Forbidden.RAM")
    if by == "person":
        assert await worker.client.resume(None)
    else:
        await worker.due()
    assert (await worker.work(request)).submitted == 2
    assert (worker.planned(), worker.calls()) == (2, 1)
    assert await state_of(worker) == ("active", "")
    assert names(logged) == (["site.blocked", "site.resumed"] if by == "probe" else ["site.blocked"])


async def test_a_request_that_is_refused_whole_refuses_no_backlog(worker: Rig, logged: Logged) -> None:
    """A 4xx of everything, over 200 URLs: nothing is refused, the site is blocked once, and the calls are bounded."""
    worker.sandbox.reconfigure(faults=refusing("InvalidParameter.Odd", first=ALWAYS))
    request = await worker.enqueue(urls_of(200))

    def is_blocked(status: RequestStatus) -> bool:
        return "site.blocked" in names(logged) and not status.in_flight

    status = await worker.work(request, until=is_blocked, timeout_s=20)
    assert (status.pending, status.refused) == (200, 0)
    assert await state_of(worker) == ("blocked", "InvalidParameter.Odd")
    calls = worker.calls()
    assert calls <= 2 * 199, "each URL alone, and each list it was in"
    for probe in (1, 2):
        await worker.due()
        await worker.pump.run()
        status = await worker.work(request, until=lambda s: not s.in_flight)
        assert worker.calls() - calls <= probe * 19, "a probe takes ten URLs at most"
    assert (status.pending, status.refused) == (200, 0)
    assert not await worker.client.failures(SITE)
    worker.sandbox.reconfigure(faults=())
    await worker.due()
    assert (await worker.work(request, timeout_s=20)).submitted == 200
    assert worker.planned() == 200
    assert names(logged) == ["site.blocked", "site.resumed"]


async def test_a_lone_url_that_is_refused_costs_its_site_one_block(worker: Rig, logged: Logged) -> None:
    """Alone in its lane it blocks the site; refused again after others got through it ends, and the others go on at full size."""
    (bad,) = urls_of(1, start=500)

    def refuse(urls: Sequence[str]) -> RefusedError | None:
        return RefusedError("no", code="InvalidUrl.Format", http_status=400) if bad in urls else None

    worker.between.refuse = refuse
    lone = await worker.enqueue([bad], plan=Plan(interval_s=60, slice_len=50))
    await worker.work(lone, until=lambda _: "site.blocked" in names(logged))
    request = await worker.enqueue(urls_of(300))

    async def probed() -> bool:
        await worker.due()
        await worker.pump.run()
        return (await worker.client.status(lone)).state == "done"

    await wait_until_async(probed)
    assert (await worker.client.status(lone)).refused == 1
    assert (await worker.work(request)).submitted == 300
    assert names(logged) == ["site.blocked", "site.resumed"]
    assert await state_of(worker) == ("active", "")
    (failure,) = await worker.client.failures(SITE)
    assert (failure.url, failure.reason, failure.code) == (bad, "refused", "InvalidUrl.Format")
    assert worker.count("batches_total", outcome="refused") == 1
    assert worker.count("urls_refused_total", site=str(SITE), reason="refused") == 1


# -- size ---------------------------------------------------------------------------------------------------------------


async def test_batches_get_smaller_and_larger_again(worker: Rig) -> None:
    """Too long a list halves the batches, everything is submitted, and after an hour they are as large as before."""
    worker.sandbox.reconfigure(max_urls_per_list=6)
    status = await worker.work(await worker.enqueue(urls_of(40)))
    assert (status.submitted, worker.planned()) == (40, 40)
    assert not await worker.client.failures(SITE)
    assert max(len(job["urls"]) for job in worker.sandbox.jobs()) <= 6
    worker.sandbox.reconfigure(max_urls_per_list=1_000)
    await worker.work(await worker.enqueue(urls_of(40, start=40)))
    assert max(len(job["urls"]) for job in worker.sandbox.jobs()) <= 6, "learnt for an hour"
    await command(worker.ledger.redis, "HSET", worker.ledger.keys.meta, "size_limit_until", 1)
    await worker.work(await worker.enqueue(urls_of(40, start=80)))
    assert max(len(job["urls"]) for job in worker.sandbox.jobs()) == 40


async def test_a_size_that_is_never_small_enough_refuses_no_backlog(worker: Rig, logged: Logged) -> None:
    """A code that only sounds like a size, for whatever is sent: no URL is refused for it, the site is blocked."""
    worker.sandbox.reconfigure(faults=refusing("Preload.OverLimit", first=ALWAYS))
    request = await worker.enqueue(urls_of(60))

    def is_blocked(status: RequestStatus) -> bool:
        return "site.blocked" in names(logged) and not status.in_flight

    status = await worker.work(request, until=is_blocked, timeout_s=20)
    assert (status.pending, status.refused) == (60, 0)
    assert worker.calls() < 60
    worker.sandbox.reconfigure(faults=())
    await worker.client.resume(SITE)
    assert (await worker.work(request, timeout_s=20)).submitted == 60


async def test_one_url_that_is_too_large_is_refused_alone(worker: Rig, logged: Logged) -> None:
    """Told by its neighbour, which gets through: the offender is refused as too_large, nothing else is, nothing is blocked."""
    bad = urls_of(20)[7]

    def refuse(urls: Sequence[str]) -> RefusedError | SizeError | None:
        return SizeError("long", code="InvalidUrl.TooLong", http_status=400) if bad in urls else None

    worker.between.refuse = refuse
    status = await worker.work(await worker.enqueue(urls_of(20)))
    assert (status.submitted, status.refused) == (19, 1)
    (failure,) = await worker.client.failures(SITE)
    assert (failure.url, failure.reason, failure.code) == (bad, "too_large", "InvalidUrl.TooLong")
    assert not names(logged)
    assert worker.planned() == 19


# -- expiry -------------------------------------------------------------------------------------------------------------


async def test_expired_urls_count_the_same_in_the_ledger_and_the_metric(worker: Rig) -> None:
    """Also those whose time was over while they were in flight and came back: never silent."""
    worker.sandbox.reconfigure(
        faults=(Fault(kind="refuse", operation=CREATE_JOB, first=1, code="TooManyRequests"),), latency_s=0.4
    )
    request = await worker.enqueue(urls_of(3), expires_in=0.3)
    await worker.work(request, until=lambda s: s.expired == 3)
    redis, keys = worker.ledger.redis, worker.ledger.keys
    swept = 0

    async def reported() -> bool:
        nonlocal swept
        swept += (await worker.ledger.sweep("w", turn_ms=1)).expired.get(SITE, 0)
        return swept > 0

    await wait_until_async(reported)
    assert swept == 3
    await asyncio.sleep(0)
    assert as_text(await command(redis, "HGET", keys.site(SITE), "expired")) == "3"


async def test_what_is_over_shows_as_expired_without_any_worker(worker: Rig) -> None:
    """No worker runs: the status says that the time is over and the request done, and a worker that comes late agrees."""
    request = await worker.enqueue(urls_of(3), expires_in=0.3)
    status = await worker.client.status(request)
    assert (status.state, status.pending) == ("active", 3)

    async def is_over() -> bool:
        return (await worker.client.status(request)).state == "done"

    await wait_until_async(is_over)
    seen = await worker.client.status(request)
    assert (seen.pending, seen.expired) == (0, 3)
    number = as_text(await command(worker.ledger.redis, "GET", worker.ledger.keys.request_number(request)))
    written = await command(worker.ledger.redis, "HGET", worker.ledger.keys.request(number), "expired")
    assert written is None, "nobody has met it yet"
    await worker.pump.run()
    assert await worker.client.status(request) == seen
    assert not worker.sandbox.jobs()
