"""Carry one claimed batch to ESA: look up or create its job, record it, create its plan. Decides nothing itself."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from esa_preload_worker import decisions
from esa_preload_worker.esa import (
    EsaError,
    FailedFileError,
    Job,
    NotFoundError,
    PlanState,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.leases import LostClaimError
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS, LostClaim, Settlement

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from typing import Protocol

    from esa_preload_worker.esa import PlanOrder, PlansCreated, RefusedUrl
    from esa_preload_worker.leases import Leases
    from esa_preload_worker.ledger import Batch, WorkerLedger
    from esa_preload_worker.settings import Settings

    class Esa(Protocol):
        """What submitting needs of ESA; each method raises ``EsaError`` of the class that says what to do next."""

        @property
        def clock_offset_s(self) -> float: ...

        async def create_job(self, *, site_id: int, name: str, urls: Sequence[str]) -> Job: ...
        async def create_job_from_list(self, *, site_id: int, name: str, oss_url: str) -> Job: ...
        async def find_jobs(
            self, *, site_id: int, name: str, since_ms: int, until_ms: int
        ) -> tuple[Job, ...]: ...
        async def delete_job(self, job_id: str) -> None: ...
        async def create_plans(self, job_id: str, plans: Sequence[PlanOrder]) -> PlansCreated: ...
        async def list_plans(self, job_id: str) -> tuple[PlanState, ...]: ...
        async def delete_plan(self, plan_id: str) -> None: ...
        async def read_failed_file(
            self, url: str, *, among: Sequence[str] = ()
        ) -> tuple[RefusedUrl, ...]: ...


LIST_JOBS = "ListScheduledPreloadJobs"
LIST_PLANS = "ListScheduledPreloadExecutions"
DELETE_JOB = "DeleteScheduledPreloadJob"
OPERATIONS = (CREATE_JOB, CREATE_PLANS, LIST_JOBS, LIST_PLANS, DELETE_JOB)

STAY_MS = 1_000
"""Longest wait for a call's turn in an arq slot; beyond it the batch is put off."""

