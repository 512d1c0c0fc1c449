"""Each promise of the page of guarantees names a test that there is."""

from __future__ import annotations

import re

from docs.pages import DOCS, ROOT, code_spans, read

TEXT = read(DOCS / "explanation" / "guarantees.md")
TARGETS = re.findall(r"^([a-z-]+):", read(ROOT / "Makefile"), re.MULTILINE)


def promises() -> list[list[str]]:
    """Return the cells of each row below a header ``promise | test``."""
    found: list[list[str]] = []
    of_promises = False
    for line in TEXT.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        of_promises = cells[:2] == ["promise", "test"] or (of_promises and bool(cells))
        if of_promises and cells[0] != "promise" and not cells[0].startswith("---"):
            found.append(cells)
    return found


def test_each_promise_names_a_test_that_there_is() -> None:
    """A file or folder below tests, or a target of the Makefile; no promise goes without one."""
    rows = promises()
    assert len(rows) > 20
    for promise, tests, *_ in rows:
        assert code_spans(tests), promise
        for name in code_spans(tests):
            _, _, target = name.partition("make ")
            assert target in TARGETS if target else (ROOT / name).exists(), (promise, name)


def test_every_test_that_a_sentence_names_is_there() -> None:
    """The tests named outside the tables exist too."""
    for name in code_spans(TEXT):
        assert not name.startswith("tests/") or (ROOT / name).exists(), name
