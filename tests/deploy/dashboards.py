"""
The dashboards of deploy/grafana, as code.

Run this file to write them: ``PYTHONPATH=tests .venv/bin/python tests/deploy/dashboards.py``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deploy.panels import Dashboard, Panel, ledger, ledger_rate, quantile, query, rate, selector, total

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

GRAFANA_DIR = Path(__file__).resolve().parents[2] / "deploy" / "grafana"
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
COLUMNS = 24
URL_RATE = "suffix:URLs/s"
HEIGHTS = {"stat": 4, "timeseries": 8, "table": 8}

_NOW = (
    Panel(
        title="Workers",
        description="That answer their scrape.",
        kind="stat",
        width=3,
        queries=(query(f"count({selector('in_flight_batches')})", "workers"),),
    ),
    Panel(
        title="Redis",
        description="0 while a worker cannot use it.",
        kind="stat",
        width=3,
        queries=(query(f"min({selector('redis_up')})", "up"),),
    ),
    Panel(
        title="Pending URLs",
        description="Over all sites.",
        kind="stat",
        width=4,
        queries=(query(f"sum({ledger('pending_urls', 'site')})", "pending"),),
    ),
    Panel(
        title="Oldest pending",
        description="Of any site.",
        kind="stat",
        width=4,
        unit="s",
        queries=(query(ledger("oldest_pending_seconds"), "age"),),
    ),
    Panel(
        title="In flight",
        description="Batches that the workers hold.",
        kind="stat",
        width=3,
        queries=(query(total("in_flight_batches"), "batches"),),
    ),
    Panel(
        title="Sites blocked",
        description="A person must act. The table below names them.",
        kind="stat",
        width=4,
        queries=(query(f"count({ledger('site_blocked', 'site')}) or vector(0)", "blocked"),),
    ),
    Panel(
        title="Version",
        description="Workers of each release.",
        kind="stat",
        width=3,
        queries=(query(total("build_info", "version"), "{{version}}"),),
    ),
)

_FLOW = (
    Panel(
        title="URLs in and out",
        description="Taken into the queue, merged with one that was pending, and submitted: work is done when accepted less merged is what is submitted.",
        width=12,
        unit=URL_RATE,
        queries=(
            query(f"sum({ledger_rate('urls_accepted_total', 'site')})", "accepted"),
            query(f"sum({ledger_rate('urls_merged_total', 'site')})", "merged"),
            query(rate("urls_submitted_total"), "submitted"),
        ),
    ),
    Panel(
        title="URLs that ended otherwise",
        description="Refused by ESA, expired while they waited, or with an end that ESA did not tell.",
        width=12,
        unit=URL_RATE,
        queries=(
            query(f"{rate('urls_refused_total', 'reason')} > 0", "refused: {{reason}}"),
            query(rate("urls_expired_total"), "expired"),
            query(rate("urls_unknown_total"), "unknown"),
        ),
    ),
    Panel(
        title="Pending by site",
        description="The ten sites with the most.",
        queries=(query(f"topk(10, {ledger('pending_urls', 'site')})", "{{site}}"),),
    ),
    Panel(
        title="Oldest pending by site",
        description="The ten that wait longest.",
        unit="s",
        queries=(query(f"topk(10, {ledger('oldest_pending_seconds', 'site')})", "{{site}}"),),
    ),
    Panel(
        title="From accept to submitted",
        description="Of the oldest URL of each batch. The objective: 99 % within five minutes.",
        unit="s",
        queries=tuple(
            query(quantile(share, "submit_latency_seconds"), f"{share:.0%}") for share in (0.5, 0.95, 0.99)
        ),
    ),
)

_ESA = (
    Panel(
        title="Calls",
        description="To ESA, repetitions included.",
        unit="reqps",
        queries=(query(rate("api_requests_total", "operation"), "{{operation}}"),),
    ),
    Panel(
        title="Calls that did not succeed",
        description="By their code. Throttling is normal while it is 2 to 3 % of the calls.",
        unit="reqps",
        is_empty_when_healthy=True,
        queries=(query(rate("api_requests_total", "code", code="!ok"), "{{code}}"),),
    ),
    Panel(
        title="Throttled share",
        description="Of the calls of each operation. An alert fires above 10 %.",
        unit="percentunit",
        is_empty_when_healthy=True,
        queries=(
            query(
                f"{rate('throttled_total', 'operation')} / {rate('api_requests_total', 'operation')}",
                "{{operation}}",
            ),
        ),
    ),
    Panel(
        title="Pace",
        description="Calls/s now allowed: shared by all workers, learnt from what ESA throttles.",
        unit="reqps",
        queries=(query(ledger("rate_limit", "operation"), "{{operation}}"),),
    ),
    Panel(
        title="Cooldown",
        description="How long nobody calls the operation yet.",
        unit="s",
        queries=(query(ledger("cooldown_seconds", "operation"), "{{operation}}"),),
    ),
    Panel(
        title="Time of a call",
        description="95 % of them are quicker.",
        unit="s",
        queries=(query(quantile(0.95, "api_request_seconds", "operation"), "{{operation}}"),),
    ),
)

_WORK = (
    Panel(
        title="Batches by outcome",
        description="How each claim of a batch ended: see docs/reference/outcomes.md.",
        unit="ops",
        queries=(query(rate("batches_total", "outcome"), "{{outcome}}"),),
    ),
    Panel(
        title="URLs a batch",
        description="Fuller batches need fewer calls and fewer jobs.",
        queries=(
            query(f"{rate('batch_urls_sum')} / {rate('batch_urls_count')}", "mean"),
            query(quantile(0.5, "batch_urls"), "50%"),
        ),
    ),
    Panel(
        title="Plans that ended, jobs deleted",
        description="Plans are followed to their end; their jobs are deleted when the retention is over.",
        unit="ops",
        is_empty_when_healthy=True,
        queries=(
            query(rate("plans_ended_total", "outcome"), "{{outcome}}"),
            query(rate("jobs_deleted_total"), "jobs deleted"),
        ),
    ),
    Panel(
        title="Sites that are blocked",
        description="A person must act: see the runbook, EsaPreloadSiteBlocked.",
        kind="table",
        is_empty_when_healthy=True,
        queries=(query(ledger("site_blocked", "site", "reason"), "{{site}}: {{reason}}"),),
    ),
    Panel(
        title="Sites that wait",
        description="For a quota, a place for a job, ESA, or an operator who paused them.",
        kind="table",
        is_empty_when_healthy=True,
        queries=(query(ledger("site_waiting", "site", "reason"), "{{site}}: {{reason}}"),),
    ),
    Panel(
        title="Places for jobs that are taken",
        description="Of those that ESA allows a site, where it is known. An alert fires above 80 %.",
        unit="percentunit",
        is_empty_when_healthy=True,
        queries=(query(f"{ledger('site_jobs', 'site')} / {ledger('site_job_cap', 'site')}", "{{site}}"),),
    ),
)

_HEALTH = (
    Panel(
        title="Redis: failed checks",
        description="1 while a worker finds Redis unfit for a queue; esa-preload-worker check says what to do.",
        queries=(query(ledger("redis_unfit", "check"), "{{check}}"),),
    ),
    Panel(
        title="URLs unaccounted for",
        description="Anything but 0 is a fault: see the runbook, EsaPreloadLedgerBroken.",
        queries=(query(ledger("ledger_unaccounted_urls", "site"), "{{site}}"),),
    ),
    Panel(
        title="Uncertain batches",
        description="After a lost reply: found by their name and adopted, or created again.",
        unit="ops",
        is_empty_when_healthy=True,
        queries=(query(rate("reconciled_total", "result"), "{{result}}"),),
    ),
)

_API = (
    Panel(
        title="Requests by HTTP",
        description="By their status; none without the HTTP API.",
        unit="reqps",
        queries=(query(rate("http_requests_total", "status"), "{{status}}"),),
    ),
    Panel(
        title="Time of a request",
        description="95 % of them are quicker, by route.",
        unit="s",
        queries=(query(quantile(0.95, "http_request_seconds", "route"), "{{route}}"),),
    ),
    Panel(
        title="URLs by HTTP",
        description="As the receipts say; merged ones are accepted, too.",
        unit=URL_RATE,
        queries=(query(rate("http_urls_total", "outcome"), "{{outcome}}"),),
    ),
)

OVERVIEW = Dashboard(
    uid="esa-preload-overview",
    title="esa-preload: overview",
    description="The queue, the workers, and ESA.",
    has_site=False,
    rows=(
        ("Now", _NOW),
        ("URLs", _FLOW),
        ("Calls of ESA", _ESA),
        ("Batches, jobs and sites", _WORK),
        ("The HTTP API", _API),
        ("Health", _HEALTH),
    ),
)

_SITE_NOW = (
    Panel(
        title="Pending URLs",
        description="That wait to be claimed.",
        kind="stat",
        width=4,
        queries=(query(ledger("pending_urls", site=True), "pending"),),
    ),
    Panel(
        title="Oldest pending",
        description="Age of the oldest of them.",
        kind="stat",
        width=4,
        unit="s",
        queries=(query(ledger("oldest_pending_seconds", site=True), "age"),),
    ),
    Panel(
        title="Jobs at ESA",
        description="Of ours.",
        kind="stat",
        width=4,
        queries=(query(ledger("site_jobs", site=True), "jobs"),),
    ),
    Panel(
        title="Places for jobs",
        description="As many of ours as ESA allows; unknown until it said that the site is full.",
        kind="stat",
        width=4,
        is_empty_when_healthy=True,
        queries=(query(ledger("site_job_cap", site=True), "places"),),
    ),
    Panel(
        title="Held by",
        description="What blocks the site, or what it waits for.",
        kind="stat",
        width=8,
        is_empty_when_healthy=True,
        queries=(
            query(ledger("site_blocked", "reason", site=True), "blocked: {{reason}}"),
            query(ledger("site_waiting", "reason", site=True), "waits: {{reason}}"),
        ),
    ),
)

_SITE_FLOW = (
    Panel(
        title="URLs in and out",
        description="Taken into the queue, merged with one that was pending, and submitted.",
        width=12,
        unit=URL_RATE,
        queries=(
            query(ledger_rate("urls_accepted_total", site=True), "accepted"),
            query(ledger_rate("urls_merged_total", site=True), "merged"),
            query(rate("urls_submitted_total", site=True), "submitted"),
        ),
    ),
    Panel(
        title="URLs that ended otherwise",
        description="Refused by ESA, expired while they waited, or with an end that ESA did not tell.",
        width=12,
        unit=URL_RATE,
        queries=(
            query(f"{rate('urls_refused_total', 'reason', site=True)} > 0", "refused: {{reason}}"),
            query(rate("urls_expired_total", site=True), "expired"),
            query(rate("urls_unknown_total", site=True), "unknown"),
        ),
    ),
    Panel(
        title="Backlog",
        description="URLs that wait to be claimed.",
        queries=(query(ledger("pending_urls", site=True), "pending"),),
    ),
    Panel(
        title="Age of the oldest",
        description="Of the pending URLs.",
        unit="s",
        queries=(query(ledger("oldest_pending_seconds", site=True), "age"),),
    ),
    Panel(
        title="Fetches that ESA reported",
        description="TaskSubmitted of the jobs, as ESA said it when they were created.",
        unit="ops",
        queries=(query(rate("tasks_submitted_total", site=True), "tasks"),),
    ),
    Panel(
        title="Jobs",
        description="Those of ours that ESA holds, and as many as it allows.",
        width=12,
        queries=(
            query(ledger("site_jobs", site=True), "jobs"),
            query(ledger("site_job_cap", site=True), "allowed"),
        ),
    ),
    Panel(
        title="URLs unaccounted for",
        description="Anything but 0 is a fault: see the runbook, EsaPreloadLedgerBroken.",
        width=12,
        queries=(query(ledger("ledger_unaccounted_urls", site=True), "URLs"),),
    ),
)

SITE = Dashboard(
    uid="esa-preload-site",
    title="esa-preload: one site",
    description="What waits, what ended how, and what holds it.",
    has_site=True,
    rows=(("Now", _SITE_NOW), ("URLs and jobs", _SITE_FLOW)),
)

DASHBOARDS = {"overview.json": OVERVIEW, "site.json": SITE}


def files() -> dict[Path, str]:
    """Return each file with its text."""
    return {GRAFANA_DIR / "dashboards" / name: text_of(page) for name, page in DASHBOARDS.items()}


def text_of(page: Dashboard) -> str:
    """Return a dashboard as Grafana reads it from a file."""
    document = {
        "uid": page.uid,
        "title": page.title,
        "description": page.description,
        "tags": ["esa-preload"],
        "timezone": "browser",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables(page)},
        "links": [{"type": "dashboards", "title": "esa-preload", "tags": ["esa-preload"], "keepTime": True}],
        "panels": list(_placed(page)),
    }
    return json.dumps(document, indent=2) + "\n"


def _variables(page: Dashboard) -> list[Mapping[str, Any]]:
    job = _variable("job", "label_values(esa_preload_build_info, job)")
    job |= {"includeAll": True, "multi": True, "current": {"text": "All", "value": "$__all"}}
    site = _variable("site", f"label_values({selector('pending_urls')}, site)")
    return [job, site] if page.has_site else [job]


def _variable(name: str, values: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "datasource": DATASOURCE,
        "query": {"query": values, "refId": name},
        "refresh": 2,
        "sort": 1,
    }


def _placed(page: Dashboard) -> Iterator[Mapping[str, Any]]:
    """Yield the panels with their places: from left to right, as many as fit."""
    number = y = 0
    for heading, panels in page.rows:
        number += 1
        place = {"x": 0, "y": y, "w": COLUMNS, "h": 1}
        yield {
            "id": number,
            "type": "row",
            "title": heading,
            "collapsed": False,
            "panels": [],
            "gridPos": place,
        }
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > COLUMNS:
                x, y, height = 0, y + height, 0
            number += 1
            height = max(height, HEIGHTS[panel.kind])
            yield _panel(panel, number, {"x": x, "y": y, "w": panel.width, "h": HEIGHTS[panel.kind]})
            x += panel.width
        y += height


def _panel(panel: Panel, number: int, place: Mapping[str, int]) -> dict[str, Any]:
    is_now = panel.kind != "timeseries"
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": _OPTIONS[panel.kind],
        "targets": [
            {
                "refId": chr(ord("A") + i),
                "datasource": DATASOURCE,
                "expr": asked.expr,
                "legendFormat": asked.legend,
                "instant": is_now,
                "range": not is_now,
                "format": "table" if panel.kind == "table" else "time_series",
            }
            for i, asked in enumerate(panel.queries)
        ],
    }


def _defaults(panel: Panel) -> dict[str, Any]:
    drawn = {"custom": {"fillOpacity": 10, "showPoints": "never"}} if panel.kind == "timeseries" else {}
    return {
        "unit": panel.unit,
        "min": 0,
        "noValue": "none" if panel.is_empty_when_healthy else "no data",
        **drawn,
    }


_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "timeseries": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
    "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "auto", "colorMode": "none"},
    "table": {"showHeader": True},
}


def main() -> None:
    """Write every dashboard."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path.name}\n")


if __name__ == "__main__":
    main()
