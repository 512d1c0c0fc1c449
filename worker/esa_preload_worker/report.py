"""Say what became of a batch: one line in the log, and the metrics, once a batch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from esa_preload.logs import get_logger
from esa_preload_worker.block_reasons import block_reason
from esa_preload_worker.claims import Block
from esa_preload_worker.decisions import REFUSAL_REASONS

if TYPE_CHECKING:
    from esa_preload_worker.claims import Batch, Settled, Settlement
    from esa_preload_worker.metrics import Metrics
    from esa_preload_worker.submit import Submission

log = get_logger()

SUBMITTED = frozenset({"submitted", "partial", "unknown"})


def report(
    metrics: Metrics,
    batch: Batch,
    submission: Submission,
    settled: Settled,
    *,
    ended_ms: int,
    duration_s: float,
) -> None:
    """Log and count how a claim of *batch* ended."""
    settled = replace(settled, counts=Counter(settled.counts) + Counter(submission.ended))
    _count_batch(metrics, batch, submission, settled)
    _count_urls(metrics, batch, submission, settled, ended_ms)
    _log_batch(batch, submission, settled, duration_s)
    _log_site(batch, submission.settlement, settled)


def _count_batch(metrics: Metrics, batch: Batch, submission: Submission, settled: Settled) -> None:
    settlement = submission.settlement
    is_at_fault = settlement.lone and settled.counts.get("refused")
    metrics.batches.labels("refused" if is_at_fault else settlement.outcome).inc()
    if batch.attempt == 1 and not batch.bulk:
        metrics.batch_urls.observe(len(batch.urls))
    elif settlement.lines:
        metrics.batch_urls.observe(settlement.lines)
    for call in settlement.calls:
        if call.outcome == "throttled":
            metrics.throttled.labels(call.operation).inc()
    if submission.reconciled:
        metrics.reconciled.labels(submission.reconciled).inc()


def _count_urls(
    metrics: Metrics, batch: Batch, submission: Submission, settled: Settled, ended_ms: int
) -> None:
    settlement, counts = submission.settlement, settled.counts
    site = metrics.site_label(batch.site_id)
    if submitted := counts.get("submitted", 0):
        metrics.urls_submitted.labels(site).inc(submitted)
        metrics.submit_latency.observe(max(0, ended_ms - batch.oldest_ms) / 1000)
    if refused := counts.get("refused", 0):
        _count_refusals(metrics, site, settlement, refused)
    if unknown := counts.get("unknown", 0):
        metrics.urls_unknown.labels(site).inc(unknown)
    if expired := counts.get("expired", 0):
        metrics.urls_expired.labels(site).inc(expired)
    if submission.job and settlement.outcome in SUBMITTED:
        metrics.tasks_submitted.labels(site).inc(submission.job.task_submitted)


def _count_refusals(metrics: Metrics, site: str, settlement: Settlement, refused: int) -> None:
    exemptions = (*settlement.exemptions, *settlement.by_url.values())
    listed = [e.reason for e in exemptions if e.verdict == "refused"]
    for reason in set(listed):
        metrics.urls_refused.labels(site, reason).inc(listed.count(reason))
    if rest := max(0, refused - len(listed)):
        # Parts of a split batch that were held until now count here too: their reason is "refused".
        reason = settlement.reason if settlement.reason in REFUSAL_REASONS else "refused"
        metrics.urls_refused.labels(site, reason).inc(rest)


def _facts_of(batch: Batch, submission: Submission, duration_s: float) -> dict[str, object]:
    settlement, job, error = submission.settlement, submission.job, submission.error
    facts: dict[str, object] = {
        "site_id": batch.site_id,
        "batch_id": batch.batch_id,
        "attempt": batch.attempt,
        "url_count": settlement.lines or batch.url_count,
        "duration_s": round(duration_s, 3),
    }
    if batch.bulk:
        facts |= {"bulk": True}
    if job:
        facts |= {
            "job_id": job.job_id,
            "url_submitted": job.url_submitted,
            "task_submitted": job.task_submitted,
            "error_info": job.error_info,
            "esa_request_id": job.esa_request_id,
        }
    if error:
        facts |= {
            "code": error.code,
            "http_status": error.http_status,
            "esa_request_id": error.esa_request_id,
        }
        facts |= {"message": str(error)[:300]} | ({"hint": error.hint} if error.hint else {})
    if submission.reconciled:
        facts |= {"reconciled": submission.reconciled}
    return facts


def _log_batch(batch: Batch, submission: Submission, settled: Settled, duration_s: float) -> None:
    settlement = submission.settlement
    facts = _facts_of(batch, submission, duration_s)
    if submission.reconciled == "adopted":
        log.info("batch.adopted", **facts)
    if settlement.outcome in SUBMITTED:
        log.info("batch.submitted", plan_id=submission.plan_id, **facts)
        if settled.counts.get("refused") or settled.counts.get("unknown"):
            log.warning("batch.refused", ended=dict(settled.counts), **facts)
    elif batch.bulk and (settlement.lines or settlement.bulk_limit):
        _log_bulk(batch, submission, duration_s)
    elif settlement.outcome == "throttled":
        log.info(
            "batch.throttled",
            operation=next((c.operation for c in settlement.calls if c.outcome == "throttled"), ""),
            waits_until_ms=settled.waits_until_ms,
            **facts,
        )
    elif settlement.outcome == "uncertain":
        log.warning("batch.uncertain", state=settlement.state, **facts)
    elif settled.counts.get("refused") or settlement.outcome == "expired":
        log.warning("batch.refused", reason=settlement.reason, ended=dict(settled.counts), **facts)
    elif settlement.outcome == "not_sent":
        log.warning("batch.requeued", outcome=settlement.outcome, **facts)
    else:
        log.info("batch.requeued", outcome=settlement.outcome, **facts)


def _log_bulk(batch: Batch, submission: Submission, duration_s: float) -> None:
    """Say that a list is ready, or what stood in its way."""
    settlement = submission.settlement
    facts = _facts_of(batch, submission, duration_s)
    if limit := settlement.bulk_limit:
        facts |= {"code": settlement.code, "hint": settlement.hint}
        log.warning("bulk.put_back", most_urls=limit.urls, for_s=limit.ms // 1000, **facts)
    else:
        log.info("batch.gathered", **facts)


def _log_site(batch: Batch, settlement: Settlement, settled: Settled) -> None:
    """Say what began or ended for the site or the account: once an episode, however many batches and probes meet it."""
    if settled.resumed:
        log.info("site.resumed", site_id=batch.site_id, scope="site")
    if settled.account_resumed:
        log.info("site.resumed", site_id=None, scope="account")
    if not settled.began:
        return
    if block := settlement.block or _block_of_held(settlement, settled):
        log.error(
            "site.blocked",
            site_id=batch.site_id if block.scope == "site" else None,
            scope=block.scope,
            reason=block_reason(block.code),
            code=block.code,
            hint=block.hint,
        )
    elif wait := settlement.site_wait:
        log.warning(
            "site.waiting", site_id=batch.site_id, reason=wait.reason, until_ms=settled.waits_until_ms
        )


def _block_of_held(settlement: Settlement, settled: Settled) -> Block | None:
    """Return the block that follows when the last part of a split batch is refused as all before it."""
    if settlement.what != "hold" or not settled.waits_until_ms:
        return None
    return Block(scope="site", code=settlement.code, hint=settlement.hint)


def report_lost(metrics: Metrics, batch: Batch) -> None:
    """Log and count that another has *batch* by now."""
    metrics.batches.labels("lost").inc()
    log.warning("batch.requeued", outcome="lost", site_id=batch.site_id, batch_id=batch.batch_id)
