"""What follows from what ESA said. Pure: a reply or an error goes in, a settlement comes out."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from esa_preload.model import Plan
from esa_preload_worker.block_reasons import is_quota
from esa_preload_worker.claims import Block, Call, Exemption, Settlement, SiteWait
from esa_preload_worker.esa import (
    BlockedError,
    EsaError,
    Job,
    JobCapError,
    NotFoundError,
    NotSentError,
    PlanOrder,
    RefusedError,
    RefusedUrl,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.ledger import CREATE_JOB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esa_preload_worker.claims import Batch, CallOutcome, Verdict
    from esa_preload_worker.esa import PlansCreated
    from esa_preload_worker.settings import Settings

LIST_JOBS = "ListScheduledPreloadJobs"
LIST_PLANS = "ListScheduledPreloadExecutions"

REASONS = {
    "InvalidUrl": "invalid_url",
    "InvalidDomain": "invalid_domain",
    "QuotaExcess": "quota_excess",
    "OtherErrors": "other_errors",
}
"""ESA's kinds of refusal as our reasons."""

REFUSAL_REASONS = (*REASONS.values(), "plan_failed", "too_large", "refused")
"""Every reason for which a URL may end as refused: a closed set, for labels."""

UNKNOWN_REASON = "list_unreadable"
WINDOW_PASSED = "window_passed"
"""The reason of a URL that expired because the end of its plan came before its job was planned."""

FAILED_PLAN = "FailedExecutions"

LIST_FAILED_MAX = 1_000
"""As many refused URLs of a list in OSS are kept by name; all are counted."""

LOOK_UP_EVERY_MS = 1_000
"""How often an uncertain batch is looked up by name until it is found, or surely does not exist."""

REQUEST_HINT = "ESA refuses the request itself: look the code up, and see the log line of the batch"
BUSY_MS = 2_000
JOB_CAP_MS = 60_000
NOTE_HOLDS_MS = 250
"""A call is sent within this long of the note that it is being sent; else the note is renewed first."""
LIST_PLANS_EVERY_MS = 1_000
"""How often the plans of a job are listed until the plan is found, or surely does not exist."""
PATIENT_ATTEMPTS = 20
"""Look-ups that fail are repeated every second so often, since an outage may be short; then twice as rarely each time."""
RARELY_MS = 60_000

_PLAN_SPARE_S = 3_600
"""A default plan ends this long after it should be done: what ESA does with URLs left over at the end is not documented."""
_PLAN_MAX_S = 10 * 366 * 86_400
_LAST = datetime(9999, 12, 31, tzinfo=UTC)
"""No plan ends later: an interval of 2**31 s must not reach beyond what a date can hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """The times that decide, in ms: how long a call may take, how long a new job may stay unlisted, a quota's pause."""

    call_timeout_ms: int
    list_lag_ms: int
    quota_retry_after_ms: int

    @classmethod
    def of(cls, settings: Settings) -> Timing:
        """Return those of *settings*."""
        return cls(
            call_timeout_ms=round(settings.call_timeout * 1000),
            list_lag_ms=round(settings.list_lag * 1000),
            quota_retry_after_ms=round(settings.quota_retry_after * 1000),
        )


def surely_absent_at_ms(batch: Batch, timing: Timing) -> int:
    """Return the moment from which a job that is not listed does not exist."""
    return absent_from_ms(batch.sent_ms, timing)


def absent_from_ms(sent_ms: int, timing: Timing) -> int:
    """Return the moment from which what a call of *sent_ms* may have made does not exist unless it is listed."""
    return sent_ms + NOTE_HOLDS_MS + timing.call_timeout_ms + timing.list_lag_ms


