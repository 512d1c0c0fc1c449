"""Read what a client sends: lists of any length as they come in, JSON documents whole. Neither takes more memory or time than it may."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect

from esa_preload.api.problems import BodyError, ProblemError, field_errors
from esa_preload.lines import BLOCK_BYTES, GZIP_MAGIC, LineSplitter
from esa_preload.ndjson import SMALL_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from starlette.requests import Request

    from esa_preload.api.settings import Settings

JSON: Final = "application/json"
TEXT: Final = "text/plain"
NDJSON: Final = "application/x-ndjson"

JSON_MAX_BYTES: Final = 16 * 1_048_576
"""A document is held in memory: what is larger comes as lines."""

M = TypeVar("M", bound=BaseModel)


class Streams:
    """The larger bodies that are read now: bounded, since each remembers its last URLs to know repeats."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    @contextlib.contextmanager
    def place(self, request: Request, name: str) -> Generator[None]:
        """
        Take a place for *request* while inside, unless its body is small; at most half of them for one token.

        Raises:
            ProblemError: there is none.
        """
        # What is packed may hold a thousand times as much.
        if _encoding_of(request) == "identity" and 0 < _length_of(request) <= SMALL_BYTES:
            yield
            return
        if self._held.total() >= self._most or self._held[name] >= max(1, self._most // 2):
            raise ProblemError(
                "busy", "too many large bodies are being read", hint="repeat the request later"
            )
        self._held[name] += 1
        try:
            yield
        finally:
            self._held[name] -= 1


def media_type_of(request: Request, *known: str) -> str:
    """
    Return the type of the body, one of *known*.

    Raises:
        ProblemError: it is none of them, or of another character set than UTF-8.
    """
    found, _, rest = request.headers.get("content-type", "").partition(";")
    name = found.strip().lower()
    charset = rest.partition("charset=")[2].strip(' "').lower()
    if name not in known or charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise ProblemError("unsupported-media-type", f"a body is {' or '.join(known)}, in UTF-8")
    return name


async def read_document(request: Request, settings: Settings, model: type[M]) -> M:
    """
    Return the body as *model*; no body is an empty document.

    Raises:
        ProblemError: it is not JSON, or not of the form of *model*.
        BodyError: it stands still, ends early, or is larger than ``JSON_MAX_BYTES``.
    """
    most = min(JSON_MAX_BYTES, settings.http_max_body_bytes)
    body = b"".join([block async for block in _blocks(request, settings, most)])
    if body:
        media_type_of(request, JSON)
    try:
        return model.model_validate_json(body or b"{}")
    except ValidationError as exc:
        errors = field_errors(exc)
        detail = "; ".join(f"{each.field}: {each.message}" if each.field else each.message for each in errors)
        raise ProblemError("invalid", detail[:2_000], errors=errors[:100]) from None


def read_urls(request: Request, settings: Settings, media_type: str) -> AsyncIterator[str]:
    """
    Yield the URLs of a body of ``TEXT`` or ``NDJSON``, as they come in. What is no URL is handed on, for the URL rules to refuse.

    Raises:
        BodyError: the body stands still, ends early, or is too large; the URLs before that have been yielded.
        ProblemError: it is encoded in a way that is not read here.
    """
    lines = _lines(_blocks(request, settings, settings.http_max_body_bytes))
    return lines if media_type == TEXT else _parsed(lines)


async def _lines(blocks: AsyncIterator[bytes]) -> AsyncIterator[str]:
    splitter = LineSplitter()
    async for block in blocks:
        for line in splitter.feed(block):
            yield line
    for line in splitter.end():
        yield line


async def _parsed(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    async for line in lines:
        yield _url_of(line)


def _url_of(line: str) -> str:
    """Return the URL of a line of NDJSON; what is none keeps its text, in a form that no rule lets through."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return f"not JSON: {line}"
    if isinstance(found, dict):
        found = cast("dict[str, Any]", found).get("url")
    return found if isinstance(found, str) else f"no URL: {line}"


async def _blocks(request: Request, settings: Settings, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body, unpacked, in blocks of ``BLOCK_BYTES`` at most."""
    encoding = _encoding_of(request)
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise ProblemError(
            "unsupported-media-type",
            "a body is sent as it is, or as gzip",
            headers={"Accept-Encoding": "gzip"},
        )
    if _length_of(request) > max_bytes:
        raise _too_large(max_bytes)
    unpacker = _Gunzip() if encoding != "identity" else None
    total = 0
    async for chunk in _received(request, settings.http_body_timeout):
        if not total and unpacker is None and chunk.startswith(GZIP_MAGIC):
            raise BodyError("bad-body", "the body is gzip", hint="send the header Content-Encoding: gzip")
        for block in unpacker.unpack(chunk) if unpacker else _cut(chunk):
            total += len(block)
            if total > max_bytes:
                raise _too_large(max_bytes)
            yield block
    if unpacker:
        unpacker.end()


async def _received(request: Request, timeout_s: float) -> AsyncIterator[bytes]:
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                chunk = await anext(chunks, None)
        except TimeoutError:
            raise BodyError("stalled-body", f"nothing of the body came for {timeout_s:g} s") from None
        except ClientDisconnect:
            raise BodyError("bad-body", "the connection ended before the body") from None
        if chunk is None:
            return
        if chunk:
            yield chunk


def _cut(chunk: bytes) -> Iterator[bytes]:
    for start in range(0, len(chunk), BLOCK_BYTES):
        yield chunk[start : start + BLOCK_BYTES]


class _Gunzip:
    """Unpack gzip as it comes in, never more at once than a block: a few bytes may hold gigabytes."""

    def __init__(self) -> None:
        self._member = self._new()
        self._has_begun = False

    @staticmethod
    def _new() -> Any:
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def unpack(self, packed: bytes) -> Iterator[bytes]:
        """Yield what *packed* holds; one member after another, as `cat` joins them."""
        has_more = True
        while packed or has_more:
            if self._member.eof:
                packed = packed.lstrip(b"\0")  # padding
                if not packed:
                    return
                self._member = self._new()
            try:
                block = self._member.decompress(packed, BLOCK_BYTES)
            except zlib.error:
                raise _damaged() from None
            self._has_begun = True
            # A full block: there may be more that needs no further input.
            has_more = len(block) == BLOCK_BYTES
            packed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if block:
                yield block

    def end(self) -> None:
        """Refuse a body that ends within a member."""
        if self._has_begun and not self._member.eof:
            raise _damaged()


def _damaged() -> BodyError:
    return BodyError("bad-body", "the body is gzip, but damaged or cut short")


def _too_large(max_bytes: int) -> BodyError:
    return BodyError(
        "too-large",
        f"the body has more than {max_bytes} bytes, unpacked",
        hint="send a list as text/plain or application/x-ndjson, or in several requests",
    )


def _encoding_of(request: Request) -> str:
    return request.headers.get("content-encoding", "identity").strip().lower()


def _length_of(request: Request) -> int:
    """Return what Content-Length says, or 0."""
    text = request.headers.get("content-length", "")
    return int(text) if text.isdecimal() else 0
