"""Panels and their queries. A query names only metrics and labels that a worker has: anything else fails when it is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deploy.promql import SCRAPE_LABELS
from metric_families import series

SERIES = series()
Kind = Literal["timeseries", "stat", "table"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query, and what each of its lines is called, in Grafana's notation."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """
    One panel.

    Attributes:
        width: of 24 columns.
        unit: as Grafana calls it.
        is_empty_when_healthy: no data is good news.
    """

    title: str
    description: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    width: int = 8
    is_empty_when_healthy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """A page: rows of panels, each under a heading."""

    uid: str
    title: str
    description: str
    has_site: bool
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]

    @property
    def panels(self) -> list[Panel]:
        """Every panel, in order."""
        return [panel for _, panels in self.rows for panel in panels]


def selector(metric: str, /, *, site: bool = False, **matchers: str) -> str:
    """
    Return the selector of a worker's *metric*; ``site`` keeps that of the page only, a value after ``!`` is left out.

    Raises:
        LookupError: a worker has no such metric, or none with such a label.
    """
    name = f"esa_preload_{metric}"
    written = {"job": 'job=~"$job"'} | ({"site": 'site="$site"'} if site else {})
    for label, value in matchers.items():
        is_without = value.startswith("!")
        written[label] = f'{label}{"!~" if is_without else "=~"}"{value.removeprefix("!")}"'
    if unknown := written.keys() - SERIES[name] - SCRAPE_LABELS:
        raise LookupError(f"{name} has no label {', '.join(unknown)}")
    return f"{name}{{{','.join(written.values())}}}"


def ledger(metric: str, *by: str, site: bool = False, **matchers: str) -> str:
    """Return what the ledger says, which is equal on every worker."""
    return f"max by ({', '.join(_known(metric, by))}) ({selector(metric, site=site, **matchers)})"


def total(metric: str, *by: str, site: bool = False, **matchers: str) -> str:
    """Return a gauge of processes, added up."""
    return f"sum by ({', '.join(_known(metric, by))}) ({selector(metric, site=site, **matchers)})"


def rate(metric: str, *by: str, site: bool = False, **matchers: str) -> str:
    """Return the rate of what each process counts, added up."""
    chosen = selector(metric, site=site, **matchers)
    return f"sum by ({', '.join(_known(metric, by))}) (rate({chosen}[$__rate_interval]))"


def ledger_rate(metric: str, *by: str, site: bool = False) -> str:
    """Return the rate of what the ledger counts, once."""
    return f"max by ({', '.join(_known(metric, by))}) (rate({selector(metric, site=site)}[$__rate_interval]))"


def quantile(share: float, metric: str, *by: str) -> str:
    """Return a quantile of a histogram over all processes."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', 'le', *by)})"


def query(expr: str, legend: str) -> Query:
    """Return a query."""
    return Query(expr=expr, legend=legend)


def _known(metric: str, by: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := set(by) - SERIES[f"esa_preload_{metric}"] - SCRAPE_LABELS:
        raise LookupError(f"esa_preload_{metric} has no label {', '.join(unknown)}")
    return by
