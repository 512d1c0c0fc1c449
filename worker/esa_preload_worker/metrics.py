"""Every metric of the worker, declared once. docs/reference/telemetry.md lists them; a test holds the two together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from esa_preload.records import job_cap_of, site_state
from esa_preload_worker.block_reasons import block_reason
from esa_preload_worker.decisions import REFUSAL_REASONS
from esa_preload_worker.watching import ENDED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from prometheus_client import Metric

    from esa_preload_worker.check.model import Outcome
    from esa_preload_worker.claims import OperationRate

OTHER_SITES = "other"

WAIT_REASONS = ("quota", "busy", "job_cap", "paused", "other")
"""Why a site is not submitted that nothing blocks; ``other`` for a wait that another release knows."""

ENDS = ("submitted", "refused", "expired", "cancelled", "unknown")
BATCH_ENDS = ("submitted", "partial", "unknown", "refused", "expired")
"""The outcomes of batches that are progress: URLs have ended."""

disable_created_metrics()  # type: ignore[no-untyped-call] # it would be a second series for each

BATCH_BUCKETS = (1, 2, 5, 10, 20, 50, 75, 90, 99, 100, 200, 500, 1_000, 10_000, 100_000)
LATENCY_BUCKETS = (0.5, 1, 2.5, 5, 6, 10, 30, 60, 120, 300, 900, 3_600, 14_400, 86_400)
CALL_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFigures:
    """
    A site as the ledger has it.

    Attributes:
        blocked: a reason of ``block_reasons``, or empty; ``waiting``: one of :data:`WAIT_REASONS`, or empty.
        unaccounted: URLs that its totals do not account for; not 0 is a fault of this program.
    """

    site_id: int
    accepted: int = 0
    merged: int = 0
    pending: int = 0
    oldest_pending_s: float = 0.0
    blocked: str = ""
    waiting: str = ""
    unaccounted: int = 0
    jobs: int = 0
    job_cap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What the ledger said last: equal on every worker that asks at the same time."""

    redis_up: bool = False
    sites: Sequence[SiteFigures] = ()
    rates: Mapping[str, OperationRate] = field(default_factory=dict[str, "OperationRate"])
    in_flight_batches: int = 0


