"""How a page writes numbers, times and the text of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.api.console import words
from esa_preload.model import Plan

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_600, "1 h"),
        (86_399, "23 h"),
        (86_400, "1 day"),
        (200_000, "2 days"),
    ],
)
def test_a_span_is_told_in_its_largest_unit(seconds: float, text: str) -> None:
    """Never rounded up to a unit that it does not fill."""
    assert words.span(seconds) == text


@pytest.mark.parametrize(
    ("ahead_s", "text"), [(0.5, "now"), (-0.5, "now"), (-90, "1 min ago"), (7_200, "in 2 h")]
)
def test_a_moment_is_told_from_now(ahead_s: float, text: str) -> None:
    """What was and what will be."""
    assert words.ago(NOW + timedelta(seconds=ahead_s), NOW) == text


def test_times_are_in_utc_whatever_their_zone() -> None:
    """For people with a space, for machines as ISO 8601."""
    at = datetime(2026, 11, 30, 20, 0, 1, 999, tzinfo=timezone(timedelta(hours=8)))
    assert words.utc(at) == "2026-11-30 12:00:01 UTC"
    assert words.iso(at) == "2026-11-30T12:00:01Z"


@pytest.mark.parametrize(
    ("per_s", "text"), [(1_234.5, "1,234/s"), (100, "100/s"), (12.34, "12.3/s"), (5, "5/s"), (0.25, "0.25/s")]
)
def test_a_rate_has_the_digits_that_tell_something(per_s: float, text: str) -> None:
    """About three of them, and no empty ones."""
    assert words.rate(per_s) == text


def test_numbers_have_their_thousands_apart() -> None:
    """A million can be told from ten."""
    assert words.grouped(1_234_567) == "1,234,567"


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("https://example.com/\u202egnp.js", "https://example.com/\\u202egnp.js"),
        ("a\x00b\nc", "a\\x00b\\nc"),
        ("Überblick", "Überblick"),
    ],
)
def test_what_cannot_be_seen_is_spelt_out(text: str, seen: str) -> None:
    """A URL cannot turn its line around, break it, or hide a part of itself."""
    assert words.shown(text) == seen


@given(st.text())
def test_a_sentence_of_anybody_stays_text(sentence: str) -> None:
    """Of markup only ours is there: <code> around what stood between backticks."""
    html = str(words.coded(sentence)).replace("<code>", "").replace("</code>", "")
    assert "<" not in html
    assert ">" not in html


def test_a_command_in_a_sentence_is_code() -> None:
    """As the hints of errors have it."""
    assert (
        words.coded("`esa-preload sites` tells <all>") == "<code>esa-preload sites</code> tells &lt;all&gt;"
    )


def test_a_plan_in_words() -> None:
    """Only what was asked for."""
    assert words.plan(Plan()) == "at once"
    whole = Plan(start=NOW, end=NOW + timedelta(hours=1), interval_s=60, slice_len=1_000)
    assert words.plan(whole) == (
        "from 2026-11-30 12:00:00 UTC, until 2026-11-30 13:00:00 UTC, 1,000 URLs a slice, 60 s between slices"
    )
