"""The failures of several sites in pages, over sites that come and go."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload import Failure, InvalidRequestError
from esa_preload.api.failures import page_of_sites
from esa_preload.memory import page_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esa_preload import Page

AT = datetime(2026, 11, 23, tzinfo=UTC)


class Failures:
    """Failures of each site, as many as *counts* says; remembers the limits that it was asked with."""

    def __init__(self, counts: Mapping[int, int]) -> None:
        self.counts = dict(counts)
        self.limits: list[int] = []

    async def read(self, site_id: int, /, *, limit: int, cursor: str | None) -> Page[Failure]:
        """Return a page of one site."""
        self.limits.append(limit)
        found = [failure(site_id, number) for number in range(self.counts[site_id])]
        return page_of(found, limit, cursor)

    async def page(self, limit: int, cursor: str | None) -> Page[Failure]:
        """Return a page of all."""
        return await page_of_sites(self.read, self.counts, limit=limit, cursor=cursor)


def failure(site_id: int, number: int) -> Failure:
    """Return one that has an id of its own among those of its site."""
    return Failure(
        url="https://a.example/", site_id=site_id, reason="r", code="", at=AT, batch_id="", id=str(number)
    )


@given(counts=st.dictionaries(st.integers(1, 40), st.integers(0, 7), max_size=8), limit=st.integers(1, 10))
async def test_each_failure_is_on_one_page(counts: dict[int, int], limit: int) -> None:
    """By site and in its order, whatever the page's size; a page is full unless it is the last, and reads no more than it shows."""
    failures = Failures(counts)
    found: list[Failure] = []
    cursor: str | None = None
    while True:
        page = await failures.page(limit, cursor)
        assert len(page.items) == limit or page.cursor is None
        found += page.items
        if (cursor := page.cursor) is None:
            break
    assert found == [failure(site, number) for site in sorted(counts) for number in range(counts[site])]
    assert all(0 < each <= limit for each in failures.limits)


@pytest.mark.parametrize(("gone", "rest"), [(1, [2, 2]), (2, [1, 1])])
async def test_a_site_that_goes_takes_no_other_along(gone: int, rest: list[int]) -> None:
    """A cursor within a site that is not the token's any more leads on to the next one."""
    failures = Failures({1: 3, 2: 2})
    first = await failures.page(1, None)
    del failures.counts[gone]
    assert [each.site_id for each in (await failures.page(10, first.cursor)).items] == rest


@pytest.mark.parametrize("cursor", ["x", "", ":5", "-1:5", "1.5"])
async def test_a_cursor_that_is_none(cursor: str) -> None:
    """It is refused, and not taken for the begin."""
    with pytest.raises(InvalidRequestError, match="cursor"):
        await Failures({1: 1}).page(1, cursor)
