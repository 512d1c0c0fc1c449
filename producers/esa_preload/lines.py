"""
Read a list of URLs: one a line, from a file, a pipe or memory, plain or gzip.

Forgiving about what editors and spreadsheets add (byte order marks, CRLF, blanks around a URL, empty lines, ``#`` comments),
and careful that a damaged line stays a line: it is handed on in a form that the URL rules refuse, and its neighbours are
read as if it were not there. Only a line feed ends a line; a form feed, U+0085 or U+2028 does not.
"""

from __future__ import annotations

import io
import zlib
from gzip import BadGzipFile, GzipFile
from typing import TYPE_CHECKING, Final, Protocol, cast

from esa_preload.errors import InvalidRequestError
from esa_preload.urls import INPUT_MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_MAX_BYTES: Final = 65_536
"""More of a line is skipped unread; no URL rule would let it through."""

BLOCK_BYTES: Final = 65_536  # at most LINE_MAX_BYTES: then only the first line of a block can be too long
_BLANKS: Final = " \t\r\ufeff"  # a byte order mark stands inside a list when files were joined by `cat`
GZIP_MAGIC: Final = b"\x1f\x8b"
_FOREIGN_MARKS: Final = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)


class ByteStream(Protocol):
    """What is read from: a file opened in binary mode, ``sys.stdin.buffer``, ``io.BytesIO``, a response body."""

    def read(self, size: int, /) -> bytes | None:
        """Return at most *size* bytes, fewer when fewer have come, none at the end."""
        ...


def read_lines(source: bytes | ByteStream) -> Iterator[str]:
    """
    Yield what stands on each line of *source*, in order, without the blanks around it.

    Empty lines and lines that start with ``#`` are left out: no URL starts so. Bytes that are not UTF-8 become lone surrogates
    (``surrogateescape``), and a line over ``LINE_MAX_BYTES`` becomes its start, padded beyond ``INPUT_MAX_CHARS``: the URL
    rules refuse both with their reason. Gzip is known by its first bytes, not by a name. Memory does not grow with the list,
    nor with a line. A pipe's lines are yielded as they come.

    Raises:
        InvalidRequestError: the list is UTF-16 or UTF-32, damaged gzip, or no bytes at all. Damage is found when it is
            reached: the lines before it have been yielded.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    if not hasattr(stream, "read"):
        raise InvalidRequestError(
            f"a list is read from bytes or from a binary stream, not from {type(source).__name__}"
        )
    return _read_lines(stream)


def _read_lines(stream: ByteStream) -> Iterator[str]:
    splitter = LineSplitter()
    for block in _read_text(stream):
        yield from splitter.feed(block)
    yield from splitter.end()


class LineSplitter:
    """
    Cut a list into its lines as its bytes come in, for those who cannot read from a stream: see :func:`read_lines`.

    The bytes are those of the list itself, not gzip, in blocks of ``BLOCK_BYTES`` at most.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._is_known = False
        self._is_skipping = False

    def feed(self, block: bytes) -> Iterator[str]:
        """
        Yield the lines that end in *block*.

        Raises:
            InvalidRequestError: the list is UTF-16 or UTF-32.
        """
        if not self._is_known:
            block, self._rest = self._rest + block, b""
            if len(block) < 4 and b"\n" not in block:
                self._rest = block
                return
            self._know(block)
        if self._is_skipping:
            _, ended, block = block.partition(b"\n")
            if not ended:
                return
            self._is_skipping = False
        lines, ended, self._rest = (self._rest + block).rpartition(b"\n")
        if ended:
            yield from _split(lines)
        if len(self._rest) > LINE_MAX_BYTES:
            start, self._rest, self._is_skipping = self._rest, b"", True
            yield from _keep_start(start)

    def end(self) -> Iterator[str]:
        """Yield the last line, if nothing ended it."""
        rest, self._rest = self._rest, b""
        self._know(rest)
        yield from _split(rest)

    def _know(self, head: bytes) -> None:
        if self._is_known:
            return
        self._is_known = True
        for mark, encoding in _FOREIGN_MARKS:
            if head.startswith(mark):
                raise InvalidRequestError(f"the list is {encoding}; save it as UTF-8")


def _split(lines: bytes) -> Iterator[str]:
    first_end = lines.find(b"\n")
    if (first_end if first_end >= 0 else len(lines)) > LINE_MAX_BYTES:
        yield from _keep_start(lines)
        if first_end < 0:
            return
        lines = lines[first_end + 1 :]
    # A line feed is never part of a longer UTF-8 sequence, so that a broken one cannot swallow it.
    for line in lines.decode("utf-8", "surrogateescape").split("\n"):
        text = line.strip(_BLANKS)
        if text and text[0] != "#":
            yield text


def _keep_start(line: bytes) -> Iterator[str]:
    text = line[:LINE_MAX_BYTES].decode("utf-8", "surrogateescape").strip(_BLANKS)
    if not text.startswith("#"):
        yield text.ljust(INPUT_MAX_CHARS + 1, "…")


def _read_text(stream: ByteStream) -> Iterator[bytes]:
    """Yield the blocks of the list itself, unpacked."""
    blocks = _read_blocks(stream)
    head = _read_head(blocks)
    if head.startswith(GZIP_MAGIC):
        yield from _unpack(head, blocks)
    else:
        yield head
        yield from blocks


def _read_head(blocks: Iterator[bytes]) -> bytes:
    head = b""
    for block in blocks:
        head += block
        if len(head) >= 4 or b"\n" in head:
            break
    return head


def _read_blocks(stream: ByteStream) -> Iterator[bytes]:
    # read1 hands on what a pipe holds; read would wait until a whole block has come.
    read = getattr(stream, "read1", stream.read)
    while True:
        block = cast("object", read(BLOCK_BYTES))
        if block is None:
            raise InvalidRequestError(
                "the list is read from a stream that does not wait for data: make it blocking"
            )
        if not isinstance(block, bytes):
            raise InvalidRequestError("the list is read from a text stream: open it in binary mode")
        if not block:
            return
        yield block


def _unpack(head: bytes, blocks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        with GzipFile(fileobj=_Joined(head, blocks)) as unpacked:
            yield from _read_blocks(unpacked)
    except (BadGzipFile, EOFError, zlib.error) as exc:
        raise InvalidRequestError("the list is gzip, but damaged or cut short") from exc


class _Joined(io.RawIOBase):
    """A stream of blocks, its head put back."""

    def __init__(self, head: bytes, blocks: Iterator[bytes]) -> None:
        self._held = head
        self._blocks = blocks

    def read(self, size: int = -1, /) -> bytes:
        if not self._held:
            self._held = next(self._blocks, b"")
        end = len(self._held) if size < 0 else size
        taken, self._held = self._held[:end], self._held[end:]
        return taken
