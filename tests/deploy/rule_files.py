"""The rules of deploy/prometheus, as they are shipped."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROMETHEUS_DIR = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
RULE_FILES = sorted((PROMETHEUS_DIR / "rules").glob("*.yml"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """An alert rule."""

    name: str
    expr: str
    severity: str
    annotations: dict[str, str]


def load(path: Path) -> Any:
    """Return what a YAML file holds."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def _rules() -> list[dict[str, Any]]:
    return [rule for path in RULE_FILES for group in load(path)["groups"] for rule in group["rules"]]


def alerts() -> list[Alert]:
    """Return every alert, in the order of the files."""
    return [
        Alert(
            name=rule["alert"],
            expr=rule["expr"],
            severity=rule["labels"]["severity"],
            annotations=rule["annotations"],
        )
        for rule in _rules()
        if "alert" in rule
    ]


def recordings() -> dict[str, str]:
    """Return name → expression of every recording rule."""
    return {rule["record"]: rule["expr"] for rule in _rules() if "record" in rule}
