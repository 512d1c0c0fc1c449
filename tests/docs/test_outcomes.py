"""docs/reference/outcomes.md says what the code does: its codes, its outcomes and its log lines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from docs.pages import code_spans, reference, table
from docs.test_telemetry import outcomes
from esa_preload_worker import decisions
from esa_preload_worker.claims import Settled, Settlement
from esa_preload_worker.esa import EsaError, NotSentError, RefusedUrl, UncertainError
from esa_preload_worker.esa.classify import classify
from esa_preload_worker.esa.codes import OWN_CODES
from esa_preload_worker.events import EVENTS
from esa_preload_worker.metrics import Metrics
from esa_preload_worker.report import report
from esa_preload_worker.submit import Submission
from unit.worker.test_decisions import TIMING, URLS, batch_of, job_of

PAGE = reference("outcomes.md")
REST = ("outcome", "log", "the URLs", "what to do")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
IN_5XX = {"InternalError", "InternalException", "ServiceUnavailable", "UnknownError"}


def rows(first: str) -> list[tuple[list[str], list[str], list[str]]]:
    """Return of each row what its first cell, its outcome and its log name."""
    found = table(PAGE, first, *REST)
    return [(code_spans(says), code_spans(outcome), code_spans(log)) for says, outcome, log, *_ in found]


def logged(settlement: Settlement, **counts: int) -> list[str]:
    """Return the events that tell of *settlement*, when its wait or block is new."""
    began = settlement.block is not None or settlement.site_wait is not None
    with capture_logs() as entries:
        report(
            Metrics(version="1"),
            batch_of(),
            Submission(settlement=settlement),
            Settled(began=began, counts=counts),
            ended_ms=0,
            duration_s=0,
        )
    return [str(entry["event"]) for entry in entries]


def error_of(code: str) -> EsaError:
    """Return the error that *code* is, of ESA's or of ours."""
    if code in OWN_CODES:
        return (NotSentError if code.startswith("not_sent.") else UncertainError)("", code=code)
    status = 503 if code in IN_5XX else 400
    error = classify(status=status, code=code, message="", headers={}, now=NOW)
    error.code = code
    return error


@pytest.mark.parametrize(
    ("codes", "outcome", "log"), [*rows("Create is refused with"), *rows("the call ends as")]
)
def test_each_code_ends_as_the_page_says(codes: list[str], outcome: list[str], log: list[str]) -> None:
    """Classified, decided and logged as a worker does it with a batch of four URLs."""
    assert codes
    for code in codes:
        settlement = decisions.after_create_error(batch_of(), error_of(code), timing=TIMING)
        assert [settlement.outcome] == outcome, code
        assert logged(settlement, pending=4) == log, code


def test_each_reply_ends_as_the_page_says() -> None:
    """The five kinds of success, in the page's order."""
    listed = (RefusedUrl(url=URLS[0], reason="InvalidUrl"),)
    kinds = [
        (job_of(4, 4), None, {"submitted": 4}),
        (job_of(4, 3, "InvalidUrl"), listed, {"submitted": 3, "refused": 1}),
        (job_of(4, 3, "InvalidUrl"), None, {"unknown": 4}),
        (job_of(4, 0, "InvalidUrl"), None, {"refused": 4}),
        (job_of(4, 0, "QuotaExcess"), None, {"pending": 4}),
    ]
    for (job, refused, counts), (_, outcome, log) in zip(
        kinds, rows("the reply of Create says"), strict=True
    ):
        settlement = decisions.judge(batch_of(), job, refused, TIMING)
        assert [settlement.outcome] == outcome
        assert logged(settlement, **counts) == log


def test_the_page_names_every_outcome_and_only_events_that_exist() -> None:
    """No outcome that a metric can show is missing."""
    assert outcomes() <= set(code_spans(PAGE))
    for first in (
        "Create is refused with",
        "the call ends as",
        "the reply of Create says",
        "the plan's call",
    ):
        for _, outcome, log in rows(first):
            assert set(outcome) <= outcomes()
            assert set(log) <= set(EVENTS)
