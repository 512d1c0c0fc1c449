"""The metrics are those of the contract, with labels that can't grow."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client import generate_latest
from structlog.testing import capture_logs

from esa_preload_worker.check.model import Outcome
from esa_preload_worker.claims import Block, Exemption, OperationRate, Settled, Settlement
from esa_preload_worker.decisions import REFUSAL_REASONS
from esa_preload_worker.ledger import CREATE_JOB
from esa_preload_worker.metrics import Metrics, SiteFigures, Snapshot, site_figures
from esa_preload_worker.report import report, report_lost
from esa_preload_worker.submit import Submission
from esa_preload_worker.watching import ENDED
from unit.worker.test_decisions import batch_of, job_of

CONTRACT = {
    "urls_accepted": {"site"},
    "urls_merged": {"site"},
    "urls_submitted": {"site"},
    "urls_refused": {"site", "reason"},
    "urls_expired": {"site"},
    "tasks_submitted": {"site"},
    "batches": {"outcome"},
    "batch_urls": set[str](),
    "submit_latency_seconds": set[str](),
    "api_requests": {"operation", "code"},
    "api_request_seconds": {"operation"},
    "throttled": {"operation"},
    "rate_limit": {"operation"},
    "cooldown_seconds": {"operation"},
    "reconciled": {"result"},
    "pending_urls": {"site"},
    "oldest_pending_seconds": {"site"},
    "in_flight_batches": set[str](),
    "site_blocked": {"site", "reason"},
    "redis_up": set[str](),
    "build_info": {"version"},
}
BESIDE = {
    "urls_unknown": {"site"},
    "jobs_deleted": {"site"},
    "plans_ended": {"outcome"},
    "site_jobs": {"site"},
    "site_job_cap": {"site"},
    "site_waiting": {"site", "reason"},
    "ledger_unaccounted_urls": {"site"},
    "redis_unfit": {"check"},
}
"""Ours, beside those of the contract."""


def full() -> Metrics:
    """Return metrics of which each has a value."""
    metrics = Metrics(version="1.2")
    metrics.observe_call(CREATE_JOB, "ok", 0.1)
    metrics.urls_submitted.labels("1").inc()
    metrics.urls_refused.labels("1", "invalid_url").inc()
    metrics.plans_ended.labels("finished").inc()
    for counter in (
        metrics.urls_expired,
        metrics.urls_unknown,
        metrics.tasks_submitted,
        metrics.jobs_deleted,
    ):
        counter.labels("1").inc()
    metrics.batches.labels("submitted").inc()
    metrics.throttled.labels(CREATE_JOB).inc()
    metrics.reconciled.labels("adopted").inc()
    metrics.show_fitness([Outcome(name="eviction", state="fail", sentence="it evicts")])
    rates = {CREATE_JOB: OperationRate(rate=5, cooldown_s=1.5)}
    figures = SiteFigures(site_id=1, accepted=3, merged=1, pending=2, oldest_pending_s=4, job_cap=9)
    sites = [replace(figures, blocked="signature", waiting="quota")]
    metrics.show(Snapshot(redis_up=True, sites=sites, rates=rates, in_flight_batches=2))
    return metrics


def test_names_and_labels_are_the_contracts() -> None:
    """Exactly these families, exactly these labels; no second series for when a counter was made."""
    found: dict[str, set[str]] = {}
    for family in full().registry.collect():
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        found[family.name.removeprefix("esa_preload_")] = labels
    assert found == CONTRACT | BESIDE
    text = generate_latest(full().registry).decode()
    assert "_created" not in text
    counters = set(re.findall(r"# TYPE (\S+) counter", text))
    assert all(name.endswith("_total") for name in counters)


def test_the_ledgers_figures_are_shown_as_they_are() -> None:
    """Values come from the last snapshot, and stay when Redis is away."""
    metrics = full()

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"esa_preload_{name}", labels)

    assert value("urls_accepted_total", site="1") == 3
    assert value("oldest_pending_seconds", site="1") == 4
    assert value("site_blocked", site="1", reason="signature") == 1
    assert value("rate_limit", operation=CREATE_JOB) == 5
    assert (value("redis_up"), value("in_flight_batches")) == (1, 2)
    metrics.redis_is_away()
    assert (value("redis_up"), value("pending_urls", site="1")) == (0, 2)


def test_sites_beyond_the_bound_count_as_other_on_every_worker() -> None:
    """The ledger's order decides who has a label, for its own figures and for those of the process alike."""
    metrics = Metrics(version="1", max_sites=2)
    sites = [
        SiteFigures(site_id=i, accepted=i, pending=i, oldest_pending_s=i, blocked="request")
        for i in (5, 6, 7, 8)
    ]
    metrics.show(Snapshot(redis_up=True, sites=sites))
    assert [metrics.site_label(site) for site in (8, 7, 6, 5, 9)] == ["other", "other", "6", "5", "other"]
    value = metrics.registry.get_sample_value
    assert value("esa_preload_urls_accepted_total", {"site": "other"}) == 15
    assert value("esa_preload_oldest_pending_seconds", {"site": "other"}) == 8
    assert value("esa_preload_site_blocked", {"site": "other", "reason": "request"}) == 1


def test_what_alerts_ask_the_increase_of_is_there_before_it_happens() -> None:
    """The first batch of a site that is refused, and the first plan that fails, would have no increase for Prometheus."""
    metrics = Metrics(version="1", max_sites=1)
    metrics.show(Snapshot(redis_up=True, sites=[SiteFigures(site_id=5), SiteFigures(site_id=6)]))
    value = metrics.registry.get_sample_value
    for site in ("5", "other"):
        for end in ("submitted", "unknown", "expired"):
            assert value(f"esa_preload_urls_{end}_total", {"site": site}) == 0
        for reason in REFUSAL_REASONS:
            assert value("esa_preload_urls_refused_total", {"site": site, "reason": reason}) == 0
    for outcome in ENDED:
        assert value("esa_preload_plans_ended_total", {"outcome": outcome}) == 0


