"""The failures of several sites in pages, made of those of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from esa_preload.errors import InvalidRequestError
from esa_preload.model import Failure, Page

if TYPE_CHECKING:
    from collections.abc import Iterable


class ReadPage(Protocol):
    """Returns a page of the failures of one site."""

    async def __call__(self, site_id: int, /, *, limit: int, cursor: str | None) -> Page[Failure]:
        """Read it."""
        ...


async def page_of_sites(
    read: ReadPage, sites: Iterable[int], *, limit: int, cursor: str | None
) -> Page[Failure]:
    """
    Return the failures of *sites*, one site after the other by their ids.

    A cursor names the site to go on with, and where in it: sites may come and go between two pages.

    Raises:
        InvalidRequestError: the cursor is none.
    """
    begin, inner = _parse(cursor)
    found: list[Failure] = []
    for site_id in sorted(site_id for site_id in sites if site_id >= begin):
        if len(found) == limit:
            return Page(items=tuple(found), cursor=str(site_id))
        page = await read(site_id, limit=limit - len(found), cursor=inner if site_id == begin else None)
        found += page.items
        if page.cursor is not None:
            return Page(items=tuple(found), cursor=f"{site_id}:{page.cursor}")
    return Page(items=tuple(found))


def _parse(cursor: str | None) -> tuple[int, str | None]:
    if cursor is None:
        return 0, None
    site_id, _, inner = cursor.partition(":")
    if not (site_id.isascii() and site_id.isdecimal()):
        raise InvalidRequestError("cursor is none of a page of this list")
    return int(site_id), inner or None
