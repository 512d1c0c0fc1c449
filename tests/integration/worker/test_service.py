"""A whole worker in this process: the service, its loops, arq and the supervisor around it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import acl
from esa_preload.cancellation import end_tasks
from esa_preload.client import PreloadClient
from esa_preload.errors import SettingsError
from esa_preload.keys import Keys
from esa_preload.scripts import command
from esa_preload_worker.embedded import ValkeyProcess
from esa_preload_worker.ledger import WorkerLedger
from esa_preload_worker.service import Service
from esa_preload_worker.supervisor import Supervisor
from integration.worker.rig import NAMESPACE, SITE, Key, settings_for, urls_of
from integration.worker.running import get, running
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping

    from redis.asyncio import Redis

    from esa_preload.model import RequestStatus
    from esa_preload_worker.sandbox import Sandbox

    Logged = list[MutableMapping[str, Any]]

KEYS = Keys(NAMESPACE)
EARLIER, LATER = 1, 10**14


async def reached(
    client: PreloadClient, request_id: str, holds: Callable[[RequestStatus], bool], timeout_s: float = 8
) -> RequestStatus:
    """Wait until *holds* of a request's status."""

    async def look() -> RequestStatus | None:
        status = await client.status(request_id)
        return status if holds(status) else None

    found = await wait_until_async(look, timeout_s=timeout_s)
    assert found is not None
    return found