CLOCK_SLACK_MS = 60_000
"""How far ESA's clock and Redis's may disagree in the window in which a name is looked up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """How an attempt came out: what to settle, and what it learnt for the log. ``reconciled``: adopted or recreated."""

    settlement: Settlement
    job: Job | None = None
    plan_id: str = ""
    reconciled: str = ""
    error: EsaError | None = None
    deleted_jobs: tuple[str, ...] = ()


class _NotYet(Exception):  # noqa: N818 - a turn of events, not an error
    def __init__(self, delay_ms: int) -> None:
        super().__init__(delay_ms)
        self.delay_ms = delay_ms


class Submitter:
    """
    Submit batches of one namespace.

    Args:
        name_prefix: of the jobs' names; a batch's id follows.
    """

    def __init__(self, *, ledger: WorkerLedger, esa: Esa, leases: Leases, settings: Settings) -> None:
        self._ledger = ledger
        self._esa = esa
        self._leases = leases
        self._settings = settings
        self._timing = decisions.Timing.of(settings)
        self._name_prefix = f"{settings.job_name_prefix}-{settings.namespace}-"

    def job_name(self, batch: Batch) -> str:
        """Return the name of a batch's job: unique, and what an uncertain Create is looked up by."""
        return f"{self._name_prefix}{batch.batch_id}"

    async def submit(self, batch: Batch) -> Submission:
        """
        Take *batch* as far as it goes now.

        Raises:
            LostClaimError: the batch is another's; nothing may be settled.
        """
        begun = time.monotonic()
        try:
            job, reconciled = await self._job_of(batch)
        except _NotYet as exc:
            return Submission(settlement=decisions.put_off(batch, exc.delay_ms))
        except EsaError as exc:
            return Submission(settlement=self._after_create(batch, exc), error=exc)
        if job is None:
            again = Settlement(
                what="defer", outcome="uncertain", state="uncertain", delay_ms=decisions.LOOK_UP_EVERY_MS
            )
            return Submission(settlement=again)
        verdict = await self._judge(batch, job)
        plan_follows = self._settings.plan and job.url_submitted > 0
        plan_wait_ms = 0
        if batch.state != "created":
            plan_wait_ms = await self._record(
                batch, job, is_ours=reconciled != "adopted", plan_follows=plan_follows
            )
        submission = Submission(settlement=verdict, job=job, reconciled=reconciled)
        if job.url_submitted == 0:
            return replace(submission, deleted_jobs=await self._delete(job.job_id))
        if not plan_follows:
            return submission
        now = decisions.moment(batch.now_ms + round((time.monotonic() - begun) * 1000))
        return await self._plan(batch, submission, plan_wait_ms, now)

    def _after_create(self, batch: Batch, error: EsaError) -> Settlement:
        if batch.state == "uncertain" and not isinstance(error, _CreateError):
            # It was the look-up that failed: what Create did is still not known.
            delay_ms = decisions.LOOK_UP_EVERY_MS
            return Settlement(what="defer", outcome="uncertain", state="uncertain", delay_ms=delay_ms)
        cause = error.cause if isinstance(error, _CreateError) else error
        return decisions.after_create_error(batch, cause)

    async def _job_of(self, batch: Batch) -> tuple[Job | None, str]:
        """Return the job of *batch* and how it was come by; ``None`` while nobody can know whether there is one."""
        if batch.state == "created":
            return _read_job(batch.job, batch, self.job_name(batch)), ""
        if batch.state == "sent":
            self._leases.check(batch)
            return await self._create(batch), ""
        await self._turn(LIST_JOBS)
        offset_ms = round(self._esa.clock_offset_s * 1000)
        found = await self._esa.find_jobs(
            site_id=batch.site_id,
            name=self.job_name(batch),
            since_ms=batch.first_sent_ms + offset_ms - CLOCK_SLACK_MS,
            until_ms=batch.now_ms + offset_ms + CLOCK_SLACK_MS,
        )
        if found:
            return found[0], "adopted"
        if batch.now_ms < decisions.surely_absent_at_ms(batch, self._timing):
            return None, ""
        await self._turn(CREATE_JOB, batch)
        self._leases.check(batch)
        return await self._create(batch), "recreated"

    async def _create(self, batch: Batch) -> Job:
        try:
            name = self.job_name(batch)
            if batch.is_list:
                return await self._esa.create_job_from_list(
                    site_id=batch.site_id, name=name, oss_url=batch.urls[0]
                )
            return await self._esa.create_job(site_id=batch.site_id, name=name, urls=batch.urls)
        except EsaError as exc:
            if batch.state == "uncertain":
                raise _CreateError(exc) from exc
            raise

    async def _judge(self, batch: Batch, job: Job) -> Settlement:
        refused: tuple[RefusedUrl, ...] | None = None
        if decisions.needs_failed_file(job):
            try:
                refused = await self._esa.read_failed_file(job.failed_file_url, among=batch.urls)
            except FailedFileError:
                refused = None
        return decisions.judge(batch, job, refused, self._timing)

    async def _record(self, batch: Batch, job: Job, *, is_ours: bool, plan_follows: bool) -> int:
        recorded = await self._ledger.record_job(
            batch, job_id=job.job_id, job=_write_job(job), plan_follows=plan_follows
        )
        if isinstance(recorded, LostClaim):
            if is_ours and recorded.job_id != job.job_id:
                await self._delete(job.job_id)  # it came second: no plan for it
            raise LostClaimError(batch.batch_id)
        return recorded

    async def _plan(self, batch: Batch, submission: Submission, wait_ms: int, now: datetime) -> Submission:
        job = submission.job
        assert job is not None  # noqa: S101 - for the type checker: a plan follows a job
        try:
            if batch.state == "created":
                # Somebody may have come as far as the plan before.
                await self._turn(LIST_PLANS)
                for plan in await self._esa.list_plans(job.job_id):
                    if plan.status != "failed":
                        return replace(submission, plan_id=plan.plan_id)
                await self._turn(CREATE_PLANS)
            elif wait_ms:
                await self._turn(CREATE_PLANS, first_wait_ms=wait_ms)
            self._leases.check(batch)
            order = decisions.order_plan(batch.lane, job.url_submitted, self._settings, now)
            made = await self._esa.create_plans(job.job_id, [order])
        except _NotYet as exc:
            settlement = Settlement(what="defer", outcome="deferred", state="created", delay_ms=exc.delay_ms)
            return replace(submission, settlement=settlement)
        except EsaError as exc:
            sent_ms = round(now.timestamp() * 1000)
            settlement = decisions.after_plan_error(batch, exc, sent_ms=sent_ms, timing=self._timing)
            failed = replace(submission, settlement=settlement, error=exc)
            return await self._drop_unplanned(failed)
        if made.created:
            return replace(submission, plan_id=made.created[0].plan_id)
        message = "; ".join(made.failed_messages)[:200]
        return await self._drop_unplanned(
            replace(submission, settlement=decisions.plan_failed(message or "FailedExecutions"))
        )

    async def _drop_unplanned(self, submission: Submission) -> Submission:
        """Delete the job when its URLs end without it."""
        if submission.settlement.what != "end" or submission.job is None:
            return submission
        return replace(submission, deleted_jobs=await self._delete(submission.job.job_id))

    async def _delete(self, job_id: str) -> tuple[str, ...]:
        """Delete a job of ours that will never be planned; left for the clean-up of finished jobs when it can't be now."""
        try:
            await self._turn(DELETE_JOB)
            await self._esa.delete_job(job_id)
        except NotFoundError:
            pass
        except (_NotYet, EsaError):
            return ()
        return (job_id,)

    async def _turn(self, operation: str, batch: Batch | None = None, *, first_wait_ms: int = 0) -> None:
        """Wait for a call of *operation*, not longer than ``STAY_MS``."""
        wait_ms = first_wait_ms
        until = time.monotonic() + STAY_MS / 1000
        while True:
            if wait_ms:
                if time.monotonic() + wait_ms / 1000 > until:
                    raise _NotYet(wait_ms)
                await asyncio.sleep(wait_ms / 1000)
            paced = await self._ledger.pace(operation, batch)
            if isinstance(paced, LostClaim):
                raise LostClaimError(operation)
            if not paced:
                return
            wait_ms = paced


