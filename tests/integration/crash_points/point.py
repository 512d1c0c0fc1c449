"""One point: a worker that is struck there, another that ends what is left, and what must be true afterwards."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, cast
from unittest.mock import patch

from redis.exceptions import RedisError

from esa_preload.client import PreloadClient
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.ledger import Ledger
from esa_preload.model import Plan
from esa_preload.scripts import as_text, command, commands
from esa_preload_worker import bulk, decisions
from esa_preload_worker.bulk import ListKeeper
from esa_preload_worker.check.audit import Auditor
from esa_preload_worker.check.reader import LedgerReader
from esa_preload_worker.claims import Batch
from esa_preload_worker.esa import EsaClient
from esa_preload_worker.leases import Leases
from esa_preload_worker.ledger import WorkerLedger
from esa_preload_worker.metrics import Metrics
from esa_preload_worker.pump import Pump
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from esa_preload_worker.sandbox.replies import ApiError
from esa_preload_worker.settings import Settings, load
from esa_preload_worker.submit import Submitter
from integration.crash_points import timeline
from integration.crash_points.scenarios import CREATE, DELETE, OSS_LIST, PLAN, POISON, SCENARIOS, Ends
from integration.crash_points.seams import (
    FATE,
    SCRIPTS,
    DiedError,
    Fate,
    Strike,
    StruckRedis,
    StruckShelf,
)
from integration.worker.rig import Key, Shelf

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from esa_preload.model import RequestStatus
    from integration.crash_points.scenarios import Scenario

NAMESPACE = "t"
SITE = 190007158391808
REQUEST = "r"
ROUNDS = 200
"""Looks at the ledger after which something goes round in circles."""
LIST_LAG_S = 0.3
KEYS = Keys(NAMESPACE)
METRICS = Metrics(version="0")


class PickySandbox(Sandbox):
    """A sandbox that refuses, with a 4xx, each list that holds the poison, and that may make a job twice."""

    creates_twice = False

    def _run(self, received: Any, fault: Any) -> Any:
        if received.action == CREATE and POISON.rpartition("/")[2].encode() in received.body:
            raise ApiError(400, "InvalidParameter.Url", "One of the URLs is not to our taste.")
        reply = super()._run(received, fault)
        if received.action == CREATE and self.creates_twice and fault is not None:
            job = list(self.account.all_jobs())[-1]
            self.account.create_job(
                site_id=job.site_id, name=job.name, insert_way=job.insert_way, url_text=job.url_text
            )
        return reply


class JumpingLedger(WorkerLedger):
    """The ledger by the clock that jumps."""

    @property
    def _now(self) -> str:
        return str(timeline.unix_ms())


class JumpingReader(Ledger):
    """The producers' side of the ledger, by the same clock: on a busy machine the real one runs ahead of it."""

    @property
    def _now(self) -> str:
        return str(timeline.unix_ms())

    async def _server_now_ms(self) -> int:
        return timeline.unix_ms()


@cache
def settings_of(changes: tuple[tuple[str, str], ...]) -> Settings:
    """Return a worker's settings: a few looks for what is uncertain are enough."""
    values = {"redis_url": "redis://nowhere", "namespace": NAMESPACE, "endpoint": "http://127.0.0.1:9"}
    values |= {"rate_initial": "50", "batch_quiet": "0.05", "call_timeout": "0.5", "list_lag": "0.5"}
    values |= dict(changes)
    return load({f"ESA_PRELOAD_{name.upper()}": value for name, value in values.items()}).settings


@dataclass(kw_only=True)
class Worker:
    """One worker process's insides."""

    point: Point
    fate: Fate
    pump: Pump
    leases: Leases
    redis: Redis
    esa: EsaClient
    is_first: bool
    has_left: bool = False

    async def shut_down(self) -> None:
        """Cancel what it is at, as the end of its process does."""
        task = asyncio.current_task()
        assert task is not None
        self.has_left = True
        task.cancel()
        await asyncio.sleep(0)

    async def drain(self) -> None:
        """Do what there is to do until the request has ended, or the worker is shut down or struck down."""
        FATE.set(self.fate)
        for _ in range(ROUNDS):
            try:
                await self.fate.drive(self.pump.run())
            except asyncio.CancelledError:
                if self.has_left:
                    return
                raise
            except DiedError:
                await self.cut_off()
                return
            except RedisError:  # a process makes itself a new one of all this, and goes on
                pass
            if self.pump.is_stopping or await self.point.is_over():
                return
            await self.point.go_on()
        raise AssertionError(
            f"it goes round in circles: {await self.point.status()}, {self.fate.calls[-20:]}"
        )

    async def cut_off(self) -> None:
        """Close its connections under it."""
        pool = cast("Any", self.redis).connection_pool
        for connection in (*pool._available_connections, *pool._in_use_connections):
            if connection._writer is not None:
                connection._writer.transport.abort()
        await cast("Any", self.esa)._caller._session.connector.close()


