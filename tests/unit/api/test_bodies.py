"""Bodies cut anywhere are read as if they came whole."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from esa_preload.api.bodies import NDJSON, TEXT, read_urls
from esa_preload.api.problems import BodyError, ProblemError
from esa_preload.api.settings import load
from esa_preload.errors import InvalidRequestError
from esa_preload.lines import read_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.types import Message

SETTINGS = load(
    {"ESA_PRELOAD_REDIS_URL": "redis://localhost", "ESA_PRELOAD_HTTP_MAX_BODY_BYTES": "1000000"}
).settings

LONG = b"<long>"
"""Stands for a line over the bound, which would be too long to show."""

pieces = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\n", b"https://a.example/\n", b"# c\r\n", b"\xff\xfe", b"\xef\xbb\xbf", LONG]),
    ),
    max_size=12,
)


def long(chunks: Sequence[bytes]) -> list[bytes]:
    """Return *chunks* with the long line in its place."""
    return [chunk.replace(LONG, b"x" * 70_000) for chunk in chunks]


def request_of(chunks: Sequence[bytes], **headers: str) -> Request:
    """Return a request whose body comes in *chunks*."""
    messages: list[Message] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> Message:
        return messages.pop(0)

    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "headers": raw}, receive)


async def urls_of(chunks: Sequence[bytes], media_type: str = TEXT, **headers: str) -> list[str] | str:
    """Return what is read of *chunks*, or the kind of the problem."""
    try:
        return [url async for url in read_urls(request_of(chunks, **headers), SETTINGS, media_type)]
    except BodyError as exc:
        return exc.kind
    except InvalidRequestError as exc:
        return str(exc)


@settings(deadline=None, max_examples=50)
@given(chunks=pieces)
async def test_lines_are_those_of_the_command_s_reader(chunks: list[bytes]) -> None:
    """Whatever the bytes and wherever they are cut, a text body has the lines that a file has."""
    chunks = long(chunks)
    whole = b"".join(chunks)
    try:
        expected: list[str] | str = list(read_lines(b"\n" + whole if whole[:2] == b"\x1f\x8b" else whole))
    except InvalidRequestError as exc:
        expected = str(exc)
    found = await urls_of(chunks)
    if whole[:2] != b"\x1f\x8b":
        assert found == expected


@settings(deadline=None, max_examples=50)
@given(chunks=pieces, step=st.integers(1, 100), level=st.sampled_from([0, 1, 9]))
async def test_gzip_is_unpacked_wherever_it_is_cut(chunks: list[bytes], step: int, level: int) -> None:
    """Members joined, and cut anywhere on the way, come to the same lines as the text itself."""
    chunks = [b"https://first.example/\n", *long(chunks)]
    packed = b"".join(gzip.compress(chunk, level) for chunk in chunks)
    step *= 1 + len(packed) // 1_000
    cut = [packed[start : start + step] for start in range(0, len(packed), step)]
    assert await urls_of(cut, content_encoding="gzip") == await urls_of(chunks)
    assert await urls_of([*cut, b"\0" * 7], content_encoding="gzip") == await urls_of(chunks)


@pytest.mark.parametrize("cut", [1, 5, 9, 20, -1, -8])
async def test_gzip_that_is_cut_short_is_not_the_end(cut: int) -> None:
    """Wherever it stops within a member: an error, not a shorter list."""
    packed = gzip.compress(b"https://first.example/\n" * 1_000)
    assert await urls_of([packed[:cut]], content_encoding="gzip") == "bad-body"


async def test_a_megabyte_is_the_bound() -> None:
    """Exactly as much as is allowed goes through, one byte more does not, packed or plain, said or not."""
    line = b"https://a.example/1\n"
    full = line * 50_000
    assert len(full) == SETTINGS.http_max_body_bytes
    for body, expected in ((full, None), (full + b"\n", "too-large")):
        for chunks, headers in (
            ([body], {}),
            ([body], {"content_length": str(len(body))}),
            ([gzip.compress(body)], {"content_encoding": "gzip"}),
        ):
            found = await urls_of(chunks, **headers)
            assert (found if expected else len(found)) == (expected or 50_000)


@settings(deadline=None)
@given(line=st.text(max_size=200).filter(lambda text: "\n" not in text and "\r" not in text))
async def test_a_line_of_ndjson_is_one_url(line: str) -> None:
    """Whatever stands in it, a line that is not empty or a comment is handed on once, so that it is counted."""
    found = await urls_of([line.encode("utf-8", "surrogatepass"), b"\n"], NDJSON)
    assert isinstance(found, str) or len(found) <= 1


async def test_an_encoding_that_is_not_read() -> None:
    """Refused before anything is read."""
    with pytest.raises(ProblemError):
        await urls_of([b"x"], content_encoding="br")
