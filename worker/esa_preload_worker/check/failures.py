"""What must hold of a site's failures: each entry says what `requeue` and people need, and there are not more than URLs ended so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from esa_preload.model import LIST_LANE
from esa_preload_worker.check.model import Violation

if TYPE_CHECKING:
    from collections.abc import Mapping

STATES = ("refused", "unknown", "expired")
_FIELDS = frozenset({"url", "state", "reason", "code", "at", "batch", "lane"})


@dataclass(slots=True)
class FailuresSeen:
    """What was met in one stream: entries, those of each state that are not of lists in OSS, and the ids of broken ones."""

    entries: int = 0
    by_state: Counter[str] = field(default_factory=Counter[str])
    broken: list[str] = field(default_factory=list[str])

    def add(self, entry_id: str, fields: Mapping[str, str]) -> None:
        """Count one entry."""
        self.entries += 1
        if not _is_whole(fields):
            self.broken.append(entry_id)
        elif not fields["lane"].startswith(LIST_LANE):  # one entry may stand for any number of URLs
            self.by_state[fields["state"]] += 1


def _is_whole(fields: Mapping[str, str]) -> bool:
    if not fields.keys() >= _FIELDS or not fields["url"] or fields["state"] not in STATES:
        return False
    # What expired was in no batch; whatever else ended did so in one.
    return fields["at"].isdigit() and (fields["state"] == "expired") == (not fields["batch"])


def judge_failures(prefix: str, site: str, seen: FailuresSeen, totals: Mapping[str, int]) -> list[Violation]:
    """Return what does not agree; *totals* were read after the entries, and only grow."""
    key = f"{prefix}failures:{site}"
    entry = f"URL, lane, moment and one of {', '.join(STATES)}, with a batch unless it expired"
    found = [("failure.entry", f"entry {entry_id}", entry) for entry_id in seen.broken]
    found += [
        (
            "failure.count",
            f"{seen.by_state[state]} {state}",
            f"{totals.get(state, 0)} at most: as many of the site's URLs ended so",
        )
        for state in STATES
        if seen.by_state[state] > totals.get(state, 0)
    ]
    return [
        Violation(name=name, key=key, found=what, expected=expected, site=site)
        for name, what, expected in found
    ]
