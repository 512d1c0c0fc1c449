"""Every documented code, and every other, asks for the right thing."""

from __future__ import annotations

import errno
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import aiohttp
import httpx
import pytest
from aiohttp.client_reqrep import ConnectionKey
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.esa import classify as module
from esa_preload_worker.esa.classify import Remedy, classify, error_of, is_success, remedy_for, retry_after_s
from esa_preload_worker.esa.codes import LABELS, OWN_CODES, label_of
from esa_preload_worker.esa.errors import (
    BlockedError,
    EsaError,
    JobCapError,
    NotFoundError,
    NotSentError,
    RefusedError,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.esa.failures import failure_of

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)


def classified(
    status: int, code: str, *, message: str = "", headers: Mapping[str, str] | None = None
) -> EsaError:
    """Classify without headers."""
    return classify(status=status, code=code, message=message, headers=headers or {}, now=NOW)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "TooManyRequests", ThrottledError),
        (400, "Throttling", ThrottledError),
        (429, "Throttling", ThrottledError),
        (503, "Throttling", ThrottledError),
        (400, "Throttling.User", ThrottledError),
        (400, "Throttling.Api", ThrottledError),
        (400, "Rejected.Throttling", ThrottledError),
        (400, "FlowControl", ThrottledError),
        (503, "FlowControlExceeded", ThrottledError),
        (429, "", ThrottledError),
        (429, "Whatever", ThrottledError),
        (400, "Site.ServiceBusy", SiteBusyError),
        (400, "LockFailed", SiteBusyError),
        (503, "SystemBusy", SiteBusyError),
        (400, "InvalidJob.JobCountOfSiteFull", JobCapError),
        (404, "InvalidJob.NotFound", NotFoundError),
        (404, "InvalidExecution.NotFound", NotFoundError),
        (503, "ServiceUnavailable", UncertainError),
        (500, "InternalError", UncertainError),
        (400, "InternalException", UncertainError),
        (500, "UnknownError", UncertainError),
        (500, "AnythingElse", UncertainError),
        (500, "InvalidParameter.ObjectId", UncertainError),
        (502, "", UncertainError),
        (400, "", UncertainError),
        (400, "SignatureNonceUsed", UncertainError),
        (200, "TooManyRequests", UncertainError),
        (200, "InvalidUrl", UncertainError),
        (204, "", UncertainError),
        (413, "", SizeError),
        (400, "RequestEntityTooLarge", SizeError),
        (400, "UrlListTooLong", SizeError),
        (400, "UrlList.ExceedLimit", SizeError),
        (400, "DomainNameOverLimit", SizeError),
        (400, "InvalidEndTime.Mismatch", RefusedError),
        (400, "InvalidParameter.ObjectId", RefusedError),
        (400, "MissingOssUrl", RefusedError),
        (400, "MissingUrlList", RefusedError),
        (400, "InvalidTime", RefusedError),
        (400, "MissingTimeParameter", RefusedError),
        (404, "LogNotFound", RefusedError),
        (418, "SomethingNew", RefusedError),
    ],
)
def test_what_a_code_asks_for(status: int, code: str, kind: type[EsaError]) -> None:
    """The code decides, whatever the status; without one, only a status that says enough does."""
    error = classified(status, code)
    assert type(error) is kind
    assert error.http_status == status


@pytest.mark.parametrize(
    ("code", "scope"),
    [
        ("SignatureDoesNotMatch", "account"),
        ("IncompleteSignature", "account"),
        ("InvalidAccessKeyId.NotFound", "account"),
        ("InvalidAccessKeyId.Inactive", "account"),
        ("InvalidSecurityToken.Expired", "account"),
        ("InvalidSecurityToken.Malformed", "account"),
        ("InvalidTimeStamp.Expired", "account"),
        ("IllegalTimestamp", "account"),
        ("NoPermission", "account"),
        ("Forbidden.RAM", "account"),
        ("Forbidden", "account"),
        ("InvalidUid.PermissionDenied", "site"),
        ("InvalidAccount.NotFound", "account"),
        ("InvalidAction.NotFound", "account"),
        ("SiteNotFound", "site"),
        ("InvalidSiteId", "site"),
        ("InvalidSiteId.NotFound", "site"),
        ("InvalidSite.NotFound", "site"),
        ("QuotaExceeded", "site"),
    ],
)
def test_what_a_person_must_see_to(code: str, scope: str) -> None:
    """It blocks the site or the account, and the hint says what to do."""
    error = classified(403, code)
    assert isinstance(error, BlockedError)
    assert error.scope == scope
    assert error.hint


