"""docs/how-to/trace-a-request.md lists exactly the spans and attributes that the code makes."""

from __future__ import annotations

import re
from pathlib import Path

import esa_preload.tracing
import esa_preload_worker.tracing
from docs.pages import DOCS, code_spans, read, table
from esa_preload_worker.ledger import TRACES_MAX

PAGE = read(DOCS / "how-to" / "trace-a-request.md")
SOURCES = [
    Path(module.__file__ or "").read_text() for module in (esa_preload.tracing, esa_preload_worker.tracing)
]


def test_the_page_lists_exactly_the_attributes_of_the_code() -> None:
    """Every literal attribute of a span is on the page, and every one on the page is in the code."""
    listed = {
        name
        for *_, attributes in table(PAGE, "span", "kind", "in", "attributes")
        for name in code_spans(attributes)
    }
    written = {
        name for text in SOURCES for name in re.findall(r'"((?:esa_preload|error|rpc)\.[a-z_.]+)"', text)
    }
    counts = re.search(r'for name in \(([^)]*)\):\n\s+self\._note\(f"esa_preload', SOURCES[0])
    assert counts
    written |= {f"esa_preload.{name}" for name in re.findall(r'"(\w+)"', counts[1])}
    assert listed == written


def test_the_page_lists_exactly_the_spans_of_the_code() -> None:
    """The names of spans agree, and so does the bound of their links."""
    listed = {code_spans(name)[0] for name, *_ in table(PAGE, "span", "kind", "in", "attributes")}
    written = {
        name.replace("{operation}", "<operation>")
        for text in SOURCES
        for name in re.findall(r'"(preload \w+|ESA \{operation\})"', text)
    }
    assert listed == written
    assert f"up to {TRACES_MAX} requests" in PAGE
