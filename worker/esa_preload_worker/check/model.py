"""What a check says: an outcome of the environment's, a violation in the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one check of the environment found: a sentence, and what to do about it where something is to be done."""

    name: str
    state: State
    sentence: str
    hint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """
    An invariant of the ledger that does not hold.

    Attributes:
        name: of the invariant, from a closed set.
        key: the key that is wrong.
        found: what it holds; ``expected``: what it should.
        site, lane, request: what ``--repair`` would mend; all empty for what belongs to no site.
        repairable: whether it is derived from other data, so that ``--repair`` mends it.
    """

    name: str
    key: str
    found: str
    expected: str
    site: str = ""
    lane: str = ""
    request: str = ""
    repairable: bool = False

    def as_json(self) -> dict[str, object]:
        """Return what ``--json`` prints of it."""
        return {
            "name": self.name,
            "key": self.key,
            "found": self.found,
            "expected": self.expected,
            "repairable": self.repairable,
        }
