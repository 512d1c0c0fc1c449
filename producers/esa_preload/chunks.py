"""
Cut any number of raw URLs into chunks, each one atomic step of an enqueue.

Pure and deterministic: the same URLs in the same order make the same chunks with the same digests, so that a repeated
enqueue finds out which of its chunks are in the queue already.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING, Final, cast

from esa_preload.errors import InvalidRequestError
from esa_preload.model import Rejection
from esa_preload.urls import URL_MAX_CHARS, UrlRejectedError, normalise, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from esa_preload.interface import Urls

CHUNK_URLS: Final = 1_000
"""Large enough that the round trip no longer counts, small enough that one script does not hold up Redis."""

REPEAT_WINDOW: Final = 100_000
"""Repeats are seen over this many distinct URLs; memory stays flat, and a lane merges what comes back later."""

REJECTED_MAX: Final = 1_000
"""As many are kept with their reasons; all are counted."""

REJECTED_URL_MAX_CHARS: Final = 2_048

_CREDENTIALS = re.compile(r"(//)[^/?#]*@")
"""Receipts are printed and logged: the user and password of a refused URL are not part of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """
    One step of an enqueue.

    Attributes:
        number: 0, 1, 2, … within the enqueue.
        urls: normal forms, distinct, in the order in which they came first.
        digest: 16 hexadecimal digits that tell this content from any other.
    """

    number: int
    urls: tuple[str, ...]
    digest: str

    def __repr__(self) -> str:
        return f"Chunk(number={self.number}, urls={len(self.urls)}, digest={self.digest!r})"


class Chunker:
    """
    Turn raw URLs into chunks of distinct normal forms; count what is left out.

    Push URLs from any loop, async or not, with :meth:`add`, or a whole iterable with :meth:`add_many`; then :meth:`flush`.
    A URL that breaks a rule is left out alone. Memory does not grow with the number of URLs.

    Attributes:
        distinct: URLs that went, or will go, into chunks.
        duplicates: URLs left out because their normal form was among the last ``window`` distinct ones.
        rejected_count: URLs left out because they break a rule.
    """

    def __init__(
        self, *, size: int = CHUNK_URLS, url_max_chars: int = URL_MAX_CHARS, window: int = REPEAT_WINDOW
    ) -> None:
        if size < 1:
            raise InvalidRequestError(f"a chunk holds at least one URL, not {size}")
        self.distinct = 0
        self.duplicates = 0
        self.rejected_count = 0
        self._size = size
        self._url_max_chars = url_max_chars
        self._rejected: list[Rejection] = []
        self._number = 0
        self._urls: list[str] = []
        # Two generations instead of a queue: a URL is forgotten after `window` others at least, about twice as many at most.
        self._generation_max = window + size
        self._seen: set[str] = set()
        self._seen_before: set[str] = set()

    def __repr__(self) -> str:
        return f"Chunker(distinct={self.distinct}, duplicates={self.duplicates}, rejected_count={self.rejected_count})"

    @property
    def rejected(self) -> tuple[Rejection, ...]:
        """The first ``REJECTED_MAX`` rejections, their URLs printable and cut to ``REJECTED_URL_MAX_CHARS``."""
        return tuple(self._rejected)

    def add(self, url: object) -> Chunk | None:
        """Take one URL and return the chunk that it filled, if it did; whatever *url* is, nothing is raised."""
        try:
            normal = normalise(url, url_max_chars=self._url_max_chars)
        except UrlRejectedError as exc:
            self._reject(url, exc.reason)
            return None
        if normal in self._seen:
            self.duplicates += 1
            return None
        self._remember(normal)
        if normal in self._seen_before:
            self.duplicates += 1
            return None
        self.distinct += 1
        self._urls.append(normal)
        return self.flush() if len(self._urls) >= self._size else None

    def add_many(self, urls: Iterable[object]) -> Iterator[Chunk]:
        """
        Take all of *urls* and yield each chunk as it fills; what is left over waits for more URLs, or for :meth:`flush`.

        Raises:
            InvalidRequestError: *urls* is one ``str`` or ``bytes``, or cannot be iterated over. Raised by the call itself.
        """
        return self._add_many(require_urls(urls))

    def flush(self) -> Chunk | None:
        """Return what is left over as a last, smaller chunk, if there is anything."""
        if not self._urls:
            return None
        chunk = Chunk(number=self._number, urls=tuple(self._urls), digest=digest_urls(self._urls))
        self._number += 1
        self._urls.clear()
        return chunk

    def _add_many(self, urls: Iterable[object]) -> Iterator[Chunk]:
        for url in urls:
            chunk = self.add(url)
            if chunk is not None:
                yield chunk

    def _remember(self, normal: str) -> None:
        if len(self._seen) >= self._generation_max:
            # What waits for its chunk is carried over: a chunk never holds a URL twice.
            self._seen, self._seen_before = set(self._urls), self._seen
        self._seen.add(normal)

    def _reject(self, url: object, reason: str) -> None:
        self.rejected_count += 1
        if len(self._rejected) < REJECTED_MAX:
            text = url if isinstance(url, str) else f"<{type(url).__name__}>"
            text = _CREDENTIALS.sub(r"\1***@", text)
            self._rejected.append(Rejection(url=printable(text, REJECTED_URL_MAX_CHARS), reason=reason))


async def read_chunks(chunker: Chunker, urls: Urls) -> AsyncIterator[Chunk]:
    """
    Yield all chunks of *urls*, async or not, the last one too.

    Raises:
        InvalidRequestError: as of :meth:`Chunker.add_many`.
    """
    if isinstance(urls, AsyncIterable):
        async for url in urls:
            if chunk := chunker.add(url):
                yield chunk
    else:
        for chunk in chunker.add_many(urls):
            yield chunk
    if last := chunker.flush():
        yield last


def cut(
    urls: Iterable[object], *, size: int = CHUNK_URLS, url_max_chars: int = URL_MAX_CHARS
) -> Iterator[Chunk]:
    """Yield all chunks of *urls*, the last one too, for those who need no counts."""
    chunker = Chunker(size=size, url_max_chars=url_max_chars)
    yield from chunker.add_many(urls)
    last = chunker.flush()
    if last is not None:
        yield last


def require_urls(urls: object) -> Iterable[object]:
    """
    Return *urls* if one can iterate over it as URLs; a lone ``str`` would be taken for a list of its characters.

    Raises:
        InvalidRequestError: it is a ``str`` or bytes, or not iterable.
    """
    kind = type(urls).__name__
    if isinstance(urls, (str, bytes, bytearray, memoryview)):
        raise InvalidRequestError(f"urls must be an iterable of URLs, not one {kind}: put it in a list")
    if not isinstance(urls, Iterable):
        raise InvalidRequestError(f"urls must be an iterable of URLs, not {kind}")
    return cast("Iterable[object]", urls)


def digest_urls(urls: Iterable[str]) -> str:
    """Return the 16 hexadecimal digits that name this content; no URL holds the line feed that joins them."""
    return blake2b("\n".join(urls).encode(), digest_size=8).hexdigest()