async def test_a_lost_wake_up_is_armed_again(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """arq forgot everything it was told: the sweep needs nothing but the ledger, and the work goes on."""
    client = PreloadClient(redis, namespace=NAMESPACE)
    await WorkerLedger(redis, KEYS).publish(settings_for(redis_url, sandbox.url).published())
    receipt = await client.enqueue(SITE, urls_of(3))
    await command(redis, "DEL", KEYS.queue)
    for key in await command(redis, "KEYS", "arq:*"):
        await command(redis, "DEL", key)
    async with running(redis_url, sandbox):
        assert (await client.wait(receipt.request_id, timeout=6)).submitted == 3


async def test_the_sweep_expires_and_counts(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """A request whose time is over ends as expired although nobody asks, and the metric says so."""
    client = PreloadClient(redis, namespace=NAMESPACE)
    async with running(redis_url, sandbox, batch_quiet=30, batch_max_age=60) as service:
        receipt = await client.enqueue(SITE, urls_of(4), expires_in=0.2)
        status = await client.wait(receipt.request_id, timeout=5)
        assert (status.expired, status.submitted) == (4, 0)

        async def counted() -> bool:
            return (
                f'esa_preload_urls_expired_total{{site="{SITE}"}} 4.0'
                in (await get(f"{service.ops_url}/metrics"))[1]
            )

        await wait_until_async(counted)


async def test_the_ops_port_answers(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """Alive, ready, and metrics that come from the ledger and from this process."""
    client = PreloadClient(redis, namespace=NAMESPACE)
    async with running(redis_url, sandbox) as service:
        receipt = await client.enqueue(SITE, urls_of(5))
        await client.wait(receipt.request_id, timeout=5)
        assert await get(f"{service.ops_url}/livez") == (200, "ok\n")
        assert await get(f"{service.ops_url}/readyz") == (200, "ok\n")
        _, text = await get(f"{service.ops_url}/metrics")
        for line in (
            f'esa_preload_urls_accepted_total{{site="{SITE}"}} 5.0',
            f'esa_preload_urls_submitted_total{{site="{SITE}"}} 5.0',
            f'esa_preload_pending_urls{{site="{SITE}"}} 0.0',
            "esa_preload_redis_up 1.0",
            'esa_preload_rate_limit{operation="CreateScheduledPreloadJob"}',
        ):
            assert line in text
        assert "_created" not in text


async def test_a_worker_lives_through_a_restart_of_redis(sandbox: Sandbox, logged: Logged) -> None:
    """One line when Redis goes and one when it is back; alive and not ready between; nothing is lost and work goes on."""
    with tempfile.TemporaryDirectory(prefix="esap-") as directory:
        socket = Path(directory) / "v.sock"
        server = ValkeyProcess(Path(directory), socket=socket)
        server.start(10)
        redis_url = f"unix://{socket}"
        try:
            async with (
                running(redis_url, sandbox, batch_quiet=0.5) as service,
                PreloadClient(redis_url, namespace=NAMESPACE) as client,
            ):
                await wait_until(lambda: service.health.why_not_ready() == "")
                before = await client.enqueue(SITE, urls_of(3))
                await asyncio.to_thread(server.stop)
                await wait_until(lambda: not service.health.is_redis_up)
                assert (await get(f"{service.ops_url}/readyz"))[0] == 503
                assert (await get(f"{service.ops_url}/livez"))[0] == 200
                assert "esa_preload_redis_up 0.0" in (await get(f"{service.ops_url}/metrics"))[1]
                await asyncio.to_thread(server.start, 10)
                await reached(client, before.request_id, lambda status: status.submitted == 3)
                after = await client.enqueue(SITE, urls_of(3, start=3))
                await reached(client, after.request_id, lambda status: status.submitted == 3)
                await wait_until(lambda: service.health.why_not_ready() == "")
        finally:
            server.kill()
    names = [entry["event"] for entry in logged]
    assert (names.count("redis.unavailable"), names.count("redis.recovered")) == (1, 1)
    assert sandbox.stats()["urls_planned_again"] == 0
    assert "worker.error" not in names


async def test_a_redis_that_hangs_is_one_that_is_away(
    redis: Redis, redis_url: str, sandbox: Sandbox, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that accepts and never answers: not ready, alive all the while, and said once."""
    monkeypatch.setattr("esa_preload_worker.service.STEP_S", 0.2)
    async with running(redis_url, sandbox) as service:
        await wait_until(lambda: service.health.why_not_ready() == "")
        await command(redis, "CLIENT", "PAUSE", 4000, "ALL")
        await wait_until(lambda: not service.health.is_redis_up, timeout_s=10)
        assert service.health.why_not_alive() == ""
        assert (await get(f"{service.ops_url}/readyz"))[0] == 503
        await wait_until(lambda: service.health.why_not_ready() == "", timeout_s=20)
    names = [entry["event"] for entry in logged]
    assert (names.count("redis.unavailable"), names.count("redis.recovered")) == (1, 1)


async def test_a_stop_leaves_nothing_in_flight(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """Calls that are under way at the stop are finished within the grace, and what was not begun stays pending."""
    sandbox.reconfigure(latency_s=0.2)
    client = PreloadClient(redis, namespace=NAMESPACE)
    receipt = await client.enqueue(SITE, urls_of(1_000))
    async with running(redis_url, sandbox):
        await reached(client, receipt.request_id, lambda status: status.in_flight > 0)
    status = await client.status(receipt.request_id)
    assert status.in_flight == 0
    assert status.submitted > 0
    assert status.pending == 1_000 - status.submitted
    assert sandbox.stats()["planned_urls"] == status.submitted


async def test_a_namespace_belongs_to_one_endpoint(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """A worker for another endpoint does not start in a namespace that has one; the same one spelt otherwise does."""
    del redis
    spelt = sandbox.url.replace("http://", "HTTP://") + "/"
    async with running(redis_url, sandbox):
        async with Service(settings_for(redis_url, spelt), credentials=Key()):
            pass
        with pytest.raises(SettingsError, match="belongs to another ESA endpoint"):
            async with Service(settings_for(redis_url, "http://127.0.0.1:1"), credentials=Key()):
                pass


async def test_workers_share_the_work_and_plan_nothing_twice(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """Two workers on one namespace: every URL is submitted once, whoever takes it."""
    client = PreloadClient(redis, namespace=NAMESPACE)
    async with running(redis_url, sandbox), running(redis_url, sandbox):
        receipt = await client.enqueue(SITE, urls_of(2_000))
        assert (await client.wait(receipt.request_id, timeout=40)).submitted == 2_000
    stats = sandbox.stats()
    assert (stats["planned_urls"], stats["urls_planned_again"], stats["jobs_of_one_name"]) == (2_000, 0, {})


async def test_an_unexpected_error_of_a_loop_does_not_end_it(
    redis: Redis, redis_url: str, sandbox: Sandbox, logged: Logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody thought of is logged, and the next round goes on."""
    del redis
    async with running(redis_url, sandbox) as service:

        async def odd(*_: object, **__: object) -> None:
            monkeypatch.undo()
            raise KeyError("odd")

        monkeypatch.setattr(service.ledger, "sweep", odd)
        await wait_until(lambda: any(entry["event"] == "worker.error" for entry in logged))
        await wait_until(lambda: service.health.why_not_ready() == "")


@pytest.mark.parametrize(
    ("site", "account", "names"),
    [
        ({}, {}, None),
        ({"blocked_code": "C", "wait_until": LATER, "wait_reason": "blocked"}, {}, ["1 (blocked: C)"]),
        ({"blocked_code": "C", "wait_until": EARLIER, "wait_reason": "blocked"}, {}, None),
        ({}, {"blocked_code": "C", "blocked_until": LATER}, ["1 (blocked: account: C)"]),
        ({}, {"blocked_code": "C", "blocked_until": EARLIER}, None),
        (
            {"wait_until": LATER, "wait_reason": "quota"},
            {"blocked_code": "C", "blocked_until": EARLIER},
            ["1 (blocked: account: C)"],
        ),
        ({"wait_until": LATER, "wait_reason": "quota"}, {}, ["1 (waiting: quota)"]),
        ({"wait_until": EARLIER, "wait_reason": "quota"}, {}, None),
        ({"wait_until": LATER, "wait_reason": "job_cap"}, {}, ["1 (waiting: job_cap)"]),
        ({"wait_until": LATER, "wait_reason": "busy"}, {}, None),
        ({"paused": "by hand"}, {}, ["1 (paused: by hand)"]),
        ({"paused": "by hand", "batches": 1}, {}, None),
        ({"wait_until": LATER, "wait_reason": "quota", "batches": 1}, {}, None),
        ({"blocked_code": "C", "wait_until": LATER, "batches": 1}, {}, ["1 (blocked: C)"]),
        ({"paused": "by hand", "blocked_code": "C", "wait_until": EARLIER}, {}, ["1 (paused: by hand)"]),
    ],
)
async def test_what_is_left_waits_for_a_person_or_not(
    redis: Redis,
    redis_url: str,
    sandbox: Sandbox,
    site: dict[str, object],
    account: dict[str, object],
    names: list[str] | None,
) -> None:
    """A block counts until its probe is due, a quota and a job cap until they are over; a batch that only needs a look does not."""
    async with Service(settings_for(redis_url, sandbox.url), credentials=Key()) as service:
        assert await service.stuck_sites() == []
        await command(redis, "ZADD", KEYS.sites, 0, 1)
        for key, fields in ((KEYS.site(1), {"pending": 1, **site}), (KEYS.meta, account)):
            for field, value in fields.items():
                await command(redis, "HSET", key, field, str(value))
        assert await service.stuck_sites() == names


@pytest.mark.parametrize("scope", ["site", "account"])
async def test_a_probe_under_way_is_something_to_do(
    redis: Redis, redis_url: str, sandbox: Sandbox, scope: str
) -> None:
    """While a due probe is at ESA nothing counts as stuck, and when it gets through, all is done."""
    client, key = PreloadClient(redis, namespace=NAMESPACE), Key()
    if scope == "site":
        sandbox.reconfigure(sites={7: ("example.com",)})
    else:
        key.secret = "wrong"
    async with Service(settings_for(redis_url, sandbox.url), credentials=key) as service:
        supervisor = Supervisor(service)
        tasks = [asyncio.create_task(service.run_loops()), asyncio.create_task(supervisor.run())]
        try:
            await client.enqueue(SITE, urls_of(1))
            await wait_until_async(service.stuck_sites)
            key.secret = Key().secret
            sandbox.reconfigure(sites={SITE: ("example.com",)}, latency_s=0.3)
            if scope == "site":
                await command(redis, "HSET", KEYS.site(SITE), "wait_until", 1)
                await command(redis, "ZADD", KEYS.ring, 1, SITE)
            else:
                await command(redis, "HSET", KEYS.meta, "blocked_until", 1)
            seen: list[list[str]] = []

            async def is_done() -> bool:
                stuck = await service.stuck_sites()
                seen.extend([] if stuck is None else [stuck])
                return stuck is not None

            await wait_until_async(is_done)
            assert seen == [[]]
        finally:
            await end_tasks(*tasks)


@pytest.mark.parametrize("what", ["proxy", "port", "address", "name"])
async def test_what_can_not_start_says_which_setting(
    redis: Redis, redis_url: str, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """A proxy that is no address, an ops port that is taken, and a host that is not ours are named, without the password."""
    del redis
    if what in ("address", "name"):
        for host in ("192.0.2.1",) if what == "address" else ("x" * 70, "no.such.host.invalid"):
            with pytest.raises(SettingsError, match="ESA_PRELOAD_OPS_HOST: cannot listen on") as caught:
                async with Service(settings_for(redis_url, sandbox.url, ops_host=host), credentials=Key()):
                    pass
            assert "such as 127.0.0.1" in caught.value.hint
        return
    if what == "proxy":
        monkeypatch.setenv("HTTPS_PROXY", "ftp://user:canary@proxy")
        with pytest.raises(SettingsError, match="HTTPS_PROXY") as caught:
            Service(settings_for(redis_url, sandbox.url), credentials=Key())
        assert "canary" not in str(caught.value)
        return
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(SettingsError, match=f"ESA_PRELOAD_OPS_PORT: cannot listen on 127.0.0.1:{port}"):
            async with Service(settings_for(redis_url, sandbox.url, ops_port=port), credentials=Key()):
                pass


async def test_a_client_of_redis_is_closed_with_the_worker(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """Every connection that a worker opened is closed when it ends."""

    async def addresses() -> int:
        return len(str(await command(redis, "CLIENT", "LIST")).splitlines())

    before = await addresses()
    async with running(redis_url, sandbox) as service:
        await wait_until(lambda: service.health.why_not_ready() == "")

    async def closed() -> bool:
        return await addresses() <= before

    await wait_until_async(closed)


async def test_a_lease_that_others_publish_is_kept(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """A worker renews and believes in its batches by the shorter of its own lease and the one in force."""
    async with Service(settings_for(redis_url, sandbox.url, lease=30), credentials=Key()) as service:
        await service.renew()
        assert service.leases.lease_s == 30
        await command(redis, "HSET", KEYS.settings, "lease_ms", 2_000)
        await service.renew()
        assert service.leases.lease_s == 2
        await command(redis, "HSET", KEYS.settings, "lease_ms", 60_000)
        await service.renew()
        assert service.leases.lease_s == 30


async def test_what_a_server_forgot_is_published_again(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """After a restart without its data the limits and the fingerprint are back with the next renewal."""
    async with Service(settings_for(redis_url, sandbox.url, batch_max_urls=30), credentials=Key()) as service:
        fingerprint = await command(redis, "HGET", KEYS.meta, "fingerprint")
        await command(redis, "FLUSHALL")
        await service.renew()
        assert await command(redis, "HGET", KEYS.settings, "batch_max_urls") == b"30"
        assert await command(redis, "HGET", KEYS.meta, "fingerprint") == fingerprint


@acl.needs_config
async def test_a_server_that_never_syncs_is_not_waited_for(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """With ``appendfsync no`` nobody could ever say that a claim is on disk: it is said once, and work goes on."""
    before: Any = await command(redis, "CONFIG", "GET", "appendfsync")
    try:
        await command(redis, "CONFIG", "SET", "appendfsync", "no")
        async with Service(settings_for(redis_url, sandbox.url), credentials=Key()) as service:
            assert await service.ledger.trust_the_disk()
            assert await service.ledger.take(token="t", pump="p", new_batch_id="b") is None
    finally:
        value = before["appendfsync"] if hasattr(before, "keys") else before[1]
        await command(redis, "CONFIG", "SET", "appendfsync", value)
