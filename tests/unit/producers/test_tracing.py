"""The trace context of a request as text."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.tracing import pack, unpack

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("traceparent", "tracestate", "packed"),
    [
        (PARENT, "", PARENT),
        (PARENT, "a=1,b=2", f"{PARENT} a=1,b=2"),
        (PARENT, "a=" + "x" * 600, PARENT),
        (PARENT, "a=1\nb=2", PARENT),
        (PARENT.replace("00-", "ff-", 1), "", ""),
        (PARENT.replace("0af7651916cd43dd8448eb211c80319c", "0" * 32), "", ""),
        (PARENT.replace("b7ad6b7169203331", "0" * 16), "", ""),
        (PARENT.upper(), "", ""),
        (f"{PARENT}\n", "", ""),
        ("", "a=1", ""),
    ],
)
def test_only_a_context_of_the_specification_is_packed(
    traceparent: str, tracestate: str, packed: str
) -> None:
    """What is no `traceparent` carries nothing; a `tracestate` that is too long or odd is dropped alone."""
    assert pack(traceparent, tracestate) == packed


@given(st.text(max_size=80), st.text(max_size=80))
def test_whatever_is_packed_is_one_printable_line(traceparent: str, tracestate: str) -> None:
    """No header can break the line that a context takes in the ledger's reply."""
    for parent in (traceparent, PARENT):
        packed = pack(parent, tracestate)
        assert packed.isprintable()
        assert packed.isascii()
        assert not packed or unpack(packed)["traceparent"] == parent


@given(st.text(max_size=120))
def test_a_text_of_anybody_is_read_or_left_out(text: str) -> None:
    """What the ledger holds may be from anybody: reading it never raises."""
    assert set(unpack(text)) <= {"traceparent", "tracestate"}


def test_who_does_not_trace_loads_nothing_and_passes_a_context_on() -> None:
    """In a process without OpenTelemetry the context of an incoming request is what the enqueue carries, and no more."""
    script = f"""
import sys
from esa_preload.tracing import continue_trace, current_trace, enqueue_span
with continue_trace({{"traceparent": "{PARENT}", "tracestate": "a=1"}}), enqueue_span(site_id=1, request_id="x") as span:
    print(span.trace)
with enqueue_span(site_id=1, request_id="x") as span:
    print(repr(span.trace), current_trace(), any(name.startswith("opentelemetry") for name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{PARENT} a=1", "'' {} False"]
