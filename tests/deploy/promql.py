"""What an expression of PromQL names: series, recorded series, labels. Enough to hold expressions to the code."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRAPE_LABELS = frozenset({"instance", "pod", "job"})
"""What a scrape adds."""

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"(?<![\w:])([a-zA-Z_:][\w:]*)\s*\{([^}]*)\}")
_NAME = re.compile(r"(?<![\w:])(?:esa_preload_\w+|[\w:]*:[\w:]+)")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_MATCHER = re.compile(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)")


def names(expr: str) -> set[str]:
    """Return the series that *expr* selects, recorded ones included (they have a colon)."""
    without = _GROUPING.sub(" ", re.sub(r"\[[^\]]*\]", "", _STRING.sub('""', expr)))
    return set(_NAME.findall(without))


def matched_labels(expr: str) -> dict[str, set[str]]:
    """Return series → labels that a selector of *expr* matches on."""
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(_STRING.sub('""', expr)):
        found.setdefault(name, set()).update(_MATCHER.findall(matchers))
    return found


def grouping_labels(expr: str) -> set[str]:
    """Return the labels that *expr* aggregates or matches vectors by."""
    return {label.strip() for group in _GROUPING.findall(expr) for label in group.split(",") if label.strip()}


def faults(expr: str, series: Mapping[str, frozenset[str]], recorded: Mapping[str, str]) -> list[str]:
    """Return what *expr* names that neither a worker nor a recording rule has."""
    found = [f"no series {name}" for name in names(expr) if name not in series and name not in recorded]
    for name, labels in matched_labels(expr).items():
        unknown = labels - series.get(name, frozenset()) - SCRAPE_LABELS
        found += [f"no label {label} of {name}" for label in unknown]
    known = labels_of(expr, series, recorded) | SCRAPE_LABELS
    return found + [f"no label {label}" for label in grouping_labels(expr) - known]


def labels_of(expr: str, series: Mapping[str, frozenset[str]], recorded: Mapping[str, str]) -> set[str]:
    """Return the labels that the series behind *expr* have, also behind recorded ones."""
    found: set[str] = set()
    for name in names(expr):
        if name in recorded:
            found |= labels_of(recorded[name], series, recorded)
        else:
            found |= series.get(name, frozenset())
    return found