class Metrics:
    """
    The metrics of one worker process.

    Args:
        version: of the package, for ``build_info``.
        max_sites: sites with a label of their own; the rest count as ``other``.
    """

    def __init__(self, *, version: str, max_sites: int = 200) -> None:
        self.registry = CollectorRegistry()
        self.snapshot = Snapshot()
        self._max_sites = max_sites
        self._labelled: set[int] = set()
        counter = partial(Counter, namespace="esa_preload", registry=self.registry)
        gauge = partial(Gauge, namespace="esa_preload", registry=self.registry)
        histogram = partial(Histogram, namespace="esa_preload", registry=self.registry)
        self.urls_submitted = counter("urls_submitted", "URLs whose job and plan were created.", ["site"])
        self.urls_refused = counter("urls_refused", "URLs that ESA refused.", ["site", "reason"])
        self.urls_unknown = counter("urls_unknown", "URLs whose end ESA did not tell.", ["site"])
        self.urls_expired = counter("urls_expired", "URLs that expired before they were submitted.", ["site"])
        self.tasks_submitted = counter(
            "tasks_submitted", "TaskSubmitted as ESA said it at creation.", ["site"]
        )
        self.batches = counter("batches", "Claims of batches, by how they ended.", ["outcome"])
        self.batch_urls = histogram("batch_urls", "URLs of each new batch.", buckets=BATCH_BUCKETS)
        self.submit_latency = histogram(
            "submit_latency_seconds",
            "From accept to submitted, of the oldest URL of each batch.",
            buckets=LATENCY_BUCKETS,
        )
        self.api_requests = counter("api_requests", "Calls to ESA, by their code.", ["operation", "code"])
        self.api_request_seconds = histogram(
            "api_request_seconds", "Time of a call to ESA.", ["operation"], buckets=CALL_BUCKETS
        )
        self.throttled = counter("throttled", "Calls that ESA throttled.", ["operation"])
        self.reconciled = counter("reconciled", "Uncertain batches, by what was found.", ["result"])
        self.jobs_deleted = counter("jobs_deleted", "Jobs deleted once their plans had ended.", ["site"])
        self.plans_ended = counter("plans_ended", "Plans that were followed to their end.", ["outcome"])
        self.redis_unfit = gauge("redis_unfit", "1 while Redis fails this check.", ["check"])
        build = gauge("build_info", "1, with the version as label.", ["version"])
        build.labels(version).set(1)
        # From 0, as those of a site: one plan that fails is told, and the first batch after a restart is progress.
        for state in ENDED:
            self.plans_ended.labels(state)
        for outcome in BATCH_ENDS:
            self.batches.labels(outcome)
        self.registry.register(_LedgerMetrics(self))

    def show(self, snapshot: Snapshot) -> None:
        """Show what the ledger says now."""
        self.snapshot = snapshot
        for site in snapshot.sites[: self._max_sites]:
            self.site_label(site.site_id)
        if len(snapshot.sites) > self._max_sites:
            self._begin_site(OTHER_SITES)

    def redis_is_away(self) -> None:
        """Show what the ledger said last, and that it does not answer."""
        self.snapshot = replace(self.snapshot, redis_up=False)

    def show_fitness(self, outcomes: Sequence[Outcome]) -> None:
        """Show whether Redis is fit for a queue; nothing of what it would not tell."""
        self.redis_unfit.clear()
        for outcome in outcomes:
            if outcome.state != "skipped":
                self.redis_unfit.labels(outcome.name).set(outcome.state == "fail")

    def observe_call(self, operation: str, code: str, seconds: float) -> None:
        """Count one call to ESA."""
        self.api_requests.labels(operation, code).inc()
        self.api_request_seconds.labels(operation).observe(seconds)

    def site_label(self, site_id: int) -> str:
        """Return the label of a site: its id for those that the ledger saw first, ``other`` beyond the bound."""
        if site_id not in self._labelled:
            if len(self._labelled) >= self._max_sites:
                return OTHER_SITES
            self._labelled.add(site_id)
            self._begin_site(str(site_id))
        return str(site_id)

    def _begin_site(self, label: str) -> None:
        # A counter that is first seen above 0 has no increase: the first batch of a site would not count.
        for counter in (self.urls_submitted, self.urls_unknown, self.urls_expired):
            counter.labels(label)
        for reason in REFUSAL_REASONS:
            self.urls_refused.labels(label, reason)

    def ledger_families(self) -> Iterator[Metric]:
        """Yield the metrics that come from the ledger."""
        snapshot = self.snapshot
        # The first seen sites have labels: the order is the ledger's, so every worker draws the line at the same place.
        own, rest = snapshot.sites[: self._max_sites], snapshot.sites[self._max_sites :]
        rows: list[_Row] = [(str(site.site_id), [site]) for site in own]
        if rest:
            rows.append((OTHER_SITES, rest))
        yield from _urls(rows)
        yield from _states(rows)
        yield from _jobs(rows)
        yield from _rates(snapshot.rates)
        yield GaugeMetricFamily(
            "esa_preload_in_flight_batches", "Batches this process holds.", value=snapshot.in_flight_batches
        )
        yield GaugeMetricFamily(
            "esa_preload_redis_up", "1 while Redis answers.", value=float(snapshot.redis_up)
        )


_Row = tuple[str, "Sequence[SiteFigures]"]
"""A label, and the sites that it stands for."""


