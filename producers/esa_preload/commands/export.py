"""Failures as a stream of rows, however many there are."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from esa_preload.commands.documents import failure_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from esa_preload.interface import Preloads
    from esa_preload.model import Failure

COLUMNS = ("at", "site_id", "reason", "code", "batch_id", "url", "id")
_PAGE = 1_000
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the begin of a formula. A quote in front makes it a text."""


async def failures_of(client: Preloads, site_id: int | None) -> AsyncIterator[tuple[Failure, ...]]:
    """Yield the failures of a site, or of all, page by page, the newest of each site first."""
    sites = [site.site_id for site in await client.sites()] if site_id is None else [site_id]
    for each in sites:
        cursor: str | None = None
        while True:
            page = await client.failure_page(each, limit=_PAGE, cursor=cursor)
            yield page.items
            if (cursor := page.cursor) is None:
                break


async def export(
    pages: AsyncIterator[tuple[Failure, ...]], form: str, write: Callable[[str], object]
) -> None:
    """Write rows as ``csv``, below their names, or as ``jsonl``, a page at a time."""
    as_rows = _csv if form == "csv" else _jsonl
    if form == "csv":
        write(_line(COLUMNS))
    async for failures in pages:
        write("".join(as_rows(failure_document(each)) for each in failures))


def _jsonl(document: dict[str, Any]) -> str:
    return json.dumps(document) + "\n"


def _csv(document: dict[str, Any]) -> str:
    return _line([_safe(str(document[column])) for column in COLUMNS])


def _line(cells: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell
