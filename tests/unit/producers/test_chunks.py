"""The chunker: distinct accepted URLs, all of them, the same every time."""

from __future__ import annotations

import tracemalloc
from hashlib import blake2b
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.chunks import REJECTED_MAX, Chunk, Chunker, cut, digest_urls, require_urls
from esa_preload.errors import InvalidRequestError
from esa_preload.urls import UrlRejectedError, normalise

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

GOOD = st.integers(0, 12).map("https://e.com/{}".format)
RAW: st.SearchStrategy[object] = st.one_of(
    GOOD, GOOD, GOOD.map(str.upper), GOOD.map("{}#f".format), st.none(), st.sampled_from(["", "ftp://x/", "http://a\nhttp://b"]), st.text(max_size=5)
)  # fmt: skip


def numbered(count: int) -> list[str]:
    return [f"https://e.com/{number}" for number in range(count)]


def push(chunker: Chunker, urls: Iterable[object]) -> list[Chunk]:
    chunks = [chunker.add(url) for url in urls]
    return [chunk for chunk in (*chunks, chunker.flush()) if chunk is not None]


def normal_forms(urls: Iterable[object]) -> list[str]:
    forms: list[str] = []
    for url in urls:
        try:
            forms.append(normalise(url))
        except UrlRejectedError:
            continue
    return forms


