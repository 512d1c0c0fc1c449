"""What docs/how-to/rehearse-an-incident.md puts into the sandbox is what the sandbox takes."""

from __future__ import annotations

import re

import pytest

from docs.pages import DOCS, code_spans, read, table
from esa_preload_worker.sandbox.control import changes_of

PAGE = read(DOCS / "how-to" / "rehearse-an-incident.md")
ROWS = table(PAGE, "drill", "put into `/_sandbox/config`", "what you should see", "what must not happen")


@pytest.mark.parametrize(("drill", "document"), [(row[0], code_spans(row[1])[0]) for row in ROWS])
def test_each_drill_is_a_change_that_the_sandbox_takes(drill: str, document: str) -> None:
    """Each document parses, and changes something."""
    assert changes_of(document.encode()), drill


def test_the_way_back_undoes_every_drill() -> None:
    """The command that ends a drill resets each field that any of them sets."""
    [back] = re.findall(r"-d '(.+)'", PAGE)
    touched = {field for row in ROWS for field in changes_of(code_spans(row[1])[0].encode())}
    assert touched == set(changes_of(back.encode()))
