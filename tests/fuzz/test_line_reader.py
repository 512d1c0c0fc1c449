"""The line reader: any bytes in any cutting are the same lines, or the same error after the same lines."""

from __future__ import annotations

import gzip
import io
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.errors import InvalidRequestError
from esa_preload.lines import LINE_MAX_BYTES, read_lines
from esa_preload.urls import INPUT_MAX_CHARS, UrlRejectedError, normalise
from fuzz.budget import EXAMPLES, bounded
from fuzz.url_mutations import mutated_urls

MEMORY_MAX_BYTES = 4_000_000


class Pieces:
    """A stream that hands out its bytes in pieces of the given sizes, over and over, however much is asked for."""

    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self.data, self.sizes, self.calls = io.BytesIO(data), sizes, 0

    def read(self, size: int, /) -> bytes:
        self.calls += 1
        return self.data.read(min(size, self.sizes[self.calls % len(self.sizes)]))


def _repeated(byte: bytes, times: int) -> bytes:
    return byte * times


def _written(bits: list[bytes], how: str, at: int) -> bytes:
    data = b"".join(bits)
    match how:
        case "packed":
            return gzip.compress(data)
        case "packed and cut":
            return gzip.compress(data)[:at]
        case "packed and damaged":
            packed = gzip.compress(data)
            return packed[:at] + b"\xff\0\x55" + packed[at + 3 :]
        case "packed with more":
            return gzip.compress(data) + b"trailing"
        case "utf-16" | "utf-32":
            return data.decode("utf-8", "replace").encode(how)
        case _:
            return data


BITS = (b"\n", b"\r\n", b"\r", b"#", b" ", b"\t", b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", b"\xc3", b"\xed\xa0\x80")  # fmt: skip
HOW = ("plain", "packed", "packed and cut", "packed and damaged", "packed with more", "utf-16", "utf-32")
bits = st.one_of(
    mutated_urls().map(lambda url: url.encode("utf-8", "surrogatepass")),
    st.sampled_from(BITS),
    st.binary(max_size=40),
    st.builds(
        _repeated,
        st.sampled_from([b"x", b" ", b"#", b"\xc3\xbc", b"\xff", b"\0"]),
        st.sampled_from([3, 40, 65_535, 65_536, 65_537, 131_073]),
    ),
    st.builds(_repeated, st.sampled_from([b"a\n", b"\n"]), st.sampled_from([3, 40_000])),
)
plain = st.builds(_written, st.lists(bits, max_size=8), st.just("plain"), st.just(0))
documents = st.builds(_written, st.lists(bits, max_size=8), st.sampled_from(HOW), st.integers(0, 400))
sizes = st.lists(st.sampled_from([1, 2, 3, 7, 4_099, 65_535, 1 << 20]), max_size=3).map(
    lambda few: [*few, 65_536]
)


def read(source: bytes | Pieces) -> tuple[list[str], str]:
    """Return the lines, and the sentence with which reading ended early, if it did."""
    lines: list[str] = []
    try:
        for line in read_lines(source):
            lines.append(line)  # noqa: PERF402 - what came before an error counts
    except InvalidRequestError as exc:
        return lines, str(exc)
    return lines, ""


def model(data: bytes) -> list[str]:
    """Say what docs/explanation/url-rules.md promises for a list that is neither packed nor of another encoding."""
    found: list[str] = []
    for raw in data.split(b"\n"):
        text = raw[:LINE_MAX_BYTES].decode("utf-8", "surrogateescape").strip(" \t\r\ufeff")
        if len(raw) > LINE_MAX_BYTES and not text.startswith("#"):
            found.append(text.ljust(INPUT_MAX_CHARS + 1, "…"))
        elif text and not text.startswith("#"):
            found.append(text)
    return found


@given(documents, sizes)
@bounded(0.3)
def test_lines_do_not_depend_on_the_cutting(data: bytes, pieces: list[int]) -> None:
    """Packed, damaged, of another encoding or full of overlong lines: the lines and the error are those of the whole."""
    assert read(Pieces(data, pieces)) == read(data)


@given(
    plain.filter(lambda data: not data.startswith((b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")))
)
@bounded(0.3)
def test_the_lines_are_those_of_the_page(data: bytes) -> None:
    """Plain and packed, a list has exactly the lines that the page promises, each without a line feed."""
    expected = (model(data), "")
    assert read(data) == expected
    assert read(gzip.compress(data, 1)) == expected
    assert not any("\n" in line for line in expected[0])


@given(plain)
@bounded(0.3)
def test_no_line_becomes_two_urls(data: bytes) -> None:
    """Whatever a line holds, the URL rules make one normal form of it or refuse it for a reason."""
    lines, _ = read(data)
    for line in lines:
        try:
            normal = normalise(line)
        except UrlRejectedError:
            continue
        assert normal.isascii()
        assert normal.isprintable()
        assert len(normal.split()) == 1


@given(documents, sizes)
@bounded(0.1)
def test_memory_is_bounded(data: bytes, pieces: list[int]) -> None:
    """Reading takes memory for some blocks, whatever the list holds."""
    stream = Pieces(data, pieces)
    tracemalloc.start()
    try:
        try:
            for _ in read_lines(stream):
                pass
        except InvalidRequestError:
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_MAX_BYTES


@pytest.mark.skipif(EXAMPLES < 10_000, reason="only with many examples: it takes seconds")
@given(st.binary(min_size=1, max_size=65_536).map(lambda block: gzip.compress(block * 2_000)))
@bounded(0.001)
def test_a_bomb_is_unpacked_piece_by_piece(bomb: bytes) -> None:
    """What unpacks to a hundred megabytes takes no more memory."""
    tracemalloc.start()
    try:
        for _ in read_lines(bomb):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEMORY_MAX_BYTES