@dataclass(kw_only=True)
class Point:
    """A ledger and an ESA for one strike."""

    scenario: Scenario
    redis_url: str
    redis: Redis
    sandbox: Sandbox
    client: PreloadClient
    ledger: JumpingLedger
    settings: Settings
    shelf: Shelf
    stack: AsyncExitStack
    did: set[str] = field(default_factory=set[str])

    def once(self, what: str) -> bool:
        """Tell whether this is the first time."""
        is_first = what not in self.did
        self.did.add(what)
        return is_first

    async def worker(self, strike: Strike | None = None, *, is_first: bool = False) -> Worker:
        """Start a worker, which *strike* befalls."""
        fate = Fate(strike=strike)
        redis = connect(self.redis_url)
        self.stack.push_async_callback(redis.aclose)
        leases = Leases(self.settings.lease, clock=timeline.monotonic)
        is_bulk = self.scenario.is_bulk
        least = self.settings.oss_min_urls if is_bulk else 0
        ledger = JumpingLedger(cast("Redis", StruckRedis(redis, fate)), KEYS, bulk_min_urls=least)
        esa = EsaClient(self.sandbox.url, Key(), self.settings.call_timeout, environ={})
        await self.stack.enter_async_context(esa)
        submitter = Submitter(
            ledger=ledger,
            esa=esa,
            leases=leases,
            settings=self.settings,
            lists=ListKeeper(self.settings, StruckShelf(self.shelf) if is_bulk else None),
            clock=timeline.monotonic,
            sleep=timeline.sleep,
        )
        pump = Pump(
            ledger=ledger,
            submitter=submitter,
            leases=leases,
            metrics=METRICS,
            clock=timeline.monotonic,
            sleep=timeline.sleep,
        )
        pump.is_stopping = is_first and self.scenario.is_stopping
        worker = Worker(
            point=self, fate=fate, pump=pump, leases=leases, redis=redis, esa=esa, is_first=is_first
        )
        meanwhile = self.scenario.meanwhile
        if meanwhile is not None:
            fate.meanwhile = lambda call: meanwhile(self, worker, call)
        self.stack.callback(fate.bury)
        return worker

    async def enqueue(self) -> None:
        """Accept the scenario's request."""
        if self.scenario.urls:
            ends_in_s = self.scenario.plan_ends_in_s
            plan = (
                Plan(end=decisions.moment(round(timeline.unix() * 1000) + ends_in_s * 1000))
                if ends_in_s
                else None
            )
            await self.client.enqueue(
                SITE,
                self.scenario.urls,
                request_id=REQUEST,
                expires_in=self.scenario.expires_in_s,
                plan=plan,
            )
        else:
            await self.client.enqueue_oss(SITE, OSS_LIST, request_id=REQUEST)

    async def begin_bulk(self) -> None:
        """Gather a pack, and die."""
        timeline.jump(0.1)
        ledger = JumpingLedger(self.redis, KEYS, bulk_min_urls=1)
        batch = await ledger.take(token="dead", pump="dead", new_batch_id="b0")
        assert isinstance(batch, Batch)
        await ledger.gather(batch, pack_id="p0", most_urls=2, most_bytes=10_000)
        timeline.jump(self.settings.lease + 1)

    async def cancel(self) -> None:
        """Cancel the request, from another process: whatever becomes of the worker, it is done."""
        await asyncio.shield(asyncio.ensure_future(self.client.cancel(REQUEST)))

    async def status(self) -> RequestStatus:
        """Return how far the request is, and hold it to: every URL is somewhere, once."""
        status = await self.client.status(REQUEST)
        parts = (status.pending, status.in_flight, status.submitted, status.refused, status.expired)
        assert status.accepted == sum(parts) + status.cancelled + status.unknown, status
        return status

    async def is_over(self) -> bool:
        """Tell whether nothing is left to do: a bulk batch may outlive its last pack."""
        is_done = (await self.status()).state == "done"
        return is_done and not await command(self.redis, "EXISTS", KEYS.leases)

    async def go_on(self) -> None:
        """Let the time pass until a worker has something to do; fails when none ever will."""
        if self.scenario.each_round is not None:
            await self.scenario.each_round(self)
        await self.ledger.sweep("sweeper", turn_ms=1)
        firsts = await commands(
            self.redis, [("ZRANGE", key, 0, 0, "WITHSCORES") for key in (KEYS.ring, KEYS.leases)]
        )
        due = [float(first[1]) for first in firsts if first]
        assert due, f"stranded: {await self.status()}"
        left_s = (min(due) - timeline.unix_ms()) / 1000
        timeline.jump(left_s + 0.002 if left_s > 0 else 0.25)

    async def audit(self) -> None:
        """Hold the ledger to every invariant that ``check --ledger`` knows."""
        reader = LedgerReader(self.redis, KEYS, now_ms=timeline.unix_ms())
        audit = await Auditor(reader, sleep=timeline.sleep).run()
        assert not audit.violations, audit.violations

    async def outcome(self) -> dict[str, object]:
        """Return what counts in the end, by the ledger and by ESA."""
        status = await self.status()
        failures = await self.client.failures(SITE)
        site = await command(
            self.redis, "HMGET", KEYS.site(SITE), "submitted", "refused", "expired", "cancelled", "unknown"
        )
        return {
            "jobs": len(self.sandbox.jobs()),
            "status": status,
            "failures": sorted((failure.url, failure.reason) for failure in failures),
            "site": [int(total or 0) for total in site],
            "planned": sorted(
                (job["id"], job["plans_made"], job["is_deleted"])
                for job in self.sandbox.jobs()
                if job["plans_made"]
            ),
        }

    async def check(self, *, missed_deadline_of: str = "", second_plans: int = 0) -> None:
        """
        Hold what is left to what was promised: every URL ended, once, and ESA has what the ledger says.

        Args:
            missed_deadline_of: a call that was given up: which URLs were refused may not be known, or a job not be deleted.
            second_plans: as many plans are there beyond one a job.
        """
        scenario, status = self.scenario, await self.status()
        ends = Ends(
            submitted=status.submitted,
            refused=status.refused,
            expired=status.expired,
            cancelled=status.cancelled,
        )
        assert (status.state, status.pending, status.in_flight) == ("done", 0, 0), status
        if missed_deadline_of == "FailedFile":
            assert status.accepted == sum(astuple(ends)) + status.unknown, status
            await self.audit()
            return
        assert status.unknown == 0, status
        assert ends in (scenario.ends, scenario.or_ends), status

        failures = [
            failure
            for failure in await self.client.failures(SITE)
            if failure.reason not in ("expired", "window_passed")
        ]
        refused = Counter(scenario.refused_urls if ends.refused else ())
        assert Counter(failure.url for failure in failures) == refused, failures
        assert {failure.reason for failure in failures} == (scenario.reasons if ends.refused else set())

        jobs = self.sandbox.jobs()
        planned = [job for job in jobs if job["plans_made"]]
        names = Counter(job["name"] for job in planned)
        assert max(names.values(), default=0) <= 1, names
        assert sum(job["plans_made"] for job in planned) == len(planned) + second_plans, jobs
        assert not any(job["is_deleted"] for job in planned), jobs
        assert sum(job["url_submitted"] for job in planned) == ends.submitted, jobs
        idle = [job for job in jobs if not job["plans_made"] and not job["is_deleted"]]
        assert len(idle) <= (scenario.may_leave_a_job or missed_deadline_of == DELETE), jobs

        left = [as_text(key).removeprefix(KEYS.prefix) for key in await command(self.redis, "KEYS", "*")]
        work = ("batch:", "bulk:", "split:", "held:", "parts:", "urls:", "band:", "lane:", "lanes:")
        assert not [name for name in left if name.startswith(work)], left
        assert not {"leases", "ring", "open", "expiring"} & set(left), left
        await self.audit()


