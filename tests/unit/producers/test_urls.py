"""The URL rules: one normal form, or one clear reason."""

from __future__ import annotations

import re

import ada_url
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esa_preload.urls import INPUT_MAX_CHARS, UrlRejectedError, normalise, printable, redact

# RFC 3986, appendix A, for http and https without userinfo and fragment: written apart from the code under test.
PCHAR = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@]|%[0-9A-Fa-f]{2})"
RFC3986 = re.compile(
    rf"https?://(?:\[[0-9a-f:.]+\]|[a-z0-9\-._]+)(?::[1-9][0-9]*)?(?:/{PCHAR}*)+(?:\?(?:{PCHAR}|[/?])*)?"
)

ACCEPTED = [
    # already normal
    ("https://example.com/", "https://example.com/"),
    (
        "https://example.com/npm/@types/a@1.2.3/b.min.js?v=1&w=2",
        "https://example.com/npm/@types/a@1.2.3/b.min.js?v=1&w=2",
    ),
    ("https://e.com/(a)'!$&*+,;=:~_-.", "https://e.com/(a)'!$&*+,;=:~_-."),
    # scheme, host, port, fragment, dot segments
    ("HTTP://EXAMPLE.com:80/a/../b#frag", "http://example.com/b"),
    ("hTtPs://Example.COM", "https://example.com/"),
    ("https://example.com:443/", "https://example.com/"),
    ("https://example.com:0443/", "https://example.com/"),
    ("https://example.com:80/", "https://example.com:80/"),
    ("http://example.com:443/", "http://example.com:443/"),
    ("http://example.com:08080/", "http://example.com:8080/"),
    ("http://example.com:65535/", "http://example.com:65535/"),
    ("http://example.com:/a", "http://example.com/a"),
    ("https://example.com?q", "https://example.com/?q"),
    ("https://example.com#f", "https://example.com/"),
    ("https://example.com/?#", "https://example.com/?"),
    ("https://example.com/a#b?c#d", "https://example.com/a"),
    ("https://example.com/a/./b/../../c/", "https://example.com/c/"),
    ("https://example.com/../../..", "https://example.com/"),
    ("https://example.com/a/%2e%2E/b", "https://example.com/b"),
    ("https://example.com/a/.%2e/b/%2e", "https://example.com/b/"),
    ("https://example.com/.well-known/x", "https://example.com/.well-known/x"),
    ("https://example.com/..a/...", "https://example.com/..a/..."),
    ("https://example.com//a//", "https://example.com//a//"),
    ("https://example.com/?a=/../b", "https://example.com/?a=/../b"),
    # percent-encoding
    ("https://例え.jp/ü ?q=ü", "https://xn--r8jz45g.jp/%C3%BC%20?q=%C3%BC"),
    ("https://e.com/a b?c d", "https://e.com/a%20b?c%20d"),
    ("https://e.com/😀", "https://e.com/%F0%9F%98%80"),
    ("http://a.com/%0Ahttp://b.com", "http://a.com/%0Ahttp://b.com"),
    ("https://e.com/%c3%BC%2F%25", "https://e.com/%c3%BC%2F%25"),
    ("https://e.com/%C3?%ff", "https://e.com/%C3?%ff"),
    ('https://e.com/|^`{}[]"<>', "https://e.com/%7C%5E%60%7B%7D%5B%5D%22%3C%3E"),
    ("https://e.com/?|^`{}[]\"<>'", "https://e.com/?%7C%5E%60%7B%7D%5B%5D%22%3C%3E%27"),
    ("https://e.com/100%", "https://e.com/100%25"),
    ("https://e.com/%zz%4?%%41", "https://e.com/%25zz%254?%25%41"),
    ("https://e.com/%%2e/a", "https://e.com/%25%2e/a"),
    # invisible characters outside the host are shown for what they are
    ("https://e.com/a\u200bb\u202ec", "https://e.com/a%E2%80%8Bb%E2%80%AEc"),
    ("https://e.com/a\u00a0b\u3000c?\ufeffd", "https://e.com/a%C2%A0b%E3%80%80c?%EF%BB%BFd"),
    ("https://e.com/\ufdd0\uffff", "https://e.com/%EF%B7%90%EF%BF%BF"),
    # hosts
    ("http://ＥＸＡＭＰＬＥ。ｃｏｍ/", "http://example.com/"),
    ("http://exämple.com/", "http://xn--exmple-cua.com/"),
    ("http://faß.de/", "http://xn--fa-hia.de/"),
    ("http://XN--EXMPLE-CUA.com/", "http://xn--exmple-cua.com/"),
    ("http://☃️.net/", "http://xn--n3h.net/"),
    ("http://ex%61mple.com/", "http://example.com/"),
    ("http://ex%C3%A4mple.com/", "http://xn--exmple-cua.com/"),
    ("http://example.com./", "http://example.com./"),
    ("http://a_b.example.com/", "http://a_b.example.com/"),
    ("http://-a-.b--c.com/", "http://-a-.b--c.com/"),
    ("http://localhost/", "http://localhost/"),
    ("http://h", "http://h/"),
    ("http://0x7f.1/", "http://127.0.0.1/"),
    ("http://127.1/", "http://127.0.0.1/"),
    ("http://2130706433/", "http://127.0.0.1/"),
    ("http://[::1]:80/", "http://[::1]/"),
    ("http://[0:0::1]:8080/x", "http://[::1]:8080/x"),
    ("http://نامه‌ای.com/", "http://xn--mgba3gch31f060k.com/"),
    ("http://" + "a" * 63 + ".com/", "http://" + "a" * 63 + ".com/"),
    ("http://" + "a." * 126 + "b/", "http://" + "a." * 126 + "b/"),
    ("http://" + "a." * 126 + "b./", "http://" + "a." * 126 + "b./"),
]

