"""The shipped rules and configurations, sixty times as quick: minutes become seconds. Nothing else of them is changed."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from deploy.rule_files import PROMETHEUS_DIR, RULE_FILES, load

if TYPE_CHECKING:
    from pathlib import Path

QUICKER = 60
SCRAPE = "1s"
"""A quarter of a second, as scaled, is too short for a scrape on a busy machine."""

_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def quickened(duration: str) -> str:
    """Return *duration*, such as ``15m``, sixty times as short."""
    found = re.fullmatch(r"(\d+)([smhd])", duration)
    assert found, duration
    return f"{int(found[1]) * _UNITS_MS[found[2]] // QUICKER}ms"


def quickened_expr(expr: str) -> str:
    """Return *expr* with ranges that are sixty times as short."""
    return re.sub(r"\[(\w+)\]", lambda found: f"[{quickened(found[1])}]", expr)


def write_rules(directory: Path) -> None:
    """Write the rules into *directory*."""
    for path in RULE_FILES:
        document = load(path)
        for group in document["groups"]:
            for rule in group["rules"]:
                rule["expr"] = quickened_expr(rule["expr"])
                if "for" in rule:
                    rule["for"] = quickened(rule["for"])
        _write(directory / path.name, document)


def write_targets(directory: Path, job: str, urls: list[str]) -> None:
    """Write whom Prometheus scrapes for *job*; it reads that again when it changes."""
    hosts = [url.removeprefix("http://") for url in urls]
    fresh = _write(directory / f"{job}.new", [{"targets": hosts}])
    fresh.replace(directory / f"{job}.json")


def write_prometheus(directory: Path, *, alertmanager: str) -> Path:
    """Write Prometheus's configuration, its rules beside it, and return its path: it scrapes the targets and tells *alertmanager*."""
    document = load(PROMETHEUS_DIR / "prometheus.yml")
    document["global"] |= {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE, "evaluation_interval": SCRAPE}
    (directory / "rules").mkdir()
    write_rules(directory / "rules")
    document["alerting"]["alertmanagers"] = [{"static_configs": [{"targets": [alertmanager]}]}]
    for scraped in document["scrape_configs"]:
        del scraped["dns_sd_configs"]
        file = directory / f"{scraped['job_name']}.json"
        scraped["file_sd_configs"] = [{"files": [str(file)], "refresh_interval": "1s"}]
    return _write(directory / "prometheus.yml", document)


def write_alertmanager(directory: Path, *, receiver: str) -> Path:
    """Write Alertmanager's configuration and return its path: it posts to the host and port of *receiver*."""
    document = load(PROMETHEUS_DIR / "alertmanager.yml")
    for name in ("group_wait", "group_interval"):
        document["route"][name] = quickened(document["route"][name])
    for one in document["receivers"]:
        for hook in one["webhook_configs"]:
            hook["url"] = hook["url"].replace("127.0.0.1:9099", receiver)
            assert receiver in hook["url"]
    return _write(directory / "alertmanager.yml", document)


def _write(path: Path, document: Any) -> Path:
    path.write_text(json.dumps(document), encoding="utf-8")  # which is YAML, too
    return path
