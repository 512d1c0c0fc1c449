"""Real URLs, and what damage, malice and bad tools make of them."""

from __future__ import annotations

import gzip
from functools import cache
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from hypothesis import strategies as st

from shared_data import asset_urls

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

# What means something to a parser, a line reader, a log or a terminal.
PIECES = (
    *(
        "\n",
        "\r\n",
        "\r",
        "\0",
        "\t",
        "\x0b",
        "\x1b[2J",
        "\x7f",
        "\x85",
        "\u2028",
        "\u2029",
        " ",
        "\u00a0",
        "\u3000",
    ),
    *(
        "\\",
        "/",
        "//",
        "/./",
        "/../",
        "..",
        "%2e%2e/",
        "%2f",
        "%5c",
        "?",
        "#",
        "@",
        ":",
        ":443",
        ":0",
        ":99999",
        "user:pw@",
    ),
    *(
        "%",
        "%0a",
        "%0D%0A",
        "%00",
        "%zz",
        "%C3",
        "%E2%80%A8",
        "%u000a",
        "&",
        "=",
        "+",
        ";",
        ",",
        "'",
        '"',
        "<",
        ">",
        "|",
        "^",
    ),
    *(
        "ü",
        "例",
        "😀",
        "e\u0301",
        "\u200b",
        "\u200d",
        "\u202e",
        "\u00ad",
        "\ufeff",
        "\ufffd",
        "\ud800",
        "\udcff",
        "\U000e0001",
    ),
    *(
        "http://",
        "https://",
        "HTTP://",
        "ftp://",
        "xn--",
        "xn--a",
        "[::1]",
        "127.1",
        "0x7f.1",
        "。",
        "／",
        "＠",
        "．",
        "ſ",
    ),
)


@cache
def real_urls() -> tuple[str, ...]:
    """Return the 50,000 URLs of the shared data."""
    return tuple(gzip.decompress(asset_urls().read_bytes()).decode().split())


class Change(NamedTuple):
    """One change: what to do, where (as parts of the length), and with which piece."""

    how: str
    start: float
    end: float
    piece: str


HOW = ("insert", "overwrite", "cut", "double", "repeat", "encode", "capitals", "join")


def changed(url: str, change: Change) -> str:
    """Return *url* after *change*."""
    start, end = sorted((round(change.start * len(url)), round(change.end * len(url))))
    head, middle, tail = url[:start], url[start:end], url[end:]
    match change.how:
        case "insert":
            return url[:start] + change.piece + url[start:]
        case "overwrite":
            return url[:start] + change.piece + url[start + 1 :]
        case "cut":
            return head + tail
        case "double":
            return head + middle * 2 + tail
        case "repeat":
            return head + middle * 60 + tail
        case "encode":
            return head + quote(middle, safe="", errors="surrogatepass") + tail
        case "capitals":
            return head + middle.upper() + tail
        case _:
            return url + change.piece + url


def _mutate(number: int, changes: list[Change]) -> str:
    url = real_urls()[number]
    for change in changes:
        url = changed(url, change)[:80_000]
    return url


def mutated_urls() -> SearchStrategy[str]:
    """Real URLs after none to four changes."""
    places = st.floats(0, 1)
    pieces = st.one_of(st.sampled_from(PIECES), st.characters())
    changes = st.builds(Change, st.sampled_from(HOW), places, places, pieces)
    # By number: the list is only looked for when a test runs, and is too long to be shown.
    return st.builds(_mutate, st.integers(0, 49_999), st.lists(changes, max_size=4))
