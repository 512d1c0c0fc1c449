"""The rules of Prometheus: each alert fires by the matching series and only by them, and names nothing that no worker has."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from deploy.alert_cases import CASES, on_all
from deploy.programs import AMTOOL, PROMTOOL, program
from deploy.promql import faults, labels_of
from deploy.rule_files import PROMETHEUS_DIR, RULE_FILES, Alert, alerts, recordings
from docs.pages import DOCS, anchors, read
from esa_preload_worker.metrics import BATCH_ENDS, LATENCY_BUCKETS, Metrics
from metric_families import series

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.alert_cases import Case, Series

SERIES = series()
RECORDED = recordings()
RUNBOOK = "docs/how-to/runbook.md"


def run(*command: str) -> str:
    """Run a program that must end well, and return what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_prometheus_and_alertmanager_accept_what_is_shipped() -> None:
    """Rules and configurations parse, and nothing in them is odd."""
    promtool, amtool = program(PROMTOOL), program(AMTOOL)
    run(promtool, "check", "rules", *map(str, RULE_FILES))
    said = run(promtool, "check", "config", str(PROMETHEUS_DIR / "prometheus.yml"))
    assert f"{len(RULE_FILES)} rule files found" in said
    run(amtool, "check-config", str(PROMETHEUS_DIR / "alertmanager.yml"))


def test_each_alert_fires_by_its_series_and_by_no_other_of_the_table(tmp_path: Path) -> None:
    """What fires has exactly the labels of the table; what is much like it does not fire."""
    promtool = program(PROMTOOL)
    assert [case.alert for case in CASES if case.alert not in {alert.name for alert in alerts()}] == []
    # What takes hours is looked at less often; still within the five minutes for which a recorded value holds.
    for interval, is_long in (("1m", False), ("4m", True)):
        cases = [case for case in CASES if case.at.endswith("h") == is_long]
        tests = [test for case in cases for test in _tests_of(case)]
        run(promtool, "test", "rules", _test_file(tmp_path, tests, interval=interval))


def test_it_is_told_where_no_worker_ever_was(tmp_path: Path) -> None:
    """With nothing in Prometheus at all there is no job to name, and somebody is told all the same."""
    query = 'ALERTS{alertname="EsaPreloadWorkersAbsent",alertstate="firing"}'
    sample = {"labels": f'{query[:-1]},severity="critical"}}', "value": 1}
    test = {
        "interval": "1m",
        "promql_expr_test": [{"expr": query, "eval_time": "3m", "exp_samples": [sample]}],
    }
    run(program(PROMTOOL), "test", "rules", _test_file(tmp_path, [test]))


def test_a_test_of_an_alert_can_fail(tmp_path: Path) -> None:
    """promtool does notice an alert that does not fire."""
    quiet = CASES[3]
    (test,) = [_test(quiet, quiet.quiet[0], fires=True)]
    done = subprocess.run(
        [program(PROMTOOL), "test", "rules", _test_file(tmp_path, [test])], capture_output=True, check=False
    )
    assert done.returncode != 0


@pytest.mark.parametrize("base", ["", "https://wiki.example.com/esa-preload"])
def test_an_alert_links_its_section_where_you_say(tmp_path: Path, base: str) -> None:
    """The link leads to the page here, or to where the external label says that it is; the rest names the site and why."""
    test: dict[str, Any] = {
        "interval": "1m",
        "input_series": _input(on_all("site_blocked", "1x10", site="7", reason="signature")),
        "alert_rule_test": [
            {
                "alertname": "EsaPreloadSiteBlocked",
                "eval_time": "3m",
                "exp_alerts": [
                    {
                        "exp_labels": {
                            "severity": "critical",
                            "job": "esa-preload-worker",
                            "site": "7",
                            "reason": "signature",
                        },
                        "exp_annotations": {
                            "summary": "Site 7 is blocked: signature",
                            "description": "ESA refuses what is sent for site 7 (signature): nothing of it is submitted, "
                            "but a probe a minute, until a person acts. Nothing is lost.",
                            "runbook_url": f"{base or RUNBOOK}#esapreloadsiteblocked",
                        },
                    }
                ],
            }
        ],
    }
    if base:
        test["external_labels"] = {"runbook_base": base}
        # promtool adds external labels to nothing but templates.
    run(program(PROMTOOL), "test", "rules", _test_file(tmp_path, [test]))


