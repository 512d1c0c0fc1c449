"""A worker's insides over a real Valkey and the sandbox, and an ESA between them that fails on demand."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from esa_preload.client import PreloadClient
from esa_preload.keys import Keys
from esa_preload.ledger import Ledger
from esa_preload.scripts import as_text, command
from esa_preload_worker.bulk import ListKeeper
from esa_preload_worker.esa import EsaClient, EsaError
from esa_preload_worker.esa.credentials import Credential
from esa_preload_worker.leases import Leases
from esa_preload_worker.ledger import CREATE_JOB, WorkerLedger
from esa_preload_worker.metrics import Metrics
from esa_preload_worker.pump import Pump
from esa_preload_worker.settings import Settings, load
from esa_preload_worker.submit import Submitter
from esa_preload_worker.watcher import Watcher
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from redis.asyncio import Redis

    from esa_preload.model import RequestStatus
    from esa_preload_worker.esa import Job, PlanOrder, PlansCreated, PlanState, RefusedUrl
    from esa_preload_worker.esa.client import PageTurn
    from esa_preload_worker.sandbox import Sandbox

NAMESPACE = "t"
SITE = 190007158391808
T = TypeVar("T")


def urls_of(count: int, *, start: int = 0, host: str = "www.example.com") -> list[str]:
    """Return *count* URLs in their normal form."""
    return [f"https://{host}/{i}.js" for i in range(start, start + count)]


def settings_for(redis_url: str, endpoint: str, **changes: object) -> Settings:
    """Return settings with short times; *changes* by field name."""
    values: dict[str, object] = {
        "redis_url": redis_url,
        "namespace": NAMESPACE,
        "endpoint": endpoint,
        "batch_quiet": 0.05,
        "batch_max_age": 1,
        "lease": 1,
        "call_timeout": 0.5,
        "list_lag": 0.1,
        "rate_initial": 1000,
        "rate_max": 10_000,
        "ops_port": 0,
    }
    environ = {f"ESA_PRELOAD_{name.upper()}": str(value) for name, value in (values | changes).items()}
    return load(environ).settings


class Key:
    """Credentials that a test exchanges: at once, or, by ``next_token``, when they are asked for anew."""

    def __init__(self, secret: str = "sandbox-secret", token: str = "") -> None:
        self.secret = secret
        self.token = token
        self.next_token: str | None = None
        self.refreshed = 0

    async def get(self) -> Credential:
        """Return what is valid now."""
        return Credential(access_key_id="sandbox", access_key_secret=self.secret, security_token=self.token)

    async def refresh(self) -> Credential:
        """Return the next ones, if there are any, else the same again."""
        self.refreshed += 1
        if self.next_token is not None:
            self.token = self.next_token
        return await self.get()


@dataclass
class Between:
    """Stands between the submitter and ESA: fails calls before they are made, or after, when ESA has done what they ask."""

    esa: EsaClient
    before: dict[str, deque[Exception]] = field(default_factory=lambda: defaultdict(deque))
    after: dict[str, deque[Exception]] = field(default_factory=lambda: defaultdict(deque))
    hold: dict[str, asyncio.Event] = field(default_factory=dict[str, asyncio.Event])
    refuse: Callable[[Sequence[str]], EsaError | None] = lambda _: None
    calls: list[str] = field(default_factory=list[str])

    @property
    def esa_ms(self) -> int | None:
        """As the client has it."""
        return self.esa.esa_ms

    async def _call(self, name: str, call: Awaitable[T]) -> T:
        self.calls.append(name)
        if self.before[name]:
            asyncio.ensure_future(call).cancel()
            raise self.before[name].popleft()
        answer = await call
        if name in self.hold:
            await self.hold[name].wait()
        if self.after[name]:
            raise self.after[name].popleft()
        return answer

    async def create_job(self, *, site_id: int, name: str, urls: Sequence[str]) -> Job:
        """Create, unless *refuse* knows better."""
        if error := self.refuse(urls):
            self.calls.append("create_job")
            raise error
        return await self._call("create_job", self.esa.create_job(site_id=site_id, name=name, urls=urls))

    async def create_job_from_list(self, *, site_id: int, name: str, oss_url: str) -> Job:
        """Pass on."""
        call = self.esa.create_job_from_list(site_id=site_id, name=name, oss_url=oss_url)
        return await self._call("create_job_from_list", call)

    async def find_jobs(
        self, *, site_id: int, name: str, since_ms: int, until_ms: int, turn: PageTurn
    ) -> tuple[Job, ...]:
        """Pass on; what fails it before, fails its first page."""

        @asynccontextmanager
        async def page() -> AsyncGenerator[None]:
            async with turn():
                if self.before["find_jobs"]:
                    raise self.before["find_jobs"].popleft()
                yield

        self.calls.append("find_jobs")
        return await self.esa.find_jobs(
            site_id=site_id, name=name, since_ms=since_ms, until_ms=until_ms, turn=page
        )

    async def delete_job(self, job_id: str) -> None:
        """Pass on."""
        await self._call("delete_job", self.esa.delete_job(job_id))

    async def create_plans(self, job_id: str, plans: Sequence[PlanOrder]) -> PlansCreated:
        """Pass on."""
        return await self._call("create_plans", self.esa.create_plans(job_id, plans))

    async def list_plans(self, job_id: str) -> tuple[PlanState, ...]:
        """Pass on."""
        return await self._call("list_plans", self.esa.list_plans(job_id))

    async def read_failed_file(self, url: str, *, among: Sequence[str] = ()) -> tuple[RefusedUrl, ...]:
        """Pass on."""
        return await self._call("read_failed_file", self.esa.read_failed_file(url, among=among))


@dataclass
class Shelf:
    """A bucket that the sandbox reads; fails on demand: operation → errors to come."""

    sandbox: Sandbox
    objects: dict[str, bytes] = field(default_factory=dict[str, bytes])
    errors: dict[str, deque[Exception]] = field(default_factory=lambda: defaultdict(deque))
    calls: list[str] = field(default_factory=list[str])
    spoil: Callable[[bytes], bytes] = lambda lines: lines

    def _begin(self, operation: str) -> None:
        self.calls.append(operation)
        if self.errors[operation]:
            raise self.errors[operation].popleft()

    async def put(self, name: str, lines: bytes) -> None:
        """Keep *lines*."""
        self._begin("put")
        self.objects[name] = lines

    async def link(self, name: str) -> str:
        """Return a link by which the sandbox finds what is kept, as *spoil* leaves it."""
        self._begin("link")
        url = f"https://bucket.oss.example/{name}?signature=secret"
        self.sandbox.reconfigure(oss_objects={url: self.spoil(self.objects[name]).decode()})
        return url

    async def delete(self, name: str) -> None:
        """Forget *name*."""
        self._begin("delete")
        self.objects.pop(name, None)


@dataclass
class Rig:
    """One worker process's insides, without arq."""

    settings: Settings
    sandbox: Sandbox
    between: Between
    key: Key
    client: PreloadClient
    reader: Ledger
    ledger: WorkerLedger
    leases: Leases
    metrics: Metrics
    submitter: Submitter
    pump: Pump
    watcher: Watcher
    lists: ListKeeper
    shelf: Shelf

    async def watch(self, visits: int = 1) -> None:
        """Make the visits that are due, *visits* of them at most."""
        for _ in range(visits):
            await self.watcher.step()

    async def work(
        self, request_id: str, *, until: Callable[[RequestStatus], bool] | None = None, timeout_s: float = 6.0
    ) -> RequestStatus:
        """Run pumps until *request_id* is done, or *until* holds of its status."""
        reached = until or _is_done
        last: list[RequestStatus] = []

        async def worked() -> bool:
            await self.pump.run()
            last[:] = [await self.client.status(request_id)]
            assert_adds_up(last[0])
            return reached(last[0])

        await wait_until_async(worked, timeout_s=timeout_s)
        return last[0]

    async def enqueue(self, urls: Sequence[str], **options: object) -> str:
        """Enqueue *urls* for the site; returns the request's id."""
        receipt = await self.client.enqueue(SITE, urls, **options)  # type: ignore[arg-type]
        return receipt.request_id

    def planned(self) -> int:
        """Return how many URLs have a plan; fails when one has two."""
        stats = self.sandbox.stats()
        assert stats["urls_planned_again"] == 0, stats
        return int(stats["planned_urls"])

    async def due(self, site_id: int = SITE) -> None:
        """Let what the site, the account and every batch wait for be over: the minute of a probe, say."""
        keys, redis = self.ledger.keys, self.ledger.redis
        if await command(redis, "HEXISTS", keys.meta, "blocked_until"):
            await command(redis, "HSET", keys.meta, "blocked_until", 1)
        if await command(redis, "HEXISTS", keys.site(site_id), "wait_until"):
            await command(redis, "HSET", keys.site(site_id), "wait_until", 1)
            if await command(redis, "ZSCORE", keys.ring, str(site_id)):
                await command(redis, "ZADD", keys.ring, 1, str(site_id))
        for batch_id in await command(redis, "ZRANGE", keys.leases, 0, -1):
            if not await command(redis, "HGET", keys.batch(as_text(batch_id)), "token"):
                await command(redis, "ZADD", keys.leases, 1, batch_id)

    def calls(self, operation: str = CREATE_JOB) -> int:
        """Return how many calls of an operation were made, whatever they came to."""
        family = next(f for f in self.metrics.registry.collect() if f.name == "esa_preload_api_requests")
        return round(sum(s.value for s in family.samples if s.labels["operation"] == operation))

    def count(self, name: str, **labels: str) -> float:
        """Return the value of a metric."""
        return self.metrics.registry.get_sample_value(f"esa_preload_{name}", labels) or 0.0


