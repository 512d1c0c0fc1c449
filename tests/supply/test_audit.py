"""What `make audit` makes of what it is told; it asks nobody here."""

from __future__ import annotations

from typing import Any

import pytest

from supply.audit import (
    ALLOWED,
    LOCKS,
    PRODUCTION,
    READ_BY_HAND,
    SPELLINGS,
    findings,
    licences,
    locked_names,
    not_allowed,
)


def test_a_release_that_could_not_be_looked_up_is_not_one_without_faults() -> None:
    """pip-audit ends with 0 when the database knew nothing at all: what it skipped is counted apart."""
    document: dict[str, Any] = {
        "dependencies": [
            {"name": "good", "version": "1", "vulns": []},
            {"name": "bad", "version": "2", "vulns": [{"id": "PYSEC-1"}, {"id": "PYSEC-2"}]},
            {"name": "strange", "skip_reason": "not found"},
        ]
    }
    found = findings(document)
    assert (found.looked_up, found.unknown) == (2, ["strange"])
    assert found.vulnerable == {"bad 2": ["PYSEC-1", "PYSEC-2"]}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("MIT", {"MIT"}),
        ("Apache Software License", {"Apache-2.0"}),
        ("Apache-2.0 OR GPL-3.0", {"Apache-2.0"}),
        ("GPL-3.0 OR Apache-2.0", {"Apache-2.0"}),
        ("BSD-3-Clause AND MIT", {"BSD-3-Clause", "MIT"}),
        ("Apache Software License; MIT License", {"Apache-2.0", "MIT"}),
        ("MIT AND GPL-3.0", {"MIT", "GPL-3.0"}),
    ],
)
def test_licences_are_read_from_names_and_expressions(text: str, named: set[str]) -> None:
    """All of an AND count; of an OR one that is allowed is enough."""
    assert licences(text) == named


def test_a_licence_that_is_not_on_the_list_is_found() -> None:
    """Copyleft, a licence nobody knows, and none at all; one that a person has read is known by its package."""
    [by_hand] = READ_BY_HAND
    told = {"a": "GPL-3.0", "b": "UNKNOWN", "c": "MIT", by_hand: "a long text", "d": "MIT AND AGPL-3.0"}
    packages = [{"Name": name, "License": text} for name, text in told.items()]
    assert set(not_allowed(packages)) == {"a", "b", "d"}
    assert set(SPELLINGS.values()) | set(READ_BY_HAND.values()) <= ALLOWED


def test_every_lock_names_what_is_audited() -> None:
    """Names are read from each lock, extras left out, and production has those that the worker and the API need."""
    assert locked_names("coverage[toml]==7.1 \\\n    --hash=sha256:0\n# via x\nredis==5.3 \\\n") == [
        "coverage",
        "redis",
    ]
    assert {"redis", "arq", "httpx", "fastapi"} <= set(locked_names(PRODUCTION.read_text()))
    assert all(locked_names(lock.read_text()) for lock in LOCKS.glob("*.txt"))
