"""The metrics that a process has, as the code declares them: what pages, rules and dashboards are held to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from prometheus_client.metrics import MetricWrapperBase

from esa_preload.api.metrics import Metrics as ApiMetrics
from esa_preload_worker.claims import OperationRate
from esa_preload_worker.metrics import Metrics, SiteFigures, Snapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its type as Prometheus names it, its labels without a histogram's ``le``, its help."""

    kind: str
    labels: frozenset[str]
    help: str


def families() -> dict[str, Family]:
    """Return name → family of every metric, each made to show at least one sample."""
    metrics = Metrics(version="1.2.3")
    metrics.snapshot = Snapshot(
        redis_up=True,
        sites=[SiteFigures(site_id=1, blocked="request", waiting="quota", job_cap=1)],
        rates={"CreateScheduledPreloadJob": OperationRate(rate=1, cooldown_s=0)},
    )
    return families_of(metrics, metrics.registry)


def families_of(metrics: object, registry: CollectorRegistry) -> dict[str, Family]:
    """Return name → family of the metrics that *metrics* has as attributes, and of what else is in its *registry*."""
    for metric in cast("dict[str, object]", vars(metrics)).values():
        if isinstance(metric, MetricWrapperBase):
            names = cast("tuple[str, ...]", cast("Any", metric)._labelnames)
            if names:
                metric.labels(*("x" for _ in names))
    found: dict[str, Family] = {}
    for family in registry.collect():
        samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
        labels = frozenset(label for sample in samples for label in sample.labels) - {"le"}
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = Family(kind=family.type, labels=labels, help=family.documentation)
    return found


def api_families() -> dict[str, Family]:
    """Return name → family of every metric of the HTTP API; two have the same name and meaning as a worker's."""
    metrics = ApiMetrics(version="1.2.3")
    return families_of(metrics, metrics.registry)


def series() -> dict[str, frozenset[str]]:
    """Return the name of each series as a query names it, with its labels: a histogram has three."""
    found: dict[str, frozenset[str]] = {}
    for name, family in (api_families() | families()).items():
        if family.kind == "histogram":
            found |= {f"{name}_bucket": family.labels | {"le"}}
            found |= {f"{name}_{part}": family.labels for part in ("sum", "count")}
        else:
            found[name] = family.labels
    return found
