"""URLs on their way into a request: one JSON string a line, packed when they are many, as they are read."""

from __future__ import annotations

import json
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from esa_preload.chunks import CHUNK_URLS, require_urls
from esa_preload.errors import InvalidRequestError
from esa_preload.urls import INPUT_MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esa_preload.interface import Progress, Urls

SMALL_BYTES: Final = 65_536
"""A body that says that it is no larger, and is not packed, takes no place among those that the service reads at once."""

PLAIN: Final = {"Content-Type": "application/x-ndjson"}
PACKED: Final = {**PLAIN, "Content-Encoding": "gzip"}
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

    async def body(self) -> tuple[Mapping[str, str], bytes | AsyncIterator[bytes]]:
        """Return the headers and the body from its start: whole and as it is while it is small, else packed, as it is read."""
        texts = self._texts()
        head = b""
        async for text in texts:
            head += text
            if len(head) > SMALL_BYTES:
                return PACKED, self._packed(head, texts)
        return PLAIN, head

    async def _packed(self, head: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        packer = zlib.compressobj(1, wbits=_GZIP)
        async for text in _joined(head, rest):
            if block := packer.compress(text):
                self.sent_bytes += len(block)
                yield block
        yield packer.flush()

    async def _texts(self) -> AsyncIterator[bytes]:
        """Yield the lines from the first on, some at a time."""
        self._has_begun = True
        self.count = self.sent_bytes = 0
        held: list[str] = []
        async for url in self._each():
            text = url if isinstance(url, str) else f"<{type(url).__name__}>"
            held.append(json.dumps(text[: INPUT_MAX_CHARS + 1]))
            if len(held) >= CHUNK_URLS:
                yield self._taken(held)
        yield self._taken(held)

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


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for each in rest:
        yield each
