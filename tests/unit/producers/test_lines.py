"""The line reader: no line lost, no neighbour harmed, memory flat."""

from __future__ import annotations

import gzip
import io
import tracemalloc
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esa_preload.errors import InvalidRequestError
from esa_preload.lines import LINE_MAX_BYTES, read_lines
from esa_preload.urls import UrlRejectedError, normalise

if TYPE_CHECKING:
    from collections.abc import Iterator


class Trickle:
    """A stream that returns what it has in pieces of given lengths, over and over, never more than asked for."""

    def __init__(self, data: bytes, lengths: list[int]) -> None:
        self.data = io.BytesIO(data)
        self.lengths = lengths
        self.calls = 0

    def read(self, size: int, /) -> bytes:
        self.calls += 1
        return self.data.read(min(size, self.lengths[self.calls % len(self.lengths)]))


class Endless:
    """A stream of *total* bytes, the same block again and again."""

    def __init__(self, block: bytes, total: int) -> None:
        self.block = block
        self.left = total

    def read(self, size: int, /) -> bytes:
        taken = self.block[: min(size, self.left)]
        self.left -= len(taken)
        return taken


def model(data: bytes) -> list[str]:
    """Say in four lines what the reader should return for lists without overlong lines."""
    lines = [line.decode("utf-8", "surrogateescape").strip(" \t\r\ufeff") for line in data.split(b"\n")]
    return [line for line in lines if line and not line.startswith("#")]