START = "the URL must start with http:// or https://"
CONTROL = "the URL has a control character"
BREAK = "the URL has a line break"
HOST = "the host is not a valid host name or address"
BLANKS = "the URL has blanks at its start or end"
INVISIBLE = "the host has an invisible character"
PORT = "the port must be a number from 1 to 65535"
LABEL = "the host has a part between dots that is empty or longer than 63 characters"
CREDENTIALS = "the URL must not carry credentials (user:password@)"
AUTHORITY = "the URL must have // and a host after its scheme"
NO_HOST = "the URL has no host"
BACKSLASH = "the URL has a backslash where a URL has slashes"

REJECTED: list[tuple[object, str]] = [
    ("", "the URL is empty"),
    ("   ", "the URL is empty"),
    (None, "a URL must be a str, not NoneType"),
    (7, "a URL must be a str, not int"),
    (b"https://example.com/", "a URL must be a str, not bytes"),
    (["https://example.com/"], "a URL must be a str, not list"),
    # scheme
    ("example.com/a", START),
    ("/a", START),
    ("//example.com/", START),
    ("ftp://example.com/", START),
    ("file:///etc/passwd", START),
    ("javascript:alert(1)", START),
    ("httpx://example.com/", START),
    ("http//example.com", START),
    ("httpſ://example.com/", START),
    ("ｈｔｔｐ://example.com/", START),
    ("\ufeffhttp://example.com/", START),
    ("h%74tp://example.com/", START),
    # authority
    ("https:", AUTHORITY),
    ("https:a", AUTHORITY),
    ("https:/x", AUTHORITY),
    ("https://", NO_HOST),
    ("https:///x", NO_HOST),
    ("https:////x", NO_HOST),
    ("https://?q", NO_HOST),
    ("https://#f", NO_HOST),
    ("https://:80/", NO_HOST),
    ("http://user:pw@h/", CREDENTIALS),
    ("http://user@h/", CREDENTIALS),
    ("http://@h/", CREDENTIALS),
    ("http://:@h/", CREDENTIALS),
    ("http://a@b@h/", CREDENTIALS),
    ("http://a@/", CREDENTIALS),
    ("http://h\\x", f"{BACKSLASH}"),
    ("http:\\\\h/x", BACKSLASH),
    ("http://h/?a\\b", BACKSLASH),
    # what a parser would drop
    ("http://a\nhttp://b", f"{BREAK} (U+000A)"),
    ("http://a.com/\r\nhttp://b.com/", f"{BREAK} (U+000D)"),
    ("http://a.com/\n", f"{BREAK} (U+000A)"),
    ("\nhttp://a.com/", f"{BREAK} (U+000A)"),
    ("http://a.com/#\n", f"{BREAK} (U+000A)"),
    ("http://a.com/\x0b", f"{BREAK} (U+000B)"),
    ("http://a.com/\x0c", f"{BREAK} (U+000C)"),
    ("http://a.com/\x1db", f"{BREAK} (U+001D)"),
    ("http://a.com/\x85b", f"{BREAK} (U+0085)"),
    ("http://a.com/\u2028b", f"{BREAK} (U+2028)"),
    ("http://a.com/\u2029", f"{BREAK} (U+2029)"),
    ("ht\ttp://a.com/", f"{CONTROL} (U+0009)"),
    ("http://a.com/\0", f"{CONTROL} (U+0000)"),
    ("http://a.com/\x1b[2J", f"{CONTROL} (U+001B)"),
    ("http://a.com/\x7f", f"{CONTROL} (U+007F)"),
    ("http://a.com/\x9b", f"{CONTROL} (U+009B)"),
    (" http://a.com/", BLANKS),
    ("http://a.com/ ", BLANKS),
    ("http://a.com/\u00a0", BLANKS),
    ("\u3000http://a.com/", BLANKS),
    ("http://a.com/\ud800", "the URL has a lone surrogate (U+D800)"),
    ("http://\udbff.com/", "the URL has a lone surrogate (U+DBFF)"),
    (
        b"http://a.com/\xff".decode("utf-8", "surrogateescape"),
        "the URL has the byte 0xff, which is not valid UTF-8",
    ),
    # port
    ("http://h:0/", PORT),
    ("http://h:65536/", PORT),
    ("http://h:99999999999999999999/", PORT),
    ("http://h:-1/", PORT),
    ("http://h:a/", PORT),
    ("http://h:80:80/", PORT),
    ("http://h:８０/", PORT),
    ("http://h:²/", PORT),
    ("http://[::1]:x/", PORT),
    ("http://::1/", NO_HOST),
    # host
    ("http://a b/", HOST),
    ("http://a%20b/", HOST),
    ("http://a%0Ab/", HOST),
    ("http://a%0Ahttp://b", HOST),
    ("http://a%40b/", HOST),
    ("http://a%2Fb/", HOST),
    ("http://a%00b/", HOST),
    ("http://a%/", HOST),
    ("http://a＠b/", HOST),
    ("http://a／b/", HOST),
    ("http://a<b/", HOST),
    ("http://a|b/", HOST),
    ("http://[::1/", HOST),
    ("http://[]/", HOST),
    ("http://[::g]/", HOST),
    ("http://[fe80::1%25eth0]/", HOST),
    ("http://1.2.3.256/", HOST),
    ("http://1.2.3.4.5/", HOST),
    ("http://0x1ffffffff/", HOST),
    ("http://a\u3000b/", HOST),
    ("http://\ufffd.com/", HOST),
    ("http://exam\u00adple.com/", INVISIBLE),
    ("http://exam%C2%ADple.com/", INVISIBLE),
    ("http://a\u200bb.com/", INVISIBLE),
    ("http://a\ufeffb.com/", INVISIBLE),
    ("http://a\u202eb.com/", INVISIBLE),
    ("http://a\u2060b.com/", INVISIBLE),
    ("http://*.example.com/", "the host has a character that no host name has"),
    ("http://{host}/", "the host has a character that no host name has"),
    ("http://a..b/", LABEL),
    ("http://.a/", LABEL),
    ("http://a../", LABEL),
    ("http://./", LABEL),
    ("http://../", LABEL),
    ("http://" + "a" * 64 + ".com/", LABEL),
    ("http://" + "a." * 127 + "b/", "the host is longer than 253 characters"),
    # length
    (
        "http://e.com/" + "a" * 2036,
        "the URL is 2049 characters long once encoded, more than the 2048 allowed",
    ),
    ("http://e.com/" + "ü" * 340, "the URL is 2053 characters long once encoded, more than the 2048 allowed"),
    ("http://e.com/#" + "a" * INPUT_MAX_CHARS, "the URL is longer than 65536 characters"),
]

