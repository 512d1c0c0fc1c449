"""Run arq and, when it falls, run a fresh one: a stock worker ends at the first Redis error, a re-run one leaks slots."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from typing import TYPE_CHECKING, Any, cast

from arq.connections import ArqRedis
from arq.worker import Worker, func

from esa_preload.cancellation import end_tasks, heed_cancellation
from esa_preload.connection import connect
from esa_preload.errors import EsaPreloadError, QueueUnavailableError
from esa_preload.keys import Keys
from esa_preload.ledger import redis_errors
from esa_preload_worker.logs import get_logger
from esa_preload_worker.pump import PUMP_S
from esa_preload_worker.service import REDIS_FAILURES

if TYPE_CHECKING:
    from esa_preload_worker.health import Health
    from esa_preload_worker.pump import Pump
    from esa_preload_worker.service import Service
    from esa_preload_worker.settings import Settings

log = get_logger()

POLL_DELAY_S = 0.02
"""What a wake-up waits for, at most, beside its time."""
WAKE_KEPT_MS = 30 * 86_400_000
RESTART_S = (0.2, 1.0)


async def wake(ctx: dict[Any, Any]) -> int:
    """
    Answer a wake-up: the only job that arq runs. Never raises but when cancelled: the ledger needs no retry of it.

    Returns:
        how many batches were settled.
    """
    pump, health = cast("Pump", ctx["pump"]), cast("Health", ctx["health"])
    try:
        with redis_errors():
            return await pump.run()
    except QueueUnavailableError as exc:
        health.redis_failed(exc.__cause__ or exc)
    except EsaPreloadError as exc:
        log.error("worker.error", message=str(exc), hint=exc.hint)
    except Exception:  # the outermost loop of what arq runs: the sweep wakes the next
        log.exception("worker.error", message="a batch could not be worked on")
    return 0


def _dumps(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _loads(raw: bytes) -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads(raw))


def arq_pool(settings: Settings) -> ArqRedis:
    """Return arq's own client: JSON for jobs, the queue of this namespace, wake-ups kept for a month."""
    pool = cast("ArqRedis", connect(settings.redis_url.get_secret_value(), redis_class=ArqRedis))
    pool.job_serializer, pool.job_deserializer = _dumps, _loads
    pool.default_queue_name = Keys(settings.namespace).queue
    pool.expires_extra_ms = WAKE_KEPT_MS
    return pool


def worker_options(settings: Settings) -> dict[str, Any]:
    """Return how arq is to run, whoever starts it."""
    longest_s = PUMP_S + 6 * settings.call_timeout + 60  # a pump's time, and the calls of its last batch
    return {
        "functions": [func(cast("Any", wake), name="wake", timeout=longest_s, keep_result=0)],
        "queue_name": Keys(settings.namespace).queue,
        "job_serializer": _dumps,
        "job_deserializer": _loads,
        "max_jobs": settings.max_jobs,
        "job_timeout": longest_s,
        "keep_result": 0,
        "poll_delay": POLL_DELAY_S,
        "expires_extra_ms": WAKE_KEPT_MS,
        "health_check_interval": 60,
        "log_results": False,
    }


class PollingWorker(Worker):
    """An arq worker that tells the health of each of its polls."""

    def __init__(self, *, health: Health, **options: Any) -> None:
        super().__init__(**options)
        self._health = health

    async def heart_beat(self) -> None:
        """Note the poll, then do what arq does at each."""
        heed_cancellation()
        self._health.polled()
        if (
            self.allow_pick_jobs and self.job_counter < self.max_jobs
        ):  # else it came round without asking Redis
            self._health.redis_answered()
        await super().heart_beat()


class Supervisor:
    """Keep one arq worker running; a new one, on a new pool, after whatever ended the last."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._worker: PollingWorker | None = None

    async def run(self) -> None:
        """Run until cancelled."""
        health = self._service.health
        while True:
            try:
                await self._run_one()
            except REDIS_FAILURES as exc:
                health.redis_failed(exc)
            except Exception:  # the outermost loop around arq: whatever ended it, a fresh one follows
                log.exception("worker.error", message="arq's worker ended; a fresh one follows")
            heed_cancellation()
            await asyncio.sleep(random.uniform(*RESTART_S))  # noqa: S311 - jitter
            await self._until_redis_is_back()

    async def _run_one(self) -> None:
        service, pool = self._service, arq_pool(self._service.settings)
        self._worker = worker = PollingWorker(
            health=service.health,
            redis_pool=pool,
            handle_signals=False,
            ctx={"pump": service.pump, "health": service.health},
            **worker_options(service.settings),
        )
        worker.allow_pick_jobs = not service.pump.is_stopping
        try:
            await worker.async_run()
        finally:
            await self._close(worker, pool)

    async def _until_redis_is_back(self) -> None:
        """Wait for Redis; after an outage that may have cost leases wait longer, so that who lives renews before anybody claims."""
        health, lease_s = self._service.health, self._service.settings.lease
        while True:
            down_s = health.down_s
            try:
                await self._service.renew()
            except REDIS_FAILURES as exc:
                health.redis_failed(exc)
                heed_cancellation()
                await asyncio.sleep(random.uniform(*RESTART_S))  # noqa: S311 - jitter
                continue
            if down_s > lease_s / 2:
                await asyncio.sleep(lease_s / 2)
            return

    async def drain(self, grace_s: float) -> None:
        """Pick nothing more and wait until what runs has ended, *grace_s* at most."""
        worker = self._worker
        self._service.pump.is_stopping = True
        if worker is None:
            return
        worker.allow_pick_jobs = False
        if running := [task for task in worker.tasks.values() if not task.done()]:
            await asyncio.wait(running, timeout=grace_s)

    @staticmethod
    async def _close(worker: Worker, pool: ArqRedis) -> None:
        running = [task for task in worker.tasks.values() if not task.done()]
        await end_tasks(*running)
        with contextlib.suppress(*REDIS_FAILURES):
            async with asyncio.timeout(5):
                await pool.aclose()