@asynccontextmanager
async def point_of(name: str, redis_url: str) -> AsyncGenerator[Point]:
    """Make the ledger and the ESA of a point, with the scenario's request in it."""
    scenario = SCENARIOS[name]
    settings = settings_of(tuple(sorted(scenario.settings.items())))
    config = SandboxConfig(sites={SITE: ("example.com",)}, list_lag_s=LIST_LAG_S, **scenario.sandbox)
    async with AsyncExitStack() as stack:
        redis = connect(redis_url)
        stack.push_async_callback(redis.aclose)
        await command(redis, "FLUSHALL")
        # Known beforehand, so that the same call has the same number each time.
        await commands(redis, [("SCRIPT", "LOAD", script.text) for script in SCRIPTS])
        sandbox = await stack.enter_async_context(PickySandbox(config, clock=timeline.unix))
        sandbox.creates_twice = scenario.creates_twice
        ledger = JumpingLedger(redis, KEYS)
        await ledger.publish(settings.published())
        client = PreloadClient(redis, namespace=NAMESPACE)
        client._ledger = JumpingReader(redis, KEYS)  # pyright: ignore[reportPrivateUsage] - it takes no clock
        point = Point(
            scenario=scenario,
            redis_url=redis_url,
            redis=redis,
            sandbox=sandbox,
            client=client,
            ledger=ledger,
            settings=settings,
            shelf=Shelf(sandbox),
            stack=stack,
        )
        stack.enter_context(patch.object(bulk, "PACK_URLS", 2))
        await point.enqueue()
        if scenario.is_begun:
            await point.begin_bulk()
        if scenario.plans_cool_s:
            until = timeline.unix_ms() + scenario.plans_cool_s * 1000
            await command(redis, "HSET", KEYS.rate(PLAN), "rate", 50, "cooldown", until)
        timeline.jump(0.1)
        yield point
