"""Run arq and, when it falls, run a fresh one: a stock worker ends at the first Redis error, a re-run one leaks slots."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import TYPE_CHECKING, Any, cast

from arq.connections import ArqRedis
from arq.worker import Worker, func
from redis.exceptions import ResponseError

from esa_preload.cancellation import end_tasks, heed_cancellation
from esa_preload.connection import connect
from esa_preload.errors import EsaPreloadError, QueueUnavailableError
from esa_preload.keys import Keys
from esa_preload.logs import get_logger
from esa_preload.outages import redis_errors
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
HEALTH_S = 5
"""arq writes as often: what it reads may come from a server that takes no writes."""
SUSPICION_S = 1.0
"""So often, at most, arq writes out of turn to find out why nothing of what is due could be begun."""


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


class HeedfulRedis(ArqRedis):
    """Ends a task that was asked to end while it talked to Redis, and did not hear it: arq's own loop never looks."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run a command as the base class does."""
        reply = await cast("Any", super()).execute_command(*args, **options)
        heed_cancellation()
        return reply


def arq_pool(settings: Settings) -> ArqRedis:
    """Return arq's own client: JSON for jobs, the queue of this namespace, wake-ups kept for a month."""
    pool = cast("ArqRedis", connect(settings.redis_url.get_secret_value(), redis_class=HeedfulRedis))
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
        "health_check_interval": HEALTH_S,
        "log_results": False,
    }


class PollingWorker(Worker):
    """An arq worker that tells the health of each of its polls, and begins nothing while the owners of batches renew."""

    def __init__(self, *, service: Service, **options: Any) -> None:
        super().__init__(**options)
        self._service = service

    async def start_jobs(self, job_ids: list[bytes]) -> None:
        """Begin what is due. When nothing could be begun, have arq write: it takes a refusal for another worker's turn."""
        if not job_ids:
            return
        await self._service.let_owners_renew()
        begun = len(self.tasks)
        await super().start_jobs(job_ids)
        is_stuck = len(self.tasks) == begun and self.job_counter < self.max_jobs
        if is_stuck and time.time() - self._last_health_check > SUSPICION_S:
            self._last_health_check = 0

    async def finish_job(self, *args: Any, **kwargs: Any) -> None:
        """Do what arq does after a job. It fails alone, and without a word: nothing waits for it when the worker ends meanwhile."""
        try:
            await super().finish_job(*args, **kwargs)
        except REDIS_FAILURES as exc:
            self._service.health.redis_failed(exc)

    async def finish_failed_job(self, *args: Any, **kwargs: Any) -> None:
        """As :meth:`finish_job`."""
        try:
            await super().finish_failed_job(*args, **kwargs)
        except REDIS_FAILURES as exc:
            self._service.health.redis_failed(exc)

    async def heart_beat(self) -> None:
        """Do what arq does at each poll, and note it; a fresh worker's first one writes."""
        heed_cancellation()
        wrote_at = self._last_health_check
        await super().heart_beat()
        health = self._service.health
        health.polled()
        has_asked = self.allow_pick_jobs and self.job_counter < self.max_jobs
        if has_asked or self._last_health_check != wrote_at:
            health.redis_answered("queue")


class Supervisor:
    """Keep one arq worker running; a new one, on a new pool, after whatever ended the last."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._worker: PollingWorker | None = None
        self._substitutes: set[asyncio.Task[int]] = set()

    async def run(self) -> None:
        """Run until cancelled."""
        try:
            while True:
                is_refused = await self._run_one()
                heed_cancellation()
                await asyncio.sleep(random.uniform(*RESTART_S))  # noqa: S311 - jitter
                await self._until_redis_is_back()
                if is_refused:
                    self._work_without_arq()
        finally:
            await end_tasks(*self._substitutes)

    async def _run_one(self) -> bool:
        """Run an arq worker to its end; returns whether Redis refused what it wrote."""
        health = self._service.health
        try:
            await self._run_arq()
        except REDIS_FAILURES as exc:
            health.redis_failed(exc, "queue")
            return isinstance(exc, ResponseError)
        except Exception:  # the outermost loop around arq: whatever ended it, a fresh one follows
            log.exception("worker.error", message="arq's worker ended; a fresh one follows")
        return False

    async def _run_arq(self) -> None:
        service, pool = self._service, arq_pool(self._service.settings)
        self._worker = worker = PollingWorker(
            service=service,
            redis_pool=pool,
            handle_signals=False,
            ctx=self._ctx,
            **worker_options(service.settings),
        )
        worker.allow_pick_jobs = not service.pump.is_stopping
        try:
            await worker.async_run()
        finally:
            await self._close(worker, pool)

    @property
    def _ctx(self) -> dict[Any, Any]:
        return {"pump": self._service.pump, "health": self._service.health}

    async def _until_redis_is_back(self) -> None:
        service = self._service
        while True:
            try:
                await service.renew()
                await service.let_owners_renew()
            except REDIS_FAILURES as exc:
                service.health.redis_failed(exc)
            else:
                return
            heed_cancellation()
            await asyncio.sleep(random.uniform(*RESTART_S))  # noqa: S311 - jitter

    def _work_without_arq(self) -> None:
        """Do what wake-ups ask for: with its memory full, Redis refuses arq's writes, not our scripts. Only work makes room."""
        self._substitutes = {task for task in self._substitutes if not task.done()}
        if not self._substitutes and not self._service.pump.is_stopping:
            slots = range(self._service.settings.max_jobs)
            self._substitutes = {asyncio.create_task(wake(self._ctx)) for _ in slots}

    async def drain(self, grace_s: float) -> None:
        """Pick nothing more and wait until what runs has ended, *grace_s* at most."""
        worker = self._worker
        self._service.pump.is_stopping = True
        running = {task for task in self._substitutes if not task.done()}
        if worker is not None:
            worker.allow_pick_jobs = False
            running |= {task for task in worker.tasks.values() if not task.done()}
        if running:
            await asyncio.wait(running, timeout=grace_s)

    @staticmethod
    async def _close(worker: Worker, pool: ArqRedis) -> None:
        # Also those that failed together with it: each would be logged.
        await end_tasks(*worker.tasks.values())
        with contextlib.suppress(*REDIS_FAILURES):
            async with asyncio.timeout(5):
                await pool.aclose()