def test_the_table_has_each_alert_once() -> None:
    """No alert is without a test."""
    assert sorted(case.alert for case in CASES) == sorted(alert.name for alert in alerts())


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert.name)
def test_an_alert_says_what_a_person_needs(alert: Alert) -> None:
    """Severity, summary, description, a link to a section that exists; it names the site, the operation or the check that it is about."""
    assert re.fullmatch(r"EsaPreload[A-Z]\w+", alert.name)
    assert alert.severity in {"critical", "warning"}
    assert alert.annotations.keys() == {"summary", "description", "runbook_url"}
    anchor = alert.annotations["runbook_url"].rpartition("#")[2]
    assert anchor == alert.name.lower()
    assert anchor in anchors(read(DOCS / "how-to" / "runbook.md"))
    (case,) = [case for case in CASES if case.alert == alert.name]
    text = alert.annotations["summary"] + alert.annotations["description"]
    used = set(re.findall(r"\$labels\.(\w+)", text))
    assert used <= labels_of(alert.expr, SERIES, RECORDED) | {"job"}
    for label in case.labels.keys() - {"job"}:
        assert label in used, f"{alert.name} does not say which {label}"


@pytest.mark.parametrize(
    ("name", "expr"), [*RECORDED.items(), *((alert.name, alert.expr) for alert in alerts())]
)
def test_rules_name_only_what_exists(name: str, expr: str) -> None:
    """Each metric, each label of it, and each recorded series is one that there is."""
    assert faults(expr, SERIES, RECORDED) == [], name


def test_a_rule_that_names_what_does_not_exist_is_found() -> None:
    """The check above can fail: a metric, a label of a selector, one of an aggregation, and a recorded series are each found."""
    for expr in (
        "esa_preload_pendign_urls",
        'esa_preload_pending_urls{sight="1"}',
        "sum by (sight) (esa_preload_pending_urls)",
        "site:esa_preload_pending_urls:min > 1",
    ):
        assert faults(expr, SERIES, RECORDED), expr


def test_every_recorded_series_is_used() -> None:
    """None is recorded for nothing."""
    used = " ".join(alert.expr for alert in alerts()) + " ".join(RECORDED.values())
    assert [name for name in RECORDED if name not in used] == []


def test_the_latency_of_the_objective_is_a_bound_of_the_histogram() -> None:
    """A share of batches within a time can be told exactly only where the histogram has a bound."""
    bounds = {bound for expr in RECORDED.values() for bound in re.findall(r'le="([^"]+)"', expr)}
    assert bounds
    assert {float(bound) for bound in bounds} <= set(LATENCY_BUCKETS)
    assert all(bound == str(float(bound)) for bound in bounds), "as the worker writes it"


def test_progress_is_what_is_counted_from_the_start() -> None:
    """What counts as progress is what a worker shows from its start on: its first batch is an increase."""
    (said,) = re.findall(r'outcome=~"([^"]+)"', RECORDED["esa_preload:batches_ended:increase10m"])
    assert sorted(said.split("|")) == sorted(BATCH_ENDS)
    shown = Metrics(version="1").registry
    for outcome in BATCH_ENDS:
        assert shown.get_sample_value("esa_preload_batches_total", {"outcome": outcome}) == 0


def _tests_of(case: Case) -> list[dict[str, Any]]:
    return [
        _test(case, case.fires, fires=True),
        *(_test(case, quiet, fires=False) for quiet in case.quiet),
    ]


def _test(case: Case, values: Series, *, fires: bool) -> dict[str, Any]:
    severity = next(alert.severity for alert in alerts() if alert.name == case.alert)
    labels = {"alertname": case.alert, "alertstate": "firing", "severity": severity, **case.labels}
    written = ",".join(f'{label}="{value}"' for label, value in labels.items())
    expected = [{"labels": f"ALERTS{{{written}}}", "value": 1}] if fires else []
    query = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    return {
        "interval": "1m",
        "input_series": _input(values),
        "promql_expr_test": [{"expr": query, "eval_time": case.at, "exp_samples": expected}],
    }


def _input(values: Series) -> list[dict[str, str]]:
    return [{"series": name, "values": numbers} for name, numbers in values.items()]


def _test_file(tmp_path: Path, tests: list[dict[str, Any]], *, interval: str = "1m") -> str:
    path = tmp_path / "tests.yml"
    document = {"rule_files": list(map(str, RULE_FILES)), "evaluation_interval": interval, "tests": tests}
    path.write_text(json.dumps(document), encoding="utf-8")  # which is YAML, too
    return str(path)
