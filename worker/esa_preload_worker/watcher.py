"""Follow the plans of the jobs on record, and delete those whose plans are over and whose retention is. Decides nothing itself."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from esa_preload.logs import get_logger
from esa_preload_worker import watching
from esa_preload_worker.bulk import ListKeeper
from esa_preload_worker.claims import Turn
from esa_preload_worker.decisions import LIST_PLANS
from esa_preload_worker.esa import (
    PASSING_ERRORS,
    EsaError,
    NotFoundError,
    ThrottledError,
)
from esa_preload_worker.submit import DELETE_JOB
from esa_preload_worker.turns import NotYet, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import Protocol

    from esa_preload_worker.claims import WatchedJob
    from esa_preload_worker.esa import PlanState
    from esa_preload_worker.ledger import WorkerLedger
    from esa_preload_worker.metrics import Metrics
    from esa_preload_worker.settings import Settings
    from esa_preload_worker.watching import Look

    class Esa(Protocol):
        """What watching needs of ESA."""

        async def list_plans(self, job_id: str) -> tuple[PlanState, ...]: ...
        async def delete_job(self, job_id: str) -> None: ...


log = get_logger()

POLL_MS = 1_000
"""Whether there is something to look at is asked so often: a job may have been put on record since."""
FRESH_S = 3.0
"""A job is deleted within so long of the list of its plans; else it is listed again first."""


class Watcher:
    """
    Look at one job after the other, as the ledger hands them out.

    Only jobs on record there are looked at, and so deleted: ours by name and namespace, whose batch was settled. Right before a
    deletion the job's plans were listed, and had all ended.
    """

    def __init__(
        self,
        *,
        ledger: WorkerLedger,
        esa: Esa,
        settings: Settings,
        metrics: Metrics,
        lists: ListKeeper | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._esa = esa
        self._retention_ms = round(settings.job_retention * 1000)
        self._metrics = metrics
        self._lists = lists or ListKeeper(settings, None)
        self._clock = clock
        self._sleep = sleep
        self._troubles: set[str] = set()
        self.pause_s = POLL_MS / 1000

    async def step(self) -> None:
        """Look at one job, if one is due; ``pause_s`` tells when to call again."""
        self.pause_s = POLL_MS / 1000
        found = await self._ledger.visit(token=secrets.token_hex(8))
        if isinstance(found, int):
            self.pause_s = min(found, POLL_MS) / 1000
        else:
            await self._visit(found)
            self.pause_s = 0.0

    async def _visit(self, job: WatchedJob) -> None:
        turns = Turns(self._ledger, clock=self._clock, sleep=self._sleep)
        turns.came(LIST_PLANS, Turn(sent_ms=job.now_ms))
        begun = self._clock()
        plans: Sequence[PlanState] | None = None
        try:
            with turns.call(LIST_PLANS):
                plans = await self._esa.list_plans(job.job_id)
        except NotFoundError:
            pass
        except EsaError as exc:
            self._tell_trouble(job, LIST_PLANS, exc)
            await self._end(job, turns, watching.nothing_new(job, exc), is_told=_says(exc))
            return
        self._troubles.discard(LIST_PLANS)
        listed = self._clock()
        now_ms = job.now_ms + round((listed - begun) * 1000)
        look = watching.judge(job, plans, now_ms=now_ms, retention_ms=self._retention_ms)
        # Counted before the job is deleted: should this worker die in between, the next look finds no job, and nothing to count.
        counted = replace(look, then=watching.AGAIN_MS) if look.deletes else look
        if await self._end(job, turns, counted):
            self._tell(job, look)
            if look.deletes:
                await self._delete(job, look, turns, listed)

    async def _delete(self, job: WatchedJob, look: Look, turns: Turns, listed: float) -> None:
        """Delete a job whose plans were listed at *listed*; it stays for another visit when that can't be done now."""
        try:
            await turns.wait(DELETE_JOB)
            if self._clock() - listed > FRESH_S:  # it stood still: somebody may have added a plan
                raise NotYet(0)
            with turns.call(DELETE_JOB):
                await self._esa.delete_job(job.job_id)
        except NotFoundError:
            pass
        except (NotYet, EsaError) as exc:
            later = exc.delay_ms if isinstance(exc, NotYet) else watching.retry_later(job, exc)
            if isinstance(exc, EsaError):
                self._tell_trouble(job, DELETE_JOB, exc)
            await self._end(job, turns, replace(look, then=later), is_told=_says(exc))
            return
        self._troubles.discard(DELETE_JOB)
        log.info("job.deleted", job_id=job.job_id, site_id=job.site_id, batch_id=job.batch_id, why=look.state)
        self._metrics.jobs_deleted.labels(self._metrics.site_label(job.site_id)).inc()
        await self._end(job, turns, replace(look, then="gone"))

    async def _end(self, job: WatchedJob, turns: Turns, look: Look, *, is_told: bool = True) -> bool:
        calls = turns.drain()
        for call in calls:
            if call.outcome == "throttled":
                self._metrics.throttled.labels(call.operation).inc()
        looks = job.looks + is_told
        if job.is_bulk and look.then in ("gone", "left"):
            # Before the job is forgotten: nobody else would know of it.
            await self._lists.drop(job.batch_id, job.site_id)
        return await self._ledger.visited(
            job,
            state=look.state,
            then=look.then,
            ended_ms=look.ended_ms,
            others=look.others,
            looks=looks,
            calls=calls,
        )

    def _tell(self, job: WatchedJob, look: Look) -> None:
        """Say and count how the plan ended, once."""
        if look.state != job.state and look.state in watching.ENDED:
            self._metrics.plans_ended.labels(look.state).inc()
        if look.why:
            log.warning(
                "plan.failed",
                site_id=job.site_id,
                batch_id=job.batch_id,
                job_id=job.job_id,
                plan_id=job.plan_id,
                url_count=job.urls,
                reason=look.why,
            )
        if look.then == "left":
            self._keep(job, "still_planned")

    def _tell_trouble(self, job: WatchedJob, operation: str, error: EsaError) -> None:
        """Say that *operation* fails for good, once until it succeeds: it concerns every job."""
        if operation in self._troubles or isinstance(error, PASSING_ERRORS):
            return
        self._troubles.add(operation)
        if operation == DELETE_JOB:
            self._keep(job, error.code)
            return
        log.warning(
            "worker.warning",
            message="the plans of our jobs cannot be listed: they stay warming, and their jobs are kept",
            code=error.code,
            hint=error.hint,
            site_id=job.site_id,
            job_id=job.job_id,
        )

    def _keep(self, job: WatchedJob, code: str) -> None:
        log.warning("job.kept", job_id=job.job_id, site_id=job.site_id, batch_id=job.batch_id, code=code)


def _says(error: Exception) -> bool:
    """Tell whether *error* counts as a look: throttling costs no attempt."""
    return not isinstance(error, ThrottledError | NotYet)