def _is_done(status: RequestStatus) -> bool:
    return status.state == "done"


def assert_adds_up(status: RequestStatus) -> None:
    """Hold a request to: every URL is somewhere, once."""
    ends = status.submitted + status.refused + status.expired + status.cancelled + status.unknown
    assert status.accepted == status.pending + status.in_flight + ends, status


@asynccontextmanager
async def rig(
    redis: Redis, redis_url: str, sandbox: Sandbox, *, has_shelf: bool = False, **changes: object
) -> AsyncGenerator[Rig]:
    """Build the insides of a worker over *sandbox*; one that *has a shelf* can carry bulk batches."""
    settings = settings_for(redis_url, str(changes.pop("endpoint", sandbox.url)), **changes)
    metrics, leases, key = Metrics(version="0"), Leases(settings.lease), Key()
    ledger = WorkerLedger(redis, Keys(NAMESPACE), bulk_min_urls=settings.oss_min_urls if has_shelf else 0)
    await ledger.publish(settings.published())
    client = EsaClient(settings.endpoint_url, key, settings.call_timeout, metrics.observe_call, environ={})
    async with client as esa:
        between, shelf = Between(esa), Shelf(sandbox)
        lists = ListKeeper(settings, shelf if has_shelf else None)
        submitter = Submitter(ledger=ledger, esa=between, leases=leases, settings=settings, lists=lists)
        yield Rig(
            settings=settings,
            sandbox=sandbox,
            between=between,
            key=key,
            client=PreloadClient(redis, namespace=NAMESPACE),
            reader=Ledger(redis, Keys(NAMESPACE)),
            ledger=ledger,
            leases=leases,
            metrics=metrics,
            submitter=submitter,
            pump=Pump(ledger=ledger, submitter=submitter, leases=leases, metrics=metrics),
            watcher=Watcher(ledger=ledger, esa=between, settings=settings, metrics=metrics, lists=lists),
            lists=lists,
            shelf=shelf,
        )
