"""ESA's replies with anything in any place: a value whose every text is fit to be stored and logged, or an EsaError."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import tracemalloc
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import ada_url
import httpx
import pytest
import yarl
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.esa import replies
from esa_preload_worker.esa.classify import RETRY_AFTER_MAX_S, error_of, http_date, is_success
from esa_preload_worker.esa.errors import EsaError, FailedFileError, ThrottledError, UncertainError
from esa_preload_worker.esa.failed_file import check_source, parse_failed_file
from esa_preload_worker.esa.text import MESSAGE_MAX_CHARS
from fuzz.budget import bounded
from fuzz.hostile_json import DEPTH, MATRIX, ODD, broken_bytes, replaced, spoilt_replies, written
from fuzz.url_mutations import mutated_urls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
PARSERS: tuple[Callable[[replies.Fields], object], ...] = (
    replies.parse_job,
    replies.parse_job_page,
    lambda reply: replies.parse_plans_created(reply, job_id="j", asked=2),
    lambda reply: replies.parse_plans(reply, job_id="j"),
    replies.parse_site_page,
)
LONG = frozenset({"name", "failed_file_url"})
"""Texts that are compared or called, not shown; bounded all the same."""


def texts(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Return every text inside a parsed value, with the name of its field."""
    if isinstance(value, str):
        yield name, value
    elif isinstance(value, tuple):
        for each in cast("tuple[object, ...]", value):
            yield from texts(each, name)
    elif dataclasses.is_dataclass(value):
        for each in dataclasses.fields(value):
            yield from texts(getattr(value, each.name), each.name)


def assert_fit(name: str, text: str) -> None:
    """Check that a text is one bounded line, and shows nothing of a URL's query."""
    assert text.isprintable(), name
    assert len(text) <= (replies.ADDRESS_MAX_CHARS if name in LONG else MESSAGE_MAX_CHARS), name
    assert name in LONG or "canary" not in text, name


def check(body: bytes) -> None:
    """Send *body* through every parser and the classifier, as a call does."""
    for parse in PARSERS:
        try:
            fields = replies.parse_object(body)
            value = parse(fields) if is_success(fields) else None
        except UncertainError as exc:
            assert exc.__cause__ is None  # noqa: PT017 - that it shows nothing of the reply
            continue
        for name, text in texts(value):
            assert_fit(name, text)
    for status in (200, 204, 302, 400, 403, 413, 429, 503, 999):
        error = error_of(status=status, body=body, headers={}, now=NOW)
        assert isinstance(error, EsaError)
        for text in (error.code, error.esa_request_id, error.hint):
            assert_fit("error", text)
        assert str(error).isprintable()
        assert len(str(error)) <= MESSAGE_MAX_CHARS + 100
        assert "canary" not in str(error)


@pytest.mark.parametrize(("kind", "path"), MATRIX, ids=lambda part: str(part).replace(" ", ""))
def test_every_field_may_hold_anything(kind: str, path: tuple[str | int, ...]) -> None:
    """Null, lists, objects, huge numbers, NaN, deep nesting, long and hostile texts in each field of each reply."""
    for odd in ODD:
        check(written(replaced(kind, path, odd)))


@given(spoilt_replies())
@bounded()
def test_any_value_in_any_place(reply: dict[str, object]) -> None:
    """The same with values that nobody thought of."""
    check(written(reply))


