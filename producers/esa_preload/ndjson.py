"""URLs on their way into a request: one JSON string a line, packed, as they are read."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, ClassVar, Final

from esa_preload.chunks import CHUNK_URLS, require_urls
from esa_preload.errors import InvalidRequestError
from esa_preload.urls import INPUT_MAX_CHARS

if TYPE_CHECKING:
    from esa_preload.interface import Progress, Urls

_GZIP: Final = 31
"""What zlib calls it."""


class Lines:
    """
    The body of one enqueue.

    A JSON string holds no line feed: no URL can be two. What is no ``str`` goes as a text that no rule lets through.

    Attributes:
        count: URLs read so far.
        sent_bytes: of the body, packed.
        is_broken: the URLs themselves raised InvalidRequestError.
    """

    HEADERS: ClassVar = {"Content-Type": "application/x-ndjson", "Content-Encoding": "gzip"}

    def __init__(self, urls: Urls, progress: Progress | None) -> None:
        self._urls: Iterable[object] | AsyncIterable[object]
        self._urls = urls if isinstance(urls, AsyncIterable) else require_urls(urls)
        self._progress = progress
        self._is_one_shot = isinstance(urls, (Iterator, AsyncIterator))
        self._has_begun = False
        self.is_broken = False
        self.count = self.sent_bytes = 0

    @property
    def can_repeat(self) -> bool:
        """Whether all of it can be sent once more: an iterator that was begun cannot."""
        return not (self._is_one_shot and self._has_begun)

    async def body(self) -> bytes | AsyncIterator[bytes]:
        """Return the body from its start: whole while it is small, so that the service is told its length, else as it is read."""
        blocks = self._blocks()
        first, second = await anext(blocks), await anext(blocks, None)
        return first if second is None else _joined(first, second, blocks)

    async def _blocks(self) -> AsyncIterator[bytes]:
        """Yield the body from its start."""
        self._has_begun = True
        self.count = self.sent_bytes = 0
        packer = zlib.compressobj(1, wbits=_GZIP)
        held: list[str] = []
        async for url in self._each():
            text = url if isinstance(url, str) else f"<{type(url).__name__}>"
            held.append(json.dumps(text[: INPUT_MAX_CHARS + 1]))
            if len(held) >= CHUNK_URLS and (block := packer.compress(self._taken(held))):
                self.sent_bytes += len(block)
                yield block
        yield packer.compress(self._taken(held)) + packer.flush()

    async def _each(self) -> AsyncIterator[object]:
        try:
            if isinstance(self._urls, AsyncIterable):
                async for url in self._urls:
                    yield url
            else:
                for each in self._urls:
                    yield each
        except InvalidRequestError:
            self.is_broken = True
            raise

    def _taken(self, held: list[str]) -> bytes:
        lines = "".join(f"{line}\n" for line in held).encode()
        self.count += len(held)
        held.clear()
        if self._progress:
            self._progress(self.count)
        return lines


async def _joined(first: bytes, second: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    yield second
    async for block in rest:
        yield block