# Pieces that matter to a parser, so that random joins of them reach its corners.
MILD = [
    "/", "//", "/.", "/..", "a", "A", ".", "..", "-", "_", "~", "!", "$&()*+,;=:@", "?", "#", "'", "%2e", "%2E", "%0A", "%00", "%ff", "%41",
    "%", "%zz", "%%", "|", "^", "`", "{", "}", "[", "]", '"', "<", ">", "ü", "例", "😀", "a b", "a\u00a0b", "\u200b.", "\u202e.", "\ufeff.",
]  # fmt: skip
HOSTILE = [
    "http://", "https://", "HTTP:", "https:", "\\", "@", ":", ":80", ":443", ":8080", ":0", "[::1]", "example.com", "xn--", "xn--exmple-cua",
    "ß", "０", "。", "0x7f", "127.1", "1", "%C2%AD", " ", "\t", "\n", "\r", "\x85", "\u2028", "\u00ad", "\u200d", "\ud800", "\udcff",
]  # fmt: skip
HOSTS = st.one_of(
    st.sampled_from(["e.com", "E.com:80", "ü.de", "xn--exmple-cua.com", "a-b.c:8080", "1.2", "[::1]"]),
    st.text("abx019-_.", min_size=1, max_size=12),
    st.lists(st.sampled_from(["xn--", "a", "1", "ü", "0x", ".", "-", "%61", "\u200d", "ß", "ａ", "。", "\u0300", "א"]), min_size=1).map("".join),
)  # fmt: skip
TAILS = st.lists(st.sampled_from(MILD), max_size=12).map("".join)
PLAUSIBLE = st.builds("{}{}/{}".format, st.sampled_from(["http://", "https://", "HTTPS://"]), HOSTS, TAILS)
TRICKY = st.lists(st.sampled_from(MILD + HOSTILE), max_size=12).map("".join)
ANYTHING = st.one_of(
    PLAUSIBLE, TRICKY, TRICKY.map("http://e.com/".__add__), st.text(), st.text().map("https://e.com/".__add__), st.text().map("http://{}/".format)
)  # fmt: skip
NEARLY_NORMAL = st.builds(
    "https://{}/{}".format,
    st.text("ax0n-_.", min_size=1, max_size=12).map("{}.b".format),
    st.lists(st.sampled_from(["a", "/", ".", "%2e", "%2E", "%ff", "?", "'", "@", "~"])).map("".join),
)


