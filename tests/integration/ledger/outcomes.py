"""Every way in which a claim may end, as the workers would settle it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from esa_preload_worker.claims import Block, Call, CallOutcome, Exemption, Settlement, SiteWait
from esa_preload_worker.ledger import CREATE_JOB
from integration.ledger.driver import HOLD, PUT_BACK, SPLIT, SUBMITTED, is_list

if TYPE_CHECKING:
    from esa_preload_worker.claims import Batch, Verdict
    from integration.ledger.model import Claimed

ENDS = ("submitted", "submitted", "partial", "quota", "unknown", "refused", "expired")
"""The job was created, or the URLs were judged."""

DELAYS = ("throttled", "not_sent", "uncertain", "busy", "blocked_site", "blocked_account")
"""Something has to be waited for."""

REFUSALS = ("bad", "bad", "bad", "too_large")
"""ESA refuses the batch as a whole; those with a job on record cannot be refused so."""

KINDS = (*ENDS, *DELAYS, *REFUSALS, "requeued")

_VERDICTS: tuple[Verdict, ...] = ("refused", "pending", "submitted", "unknown")


def settlement_of(kind: str, batch: Batch, known: Claimed, marks: int) -> Settlement:
    """Return the settlement of *kind*; *marks* are dice for its details."""
    if kind in ENDS:
        reported = (call_of(batch, "ok"),) if batch.state == "sent" and not known.job_id else ()
        return replace(_ended(kind, batch, marks), calls=reported)
    if kind in DELAYS:
        return _delayed(kind, batch, known, marks)
    if kind in REFUSALS and not known.job_id:
        return _refused(kind, batch, known)
    return _again(batch, known)


def call_of(batch: Batch, outcome: CallOutcome, hint_ms: int = 0, *, operation: str = CREATE_JOB) -> Call:
    """Return what became of the call that came with the claim of *batch*."""
    return Call(operation=operation, sent_ms=batch.sent_ms, outcome=outcome, hint_ms=hint_ms)


def _again(batch: Batch, known: Claimed) -> Settlement:
    if known.job_id:
        return Settlement(what="defer", outcome="uncertain", state="created", delay_ms=1_000)
    if known.stage:
        return Settlement(what="defer", outcome="deferred", state=known.stage, delay_ms=1_000)
    if batch.is_part or batch.bulk:
        return Settlement(what="defer", outcome="requeued", state="ready")
    return PUT_BACK


def _ended(kind: str, batch: Batch, marks: int) -> Settlement:
    if kind == "submitted":
        if not is_list(batch.lane):
            return SUBMITTED
        return replace(SUBMITTED, list_ends={"submitted": 5, "refused": 2} if marks % 2 else {"submitted": 9})
    if kind == "unknown":
        return replace(SUBMITTED, outcome=kind, verdict="unknown", reason="list_unreadable")
    if kind == "refused":
        return replace(SUBMITTED, outcome=kind, verdict="refused", reason="plan_failed", code="X")
    if kind == "expired":
        return Settlement(what="end", outcome=kind, verdict="expired", reason="window_passed")
    exemptions = tuple(
        Exemption(index=i, verdict=_VERDICTS[(marks >> (2 * i)) % 4], reason="invalid_url", code="InvalidUrl")
        for i in range(len(batch.urls))
        if (marks + i) % 3 and not is_list(batch.lane)
    )
    partial = replace(SUBMITTED, outcome="partial", exemptions=exemptions, planned=True)
    if kind == "partial":
        return partial
    wait = SiteWait(reason="quota", ms=3_600_000)
    waiting = replace(partial, verdict="pending", site_wait=wait, site_ok=False)
    return replace(waiting, exemptions=(), over_quota=True) if marks % 2 else waiting


def _delayed(kind: str, batch: Batch, known: Claimed, marks: int) -> Settlement:
    again = _again(batch, known)
    match kind:
        case "throttled":
            return replace(again, calls=(call_of(batch, "throttled", (0, 1, 700, 90_000)[marks % 4]),))
        case "not_sent":
            return replace(again, calls=(call_of(batch, "not_sent"),))
        case "uncertain":
            delay_ms = (0, 1_000)[marks % 2]
            if known.job_id:
                return replace(again, delay_ms=delay_ms)
            return Settlement(what="defer", outcome=kind, state="uncertain", delay_ms=delay_ms)
        case "busy":
            return replace(again, site_wait=SiteWait(reason="busy", ms=2_000, grows=True))
        case "blocked_site":
            return replace(again, block=Block(scope="site", code="NoPermission", probe_ms=15_000))
        case _:
            return replace(again, block=Block(scope="account", code="NoKey", hint="look", probe_ms=15_000))


def _refused(kind: str, batch: Batch, known: Claimed) -> Settlement:
    if len(batch.urls) > 1:
        size_limit = len(batch.urls) // 2 if kind == "too_large" else None
        return replace(SPLIT if kind == "bad" or batch.is_part else PUT_BACK, size_limit=size_limit)
    if kind == "too_large":
        return Settlement(what="end", outcome="refused", verdict="refused", reason=kind)
    if batch.is_part:
        return HOLD
    block = Block(scope="site", code="InvalidParameter", probe_ms=15_000)
    return replace(_again(batch, known), reason="refused", code=block.code, block=block, lone=True)
