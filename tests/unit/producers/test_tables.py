"""Tables for people: on a terminal that is too narrow for them nothing is lost, and an id can be copied."""

from __future__ import annotations

import re
import sys

import pytest

from esa_preload.commands.output import live_table, print_table

SITE, BATCH = "190007158391808", "0123456789abcdef0123456789abcdef"
URL = "https://www.example.com/assets/application-0123456789.js?version=1234567890"
COLUMNS = ("at", "site_id", "reason", "code", "batch_id", "url")


@pytest.mark.parametrize("width", [60, 80, 400])
def test_a_narrow_table_folds_and_leaves_ids_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    """Every character of a long cell is there, below each other if need be; site and batch stand on one line."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm")
    row = {"at": "1", "site_id": SITE, "reason": "r", "code": "c", "batch_id": BATCH, "url": URL}
    print_table(COLUMNS, [row], empty="")
    shown = re.sub(r"\x1b\[[\d;]*m", "", capsys.readouterr().out)
    _, site, rest = shown.partition(SITE)
    assert site
    assert BATCH in rest
    folded = "".join(line.split()[-1] for line in rest.splitlines() if line.strip())
    assert folded == URL


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.25, "0.25"),
        (5.25, "5.25"),
        (0.0123456, "0.01235"),
        (12.0, "12"),
        (312.44, "312.4"),
        (123_456.7, "123457"),
        (0.0, "0"),
    ],
)
def test_a_number_keeps_the_digits_that_matter(
    capsys: pytest.CaptureFixture[str], value: float, shown: str
) -> None:
    """A slow pace is not rounded to another one, and a long time is no power of ten."""
    print_table(("rate",), [{"rate": value}], empty="")
    assert capsys.readouterr().out.split() == ["rate", shown]


@pytest.mark.parametrize("is_live", [False, True])
def test_what_others_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str], *, is_live: bool) -> None:
    """Neither in a table nor on a line of `watch`, whatever stands in Redis."""
    rows = [{"url": "https://a.example/\x1b]0;owned\x07\nsecond row\u202e"}]
    if is_live:
        with live_table(("url",), is_live=False) as show:
            show(rows, rows)
    else:
        print_table(("url",), rows, empty="")
    shown = capsys.readouterr().out
    assert "https://a.example/\\x1b]0;owned\\x07\\x0asecond row\\u202e" in shown
    assert shown.replace("\n", "").isprintable()