class _CreateError(EsaError):
    """What a second Create came to, kept apart from what the look-up before it came to."""

    def __init__(self, cause: EsaError) -> None:
        super().__init__(
            str(cause), code=cause.code, http_status=cause.http_status, esa_request_id=cause.esa_request_id
        )
        self.cause = cause


def is_throttle(error: EsaError | None) -> bool:
    """Tell whether *error* says that ESA throttled us."""
    return isinstance(error.cause if isinstance(error, _CreateError) else error, ThrottledError)


def is_uncertain(error: EsaError | None) -> bool:
    """Tell whether *error* leaves the outcome open."""
    return isinstance(error.cause if isinstance(error, _CreateError) else error, UncertainError)


def _write_job(job: Job) -> dict[str, Any]:
    return {
        name: value for name, value in asdict(job).items() if name not in ("created_at", "name", "site_id")
    }


def _read_job(stored: Mapping[str, Any], batch: Batch, name: str) -> Job:
    return Job(
        job_id=str(stored["job_id"]),
        site_id=batch.site_id,
        name=name,
        url_count=int(stored["url_count"]),
        url_submitted=int(stored["url_submitted"]),
        task_submitted=int(stored["task_submitted"]),
        error_info=str(stored.get("error_info", "")),
        failed_file_url=str(stored.get("failed_file_url", "")),
        esa_request_id=str(stored.get("esa_request_id", "")),
    )