class LongWay(str):
    """A str that the shortcut for plain ones passes by."""

    __slots__ = ()


def normal_or_none(url: object) -> str | None:
    try:
        return normalise(url)
    except UrlRejectedError:
        return None


@pytest.mark.parametrize(("url", "expected"), ACCEPTED)
def test_accepted(url: str, expected: str) -> None:
    """Each spelling has the one normal form that ESA is sent, and the normal form has itself."""
    assert normalise(url) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(("url", "reason"), REJECTED)
def test_rejected(url: object, reason: str) -> None:
    """What a parser would repair, or a name server cannot know, is refused with exactly this sentence."""
    with pytest.raises(UrlRejectedError) as caught:
        normalise(url)
    assert caught.value.reason == str(caught.value) == reason


@given(ANYTHING)
@example("http://xn--a/")
@example("https://e.com/%%32e")
def test_whatever_is_accepted_is_one_line_of_rfc_3986(url: str) -> None:
    """Invariant 7: no input smuggles in a second URL, and the result needs no further encoding anywhere."""
    normal = normal_or_none(url)
    if normal is None:
        return
    assert RFC3986.fullmatch(normal)
    assert all("!" <= char <= "~" for char in normal)
    assert len(normal) <= 2048
    assert normalise(normal) == normal


@given(ANYTHING)
def test_the_normal_form_is_the_browsers_url(url: str) -> None:
    """Nothing is made up: but for the characters that RFC 3986 forbids and the fragment, it is what the WHATWG parser says."""
    normal = normal_or_none(url)
    if normal is None:
        return
    expected = ada_url.normalize_url(url).partition("#")[0]
    start = expected.index("/", 8)
    encoded = re.sub(r"%(?![0-9A-Fa-f]{2})|[|^`{}\[\]]", lambda bad: f"%{ord(bad[0]):02X}", expected[start:])
    assert normal == expected[:start] + encoded


@given(st.one_of(NEARLY_NORMAL, PLAUSIBLE))
@example("https://e.com/.")
@example("https://e.com/%2e")
@example("https://e.com/a/%2E./b")
@example("https://xn--a.com/")
@example("https://1.2.3/")
@example("https://e.com/?'")
def test_the_shortcut_agrees_with_the_parser(url: str) -> None:
    """A URL that is taken to be normal at a glance is what the parser would have made of it."""
    assert normal_or_none(url) == normal_or_none(LongWay(url))


