"""From where the list of refused URLs is read, and what its lines may be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.addresses import is_loopback
from esa_preload_worker.esa.errors import FailedFileError
from esa_preload_worker.esa.failed_file import check_source, parse_failed_file


@pytest.mark.parametrize(
    "url",
    [
        "https://bucket.oss-cn-hangzhou.aliyuncs.com/9d91_x",
        "https://bucket.oss-cn-hangzhou.aliyuncs.com:443/9d91?Expires=1&Signature=a%2Fb%3D",
        "https://BUCKET.oss-cn-hangzhou.ALIYUNCS.com/x",
    ],
)
def test_below_aliyuncs_over_https(url: str) -> None:
    """The documented place is allowed, signed or not."""
    check_source(url, allow_loopback=False, allow_any=False)


ODD = [
    "",
    "not a url",
    "http://bucket.aliyuncs.com/x",
    "ftp://bucket.aliyuncs.com/x",
    "file:///etc/passwd",
    "https://aliyuncs.com/x",
    "https://.aliyuncs.com/x",
    "https://evil-aliyuncs.com/x",
    "https://evilaliyuncs.com/x",
    "https://aliyuncs.com.evil.example/x",
    "https://bucket.aliyuncs.com.evil.example/x",
    "https://bucket.aliyuncs.com./x",
    "https://bucket..aliyuncs.com/x",
    "https://user@bucket.aliyuncs.com/x",
    "https://bucket.aliyuncs.com@evil.example/x",
    "https://bucket.aliyuncs.com:pw@evil.example/x",
    "https://evil.example#@bucket.aliyuncs.com/x",
    "https://evil.example?.aliyuncs.com/x",
    "https://evil.example/.aliyuncs.com",
    "https://evil.example\\.aliyuncs.com/x",
    "https://evil.example\\@bucket.aliyuncs.com/x",
    "https://evil.example%2f.aliyuncs.com/x",
    "https://bucket.aliyuncs.com:8443/x",
    "https://bucket.aliyuncs.com:0/x",
    "https://bucket.aliyuncs.com:99999/x",
    "https://bucket.aliyuncs.com:/x",
    "https://127.0.0.1/x",
    "http://localhost/x",
    "https://[::1]/x",
    "https://100.100.100.200/x",
    "https://bucket.aliyuncs\u3002com/x",
    "https://b\u00fccket.aliyuncs.com/x",
    "https://bucket.aliyuncs.com/x\r\nHost: evil",
    " https://bucket.aliyuncs.com/x",
    "//bucket.aliyuncs.com/x",
    "https:///bucket.aliyuncs.com/x",
    "https://bucket.aliyuncs.com/" + "x" * 10_000,
    "https://[bucket.aliyuncs.com/x",
    "https://xn--a.aliyuncs.com/x",
    "https://bucket.XN--bcket-kva.aliyuncs.com/x",
    f"https://{'a' * 64}.aliyuncs.com/x",
]


@pytest.mark.parametrize("url", ODD)
def test_nowhere_else(url: str) -> None:
    """No trick with suffixes, userinfo, ports, dots, backslashes, other alphabets or addresses gets through."""
    with pytest.raises(FailedFileError) as caught:
        check_source(url, allow_loopback=False, allow_any=False)
    assert not url or url not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8080/x", "https://localhost:1/x", "http://[::1]:80/x", "http://127.9.9.9/x"],
)
def test_loopback_for_a_loopback_endpoint(url: str) -> None:
    """A simulated ESA on this machine may give an address on this machine, and no other host."""
    check_source(url, allow_loopback=True, allow_any=False)
    with pytest.raises(FailedFileError):
        check_source("http://10.0.0.1/x", allow_loopback=True, allow_any=False)


def test_anywhere_when_an_operator_says_so() -> None:
    """Insecure means any http or https address; still no file, and no userinfo."""
    check_source("http://10.0.0.1:8080/x", allow_loopback=False, allow_any=True)
    for url in ("file:///etc/passwd", "http://user@10.0.0.1/x"):
        with pytest.raises(FailedFileError):
            check_source(url, allow_loopback=False, allow_any=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.255.0.9", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost.evil.example", False),
        ("127.1", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_what_is_loopback(host: str, expected: bool) -> None:
    """Names that only look like this machine are not."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("line", "url", "reason"),
    [
        ("https://a/b", "https://a/b", ""),
        ("https://a/b InvalidDomain", "https://a/b", "InvalidDomain"),
        ("https://a/b\tInvalidDomain", "https://a/b", "InvalidDomain"),
        ("https://a/b,InvalidDomain", "https://a/b", "InvalidDomain"),
        ("https://a/b, InvalidDomain", "https://a/b", "InvalidDomain"),
        ("https://a/b,invalid domain:test.com", "https://a/b", "invalid domain:test.com"),
        ("https://a/b  two words", "https://a/b", "two words"),
        ("https://a/b,c.jpg", "https://a/b,c.jpg", ""),
        ("https://a/b,c.jpg,QuotaExcess", "https://a/b,c.jpg", "QuotaExcess"),
        ("  https://a/b  ", "https://a/b", ""),
    ],
)
def test_lines(line: str, url: str, reason: str) -> None:
    """A URL, then perhaps a reason after blanks, a tab or a comma; a comma may also be part of the URL."""
    [refused] = parse_failed_file(line.encode())
    assert (refused.url, refused.reason) == (url, reason)