@given(broken_bytes())
@bounded()
def test_any_bytes(body: bytes) -> None:
    """Bytes changed, lost or doubled, other encodings, keys that come twice, and no JSON at all."""
    check(body)


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'{"Jobs":[' + b"{}," * 300_000 + b"{}]}",
        b'{"Jobs":' + b"[" * DEPTH + b"]" * DEPTH + b"}",
        b'{"Message":"' + b"?x" * 500_000 + b'"}',
        b'{"Message":"' + b"site/" * 200_000 + b'"}',
        b'{"Code":"' + b"a" * 1_000_000 + b'"}',
        b'{"UrlCount":' + b"9" * 1_000_000 + b"}",
        b'{"' + b'a":1,"' * 160_000 + b'a":1}',
    ],
    ids=lambda body: body[:12].decode(),
)
def test_the_largest_reply_costs_little(body: bytes) -> None:
    """A reply of the largest size takes less than a second and a hundred times its size, however it is built."""
    started = time.process_time()
    read_it(body)
    assert time.process_time() - started < 1
    tracemalloc.start()
    try:
        read_it(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150_000_000


def read_it(body: bytes) -> None:
    """Read a reply as a call does: as a page of jobs, or as an error."""
    with contextlib.suppress(UncertainError):
        replies.parse_job_page(replies.parse_object(body))
    error_of(status=400, body=body, headers={}, now=NOW)


headers = st.one_of(
    st.text(max_size=70),
    st.sampled_from([str(10**18), "-1", "NaN", "inf", "1e9", "0x10", "1_000", "٣", "Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 +2359", "Mon, 23 Nov 2026 12:00:20 -9999"]),
    st.builds("{:%a, %d %b %Y %H:%M:%S} {}".format, st.datetimes(), st.sampled_from(["GMT", "+2359", "-2359", "+9999", "EST", ""])),
)  # fmt: skip


@given(headers, headers, headers)
@bounded()
def test_hints_and_dates_of_any_kind(milliseconds: str, seconds: str, date: str) -> None:
    """Whatever the headers say, a wait is none or above 0 and at most the cap, and a date can be reckoned with."""
    said = {"x-acs-retry-after": milliseconds, "retry-after": seconds, "date": date}
    error = error_of(status=429, body=b"", headers=said, now=NOW)
    assert isinstance(error, ThrottledError)
    assert error.retry_after_s is None or 0 < error.retry_after_s <= RETRY_AFTER_MAX_S
    if (when := http_date(date)) is not None:
        assert NOW + (when - NOW) * 2


@given(
    st.lists(
        st.one_of(
            mutated_urls(), st.text(max_size=30), st.sampled_from([",", ", InvalidUrl", "\n", "\r", "\t"])
        ),
        max_size=12,
    ),
    st.sets(mutated_urls(), max_size=4),
)
@bounded(0.5)
def test_any_list_of_refused_urls(lines: list[str], sent: set[str]) -> None:
    """Any text is a list whose every part is fit to be stored and shown, or no list."""
    content = "".join(f"{line}{',' if i % 2 else chr(10)}" for i, line in enumerate([*lines, *sent]))
    try:
        refused = parse_failed_file(content.encode("utf-8", "surrogatepass"), among=sent)
    except FailedFileError:
        return
    for each in refused:
        assert_fit("reason", each.reason)
        assert each.url in sent or (each.url.isprintable() and len(each.url) <= 8_192)


@pytest.mark.parametrize(
    "line",
    [b"http://a" + b"," * 8_300, b"http://a ", b"http://a" + b" ," * 4_000, b"http://" + b"a" * 8_000_000],
)
def test_the_largest_list_costs_little(line: bytes) -> None:
    """Eight megabytes of nothing but separators, or of tiny lines, do not hold a worker up."""
    sent = {"http://" + "a" * n for n in range(1, 1_000)}
    started = time.process_time()
    with contextlib.suppress(FailedFileError):
        parse_failed_file((line + b"\n") * (8_388_608 // (len(line) + 1)), among=sent)
    assert time.process_time() - started < 3


PLACES = ["bucket.aliyuncs.com", "aliyuncs.com", "evil-aliyuncs.com", "aliyuncs.com.evil", "127.0.0.1", "[::1]", "localhost", "user@", ":443", ":80", "@", ".", "/", "\\", "#", "?", "%2e", "。", "ａ", "\u00ad", "\t", "\n", "xn--a"]  # fmt: skip


@given(
    st.sampled_from(["https://", "http://", "HTTPS://", "//", "https:/", "ftp://"]),
    st.lists(st.sampled_from(PLACES), max_size=6),
)
@bounded(2)
def test_no_trick_leads_elsewhere(start: str, parts: list[str]) -> None:
    """Whatever passes is, to the library that makes the request too, https at a host below aliyuncs.com and nowhere else."""
    url = start + "".join(parts)
    try:
        check_source(url, allow_loopback=False, allow_any=False)
    except FailedFileError:
        return
    for seen in _as_sent(url):
        assert seen[0] == "https"
        assert seen[1].endswith(".aliyuncs.com")
        assert seen[2:] == (443, "")


def _as_sent(url: str) -> list[tuple[str, str, int | None, str]]:
    sent, called, browser = httpx.URL(url), yarl.URL(str(httpx.URL(url))), ada_url.URL(url)
    return [
        (sent.scheme, sent.host, sent.port or 443, sent.userinfo.decode()),
        (called.scheme, called.host or "", called.port, called.user or ""),
        (browser.protocol.rstrip(":"), browser.hostname, int(browser.port or 443), browser.username),
    ]