@pytest.mark.parametrize(
    "url", ["https://e.com/", "http://a-b.c_d.e1.com/x/y.z/a@1?v=%2e/", "https://e.com/a%2eb"]
)
def test_most_urls_take_the_shortcut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a real list holds is recognised without the parser: the speed of enqueueing depends on it."""
    monkeypatch.delattr(ada_url, "normalize_url")
    assert normalise(url) == url


@given(
    st.one_of(
        ANYTHING,
        st.binary(),
        st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape")),
        st.integers(),
        st.none(),
    )
)
def test_nothing_but_a_rejection_is_raised(url: object) -> None:
    """Whatever comes in, the answer is a str or a bounded, printable reason without a line break."""
    reason = "accepted"
    try:
        assert type(normalise(url)) is str
    except UrlRejectedError as exc:
        reason = exc.reason
    assert reason.isprintable()
    assert 0 < len(reason) <= 200


@given(st.text(alphabet="abcdefghij0123456789", min_size=12))
def test_a_reason_quotes_nothing(secret: str) -> None:
    """A URL may carry secrets, so a refusal never repeats a part of it."""
    for url in (
        f"ftp://{secret}/",
        f"http://u:{secret}@h/",
        f"http://h\n/{secret}",
        f"http://h|{secret}/",
        f"http://h:x{secret}/",
    ):
        with pytest.raises(UrlRejectedError) as caught:
            normalise(url)
        assert secret not in str(caught.value)


@given(st.sampled_from("abcdef-_."), st.integers(1, 300))
def test_the_bound_counts_the_normal_form(char: str, max_chars: int) -> None:
    """A fragment does not count, an encoded character counts three times, and the bound itself is allowed."""
    start = "http://e.com/x"
    for tail, length in ((char, 1), ("|", 3), ("ü", 6)):
        url = start + "y" * (max_chars - len(start) - length) + tail + "#fragment"
        if len(start) + length <= max_chars:
            assert len(normalise(url, url_max_chars=max_chars)) == max_chars
        if len(start) + length > 15:
            with pytest.raises(UrlRejectedError, match="more than the"):
                normalise(url, url_max_chars=min(max_chars, len(start) + length) - 1)


def test_a_generous_bound_still_ends_at_the_input_bound() -> None:
    """However long the workers allow URLs to be, a hostile one has a bounded cost."""
    start = "http://e.com/"
    longest = start + "a" * (INPUT_MAX_CHARS - len(start))
    assert normalise(longest, url_max_chars=10**9) == longest
    with pytest.raises(UrlRejectedError, match="longer than 65536"):
        normalise(longest + "a", url_max_chars=10**9)


@pytest.mark.parametrize("second", ["http://xn--other.com/", None])
def test_a_host_that_does_not_survive_a_second_look_is_refused(
    second: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a release of the parser make of a name what it would not take back, the queue does not hold two forms of it."""

    def unstable(url: str) -> str:
        if url.isascii():
            if second is None:
                raise ValueError
            return second
        return "http://xn--one.com/"

    monkeypatch.setattr(ada_url, "normalize_url", unstable)
    with pytest.raises(UrlRejectedError, match=HOST):
        normalise("http://ü.com/")


def test_a_subclass_of_str_becomes_a_plain_str() -> None:
    """A subclass may compare and print as it likes; the queue holds plain text."""

    class Loud(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "http://other.com/"

    assert normalise(Loud("http://e.com/")) == "http://e.com/"
    assert type(normalise(Loud("http://e.com/"))) is str


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://e.com/a?token=secret", "https://e.com/a"),
        ("https://e.com/a#token=secret", "https://e.com/a"),
        ("https://user:secret@e.com/npm/a@1.2", "https://e.com/npm/a@1.2"),
        ("https://a@b:secret@e.com/", "https://e.com/"),
        ("user:secret@e.com/x", "e.com/x"),
        ("http:\\\\user:secret@e.com", "http:\\\\e.com"),
        ("https://e.com/npm/@types/a@1", "https://e.com/npm/@types/a@1"),
        ("https://e.com/a\nb\x1b[2J", "https://e.com/a\\x0ab\\x1b[2J"),
        ("", ""),
    ],
)
def test_redact(url: str, shown: str) -> None:
    """A log sees where a URL points, never its query, fragment or credentials, and never a raw control character."""
    assert redact(url) == shown


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_printable_is_one_bounded_line(text: str, max_chars: int) -> None:
    """Anything can be shown on a terminal and encoded as UTF-8; text that is harmless already is left alone."""
    shown = printable(text, max_chars)
    assert shown.isprintable()
    assert len(shown) <= max_chars
    assert shown.encode().decode() == shown
    if text.isprintable() and len(text) <= max_chars:
        assert shown == text


def test_printable_escapes() -> None:
    """Escapes are Python's, a byte that was not UTF-8 is shown as that byte, and a cut is marked."""
    assert printable("a\n\u2028\U000e0001\udcff\ud800é") == "a\\x0a\\u2028\\U000e0001\\xff\\ud800é"
    assert printable("abcdef", 4) == "abc…"
