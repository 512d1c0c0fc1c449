"""A span a batch, linked to the requests whose URLs it carries, and one a call of ESA inside it (extra ``otel``)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry import propagate, trace

from esa_preload.tracing import unpack
from esa_preload_worker.esa.codes import OK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from esa_preload_worker.claims import Batch
    from esa_preload_worker.submit import Submission, Submits

_TRACER = "esa_preload_worker"


class TracedSubmitter:
    """Submits as *submitter* does, and traces it."""

    def __init__(self, submitter: Submits) -> None:
        self._submitter = submitter

    async def submit(self, batch: Batch) -> Submission:
        """Take *batch* as far as it goes now, in a span of its own."""
        with trace.get_tracer(_TRACER).start_as_current_span(
            "preload batch",
            kind=trace.SpanKind.CONSUMER,
            links=links_to(batch.traces),
            attributes={
                "esa_preload.site_id": batch.site_id,
                "esa_preload.batch_id": batch.batch_id,
                "esa_preload.attempt": batch.attempt,
                "esa_preload.url_count": batch.url_count,
            },
            # What an error says may quote a URL or a reply.
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                submission = await self._submitter.submit(batch)
            except BaseException as exc:
                span.set_attribute("error.type", type(exc).__name__)
                span.set_status(trace.StatusCode.ERROR)
                raise
            _tell(span, submission)
            return submission


def links_to(traces: Sequence[str]) -> list[trace.Link]:
    """Return a link to each of the *traces*; one that is none is left out."""
    contexts = (
        trace.get_current_span(propagate.extract(headers)).get_span_context()
        for headers in map(unpack, traces)
        if headers
    )
    return [trace.Link(context) for context in contexts if context.is_valid]


def traced(observe: Callable[[str, str, float], None]) -> Callable[[str, str, float], None]:
    """Return what observes a call as *observe* does, and makes a span of it inside that of its batch."""

    def observe_and_trace(operation: str, code: str, seconds: float) -> None:
        observe(operation, code, seconds)
        if not trace.get_current_span().get_span_context().is_valid:
            return  # a look at a job's plans, or the list of sites: nobody waits for these
        ended_ns = time.time_ns()
        span = trace.get_tracer(_TRACER).start_span(
            f"ESA {operation}",
            kind=trace.SpanKind.CLIENT,
            start_time=ended_ns - round(seconds * 1e9),
            attributes={"rpc.method": operation, "esa_preload.code": code},
        )
        if code != OK:
            span.set_status(trace.StatusCode.ERROR)
        span.end(ended_ns)

    return observe_and_trace


def _tell(span: trace.Span, submission: Submission) -> None:
    settlement, job, error = submission.settlement, submission.job, submission.error
    span.set_attribute("esa_preload.outcome", settlement.outcome)
    if job:
        span.set_attribute("esa_preload.job_id", job.job_id)
        span.set_attribute("esa_preload.esa_request_id", job.esa_request_id)
    if submission.plan_id:
        span.set_attribute("esa_preload.plan_id", submission.plan_id)
    if error:
        span.set_attribute("esa_preload.code", error.code)
        span.set_status(trace.StatusCode.ERROR)
