"""Everything that a worker process has beside arq: the ledger, the client of ESA, the loops, the ops port."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import secrets
import socket
import time
from importlib.metadata import version
from typing import TYPE_CHECKING, Self

from redis.exceptions import OutOfMemoryError, RedisError

from esa_preload.cancellation import heed_cancellation
from esa_preload.connection import connect
from esa_preload.errors import QueueUnavailableError, SettingsError
from esa_preload.keys import Keys
from esa_preload.ledger import Ledger
from esa_preload.logs import get_logger
from esa_preload.otel import start_tracing, wants_traces
from esa_preload.outages import redis_errors
from esa_preload.records import site_state
from esa_preload_worker.bulk import ListKeeper
from esa_preload_worker.check.environment import fingerprint_of, judge_server
from esa_preload_worker.check.probe import server_facts
from esa_preload_worker.esa import BlockedError, CredentialSource, EsaClient, credentials_from_env
from esa_preload_worker.health import Health
from esa_preload_worker.leases import Leases
from esa_preload_worker.ledger import WorkerLedger
from esa_preload_worker.metrics import Metrics, Snapshot, site_figures
from esa_preload_worker.ops import OpsServer
from esa_preload_worker.oss import ListStore, list_store
from esa_preload_worker.pump import Pump
from esa_preload_worker.site_names import SiteNames
from esa_preload_worker.submit import OPERATIONS, Submitter
from esa_preload_worker.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from types import TracebackType

    from esa_preload_worker.health import Part
    from esa_preload_worker.settings import Settings
    from esa_preload_worker.submit import Submits

log = get_logger()

RENEWALS_A_LEASE = 10 / 3
SWEEP_S = 1.0
SWEEP_TURN_MS = 3_000
SITE_NAMES_S = 600.0
"""Longest list of sites: by then somebody else's turn has come."""
CREDENTIALS_S = 60.0
FITNESS_S = 60.0
STEP_S = 6.0
"""Longest round of a loop: a Redis that accepts and never answers must look like one that is away, and the process alive."""
RENEWAL_S = 2.0
"""A renewal has as long, at least, on whatever lease: half of it otherwise."""
AGAIN_S = 0.5
"""A loop that failed tries again so soon: a connection that died unnoticed must not cost the leases."""

REDIS_FAILURES = (RedisError, OSError, QueueUnavailableError)

LEFT = ("pending", "in_flight", "batches")
LONG_WAITS = ("blocked", "quota", "job_cap")
"""Why a site waits for what this program cannot bring about."""
BAD_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)