def _urls(rows: Sequence[_Row]) -> Iterator[Metric]:
    accepted = CounterMetricFamily(
        "esa_preload_urls_accepted", "URLs taken into the queue, merged ones among them.", labels=["site"]
    )
    merged = CounterMetricFamily(
        "esa_preload_urls_merged", "URLs that were already pending for somebody.", labels=["site"]
    )
    pending = GaugeMetricFamily("esa_preload_pending_urls", "URLs that wait to be claimed.", labels=["site"])
    oldest = GaugeMetricFamily(
        "esa_preload_oldest_pending_seconds", "Age of the oldest of them.", labels=["site"]
    )
    unaccounted = GaugeMetricFamily(
        "esa_preload_ledger_unaccounted_urls", "URLs that the totals do not account for.", labels=["site"]
    )
    for label, sites in rows:
        accepted.add_metric([label], sum(site.accepted for site in sites))
        merged.add_metric([label], sum(site.merged for site in sites))
        pending.add_metric([label], sum(site.pending for site in sites))
        oldest.add_metric([label], max(site.oldest_pending_s for site in sites))
        unaccounted.add_metric([label], sum(site.unaccounted for site in sites))
    yield from (accepted, merged, pending, oldest, unaccounted)


def _states(rows: Sequence[_Row]) -> Iterator[Metric]:
    blocked = GaugeMetricFamily(
        "esa_preload_site_blocked", "1 while a person must act.", labels=["site", "reason"]
    )
    waiting = GaugeMetricFamily(
        "esa_preload_site_waiting", "1 while the site waits or is paused.", labels=["site", "reason"]
    )
    for label, sites in rows:
        for reason in sorted({site.blocked for site in sites if site.blocked}):
            blocked.add_metric([label, reason], 1)
        for reason in sorted({site.waiting for site in sites if site.waiting}):
            waiting.add_metric([label, reason], 1)
    yield from (blocked, waiting)


def _jobs(rows: Sequence[_Row]) -> Iterator[Metric]:
    jobs = GaugeMetricFamily("esa_preload_site_jobs", "Jobs of ours that ESA holds.", labels=["site"])
    job_cap = GaugeMetricFamily(
        "esa_preload_site_job_cap", "As many jobs of ours as ESA allows.", labels=["site"]
    )
    for label, sites in rows:
        jobs.add_metric([label], sum(site.jobs for site in sites))
        if caps := [site.job_cap for site in sites if site.job_cap is not None]:
            job_cap.add_metric([label], sum(caps))
    yield from (jobs, job_cap)


def _rates(rates: Mapping[str, OperationRate]) -> Iterator[Metric]:
    rate = GaugeMetricFamily("esa_preload_rate_limit", "Calls/s now allowed.", labels=["operation"])
    cooldown = GaugeMetricFamily(
        "esa_preload_cooldown_seconds", "Left of the cooldown.", labels=["operation"]
    )
    for operation, now in rates.items():
        rate.add_metric([operation], now.rate)
        cooldown.add_metric([operation], now.cooldown_s)
    yield from (rate, cooldown)


class _LedgerMetrics(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.ledger_families()


def site_figures(site_id: int, record: Mapping[str, str], oldest_ms: int | None, now_ms: int) -> SiteFigures:
    """Return a site's figures from its record."""
    return SiteFigures(
        site_id=site_id,
        accepted=int(record.get("accepted", 0)),
        merged=int(record.get("merged", 0)),
        pending=int(record.get("pending", 0)),
        oldest_pending_s=0.0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
        blocked=block_reason(record["blocked_code"]) if "blocked_code" in record else "",
        waiting=_wait_reason(record, now_ms),
        unaccounted=_unaccounted(record),
        jobs=int(record.get("jobs", 0)),
        job_cap=job_cap_of(record, now_ms),
    )


def _wait_reason(record: Mapping[str, str], now_ms: int) -> str:
    match site_state(record, now_ms):
        case "paused", _:
            return "paused"
        case "waiting", reason:
            return reason if reason in WAIT_REASONS else "other"
        case _:
            return ""


def _unaccounted(record: Mapping[str, str]) -> int:
    """Return how many URLs were accepted and are nowhere, or pending and in no lane, or the other way round."""

    def total(*names: str) -> int:
        return sum(int(record.get(name, 0)) for name in names)

    missing = total("accepted") - total("merged", "pending", "in_flight", *ENDS)
    stranded = total("pending") - total("in_lanes")
    return abs(missing) + abs(stranded)
