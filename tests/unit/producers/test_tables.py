"""Tables for people: on a terminal that is too narrow for them nothing is lost, and an id can be copied."""

from __future__ import annotations

import re
import sys

import pytest

from esa_preload.commands.output import print_table

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
