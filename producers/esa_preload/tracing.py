"""
The trace context of a request (W3C), from whoever enqueues it to the worker that submits it.

OpenTelemetry is used where the process has loaded it, and never loaded here: who does not trace pays nothing.
"""

from __future__ import annotations

import contextlib
import re
import sys
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from esa_preload.model import Receipt

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_TRACESTATE = re.compile(r"[\x20-\x7e]{1,512}")
"""Longer ones are dropped, as the specification allows."""

_remote: ContextVar[str] = ContextVar("esa_preload_trace", default="")


def pack(traceparent: str, tracestate: str = "") -> str:
    """Return both headers as one text, which travels with a request; empty when the first is not one."""
    if not _TRACEPARENT.fullmatch(traceparent):
        return ""
    return f"{traceparent} {tracestate}" if _TRACESTATE.fullmatch(tracestate) else traceparent


def unpack(trace: str) -> dict[str, str]:
    """Return the headers that :func:`pack` joined; none when *trace* is not such a text: it may have come from anybody."""
    traceparent, _, tracestate = trace.partition(" ")
    if not pack(traceparent):
        return {}
    return {"traceparent": traceparent} | ({"tracestate": tracestate} if tracestate else {})


@contextlib.contextmanager
def continue_trace(headers: Mapping[str, str]) -> Generator[None]:
    """Let what is enqueued inside belong to the trace that the *headers* of an HTTP request name, if they name one."""
    trace = pack(headers.get("traceparent", "").strip(), headers.get("tracestate", ""))
    if not trace:
        yield
        return
    token = _remote.set(trace)
    try:
        with _attached(trace):
            yield
    finally:
        _remote.reset(token)


@contextlib.contextmanager
def _attached(trace: str) -> Generator[None]:
    if not _is_loaded():
        yield
        return
    from opentelemetry import context, propagate  # noqa: PLC0415 - as said

    token = context.attach(propagate.extract(unpack(trace)))
    try:
        yield
    finally:
        context.detach(token)


class EnqueueSpan:
    """An enqueue that is under way: ``trace`` is what travels with its request."""

    def __init__(self, trace: str, note: Callable[[str, int], object] = lambda _name, _value: None) -> None:
        self.trace = trace
        self._note = note

    def tell(self, receipt: Receipt) -> None:
        """Note what became of the URLs."""
        for name in ("accepted", "merged", "duplicates", "rejected_count"):
            self._note(f"esa_preload.{name}", int(getattr(receipt, name)))


@contextlib.contextmanager
def enqueue_span(*, site_id: int, request_id: str) -> Generator[EnqueueSpan]:
    """Trace an enqueue, where the process traces; its span is what those of the worker are linked to."""
    if not _is_loaded():
        yield EnqueueSpan(_remote.get())
        return
    from opentelemetry import trace  # noqa: PLC0415 - as said

    with trace.get_tracer("esa_preload").start_as_current_span(
        "preload enqueue",
        kind=trace.SpanKind.PRODUCER,
        attributes={"esa_preload.site_id": site_id, "esa_preload.request_id": request_id},
        # The text of an error may quote a URL.
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield EnqueueSpan(_current(), span.set_attribute)
        except BaseException as exc:
            span.set_attribute("error.type", type(exc).__name__)
            span.set_status(trace.StatusCode.ERROR)
            raise


def current_trace() -> dict[str, str]:
    """Return the headers that continue the current trace in another process; none where nobody traces."""
    return unpack(_current() if _is_loaded() else _remote.get())


def _current() -> str:
    from opentelemetry import propagate  # noqa: PLC0415 - as said

    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return pack(carrier.get("traceparent", ""), carrier.get("tracestate", ""))


def _is_loaded() -> bool:
    return "opentelemetry.trace" in sys.modules