def test_a_site_record_becomes_figures() -> None:
    """The ledger's words as numbers; the code of a block as one of a closed set."""
    record = {"accepted": "5", "merged": "1", "pending": "2", "blocked_code": "SignatureDoesNotMatch"}
    figures = site_figures(9, record, 1_000, 3_500)
    assert (figures.accepted, figures.pending, figures.oldest_pending_s, figures.blocked) == (
        5,
        2,
        2.5,
        "signature",
    )
    assert site_figures(9, {}, None, 0) == SiteFigures(site_id=9)


@pytest.mark.parametrize(
    ("record", "waiting"),
    [
        ({"wait_until": "9", "wait_reason": "quota"}, "quota"),
        ({"wait_until": "9", "wait_reason": "the moon"}, "other"),
        ({"wait_until": "8", "wait_reason": "quota"}, ""),
        ({"wait_until": "9", "wait_reason": "quota", "paused": "origin is down"}, "paused"),
        ({"wait_until": "9", "wait_reason": "busy", "blocked_code": "Forbidden"}, ""),
        ({}, ""),
    ],
)
def test_why_a_site_waits_is_one_of_a_closed_set(record: dict[str, str], waiting: str) -> None:
    """Never the words of an operator; nothing once the time is over, and nothing while a block is shown."""
    assert site_figures(9, record, None, 8).waiting == waiting


@pytest.mark.parametrize(
    ("changes", "unaccounted"),
    [
        ({}, 0),
        ({"accepted": "21"}, 1),
        ({"submitted": "5"}, 1),
        ({"in_lanes": "0"}, 2),
        ({"pending": "1"}, 2),
    ],
)
def test_urls_that_the_totals_do_not_account_for(changes: dict[str, str], unaccounted: int) -> None:
    """A URL that is nowhere counts, one that is counted twice, and one that is pending in no lane."""
    balanced = {
        "accepted": "20",
        "merged": "3",
        "pending": "2",
        "in_lanes": "2",
        "in_flight": "5",
        "submitted": "4",
        "refused": "3",
        "expired": "1",
        "cancelled": "1",
        "unknown": "1",
    }
    assert site_figures(9, balanced | changes, None, 8).unaccounted == unaccounted


def test_the_fitness_of_the_server_is_what_was_told_last() -> None:
    """1 for what fails, 0 for what passes or is only odd; what the server does not tell any more is not shown."""
    metrics = Metrics(version="1")

    def shown() -> dict[str, float]:
        samples = [s for family in metrics.redis_unfit.collect() for s in family.samples]
        return {sample.labels["check"]: sample.value for sample in samples}

    metrics.show_fitness(
        [
            Outcome(name="persistence", state="fail", sentence=""),
            Outcome(name="memory", state="warn", sentence=""),
            Outcome(name="version", state="ok", sentence=""),
        ]
    )
    assert shown() == {"persistence": 1, "memory": 0, "version": 0}
    metrics.show_fitness([Outcome(name="persistence", state="skipped", sentence="")])
    assert shown() == {}


def test_a_report_counts_each_url_once() -> None:
    """Refused ones by reason, those judged late as refused, the rest as the ledger says; never a label out of the blue."""
    metrics = Metrics(version="1")
    settlement = Settlement(
        what="end",
        outcome="unknown",
        verdict="unknown",
        reason="list_unreadable",
        exemptions=(
            Exemption(index=0, verdict="refused", reason="invalid_url"),
            Exemption(index=1, verdict="pending"),
        ),
    )
    settled = Settled(counts={"submitted": 2, "refused": 3, "unknown": 1, "pending": 1})
    submission = Submission(settlement=settlement, job=job_of(4, 2))
    report(metrics, batch_of(), submission, settled, ended_ms=batch_of().now_ms + 2_000, duration_s=2)
    report_lost(metrics, batch_of())

    def value(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"esa_preload_{name}", labels)

    assert value("urls_refused_total", site="1", reason="invalid_url") == 1
    assert value("urls_refused_total", site="1", reason="refused") == 2
    assert (value("urls_submitted_total", site="1"), value("urls_unknown_total", site="1")) == (2, 1)
    assert value("submit_latency_seconds_sum") == 2
    assert (value("batches_total", outcome="unknown"), value("batches_total", outcome="lost")) == (1, 1)


@pytest.mark.parametrize(
    ("settled", "names"),
    [
        (Settled(began=True, waits_until_ms=5), ["site.blocked"]),
        (Settled(began=False, waits_until_ms=5), []),
        (Settled(resumed=True), ["site.resumed"]),
        (Settled(account_resumed=True), ["site.resumed"]),
    ],
)
def test_a_block_is_said_once_when_it_begins_and_once_when_it_ends(
    settled: Settled, names: list[str]
) -> None:
    """However many batches and probes meet it; a block of the account ends aloud as well, and names no site."""
    block = Block(scope="account", code="SignatureDoesNotMatch", hint="see")
    settlement = Settlement(what="end", outcome="blocked", block=block)
    with capture_logs() as logged:
        report(
            Metrics(version="1"),
            batch_of(),
            Submission(settlement=settlement),
            settled,
            ended_ms=0,
            duration_s=0,
        )
    said = [entry for entry in logged if str(entry["event"]).startswith("site.")]
    assert [entry["event"] for entry in said] == names
    for entry in said:
        assert entry["scope"] == ("site" if settled.resumed else "account")
        assert entry["site_id"] == (batch_of().site_id if settled.resumed else None)