def test_the_batch_decides_about_commas() -> None:
    """Where a line can be cut in two ways, the one that gives a URL which was sent is right."""
    content = b"https://a/b,c,gone\nhttps://a/b,c\nhttps://a/b,InvalidUrl\nhttps://a/d,InvalidUrl, really"
    refused = parse_failed_file(content, among={"https://a/b,c", "https://a/b,InvalidUrl", "https://a/d"})
    assert [(each.url, each.reason) for each in refused] == [
        ("https://a/b,c", "gone"),
        ("https://a/b,c", ""),
        ("https://a/b,InvalidUrl", ""),
        ("https://a/d", "InvalidUrl, really"),
    ]


def test_what_was_sent_is_known_however_odd() -> None:
    """ESA may refuse what it takes for no URL: when it was sent, the line is about that; else it is no list."""
    [refused] = parse_failed_file(b"ftp:nope InvalidUrl", among={"ftp:nope"})
    assert (refused.url, refused.reason) == ("ftp:nope", "InvalidUrl")
    with pytest.raises(FailedFileError):
        parse_failed_file(b"ftp:nope InvalidUrl", among={"ftp:other"})


def test_marks_and_line_ends() -> None:
    """A byte order mark, CRLF, CR and blank lines do not matter; characters that only some count as line ends do not cut."""
    content = "\ufeffhttps://a/1\r\n\r\nhttps://a/2 x\u2028y\rhttps://a/3\n".encode()
    assert [(each.url, each.reason) for each in parse_failed_file(content)] == [
        ("https://a/1", ""),
        ("https://a/2", "x y"),
        ("https://a/3", ""),
    ]
    assert parse_failed_file(b"") == ()


@pytest.mark.parametrize(
    "content",
    [
        b"<html></html>",
        b'{"urls": []}',
        b"\xff\xfe",
        b"https://a/b\nnonsense",
        b"\x00\x00",
        b"https://a/\x00b",
    ],
)
def test_what_is_no_list(content: bytes) -> None:
    """A page, JSON, another encoding or one odd line make the whole unreadable: half a list would be a lie."""
    with pytest.raises(FailedFileError):
        parse_failed_file(content)


@given(st.binary(max_size=500), st.sets(st.text(max_size=10), max_size=3))
def test_no_content_raises_anything_else(content: bytes, among: set[str]) -> None:
    """Arbitrary bytes are a list or a FailedFileError."""
    for prefix in (b"", b"https://a/"):
        try:
            refused = parse_failed_file(prefix + content, among=among)
        except FailedFileError:
            continue
        assert all(each.url in among or each.url.startswith(("http://", "https://")) for each in refused)