def test_a_refusal_that_names_a_site_blocks_that_site_alone() -> None:
    """One site without permission does not stop the others; a bad signature blocks all whatever it quotes."""
    detail = {"AuthAction": "esa:ListScheduledPreloadJobs", "Resource": "acs:esa:*:1:site/17"}
    for code, scope in (("Forbidden.RAM", "site"), ("SignatureDoesNotMatch", "account")):
        body = json.dumps({"Code": code, "Message": "no", "AccessDeniedDetail": detail}).encode()
        error = error_of(status=403, body=body, headers={}, now=NOW)
        assert isinstance(error, BlockedError)
        assert error.scope == scope


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-acs-retry-after": "700"}, 0.7),
        ({"retry-after": "3"}, 3.0),
        ({"x-acs-retry-after": "700", "retry-after": "30"}, 0.7),
        ({"x-acs-retry-after": "soon", "retry-after": "30"}, 30.0),
        ({"x-acs-retry-after": "-5"}, None),
        ({"x-acs-retry-after": "0"}, None),
        ({"x-acs-retry-after": "1.5"}, None),
        ({"x-acs-retry-after": "\u0663"}, None),
        ({"x-acs-retry-after": "9" * 10_000}, 120.0),
        ({"retry-after": "86400"}, 120.0),
        ({"retry-after": "NaN"}, None),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:20 GMT"}, 20.0),
        ({"retry-after": "Mon, 23 Nov 2026 12:00:20 GMT", "date": "Mon, 23 Nov 2026 12:00:15 GMT"}, 5.0),
        ({"retry-after": "Mon, 23 Nov 2026 11:00:00 GMT"}, None),
        ({"retry-after": "Mon, 99 Nov 2026 99:00:00 GMT"}, None),
        ({"retry-after": "Mon, 23 Nov 99999999999 12:00:00 GMT"}, None),
    ],
)
def test_how_long_to_wait(headers: dict[str, str], expected: float | None) -> None:
    """ESA's own hint comes first, then the standard one in both forms; garbage is no hint, and 120 s the most."""
    assert retry_after_s(headers, NOW) == (None if expected is None else pytest.approx(expected))
    error = classified(400, "Throttling.User", headers=headers)
    assert isinstance(error, ThrottledError)
    assert error.retry_after_s == retry_after_s(headers, NOW)


@given(st.text(max_size=80), st.text(max_size=80))
def test_no_hint_breaks_the_reader(milliseconds: str, seconds: str) -> None:
    """Any text gives nothing, or a wait above 0 and up to the cap."""
    wait_s = retry_after_s({"x-acs-retry-after": milliseconds, "retry-after": seconds}, NOW)
    assert wait_s is None or 0 < wait_s <= module.RETRY_AFTER_MAX_S


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        ("InvalidSecurityToken.Expired", Remedy.REFRESH),
        ("InvalidSecurityToken.MismatchWithAccessKey", Remedy.REFRESH),
        ("InvalidAccessKeyId.NotFound", Remedy.ROTATE),
        ("SignatureDoesNotMatch", Remedy.ROTATE),
        ("InvalidTimeStamp.Expired", Remedy.CLOCK),
        ("IllegalTimestamp", Remedy.CLOCK),
        ("SignatureNonceUsed", Remedy.NONCE),
        ("TooManyRequests", None),
        ("ServiceUnavailable", None),
        ("Forbidden.RAM", None),
    ],
)
def test_what_the_client_puts_right(code: str, remedy: Remedy | None) -> None:
    """Only what a new token, time stamp or nonce cures is tried again."""
    assert remedy_for(code) is remedy


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (400, {"code": "LockFailed", "message": "m", "requestId": "r-1"}, SiteBusyError, "LockFailed"),
        (400, {"Message": "no code"}, UncertainError, "uncertain.unreadable"),
        (400, {"Code": 400}, UncertainError, "uncertain.unreadable"),
        (400, {"Code": "x y\nz"}, UncertainError, "uncertain.unreadable"),
        (400, {"Code": "A" * 1000}, UncertainError, "uncertain.unreadable"),
        (503, {"Code": ["a"]}, UncertainError, "uncertain.http_5xx"),
        (302, {"Code": "TooManyRequests"}, UncertainError, "uncertain.redirect"),
        (200, {"Code": "Throttling"}, UncertainError, "uncertain.error_in_success"),
    ],
)
def test_error_bodies(status: int, body: object, kind: type[EsaError], code: str) -> None:
    """Keys in lower case are read as well; a code that is no code is not trusted."""
    error = error_of(status=status, body=json.dumps(body).encode(), headers={}, now=NOW)
    assert (type(error), error.code) == (kind, code)