def order_plan(lane: str, url_count: int, settings: Settings, now: datetime) -> PlanOrder:
    """
    Return the plan of a batch of *lane*.

    A start that has passed becomes *now*. Without an end of its own it ends when all slices should be done, and an hour. In a
    window of its own the slices are made as large, or else as frequent, as it takes; what the request fixed stays.
    """
    plan = Plan.from_lane_key(lane)
    start = max(plan.start or now, now)
    interval_s = plan.interval_s or settings.plan_interval
    slice_len = plan.slice_len or settings.plan_slice
    if plan.end is not None:
        window_s = max(1, math.floor((plan.end - start).total_seconds()))
        if plan.slice_len is None:
            slice_len = max(slice_len, math.ceil(url_count / max(1, window_s // interval_s)))
        elif plan.interval_s is None:
            interval_s = max(1, min(interval_s, window_s // math.ceil(max(1, url_count) / slice_len)))
    needed_s = math.ceil(url_count / slice_len) * interval_s + _PLAN_SPARE_S
    end = plan.end or start + min(
        timedelta(seconds=min(needed_s, _PLAN_MAX_S)), max(_LAST - start, timedelta())
    )
    return PlanOrder(start=start, end=end, interval_s=interval_s, slice_len=slice_len)


def has_window_passed(batch: Batch, now_ms: int) -> bool:
    """Tell whether the plan of *batch* has ended: nothing of it would ever be fetched."""
    end = Plan.from_lane_key(batch.lane).end
    return end is not None and end <= moment(now_ms)


def too_late() -> Settlement:
    """Return what becomes of a batch whose window passed while there was no job: its URLs end as expired, nothing is sent."""
    return Settlement(what="end", outcome="expired", verdict="expired", reason=WINDOW_PASSED)


def too_late_to_plan(judged: Settlement) -> Settlement:
    """Return what becomes of one with a job: what ESA had taken expires, the rest ends as *judged*; the caller deletes the job."""
    late = replace(
        judged,
        outcome="expired",
        verdict="expired",
        reason=WINDOW_PASSED,
        code="",
        site_ok=False,
        planned=False,
    )
    if judged.list_ends is None:
        return late
    refused = judged.list_ends.get("refused", 0)
    ends = {"expired": judged.list_ends.get("submitted", 0)} | ({"refused": refused} if refused else {})
    return replace(late, list_ends=ends)


def moment(at_ms: int) -> datetime:
    """Return ms since the epoch as a time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def error_kinds(error_info: str) -> tuple[str, ...]:
    """Return the kinds of refusal that ``ErrorInfo`` names, loosely: Get and List write it as free text."""
    folded = error_info.replace(" ", "").lower()
    return tuple(kind for kind in REASONS if kind.lower() in folded)


def judge(batch: Batch, job: Job, refused: Sequence[RefusedUrl] | None, timing: Timing) -> Settlement:
    """Decide how the URLs of *batch* end; see :func:`judge_job` and :func:`judge_list`."""
    return (
        judge_list(job, refused or (), timing)
        if batch.is_list
        else judge_job(batch.urls, job, refused, timing)
    )


def judge_list(job: Job, refused: Sequence[RefusedUrl], timing: Timing) -> Settlement:
    """Decide how the URLs of a list in OSS end: by ESA's numbers, since we never saw them."""
    done = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True, planned=True)
    kinds = error_kinds(job.error_info)
    if "QuotaExcess" in kinds:
        done = replace(done, site_ok=False, site_wait=quota_wait(timing))
        if job.url_submitted == 0:
            return replace(done, outcome="requeued", verdict="pending", planned=False)
    missing = max(0, job.url_count - job.url_submitted)
    if not missing and job.url_submitted:
        return replace(done, list_ends={"submitted": job.url_submitted})
    kind = next(iter(kinds), "OtherErrors")
    failed = tuple(
        (line.url, REASONS[next(iter(error_kinds(line.reason)), kind)], line.reason or kind)
        for line in refused
    )
    ended = replace(done, reason=REASONS[kind], code=kind, list_failed=failed[:LIST_FAILED_MAX])
    if job.url_submitted == 0:
        # Where ESA counted nothing, the producer's count stands.
        ends = {"refused": missing} if missing else None
        return replace(ended, outcome="refused", verdict="refused", list_ends=ends, planned=False)
    return replace(ended, outcome="partial", list_ends={"submitted": job.url_submitted, "refused": missing})


def judge_job(
    urls: Sequence[str],
    job: Job,
    refused: Sequence[RefusedUrl] | None,
    timing: Timing,
    *,
    exempted: int = 0,
) -> Settlement:
    """
    Decide how each URL of a created job ends, supposing that its plan is created.

    Args:
        urls: of the batch, in order.
        job: what Create answered, or what the look-up found.
        refused: the list behind ``FailedFileOss``; ``None`` when it is needed and cannot be read, or there is none.
        timing: for the pause of a quota.
        exempted: refused ones that were among the list and have ended.
    """
    done = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True, planned=True)
    missing = max(0, job.url_count - job.url_submitted)
    kinds = error_kinds(job.error_info)
    if job.url_submitted and not missing and not job.error_info:
        return done
    quota = "QuotaExcess" in kinds
    if quota:
        done = replace(done, site_ok=False, site_wait=quota_wait(timing))
    listed = _exemptions(urls, refused or (), kinds)
    if job.url_submitted == 0:
        verdict, reason, code = _verdict_of("QuotaExcess" if quota else next(iter(kinds), "OtherErrors"))
        outcome = "requeued" if verdict == "pending" else "refused"
        return replace(
            done,
            outcome=outcome,
            verdict=verdict,
            reason=reason,
            code=code,
            exemptions=listed,
            planned=False,
            over_quota=quota,
        )
    if refused is None and missing:
        return replace(done, outcome="unknown", verdict="unknown", reason=UNKNOWN_REASON, code=job.error_info)
    if len(listed) + exempted < missing:
        # Some of the refused ones are not recognised: of the rest nobody can say which went.
        rest_unknown = replace(
            done, outcome="unknown", verdict="unknown", reason=UNKNOWN_REASON, code=job.error_info
        )
        return replace(rest_unknown, exemptions=listed)
    return replace(done, outcome="partial" if listed else "submitted", exemptions=listed)


def needs_failed_file(job: Job) -> bool:
    """Tell whether the list of refused URLs is needed to judge *job*."""
    return bool(job.failed_file_url) and (job.url_submitted < job.url_count or bool(job.error_info))


def _exemptions(
    urls: Sequence[str], refused: Sequence[RefusedUrl], kinds: Sequence[str]
) -> tuple[Exemption, ...]:
    index = {url: i for i, url in enumerate(urls)}
    found: dict[int, Exemption] = {}
    for line in refused:
        i = index.get(line.url)
        if i is None:
            continue
        own = error_kinds(line.reason)
        # A line without a reason may be due to any kind that the reply names: what may be quota is tried again.
        kind = (
            own[0]
            if own
            else ("QuotaExcess" if "QuotaExcess" in kinds else (kinds[0] if kinds else "OtherErrors"))
        )
        verdict, reason, code = _verdict_of(kind)
        found[i] = Exemption(index=i, verdict=verdict, reason=reason, code=code)
    return tuple(found[i] for i in sorted(found))


def _verdict_of(kind: str) -> tuple[Verdict, str, str]:
    return ("pending", "", "") if kind == "QuotaExcess" else ("refused", REASONS[kind], kind)


def call_of(operation: str, sent_ms: int, error: EsaError | None) -> Call:
    """Return what a call, sent at *sent_ms*, tells about the rate and the endpoint."""
    became: CallOutcome
    hint_ms = 0
    match error:
        case ThrottledError():
            became, hint_ms = "throttled", math.ceil((error.retry_after_s or 0) * 1000)
        case NotSentError():
            became = "not_sent"
        case UncertainError():
            became = "unknown"
        case BlockedError() | SiteBusyError():  # ESA may say so before it counts the call
            became = "answered"
        case _:
            became = "ok"
    return Call(operation=operation, sent_ms=sent_ms, outcome=became, hint_ms=hint_ms)


def after_create_error(batch: Batch, error: EsaError, *, timing: Timing) -> Settlement:
    """Decide what follows from a Create that did not succeed."""
    match error:
        case ThrottledError():
            return _again(batch, "throttled")
        case NotSentError():
            return _again(batch, "not_sent")
        case UncertainError():
            return look_again(LOOK_UP_EVERY_MS)
        case SiteBusyError():
            return replace(
                _again(batch, "busy", BUSY_MS), site_wait=SiteWait(reason="busy", ms=BUSY_MS, grows=True)
            )
        case JobCapError():
            return replace(
                _again(batch, "job_cap", JOB_CAP_MS), site_wait=SiteWait(reason="job_cap", ms=JOB_CAP_MS)
            )
        case BlockedError() if is_quota(error.code):
            # A part does not go back to its lane, of which less would be claimed: it is halved.
            again = (
                Settlement(what="split", outcome="split", code=error.code)
                if batch.is_part and len(batch.urls) > 1
                else _again(batch, "requeued", timing.quota_retry_after_ms)
            )
            return replace(again, site_wait=quota_wait(timing), over_quota=True)
        case BlockedError():
            block = _block(error)
            return replace(_again(batch, "blocked", block.probe_ms), block=block)
        case SizeError() if len(batch.urls) > 2:
            # Never down to one: of two the good one shows that the other is at fault, a single one shows nothing.
            return replace(_smaller(batch, error), size_limit=len(batch.urls) // 2)
        case _ if len(batch.urls) > 1:
            return Settlement(what="split", outcome="split", code=error.code)
        case SizeError() if batch.is_list:
            return Settlement(
                what="end", outcome="refused", verdict="refused", reason="too_large", code=error.code
            )
        case _:
            reason = "too_large" if isinstance(error, SizeError) else "refused"
            if batch.is_part:
                return Settlement(
                    what="hold", outcome="held", reason=reason, code=error.code, hint=error.hint
                )
            # One URL alone, refused for a reason that may lie in the request: nothing is dropped until another gets through.
            block = _block_of_request(error)
            return replace(_again(batch, "blocked"), reason=reason, code=error.code, block=block, lone=True)


def look_again(delay_ms: int) -> Settlement:
    """Look the batch's name up (again) in *delay_ms*: whether it became a job is not known."""
    return Settlement(what="defer", outcome="uncertain", state="uncertain", delay_ms=delay_ms)


def not_found(batch: Batch, *, now_ms: int, timing: Timing) -> Settlement | None:
    """Decide what follows from a look-up without result; ``None``: there surely is no job, create it."""
    left_ms = surely_absent_at_ms(batch, timing) - now_ms
    if left_ms <= 0:
        return None
    return look_again(min(left_ms, LOOK_UP_EVERY_MS))


def no_plan_listed(plan_sent_ms: int, *, now_ms: int, timing: Timing) -> Settlement | None:
    """Decide what follows from a list without a plan, when one may be on its way; ``None``: create it."""
    left_ms = absent_from_ms(plan_sent_ms, timing) - now_ms
    if left_ms <= 0:
        return None
    return _plan_later(min(left_ms, LIST_PLANS_EVERY_MS))


def after_look_up_error(batch: Batch, error: EsaError, *, timing: Timing) -> Settlement:
    """Decide what follows from a look-up that failed: what Create did is still not known."""
    later = look_again(_patiently(batch, LOOK_UP_EVERY_MS))
    waits = _after_transient(later, error, timing)
    return waits or _refused_look(later, error) or later


def after_plan_error(
    batch: Batch, error: EsaError, *, judged: Settlement, operation: str, sent_ms: int, timing: Timing
) -> Settlement:
    """
    Decide what follows from a plan that was not created; the job exists.

    Args:
        judged: how the URLs end if the plan is created.
        operation: the one that failed, sent at *sent_ms*: listing the plans, or creating one.
    """
    later = _plan_later(_patiently(batch, LIST_PLANS_EVERY_MS))
    if waits := _after_transient(later, error, timing):
        return waits
    if operation == LIST_PLANS and (refused := _refused_look(later, error)):
        return refused
    match error:
        case UncertainError():
            return later
        case NotFoundError() if sent_ms < surely_absent_at_ms(batch, timing):
            return later
        case NotFoundError():
            return replace(
                judged,
                outcome="requeued",
                verdict="pending",
                reason="",
                code="",
                list_ends=None,
                site_ok=False,
                planned=False,
                state="returning",
            )
        case _:
            return plan_failed(batch, judged, error.code)


def _plan_later(delay_ms: int) -> Settlement:
    return Settlement(what="defer", outcome="uncertain", state="created", delay_ms=delay_ms)


def _patiently(batch: Batch, every_ms: int) -> int:
    """Return when to look again after a failure, in ms: soon at first, rarely once that has not helped."""
    return min(RARELY_MS, every_ms << min(max(0, batch.attempt - PATIENT_ATTEMPTS), 10))


def _refused_look(later: Settlement, error: EsaError) -> Settlement | None:
    """A list that is refused as such tells nothing about the batch, and will be refused again: a person must see it."""
    if not isinstance(error, RefusedError | SizeError):
        return None
    block = _block_of_request(error)
    return replace(later, outcome="blocked", block=block, delay_ms=block.probe_ms)


def _after_transient(later: Settlement, error: EsaError, timing: Timing) -> Settlement | None:
    """Return *later* with what an error tells about more than the batch; ``None`` when it tells nothing of the kind."""
    match error:
        case ThrottledError():
            return replace(later, outcome="throttled")
        case NotSentError():
            return replace(later, outcome="not_sent")
        case SiteBusyError() | JobCapError():
            wait = SiteWait(reason="busy", ms=BUSY_MS, grows=True)
            return replace(later, outcome="busy", delay_ms=BUSY_MS, site_wait=wait)
        case BlockedError() if is_quota(error.code):
            wait_ms = timing.quota_retry_after_ms
            return replace(later, outcome="deferred", delay_ms=wait_ms, site_wait=quota_wait(timing))
        case BlockedError():
            block = _block(error)
            return replace(later, outcome="blocked", block=block, delay_ms=block.probe_ms)
        case _:
            return None


def refused_plan(made: PlansCreated) -> RefusedError:
    """Return what a success whose plan is among the failed ones stands for; what ESA said of it is for the log."""
    said = "; ".join(made.failed_messages)[:200] or "no reason given"
    return RefusedError(
        f"{FAILED_PLAN} (HTTP 200): {said}",
        code=FAILED_PLAN,
        http_status=200,
        esa_request_id=made.esa_request_id,
    )


def plan_failed(batch: Batch, judged: Settlement, code: str) -> Settlement:
    """The plan can't be made: what ESA had taken is refused, the rest ends as *judged*; the caller deletes the job."""
    failed = replace(
        judged,
        outcome="refused",
        verdict="refused",
        reason="plan_failed",
        code=code,
        site_ok=False,
        planned=False,
    )
    if judged.list_ends is None:
        return failed
    the_list = (batch.urls[0], "plan_failed", code)
    return replace(
        failed,
        list_ends={"refused": sum(judged.list_ends.values())},
        list_failed=(*judged.list_failed, the_list)[-LIST_FAILED_MAX:],
    )


def put_off(batch: Batch, delay_ms: int) -> Settlement:
    """Leave the batch as it is for *delay_ms*: the operation it needs may not be called yet."""
    if batch.state == "sent":
        return _again(batch, "requeued", delay_ms)
    return Settlement(what="defer", outcome="deferred", state=batch.state, delay_ms=delay_ms)


def hand_back(batch: Batch) -> Settlement:
    """Give a batch back untouched, at a shutdown, before anything was sent for this claim."""
    unused = Call(operation=CREATE_JOB, sent_ms=batch.sent_ms, outcome="unknown")
    return replace(put_off(batch, 0), calls=(unused,) if batch.state == "sent" else ())


def hand_over() -> Settlement:
    """Leave a batch in the middle of a call, at a shutdown: its outcome is open."""
    return look_again(0)


def _again(batch: Batch, outcome: str, delay_ms: int = 0) -> Settlement:
    """Nothing was created: URLs back to their lane; a part of a split batch, or a bulk, once more as it is."""
    if batch.is_part or batch.bulk:
        return Settlement(what="defer", outcome=outcome, state="ready", delay_ms=delay_ms)
    return Settlement(what="end", outcome=outcome, verdict="pending")


def _smaller(batch: Batch, error: EsaError) -> Settlement:
    """Too large: back to the lane, of which less is claimed next time; a part does not go back, so it is split."""
    if batch.is_part:
        return Settlement(what="split", outcome="split", code=error.code)
    return _again(batch, "too_large")


def quota_wait(timing: Timing) -> SiteWait:
    """Return how long a site waits for its quota."""
    return SiteWait(reason="quota", ms=timing.quota_retry_after_ms)


def _block(error: BlockedError) -> Block:
    return Block(scope=error.scope, code=error.code, hint=error.hint)


def _block_of_request(error: EsaError) -> Block:
    return Block(scope="site", code=error.code, hint=error.hint or REQUEST_HINT)