@given(st.lists(RAW, max_size=60), st.integers(1, 7))
def test_chunks_hold_every_accepted_url_once(urls: list[object], size: int) -> None:
    """Together the chunks are the distinct normal forms in their first order, and every URL given is counted."""
    chunker = Chunker(size=size)
    chunks = push(chunker, urls)
    forms = normal_forms(urls)
    assert [url for chunk in chunks for url in chunk.urls] == list(dict.fromkeys(forms))
    assert [len(chunk.urls) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
    assert [chunk.number for chunk in chunks] == list(range(len(chunks)))
    assert chunker.distinct == len(set(forms))
    assert chunker.duplicates == len(forms) - len(set(forms))
    assert chunker.rejected_count == len(chunker.rejected) == len(urls) - len(forms)


@given(st.lists(RAW, max_size=60), st.integers(1, 7), st.integers(0, 60))
def test_chunks_are_the_same_however_urls_are_handed_over(urls: list[object], size: int, first: int) -> None:
    """One by one, in bulk, in two parts, or by the shortcut: a repeated enqueue meets its own chunks again."""
    expected = push(Chunker(size=size), urls)
    halves = Chunker(size=size)
    chunks = [*halves.add_many(urls[:first]), *halves.add_many(iter(urls[first:]))]
    last = halves.flush()
    assert [*chunks, *([last] if last else [])] == expected
    assert list(cut(urls, size=size)) == expected


@given(st.lists(GOOD, max_size=80), st.integers(1, 4), st.integers(0, 6))
def test_a_narrow_window_never_repeats_within_a_chunk_and_never_loses(
    urls: list[str], size: int, window: int
) -> None:
    """A URL is called a repeat only if it went into a chunk, always if it is among the last distinct ones, and never twice in one chunk."""
    chunker = Chunker(size=size, window=window)
    chunks = push(chunker, urls)
    assert {url for chunk in chunks for url in chunk.urls} == set(urls)
    assert all(len(set(chunk.urls)) == len(chunk.urls) for chunk in chunks)
    assert chunker.distinct + chunker.duplicates == len(urls)
    # Among the last `window` distinct URLs before it.
    within = sum(url in list(dict.fromkeys(reversed(urls[:at])))[:window] for at, url in enumerate(urls))
    assert chunker.duplicates >= within


def test_repeats_are_seen_over_the_whole_window() -> None:
    """The default window is 100,000 distinct URLs, whatever the chunks."""
    chunker = Chunker()
    urls = numbered(100_000)
    assert sum(len(chunk.urls) for chunk in chunker.add_many(urls)) == 100_000
    assert list(chunker.add_many(urls)) == []
    assert chunker.duplicates == 100_000


async def test_an_async_source_uses_the_same_core() -> None:
    """An async producer pushes URLs as they come and gets the chunks of a list."""

    async def source() -> AsyncIterator[str]:
        for url in numbered(25):
            yield url

    chunker = Chunker(size=10)
    chunks = [chunk async for url in source() if (chunk := chunker.add(url))]
    assert [*chunks, chunker.flush()] == list(cut(numbered(25), size=10))


def test_the_digest_names_the_content() -> None:
    """The digest is a fixed function of the URLs and their order: releases that disagree would see conflicts."""
    (chunk,) = cut(["https://e.com/b", "https://e.com/a"])
    joined = b"https://e.com/b\nhttps://e.com/a"
    assert (
        chunk.digest
        == blake2b(joined, digest_size=8).hexdigest()
        == digest_urls(chunk.urls)
        == "208faec435f5e399"
    )
    assert chunk.digest != digest_urls(sorted(chunk.urls))


def test_rejections_are_bounded_and_printable() -> None:
    """A million bad URLs cost the memory of the first thousand, and none can write to a terminal."""
    chunker = Chunker(url_max_chars=100)
    bad = [
        "http://a\n\x1b[2J",
        "http://h\\x",
        None,
        b"http://a/",
        "http://e.com/" + "x" * 100_000,
        "http://e.com/\udcff",
    ]
    assert list(chunker.add_many(bad * 500)) == []
    assert chunker.rejected_count == 3_000
    assert len(chunker.rejected) == REJECTED_MAX
    shown = [rejection.url for rejection in chunker.rejected[:6]]
    assert shown[:4] == ["http://a\\x0a\\x1b[2J", "http://h\\x", "<NoneType>", "<bytes>"]
    assert len(shown[4]) == 2_048
    assert shown[5] == "http://e.com/\\xff"
    assert all(rejection.reason for rejection in chunker.rejected)


@pytest.mark.parametrize("urls", ["https://e.com/", b"https://e.com/", bytearray(b"x"), memoryview(b"x")])
def test_one_str_is_not_a_list_of_urls(urls: object) -> None:
    """The common slip, a URL where a list belongs, is one clear error at the call, not a rejection for each character."""
    for take in (Chunker().add_many, require_urls):
        with pytest.raises(InvalidRequestError, match="put it in a list"):
            take(cast("list[object]", urls))


def test_what_cannot_be_iterated_is_named() -> None:
    """None, or an async source in the wrong place, is named by its type."""
    with pytest.raises(InvalidRequestError, match="iterable of URLs, not NoneType"):
        require_urls(None)


def test_a_chunk_holds_at_least_one_url() -> None:
    """A size that could never fill a chunk is refused."""
    with pytest.raises(InvalidRequestError, match="at least one URL, not 0"):
        Chunker(size=0)


def test_a_source_that_fails_loses_nothing_before_it() -> None:
    """After an error of the caller's own iterable, what came before it can still be flushed."""

    def source() -> Iterable[str]:
        yield "https://e.com/1"
        raise LookupError

    chunker = Chunker()
    with pytest.raises(LookupError):
        list(chunker.add_many(source()))
    last = chunker.flush()
    assert last is not None
    assert last.urls == ("https://e.com/1",)
    assert chunker.flush() is None


def test_reprs_state_counts() -> None:
    """A repr may end in a log: it shows numbers, never URLs, whose queries may be secret."""
    chunker = Chunker()
    chunker.add("https://e.com/?token=secret")
    assert repr(chunker) == "Chunker(distinct=1, duplicates=0, rejected_count=0)"
    assert (
        repr(Chunk(number=3, urls=("https://e.com/?s",), digest="0f"))
        == "Chunk(number=3, urls=1, digest='0f')"
    )


def test_memory_is_flat() -> None:
    """What is remembered is bounded by the window, not by the number of URLs."""
    chunker = Chunker(window=1_000)
    tracemalloc.start()
    try:
        for _ in chunker.add_many(f"https://e.com/{number}" for number in range(100_000)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000
