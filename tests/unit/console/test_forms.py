"""What a form holds."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from esa_preload.api.console.forms import Form
from esa_preload.errors import InvalidRequestError
from esa_preload.model import Plan


def test_a_field_that_is_missing_or_empty_is_nothing() -> None:
    """Text, number, time and plan alike."""
    for form in (Form({}), Form({name: [" "] for name in ("start", "end", "interval_s", "slice_len")})):
        assert form.text("start") == ""
        assert form.number("interval_s") is None
        assert form.moment("start") is None
        assert form.plan() == Plan()


def test_times_are_in_utc() -> None:
    """As the form says."""
    form = Form({"start": ["2027-01-31T08:30"], "interval_s": ["60"]})
    assert form.plan() == Plan(start=datetime(2027, 1, 31, 8, 30, tzinfo=UTC), interval_s=60)


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "٣", "9" * 30])
def test_a_number_is_whole(text: str) -> None:
    """Or it is told which field is wrong."""
    with pytest.raises(InvalidRequestError, match="slice_len must be a whole number"):
        Form({"slice_len": [text]}).number("slice_len")


@pytest.mark.parametrize("text", ["tomorrow", "2027-13-01T00:00"])
def test_a_time_is_one(text: str) -> None:
    """Or it is told which field is wrong."""
    with pytest.raises(InvalidRequestError, match="end must be a time"):
        Form({"end": [text]}).moment("end")
