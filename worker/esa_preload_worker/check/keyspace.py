"""What a key's name says: which keys are kept for good, which go with their work, and what they belong to."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

PERMANENT = re.compile(r"meta|settings|sites|site:\d+|rate:\w+")
"""Kept for good: bounded by the number of sites and operations."""

WHILE_WORK_IS_LEFT = re.compile(
    r"ring|leases|queue|open|expiring|active|dropping|waiters|workers|(lanes|parts|active):\d+|(lane|urls|band):\d+:.*"
    r"|(batch|split|held|bulk):[^:]+|request:\d+|request-id:.+|chunks:\d+",
    re.DOTALL,
)
"""Go, or get a TTL, when the work they belong to has ended."""

_OF_SITE = re.compile(r"(?:site|lanes|parts):(\d+)")
_OF_LANE = re.compile(r"(?:lane|urls):(\d+):(.*)", re.DOTALL)
_OF_BAND = re.compile(r"band:(\d+):(.*):[012]", re.DOTALL)


def needs_ttl(name: str) -> bool:
    """Tell whether a key (without the namespace's prefix) must have a TTL whatever else is true."""
    return not (PERMANENT.fullmatch(name) or WHILE_WORK_IS_LEFT.fullmatch(name))


@dataclass(slots=True)
class Found:
    """What the names of the keys tell of: lanes by site, batches, requests by number, roots of splits, bulk batches, versions are elsewhere."""

    lanes: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    batches: set[str] = field(default_factory=set[str])
    roots: set[str] = field(default_factory=set[str])
    bulks: set[str] = field(default_factory=set[str])
    requests: set[int] = field(default_factory=set[int])
    chunks: set[int] = field(default_factory=set[int])

    def note(self, name: str) -> None:
        """Note what the key *name* (without the prefix) belongs to."""
        kind, _, rest = name.partition(":")
        match kind:
            case "request" if rest.isdigit():
                self.requests.add(int(rest))
            case "chunks" if rest.isdigit():
                self.chunks.add(int(rest))
            case "batch":
                self.batches.add(rest)
            case "split" | "held":
                self.roots.add(rest)
            case "bulk":
                self.bulks.add(rest)
            case "site" | "lanes" | "parts":
                if found := _OF_SITE.fullmatch(name):
                    self.lanes.setdefault(found[1], set())
            case "lane" | "urls" | "band":
                if found := (_OF_BAND if kind == "band" else _OF_LANE).fullmatch(name):
                    self.lanes.setdefault(found[1], set()).add(found[2])
            case _:
                pass