def is_foreign(data: bytes) -> bool:
    return data.startswith((b"\x1f\x8b", b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff"))


LISTS = st.lists(
    st.one_of(
        st.sampled_from([b"\n", b"\r\n", b"\r", b" ", b"\t", b"#", b"\xef\xbb\xbf", b"\xff", b"\xc3", b"\xe2\x80\xa8", b"\x0b", b"\x0c", b"\xc2\x85"]),
        st.just(b"https://example.com/a"),
        st.text(max_size=4).map(lambda text: text.encode("utf-8", "replace")),
        st.binary(max_size=4),
    )
).map(b"".join)  # fmt: skip
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=5)


@given(LISTS.filter(lambda data: not is_foreign(data)), LENGTHS)
@example(b"", [1])
@example(b"\n\n", [1])
@example(b"a", [1])
@example(b"\xef\xbb\xbf# \r\na\r\n b\t\n\xc3\n\xbcc", [1])
def test_lines_do_not_depend_on_how_they_arrive(data: bytes, lengths: list[int]) -> None:
    """Whatever the bytes and wherever reads break, exactly the lines of the model come out, in order."""
    assert list(read_lines(Trickle(data, lengths))) == model(data)
    assert list(read_lines(data)) == model(data)


@given(LISTS.filter(lambda data: not is_foreign(data)), LENGTHS)
def test_gzip_is_read_like_plain_text(data: bytes, lengths: list[int]) -> None:
    """A packed list is known by its first bytes and gives the same lines, joined archives too."""
    assert list(read_lines(Trickle(gzip.compress(data), lengths))) == model(data)
    half = len(data) // 2
    joined = gzip.compress(data[:half]) + gzip.compress(data[half:])
    assert list(read_lines(joined)) == model(data)


@given(st.binary(min_size=1).filter(lambda line: b"\n" not in line))
def test_a_damaged_line_leaves_its_neighbours_alone(damage: bytes) -> None:
    """Bytes that are not a URL are refused by the rules or left out; the lines before and after are what they were."""
    lines = list(read_lines(b"https://a.com/\n" + damage + b"\nhttps://b.com/"))
    if is_foreign(damage):
        lines = [line for line in lines if line]
    assert (lines[0], lines[-1]) == ("https://a.com/", "https://b.com/")
    assert len(lines) <= 3


@pytest.mark.parametrize(
    "separator", ["\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029", "\r"]
)
def test_only_a_line_feed_ends_a_line(separator: str) -> None:
    """Other separators stay inside their line, which the URL rules then refuse as a whole."""
    text = f"https://a.com/{separator}https://b.com/"
    assert list(read_lines(text.encode())) == [text]
    with pytest.raises(UrlRejectedError, match="line break"):
        normalise(text)


def test_comments_blanks_and_marks_are_left_out() -> None:
    """What editors, spreadsheets and `cat` add to a list never becomes a rejected URL."""
    data = b"\xef\xbb\xbf# my list\r\n\r\n  https://a.com/ \t\r\r\n\t# more\n\xef\xbb\xbfhttps://b.com/#top\n   \n\r\n"
    assert list(read_lines(data)) == ["https://a.com/", "https://b.com/#top"]


@pytest.mark.parametrize("lengths", [[1 << 20], [1 << 16], [65_535, 1, 7], [4_099]])
@pytest.mark.parametrize("extra", [-1, 0, 1, 2, 70_000, 300_000])
def test_an_overlong_line_is_refused_alone(lengths: list[int], extra: int) -> None:
    """The bound is exact, an overlong line is one rejected URL wherever reads break, and its neighbours survive."""
    line = b"https://l.com/?" + b"x" * (LINE_MAX_BYTES + extra - 15)
    data = b"\n".join([b"https://a.com/", line, b"https://b.com/", line, line, b"https://c.com/"])
    lines = list(read_lines(Trickle(data, lengths)))
    assert [text for text in lines if len(text) < 100] == [
        "https://a.com/",
        "https://b.com/",
        "https://c.com/",
    ]
    longs = [text for text in lines if len(text) >= 100]
    assert len(longs) == 3
    for text in longs:
        assert text == line.decode() if extra <= 0 else len(text) == LINE_MAX_BYTES + 1
        with pytest.raises(UrlRejectedError, match="longer than" if extra > 0 else "characters long"):
            normalise(text)


@pytest.mark.parametrize("filler", [b" ", b"\xc3\xbc", b"\xff", b"/../"])
def test_what_is_cut_off_is_never_accepted(filler: bytes) -> None:
    """The start of an overlong line may look like a good URL (blanks, a fragment, dot segments): it is refused all the same."""
    for line in (b"https://a.com/#" + filler * 70_000, filler * 70_000):
        (text,) = read_lines(line)
        with pytest.raises(UrlRejectedError, match="longer than"):
            normalise(text, url_max_chars=10**9)


def test_an_overlong_comment_is_a_comment() -> None:
    """A comment is left out whatever its length."""
    assert list(read_lines(b"a\n#" + b"x" * 200_000 + b"\nb")) == ["a", "b"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_other_encodings_are_named(encoding: str, pack: type[bytes]) -> None:
    """A list saved as UTF-16 or UTF-32 is one clear error instead of thousands of rejected lines."""
    data = "\ufeffhttps://a.com/\n".encode(
        encoding.replace("utf-16", "utf-16-le") if encoding == "utf-16" else encoding
    )
    with pytest.raises(InvalidRequestError, match=f"{encoding[:6].upper()}; save it as UTF-8"):
        list(read_lines(pack(data)))


@pytest.mark.parametrize("cut", [3, 12, -1])
def test_damaged_gzip_is_an_error_after_the_good_lines(cut: int) -> None:
    """A truncated or altered archive never passes for a complete list."""
    packed = gzip.compress(b"https://a.com/\n" * 1000)
    with pytest.raises(InvalidRequestError, match="damaged or cut short"):
        list(read_lines(packed[:cut]))
    with pytest.raises(InvalidRequestError, match="damaged or cut short"):
        list(read_lines(packed[:-8] + b"\0" * 8))
    with pytest.raises(InvalidRequestError, match="damaged or cut short"):
        list(read_lines(packed[:10] + b"\xff" * 20))


def test_an_error_of_the_stream_itself_passes() -> None:
    """A disk error is not mistaken for a damaged list."""

    class Broken:
        def read(self, size: int, /) -> bytes:
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        list(read_lines(Broken()))


def test_what_is_not_bytes_is_named() -> None:
    """Common slips are one clear sentence: a str, a text stream, a path, a stream that does not wait."""

    class NotReady:
        def read(self, size: int, /) -> bytes | None:
            return None

    for wrong in ("https://a.com/", None):
        with pytest.raises(InvalidRequestError, match="binary stream, not from"):
            read_lines(cast("bytes", wrong))
    with pytest.raises(InvalidRequestError, match="open it in binary mode"):
        list(read_lines(cast("bytes", io.StringIO("https://a.com/"))))
    with pytest.raises(InvalidRequestError, match="make it blocking"):
        list(read_lines(NotReady()))


def test_a_pipe_is_read_as_it_comes() -> None:
    """The lines that a slow writer has finished are yielded before it writes more."""

    def lines_written() -> Iterator[bytes]:
        yield b"https://a.com/\nhttps://b"
        yield b".com/\n"

    class Pipe:
        written = lines_written()
        reads = 0

        def read(self, size: int, /) -> bytes:
            raise AssertionError("would wait for a whole block")

        def read1(self, size: int, /) -> bytes:
            self.reads += 1
            return next(self.written, b"")

    pipe = Pipe()
    lines = read_lines(pipe)
    assert next(lines) == "https://a.com/"
    assert pipe.reads == 1
    assert list(lines) == ["https://b.com/"]


@pytest.mark.parametrize("block", [b"https://a.com/abc\n" * 3_000, b"x" * 65_536, b" " * 65_536])
def test_memory_is_flat(block: bytes) -> None:
    """Neither the length of a list nor that of one line costs memory."""
    tracemalloc.start()
    try:
        for _ in read_lines(Endless(block, 5_000_000)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_500_000


def test_a_gzip_bomb_is_unpacked_piece_by_piece() -> None:
    """A packed list costs memory for a block, whatever it unpacks to."""
    bomb = gzip.compress(b"x" * 50_000_000)
    tracemalloc.start()
    try:
        (line,) = read_lines(bomb)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(line) == LINE_MAX_BYTES + 1
    assert peak < 2_000_000
