"""Failures as rows: safe in a spreadsheet, whole for a program, and in flat memory."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from esa_preload import Failure
from esa_preload.commands.export import COLUMNS, export

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PAGE = 200


def failure(url: str = "https://www.example.com/a", *, code: str = "c") -> Failure:
    """Return a failure."""
    at = datetime(2026, 11, 23, tzinfo=UTC)
    return Failure(url=url, site_id=1, reason="invalid_domain", code=code, at=at, batch_id="b", id="1-0")


async def pages(*some: tuple[Failure, ...], times: int = 1) -> AsyncIterator[tuple[Failure, ...]]:
    """Yield pages."""
    for _ in range(times):
        for page in some:
            yield page


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", "\t", "\r"])
async def test_no_cell_is_a_formula(begin: str) -> None:
    """What a spreadsheet would reckon out is a text there."""
    written: list[str] = []
    await export(pages((failure(code=f'{begin}cmd|"x"!A1'),)), "csv", written.append)
    (row,) = csv.DictReader(io.StringIO("".join(written), newline=""))
    assert row["code"] == f'\'{begin}cmd|"x"!A1'


async def test_a_csv_file_has_a_row_each_below_their_names() -> None:
    """Commas and quotes of a URL stay what they are; no failures are a file of names only."""
    url = 'https://www.example.com/a,"b"'
    written: list[str] = []
    await export(pages((failure(url), failure())), "csv", written.append)
    rows = list(csv.DictReader(io.StringIO("".join(written), newline="")))
    assert [row["url"] for row in rows] == [url, "https://www.example.com/a"]
    assert tuple(rows[0]) == COLUMNS
    assert rows[0]["at"] == "2026-11-23T00:00:00+00:00"
    written.clear()
    await export(pages(()), "csv", written.append)
    assert "".join(written).split() == [",".join(COLUMNS)]


async def test_each_line_of_jsonl_is_a_document() -> None:
    """The same document as in the array of `failures --json`."""
    written: list[str] = []
    await export(pages((failure(), failure("https://www.example.com/b"))), "jsonl", written.append)
    documents = [json.loads(line) for line in "".join(written).splitlines()]
    assert [document["url"][-1] for document in documents] == ["a", "b"]
    assert set(documents[0]) == set(COLUMNS)


async def test_memory_stays_flat() -> None:
    """A hundred pages take no more memory than a few: nothing is kept."""
    page = tuple(failure(f"https://www.example.com/{number}") for number in range(PAGE))
    tracemalloc.start()
    try:
        await export(pages(page, times=2), "csv", len)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        await export(pages(page, times=20), "csv", len)
        assert tracemalloc.get_traced_memory()[1] - before < 1_000_000
    finally:
        tracemalloc.stop()
