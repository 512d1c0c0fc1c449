"""Carry one claimed batch to ESA: look up or create its job, record it, create its plan. Decides nothing itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from esa_preload.logs import get_logger
from esa_preload.model import PACED_OPERATIONS
from esa_preload_worker import bulk_decisions, decisions
from esa_preload_worker.bulk import Bulks, ListKeeper
from esa_preload_worker.claims import LostClaim, Settlement, Watch
from esa_preload_worker.decisions import LIST_JOBS, LIST_PLANS
from esa_preload_worker.esa import EsaError, FailedFileError, Job, NotFoundError, UncertainError
from esa_preload_worker.leases import LostClaimError
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.oss_errors import OssError
from esa_preload_worker.turns import NotYet, Turns
from esa_preload_worker.watching import expected_end_ms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from typing import Protocol

    from esa_preload_worker.claims import Batch
    from esa_preload_worker.esa import PlanOrder, PlansCreated, PlanState, RefusedUrl
    from esa_preload_worker.esa.client import PageTurn
    from esa_preload_worker.leases import Leases
    from esa_preload_worker.ledger import WorkerLedger
    from esa_preload_worker.settings import Settings

    class Submits(Protocol):
        """Carries a batch as far as it goes now."""

        async def submit(self, batch: Batch) -> Submission: ...

    class Esa(Protocol):
        """What submitting needs of ESA; each method raises ``EsaError`` of the class that says what to do next."""

        @property
        def esa_ms(self) -> int | None: ...

        async def create_job(self, *, site_id: int, name: str, urls: Sequence[str]) -> Job: ...
        async def create_job_from_list(self, *, site_id: int, name: str, oss_url: str) -> Job: ...
        async def find_jobs(
            self, *, site_id: int, name: str, since_ms: int, until_ms: int, turn: PageTurn
        ) -> tuple[Job, ...]: ...
        async def delete_job(self, job_id: str) -> None: ...
        async def create_plans(self, job_id: str, plans: Sequence[PlanOrder]) -> PlansCreated: ...
        async def list_plans(self, job_id: str) -> tuple[PlanState, ...]: ...
        async def read_failed_file(
            self, url: str, *, among: Sequence[str] = ()
        ) -> tuple[RefusedUrl, ...]: ...


log = get_logger()

DELETE_JOB = "DeleteScheduledPreloadJob"
OPERATIONS = PACED_OPERATIONS

CLOCK_SLACK_MS = 60_000
"""How far ESA's clock and Redis's may disagree in the window in which a name is looked up."""

KNOWN_CLOCK_SLACK_MS = 3_000
"""The same once a reply has told ESA's time, which it does to the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """
    How an attempt came out: what to settle, and what it learnt for the log.

    Attributes:
        reconciled: adopted or recreated.
        ended: URLs of a bulk by how they ended, pack by pack, before the batch itself is settled.
    """

    settlement: Settlement
    job: Job | None = None
    plan_id: str = ""
    reconciled: str = ""
    error: EsaError | None = None
    ended: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """
    One attempt at a batch.

    Attributes:
        now_ms: the ledger's time, which goes on from the claim without asking; never slow.
    """

    batch: Batch
    turns: Turns
    now_ms: Callable[[], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """The job of a batch, how it was come by, and further jobs of its name, which nobody will plan."""

    job: Job
    reconciled: str = ""
    strays: tuple[Job, ...] = ()


class _Ends(Exception):  # noqa: N818 - a turn of events, not an error
    """The attempt ends here, before there is a job."""

    def __init__(self, settlement: Settlement, error: EsaError | None = None) -> None:
        super().__init__(settlement.outcome)
        self.settlement = settlement
        self.error = error


class _PlanError(Exception):
    """A call for the plan failed: *operation*, sent at *sent_ms*."""

    def __init__(self, error: EsaError, *, operation: str, sent_ms: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.operation = operation
        self.sent_ms = sent_ms


class Submitter:
    """
    Submit batches of one namespace.

    The jobs' names are ``<prefix>-<namespace>-<batch id>``: unique, and what an uncertain Create is looked up by.
    """

    def __init__(
        self,
        *,
        ledger: WorkerLedger,
        esa: Esa,
        leases: Leases,
        settings: Settings,
        lists: ListKeeper | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._esa = esa
        self._leases = leases
        self._settings = settings
        lists = lists or ListKeeper(settings, None)
        self._bulks = Bulks(ledger=ledger, leases=leases, settings=settings, lists=lists)
        self._clock = clock
        self._sleep = sleep
        self._timing = decisions.Timing.of(settings)
        self._name_prefix = f"{settings.job_name_prefix}-{settings.namespace}-"

    def job_name(self, batch: Batch) -> str:
        """Return the name of a batch's job."""
        return f"{self._name_prefix}{batch.batch_id}"

    async def submit(self, batch: Batch) -> Submission:
        """
        Take *batch* as far as it goes now.

        Raises:
            LostClaimError: the batch is another's; nothing may be settled.
        """
        turns = Turns(self._ledger, batch, clock=self._clock, sleep=self._sleep)
        attempt = _Attempt(batch=batch, turns=turns, now_ms=self._ledger_clock(batch))
        try:
            submission = await self._submit(attempt)
            if batch.bulk and submission.settlement.what == "end":
                submission = await self._end_packs(batch, submission)
        except LostClaimError:
            if calls := turns.drain():  # no settlement tells it
                await self._ledger.report(calls)
            raise
        settlement = replace(submission.settlement, calls=turns.drain(), kept=tuple(turns.kept))
        return replace(submission, settlement=settlement)

    async def _end_packs(self, batch: Batch, submission: Submission) -> Submission:
        settlement = submission.settlement
        is_at_esa = submission.job is not None and settlement.verdict in ("submitted", "unknown")
        ended = await self._bulks.end(batch, settlement, keeps_list=is_at_esa)
        return replace(submission, ended=ended)

    async def _submit(self, attempt: _Attempt) -> Submission:
        batch = attempt.batch
        if batch.state == "gathering":
            return Submission(settlement=await self._bulks.gather(batch))
        if batch.state == "returning":
            return Submission(settlement=bulk_decisions.put_back())
        try:
            found = await self._find_or_create(attempt)
        except NotYet as exc:
            return Submission(settlement=decisions.put_off(batch, exc.delay_ms))
        except _Ends as exc:
            return Submission(settlement=exc.settlement, error=exc.error)
        job = found.job
        judged = await self._judge(batch, job)
        submission = Submission(settlement=judged, job=job, reconciled=found.reconciled)
        is_for_nothing = job.url_submitted == 0 or judged.verdict == "pending"
        plan_follows = self._settings.plan and not is_for_nothing
        wait_ms, plan_sent_ms = 0, attempt.now_ms() if plan_follows else 0
        if batch.state != "created":
            wait_ms = await self._record(attempt, found, plan_sent_ms=plan_sent_ms)
        for stray in found.strays:
            await self._delete(attempt, stray.job_id)
        if is_for_nothing:
            await self._delete(attempt, job.job_id)
            return submission
        if not plan_follows:
            return replace(submission, settlement=replace(judged, planned=False))
        return await self._plan(attempt, submission, job, wait_ms=wait_ms, noted_ms=plan_sent_ms)

    async def _find_or_create(self, attempt: _Attempt) -> _Found:
        """
        Return the job of the batch.

        Raises:
            _Ends, NotYet: there is none, or nobody can know yet.
        """
        batch, turns = attempt.batch, attempt.turns
        if batch.state == "created":
            return _Found(job=_read_job(batch.job, batch, self.job_name(batch)))
        if batch.state == "sent":
            self._require_window(attempt)
            oss_url = await self._oss_url(batch)
            if attempt.now_ms() - batch.sent_ms > decisions.NOTE_HOLDS_MS:
                await turns.wait(CREATE_JOB, batch)  # it stood still: note anew that it is being sent
            self._leases.check(batch)
            return _Found(job=await self._create(attempt, oss_url))
        if jobs := await self._look_up(attempt):
            return _Found(job=jobs[0], reconciled="adopted", strays=jobs[1:])
        if not_known := decisions.not_found(batch, now_ms=batch.now_ms, timing=self._timing):
            raise _Ends(not_known)
        self._require_window(attempt)
        oss_url = await self._oss_url(batch)
        await turns.wait(CREATE_JOB, batch)
        self._leases.check(batch)
        return _Found(job=await self._create(attempt, oss_url), reconciled="recreated")

    @staticmethod
    def _require_window(attempt: _Attempt) -> None:
        if decisions.has_window_passed(attempt.batch, attempt.now_ms()):
            raise _Ends(decisions.too_late())

    async def _look_up(self, attempt: _Attempt) -> tuple[Job, ...]:
        batch, esa_ms = attempt.batch, self._esa.esa_ms
        slack_ms = CLOCK_SLACK_MS if esa_ms is None else KNOWN_CLOCK_SLACK_MS
        offset_ms = 0 if esa_ms is None else esa_ms - attempt.now_ms()
        # Made until then, or never: a narrow window that does not move is soon read.
        last_ms = min(batch.now_ms, batch.sent_ms + round(self._settings.call_timeout * 1000))
        try:
            return await self._esa.find_jobs(
                site_id=batch.site_id,
                name=self.job_name(batch),
                since_ms=batch.first_sent_ms + offset_ms - slack_ms,
                until_ms=last_ms + offset_ms + slack_ms,
                turn=attempt.turns.each(LIST_JOBS),
            )
        except EsaError as exc:
            raise _Ends(decisions.after_look_up_error(batch, exc, timing=self._timing), exc) from exc

    async def _oss_url(self, batch: Batch) -> str:
        """Return from where ESA reads the URLs of *batch*; empty when it is given them."""
        if batch.bulk is None:
            return batch.urls[0] if batch.is_list else ""
        try:
            return await self._bulks.lists.link(batch)
        except OssError as exc:
            raise _Ends(bulk_decisions.after_list_error(exc)) from exc

    async def _create(self, attempt: _Attempt, oss_url: str) -> Job:
        batch = attempt.batch
        name = self.job_name(batch)
        try:
            with attempt.turns.call(CREATE_JOB):
                if oss_url:
                    return await self._esa.create_job_from_list(
                        site_id=batch.site_id, name=name, oss_url=oss_url
                    )
                return await self._esa.create_job(site_id=batch.site_id, name=name, urls=batch.urls)
        except EsaError as exc:
            settlement = decisions.after_create_error(batch, exc, timing=self._timing)
            if batch.bulk:
                settlement = bulk_decisions.after_create_error(
                    batch.bulk, exc, otherwise=settlement, timing=self._timing
                )
            raise _Ends(settlement, exc) from exc

    async def _judge(self, batch: Batch, job: Job) -> Settlement:
        refused: tuple[RefusedUrl, ...] | None = None
        urls: Sequence[str] = batch.urls
        if decisions.needs_failed_file(job):
            if batch.bulk:  # else they are not needed
                urls = await self._bulks.urls(batch)
            with contextlib.suppress(FailedFileError):
                refused = await self._esa.read_failed_file(job.failed_file_url, among=urls)
        if batch.bulk:
            return bulk_decisions.judge(batch.bulk, urls, job, refused, self._timing)
        return decisions.judge(batch, job, refused, self._timing)

    async def _record(self, attempt: _Attempt, found: _Found, *, plan_sent_ms: int) -> int:
        """Put the job on record; returns the ms to wait before its plan, which *plan_sent_ms* announces."""
        batch, turns, job = attempt.batch, attempt.turns, found.job
        calls = turns.drain()
        recorded = await self._ledger.record_job(
            batch,
            job_id=job.job_id,
            job=_write_job(job, plan_sent_ms=plan_sent_ms),
            plan_follows=plan_sent_ms > 0,
            calls=calls,
        )
        if isinstance(recorded, LostClaim):
            turns.take_back(calls)
            if found.reconciled != "adopted":
                await self._come_second(attempt, job, recorded.job_id)
            raise LostClaimError(batch.batch_id)
        if plan_sent_ms and not recorded.wait_ms:
            turns.came(CREATE_PLANS, recorded)
        return recorded.wait_ms

    async def _come_second(self, attempt: _Attempt, job: Job, on_record: str) -> None:
        """
        Delete a job that we made and that is not the batch's, which gets no plan.

        While the batch has no job, this one is left to whoever looks for its name.
        """
        batch = attempt.batch
        if not on_record:
            # Whoever has the batch may just be finding this very job by its name, or has found, planned and settled it.
            await self._sleep(self._settings.list_lag + decisions.LOOK_UP_EVERY_MS / 1000)
            recorded = await self._ledger.record_job(
                batch, job_id=job.job_id, job=_write_job(job), plan_follows=False
            )
            if not isinstance(recorded, LostClaim):
                return
            on_record = recorded.job_id
            if not on_record and (recorded.is_alive or await self._may_be_planned(attempt.turns, job)):
                self._keep(batch, job.job_id, "not_judged")
                return
        if on_record != job.job_id:
            await self._delete(attempt, job.job_id, is_ours=False)

    async def _may_be_planned(self, turns: Turns, job: Job) -> bool:
        try:
            await turns.wait(LIST_PLANS)
            with turns.call(LIST_PLANS):
                return bool(await self._esa.list_plans(job.job_id))
        except (NotYet, EsaError):
            return True

    async def _plan(
        self, attempt: _Attempt, submission: Submission, job: Job, *, wait_ms: int, noted_ms: int
    ) -> Submission:
        """Give *job* its plan: its turn comes in *wait_ms*, and the note that it is being sent is of *noted_ms*."""
        batch = attempt.batch
        try:
            # Somebody may have come as far as the plan before, and Redis may have forgotten it.
            may_have_one = batch.state == "created" or submission.reconciled == "adopted"
            if may_have_one and (known := await self._find_plan(attempt, submission, job)):
                return known
            if decisions.has_window_passed(batch, attempt.now_ms()):
                late = decisions.too_late_to_plan(submission.settlement)
                return await self._drop_unplanned(attempt, replace(submission, settlement=late))
            if batch.state == "created" or wait_ms:
                await attempt.turns.wait(CREATE_PLANS, first_wait_ms=wait_ms)
                noted_ms = 0
            await self._hold_note(attempt, job, noted_ms)
            return await self._create_plan(attempt, submission, job)
        except NotYet as exc:
            if batch.state != "created":
                await self._note_plan(batch, job, 0)
            settlement = Settlement(what="defer", outcome="deferred", state="created", delay_ms=exc.delay_ms)
            return replace(submission, settlement=settlement)
        except _PlanError as exc:
            return await self._fail_plan(attempt, submission, job, exc)

    async def _find_plan(self, attempt: _Attempt, submission: Submission, job: Job) -> Submission | None:
        """Look for a plan that *job* has; ``None``: it surely has none."""
        batch = attempt.batch
        await attempt.turns.wait(LIST_PLANS)
        sent_ms = attempt.now_ms()
        try:
            with attempt.turns.call(LIST_PLANS):
                plans = await self._esa.list_plans(job.job_id)
        except EsaError as exc:
            raise _PlanError(exc, operation=LIST_PLANS, sent_ms=sent_ms) from exc
        if plan := _live(plans):
            return self._planned(batch, submission, job, plan.plan_id, attempt.now_ms())
        before_ms = int(batch.job.get("plan_sent_ms", 0))
        if later := decisions.no_plan_listed(before_ms, now_ms=batch.now_ms, timing=self._timing):
            return replace(submission, settlement=later)
        return None

    async def _hold_note(self, attempt: _Attempt, job: Job, noted_ms: int) -> None:
        """
        See to it that the note of *noted_ms* that the plan is being sent is recent: whoever takes the batch over counts from it.

        This process may have stood still, or Redis; a slow Redis is allowed for.
        """
        took_ms = 0
        while attempt.now_ms() - noted_ms > decisions.NOTE_HOLDS_MS:
            begun_ms = attempt.now_ms()
            noted_ms = begun_ms + took_ms
            await self._note_plan(attempt.batch, job, noted_ms)
            took_ms = attempt.now_ms() - begun_ms

    async def _create_plan(self, attempt: _Attempt, submission: Submission, job: Job) -> Submission:
        batch, sent_ms = attempt.batch, attempt.now_ms()
        self._leases.check(batch)
        order = decisions.order_plan(batch.lane, job.url_submitted, self._settings, decisions.moment(sent_ms))
        try:
            with attempt.turns.call(CREATE_PLANS):
                made = await self._esa.create_plans(job.job_id, [order])
        except EsaError as exc:
            raise _PlanError(exc, operation=CREATE_PLANS, sent_ms=sent_ms) from exc
        if made.created:
            return self._planned(batch, submission, job, made.created[0].plan_id, sent_ms)
        refusal = decisions.refused_plan(made)
        failed = decisions.plan_failed(batch, submission.settlement, refusal.code)
        return await self._drop_unplanned(attempt, replace(submission, settlement=failed, error=refusal))

    async def _fail_plan(
        self, attempt: _Attempt, submission: Submission, job: Job, failed: _PlanError
    ) -> Submission:
        batch = attempt.batch
        settlement = decisions.after_plan_error(
            batch,
            failed.error,
            judged=submission.settlement,
            operation=failed.operation,
            sent_ms=failed.sent_ms,
            timing=self._timing,
        )
        was_sent = failed.operation == CREATE_PLANS
        was_noted = was_sent or batch.state != "created"
        may_be_made = was_sent and isinstance(failed.error, UncertainError)
        if settlement.what == "defer" and was_noted and not may_be_made:
            await self._note_plan(batch, job, 0)
        return await self._drop_unplanned(
            attempt, replace(submission, settlement=settlement, error=failed.error)
        )

    def _planned(
        self, batch: Batch, submission: Submission, job: Job, plan_id: str, now_ms: int
    ) -> Submission:
        """The job has its plan: it is to be followed."""
        order = decisions.order_plan(batch.lane, job.url_submitted, self._settings, decisions.moment(now_ms))
        starts_ms, done_ms = expected_end_ms(order, job.url_submitted, now_ms)
        watch = Watch(job_id=job.job_id, plan_id=plan_id, starts_ms=starts_ms, done_ms=done_ms)
        return replace(submission, plan_id=plan_id, settlement=replace(submission.settlement, watch=watch))

    async def _note_plan(self, batch: Batch, job: Job, plan_sent_ms: int) -> None:
        """Put on record that the plan is being sent, or, with 0, that it surely was not: the next one need not wait for it."""
        stored = _write_job(job, plan_sent_ms=plan_sent_ms)
        recorded = await self._ledger.record_job(batch, job_id=job.job_id, job=stored, plan_follows=False)
        if isinstance(recorded, LostClaim):
            raise LostClaimError(batch.batch_id)

    async def _drop_unplanned(self, attempt: _Attempt, submission: Submission) -> Submission:
        """Delete the job when its URLs end without it."""
        if submission.settlement.what == "end" and submission.job is not None:
            await self._delete(attempt, submission.job.job_id)
        return submission

    async def _delete(self, attempt: _Attempt, job_id: str, *, is_ours: bool = True) -> None:
        """
        Delete a job that will never be planned; it stays, unplanned, when it can't be deleted now.

        Raises:
            LostClaimError: the batch *is ours* no more: whoever has it may have planned the job.
        """
        batch, turns = attempt.batch, attempt.turns
        try:
            await turns.wait(DELETE_JOB, batch if is_ours else None)
            if is_ours:
                self._leases.check(batch)
            with turns.call(DELETE_JOB):
                await self._esa.delete_job(job_id)
        except NotFoundError:
            return
        except (NotYet, EsaError) as exc:
            self._keep(batch, job_id, exc.code if isinstance(exc, EsaError) else "paced")
            turns.kept.append(job_id)
        else:
            log.info(
                "job.deleted",
                job_id=job_id,
                site_id=batch.site_id,
                batch_id=batch.batch_id,
                why="unplanned",
            )

    def _keep(self, batch: Batch, job_id: str, code: str) -> None:
        """Say that a job stays behind, which nobody plans unless it is found by its name."""
        log.warning("job.kept", job_id=job_id, site_id=batch.site_id, batch_id=batch.batch_id, code=code)

    def _ledger_clock(self, batch: Batch) -> Callable[[], int]:
        since = self._leases.claimed_at(batch)
        return lambda: batch.now_ms + round((self._clock() - since) * 1000)


def _live(plans: Sequence[PlanState]) -> PlanState | None:
    return next((plan for plan in plans if plan.status != "failed"), None)


_STORED = tuple(field.name for field in fields(Job) if field.name not in ("created_at", "name", "site_id"))
"""What of a job the ledger keeps."""


def _write_job(job: Job, *, plan_sent_ms: int = 0) -> dict[str, Any]:
    stored = {name: getattr(job, name) for name in _STORED}
    return stored | ({"plan_sent_ms": plan_sent_ms} if plan_sent_ms else {})


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