class Service:
    """
    One worker process, but for arq. Use it as an async context manager; :meth:`run_loops` renews, sweeps and watches.

    Raises:
        SettingsError: a proxy's address is none, the namespace belongs to another endpoint, or the ops port is taken.
        QueueUnavailableError: Redis can't be reached.
    """

    def __init__(self, settings: Settings, *, credentials: CredentialSource | None = None) -> None:
        self.settings = settings
        self.worker_id = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.version = version("esa-preload")
        self.health = Health()
        self.metrics = Metrics(version=self.version, max_sites=settings.metrics_max_sites)
        self.leases = Leases(settings.lease)
        self._end_tracing = start_tracing("esa-preload-worker", os.environ)
        self._is_traced = wants_traces(os.environ)
        self._redis = connect(settings.redis_url.get_secret_value())
        keys = Keys(settings.namespace)
        self.ledger = WorkerLedger(
            self._redis,
            keys,
            waits_for_disk=settings.wait_aof,
            bulk_min_urls=settings.bulk_min_urls,
            reads_traces=self._is_traced,
        )
        self._reader = Ledger(self._redis, keys)
        self._credentials = credentials or credentials_from_env(os.environ)
        self._esa, self._store = self._clients_outside()
        lists = ListKeeper(settings, self._store)
        self.pump = Pump(
            ledger=self.ledger, submitter=self._submitter(lists), leases=self.leases, metrics=self.metrics
        )
        self.watcher = Watcher(
            ledger=self.ledger, esa=self._esa, settings=settings, metrics=self.metrics, lists=lists
        )
        self.site_names = SiteNames(ledger=self.ledger, esa=self._esa, metrics=self.metrics)
        self._ops = OpsServer(
            metrics=self.metrics,
            health=self.health,
            refresh=self.refresh_snapshot,
            host=settings.ops_host,
            port=settings.ops_port,
        )
        self._renewed_at: float | None = None
        self._claims_from = 0.0
        self._stack = contextlib.AsyncExitStack()

    @property
    def ops_url(self) -> str:
        """Where the ops port listens."""
        return self._ops.url

    async def __aenter__(self) -> Self:
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(self._end_tracing)
            stack.push_async_callback(self._redis.aclose)
            with redis_errors():
                await self._claim_namespace()
                await self._publish()
                if self.settings.wait_aof and await self.ledger.trust_the_disk():
                    log.warning(
                        "worker.warning", message="Redis has appendfsync no: no batch waits for the disk"
                    )
            await self.refresh_snapshot()
            await stack.enter_async_context(self._esa)
            if self._store:
                await stack.enter_async_context(self._store)
            try:
                await stack.enter_async_context(self._ops)
            except (OSError, UnicodeError) as exc:
                raise _cannot_listen(self.settings, exc) from exc
            await self._check_credentials()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(exc_type, exc, tb)

    async def run_loops(self) -> None:
        """Renew leases, sweep, follow plans, list the sites, and look at the credentials and the server, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(
                self._every(lambda: self.leases.lease_s / RENEWALS_A_LEASE, self.renew, part="leases")
            )
            group.create_task(self._every(lambda: SWEEP_S, self._sweep, part="sweep"))
            group.create_task(self._every(lambda: CREDENTIALS_S, self._check_credentials))
            group.create_task(self._every(lambda: FITNESS_S, self._check_server))
            visit_s = STEP_S + 2 * self.settings.call_timeout
            group.create_task(self._every(lambda: self.watcher.pause_s, self.watcher.step, step_s=visit_s))
            group.create_task(self._every(lambda: SWEEP_S, self.site_names.step, step_s=SITE_NAMES_S))

    async def refresh_snapshot(self) -> None:
        """Read from the ledger what the metrics show."""
        try:
            records = await self._reader.site_records()
            rates = await self.ledger.rates(OPERATIONS)
        except REDIS_FAILURES as exc:
            self.health.redis_failed(exc)
            self.metrics.redis_is_away()
            return
        sites = [site_figures(*record) for record in records]
        self.metrics.show(
            Snapshot(redis_up=True, sites=sites, rates=rates, in_flight_batches=len(self.leases))
        )

    async def stuck_sites(self) -> list[str] | None:
        """
        Tell whether the work is done.

        Returns:
            An empty list when nothing is pending or in flight; the sites, with why, when all that is left waits for a person
            or a reset; ``None`` while there is something to do.
        """
        if self.pump.is_at_work:
            return None
        stuck: list[str] = []
        for site_id, record, oldest_ms, now_ms in await self._reader.site_records():
            # Not by numbers of URLs: how many a list in OSS holds may not be known yet.
            if oldest_ms is None and not any(int(record.get(count, 0)) for count in LEFT):
                continue
            if not _is_stuck(record, now_ms):
                return None
            state, reason = site_state(record, now_ms)
            stuck.append(f"{site_id} ({state}: {reason})")
        # While a probe of a blocked account is under way, the record looks as it does before the probe.
        return None if self.pump.is_at_work else stuck

    def _clients_outside(self) -> tuple[EsaClient, ListStore | None]:
        """Return the clients of ESA and, where lists are made, of OSS; none of them is connected yet."""
        settings = self.settings
        try:
            esa = EsaClient(
                settings.endpoint_url,
                self._credentials,
                settings.call_timeout,
                self._observer(),
                allow_insecure_endpoint=settings.allow_insecure_endpoint,
            )
            return esa, list_store(settings, self._credentials)
        except ValueError as exc:
            raise SettingsError(str(exc)) from None

    def _observer(self) -> Callable[[str, str, float], None]:
        if not self._is_traced:
            return self.metrics.observe_call
        from esa_preload_worker.tracing import traced  # noqa: PLC0415 - an extra

        return traced(self.metrics.observe_call)

    def _submitter(self, lists: ListKeeper) -> Submits:
        submitter = Submitter(
            ledger=self.ledger, esa=self._esa, leases=self.leases, settings=self.settings, lists=lists
        )
        if not self._is_traced:
            return submitter
        from esa_preload_worker.tracing import TracedSubmitter  # noqa: PLC0415 - an extra

        return TracedSubmitter(submitter)

    async def _claim_namespace(self) -> None:
        fingerprint = fingerprint_of(self.settings.endpoint_url)
        if await self.ledger.claim_namespace(fingerprint) != fingerprint:
            raise SettingsError(
                f"ESA_PRELOAD_NAMESPACE {self.settings.namespace} belongs to another ESA endpoint than {self.settings.endpoint_url}",
                hint="one namespace is one account and endpoint: choose another ESA_PRELOAD_NAMESPACE",
            )

    async def _publish(self) -> None:
        try:
            await self.ledger.publish(self.settings.published())
        except OutOfMemoryError:
            if not await self._reader.url_max_chars():
                raise
            # Only work makes room: what an earlier worker has published will do.
            log.warning(
                "worker.warning", message="Redis is out of memory: the settings could not be published"
            )

    async def _every(
        self,
        pause: Callable[[], float],
        step: Callable[[], Awaitable[None]],
        *,
        part: Part | None = None,
        step_s: float = STEP_S,
    ) -> None:
        while True:
            fails = False
            try:
                async with asyncio.timeout(step_s):
                    await step()
            except REDIS_FAILURES as exc:
                self.health.redis_failed(exc, part)
                fails = True
            except Exception:  # an outermost loop: the next round may do
                log.exception("worker.error", message="a round of the loops failed")
            else:
                if part:
                    self.health.redis_answered(part)
            self.health.tick()
            heed_cancellation()
            await asyncio.sleep(min(pause(), AGAIN_S) if fails else pause())

    async def renew(self) -> None:
        """Renew the leases of what is held here."""
        claims, lease_s = self.leases.claims(), self.leases.lease_s
        since = time.monotonic()
        # A dead connection is found out, and replaced, within a lease; a slow one has time for its greeting.
        async with asyncio.timeout(min(STEP_S, max(RENEWAL_S, lease_s / 2))):
            lost = await self.ledger.renew(self.worker_id, claims)
        now = time.monotonic()
        if self._renewed_at is not None and now - self._renewed_at > lease_s / 2:
            self._claims_from = now + lease_s / 2
        self._renewed_at = now
        self.leases.renewed(claims, lost, since=since)
        await self._stay_in_force()

    async def _stay_in_force(self) -> None:
        """Hold batches no longer than the other workers believe; publish anew what a server has forgotten."""
        lease_s = await self.ledger.lease_in_force()
        if lease_s is None:
            await self._claim_namespace()
            await self._publish()
        self.leases.lease_s = min(self.settings.lease, lease_s or self.settings.lease)

    async def let_owners_renew(self) -> None:
        """Return when batches may be claimed: after an outage that may have cost leases, who lives renews before anybody claims."""
        if self._renewed_at is None or time.monotonic() - self._renewed_at > self.leases.lease_s / 2:
            await self.renew()
        await asyncio.sleep(max(0.0, self._claims_from - time.monotonic()))

    async def _sweep(self) -> None:
        swept = await self.ledger.sweep(self.worker_id, turn_ms=SWEEP_TURN_MS)
        if swept.lists_sites:
            self.site_names.ask()
        for site_id, urls in swept.expired.items():
            self.metrics.urls_expired.labels(self.metrics.site_label(site_id)).inc(urls)

    async def _check_server(self) -> None:
        facts = await server_facts(self._redis)
        self.metrics.show_fitness(judge_server(facts, waits_for_disk=self.settings.wait_aof))

    async def _check_credentials(self) -> None:
        try:
            await self._credentials.get()
        except BlockedError as exc:
            self.health.lacks_credentials(exc)
        else:
            self.health.has_credentials()


def _is_stuck(record: Mapping[str, str], now_ms: int) -> bool:
    """Tell whether what a site has left waits for a person or a reset; not while a probe is due, or a batch only needs a look."""
    waits_until = float(record.get("wait_until", 0))
    if "blocked_code" in record and float(record.get("blocked_until", waits_until)) > now_ms:
        return True
    if int(record.get("batches", 0)):
        return False
    return "paused" in record or (waits_until > now_ms and record.get("wait_reason") in LONG_WAITS)


def _cannot_listen(settings: Settings, error: OSError | UnicodeError) -> SettingsError:
    is_address = isinstance(error, socket.gaierror | UnicodeError) or error.errno in BAD_ADDRESS
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    return SettingsError(
        f"ESA_PRELOAD_OPS_{'HOST' if is_address else 'PORT'}: cannot listen on {settings.ops_host}:{settings.ops_port}: {why}",
        hint="it is an address of this host, such as 127.0.0.1 or 0.0.0.0"
        if is_address
        else "choose another port, or 0 for a free one",
    )
