"""Which lines of a list the sandbox accepts."""

from __future__ import annotations

from urllib.parse import parse_qsl, unquote_to_bytes, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.sandbox.forms import decode_component, decode_pairs
from esa_preload_worker.sandbox.urls import Examined, accepted_urls, examine


def check(
    text: str, *, owned: tuple[str, ...] = (), quota_left: int | None = None, is_all_or_nothing: bool = False
) -> Examined:
    return examine(text, owned=owned, quota_left=quota_left, is_all_or_nothing=is_all_or_nothing)


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example/",
        "HTTP://A.EXAMPLE",
        "http://a.example:8080/x?y=z,w&u#f",
        "https://xn--fiq228c.example/%E4%B8%AD",
        "http://a_b.example/|{}",
        "http://a.example?q",
    ],
)
def test_valid(url: str) -> None:
    """A well-formed http or https URL is accepted, alone and beside one that is not."""
    assert check(url).refused == ()
    assert [refusal.line for refusal in check(f"{url}\nnonsense").refused] == [1]


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "a.example/x",
        "ftp://a.example/",
        "https://",
        "https:///x",
        "https://a..example/",
        "https://a.example./x",
        "https://.example/",
        "https://a.example:port/",
        "https://user@a.example/",
        "https://a.example/a b",
        "https://a.example/a\tb",
        "https://a.example/\r",
        "https://a.example/\u2028b",
        "https://a.example/中",
        "https://\u212a.example/",
        "http\u017f://a.example/",
        "https://a.example\x85/",
        "x https://a.example/",
    ],
)
def test_invalid(url: str) -> None:
    """Everything else is an invalid URL, alone and beside a valid one; look-alikes of ASCII letters too."""
    assert [refusal.kind for refusal in check(url).refused] == ["InvalidUrl"]
    examined = check(f"https://a.example/1\n{url}\nhttps://a.example/2")
    assert [(refusal.line, refusal.url) for refusal in examined.refused] == [(1, url)]
    assert examined.url_count == 3


@pytest.mark.parametrize(
    ("text", "url_count", "invalid"),
    [
        ("https://a.example/", 1, 0),
        ("https://a.example/\n", 2, 1),
        ("\n", 2, 2),
        ("https://a.example/1\r\nhttps://a.example/2", 2, 1),
        ("https://a.example/1 https://a.example/2", 1, 1),
        ("https://a.example/1,https://a.example/2", 1, 0),
    ],
)
def test_lines_are_counted_strictly(text: str, url_count: int, invalid: int) -> None:
    """Lines end at a line feed and nowhere else; an empty line counts, and is refused."""
    examined = check(text)
    assert (examined.url_count, len(examined.refused)) == (url_count, invalid)


def test_foreign_domains() -> None:
    """A site owns its domains and what is below them, in any case; a domain that only ends alike is another's."""
    text = "\n".join(
        f"https://{host}/" for host in ("a.example", "IMG.A.Example", "ba.example", "a.example.evil.test")
    )
    examined = check(text, owned=("a.example",))
    assert [(refusal.line, refusal.kind) for refusal in examined.refused] == [
        (2, "InvalidDomain"),
        (3, "InvalidDomain"),
    ]
    assert examined.domains == ("a.example", "img.a.example", "ba.example", "a.example.evil.test")


@pytest.mark.parametrize(
    ("quota", "is_all_or_nothing", "refused"),
    [(3, False, []), (2, False, [3]), (0, False, [0, 2, 3]), (2, True, [0, 2, 3]), (3, True, [])],
)
def test_quota(quota: int, is_all_or_nothing: bool, refused: list[int]) -> None:
    """The excess, or all of the list, is refused; a URL that is refused anyway uses up no quota."""
    text = "https://a.example/0\nbad\nhttps://a.example/2\nhttps://a.example/3"
    examined = check(text, quota_left=quota, is_all_or_nothing=is_all_or_nothing)
    assert [refusal.line for refusal in examined.refused if refusal.kind == "QuotaExcess"] == refused
    assert next(refusal.kind for refusal in examined.refused if refusal.line == 1) == "InvalidUrl"


@given(
    st.lists(
        st.one_of(
            st.text(st.characters(exclude_characters="\n", exclude_categories=["Cs"])),
            st.just("https://a.example/x"),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_each_line_is_judged_alone(lines: list[str]) -> None:
    """The fast look at a whole list and the look at each line agree; accepted and refused make up the list."""
    examined = check("\n".join(lines))
    refused = [line for line, url in enumerate(lines) if check(url).refused]
    assert [refusal.line for refusal in examined.refused] == refused
    accepted = accepted_urls("\n".join(lines), examined.refused)
    assert accepted == [url for line, url in enumerate(lines) if line not in refused]


@given(st.binary(max_size=40) | st.text("%+0123aAfF2 zZ/:?=&\n", max_size=40).map(str.encode))
def test_components_decode_as_the_standard_library_does(raw: bytes) -> None:
    """The fast decoder is the standard one, broken escapes included."""
    assert decode_component(raw) == unquote_to_bytes(raw.replace(b"+", b" "))


@given(st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5))
def test_forms_decode_as_the_standard_library_does(pairs: list[tuple[str, str]]) -> None:
    """What urlencode wrote is read back, blank values included."""
    pairs = [
        (name.encode(errors="replace").decode(), value.encode(errors="replace").decode())
        for name, value in pairs
    ]
    raw = urlencode(pairs)
    assert [(name.decode(), value.decode()) for name, value in decode_pairs(raw.encode())] == pairs
    assert parse_qsl(raw, keep_blank_values=True, max_num_fields=None) == pairs