def test_a_success_has_no_code() -> None:
    """A 200 with an error inside is no success; one that says that all is well is."""
    assert is_success({"Id": "x"})
    assert is_success({"Code": "200"})
    assert not is_success({"Code": "InternalError", "Id": "x"})
    assert not is_success({"code": ["odd"]})


def test_messages_may_be_logged() -> None:
    """They are one line, bounded, and hold nothing of a URL's query."""
    error = classified(400, "InvalidUrl", message="bad\nhttps://a/b?token=canary rest\x1b[0m " + "x" * 10_000)
    assert "canary" not in str(error)
    assert "https://a/b?… rest" in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 400


@given(st.text())
def test_labels_are_a_closed_set(code: str) -> None:
    """Whatever ESA invents, a metric does not grow."""
    assert label_of(code) in LABELS


def test_labels_keep_what_is_known() -> None:
    """Known codes are their own label, kin share their family's, the rest is ``other``."""
    assert {code: label_of(code) for code in OWN_CODES} == {code: code for code in OWN_CODES}
    expected = {
        "TooManyRequests": "TooManyRequests",
        "Throttling.User": "Throttling",
        "Rejected.Throttling": "Throttling",
        "Forbidden.RAM": "Forbidden",
        "InvalidJob.NotFound": "InvalidJob.NotFound",
        "Surprise": "other",
    }
    assert {code: label_of(code) for code in expected} == expected


KEY = ConnectionKey("h", 443, True, True, None, None, None)


def caused(cause: BaseException, kind: type[httpx.HTTPError] = httpx.ConnectTimeout) -> httpx.HTTPError:
    """Make what httpx-aiohttp raises for *cause*."""
    try:
        raise kind("x") from cause
    except httpx.HTTPError as exc:
        return exc


@pytest.mark.parametrize(
    ("exc", "kind", "code"),
    [
        (caused(aiohttp.ConnectionTimeoutError()), NotSentError, "not_sent.timeout"),
        (
            caused(aiohttp.ClientConnectorError(KEY, OSError(errno.ECONNREFUSED, "no"))),
            NotSentError,
            "not_sent.refused",
        ),
        (
            caused(aiohttp.ClientConnectorError(KEY, OSError(errno.ENETUNREACH, "no"))),
            NotSentError,
            "not_sent.connect",
        ),
        (caused(aiohttp.ClientConnectorDNSError(KEY, OSError(1, "no"))), NotSentError, "not_sent.dns"),
        (caused(aiohttp.ClientConnectorSSLError(KEY, OSError(1, "no"))), NotSentError, "not_sent.tls"),
        (
            caused(aiohttp.ClientConnectorCertificateError(KEY, Exception("no"))),
            NotSentError,
            "not_sent.tls",
        ),
        (caused(aiohttp.ClientProxyConnectionError(KEY, OSError(1, "no"))), NotSentError, "not_sent.proxy"),
        (caused(aiohttp.ServerDisconnectedError()), UncertainError, "uncertain.reset"),
        (caused(aiohttp.ClientOSError(errno.ECONNRESET, "no")), UncertainError, "uncertain.reset"),
        (caused(aiohttp.ClientConnectionResetError()), UncertainError, "uncertain.reset"),
        (caused(aiohttp.SocketTimeoutError(), httpx.ReadTimeout), UncertainError, "uncertain.timeout"),
        (caused(aiohttp.ServerTimeoutError(), httpx.TimeoutException), UncertainError, "uncertain.timeout"),
        (caused(aiohttp.ClientPayloadError(), httpx.ReadError), UncertainError, "uncertain.incomplete"),
        (httpx.ConnectTimeout("no cause"), UncertainError, "uncertain.protocol"),
        (httpx.DecodingError("gzip"), UncertainError, "uncertain.unreadable"),
        (aiohttp.ClientError(), UncertainError, "uncertain.protocol"),
        (ConnectionResetError(), UncertainError, "uncertain.reset"),
        (TimeoutError(), UncertainError, "uncertain.timeout"),
    ],
)
def test_only_the_cause_says_whether_it_was_sent(exc: BaseException, kind: type[EsaError], code: str) -> None:
    """The same httpx.ConnectTimeout is surely not sent for some causes and uncertain for the others."""
    error = failure_of(exc)
    assert (type(error), error.code) == (kind, code)
    assert code in LABELS
