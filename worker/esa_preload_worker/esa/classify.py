"""Decide what an error reply asks of the caller: by its Code, never by the status alone."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from esa_preload_worker.esa.errors import (
    BlockedError,
    EsaError,
    JobCapError,
    NotFoundError,
    RefusedError,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.esa.replies import UNREADABLE, parse_object, request_id_of
from esa_preload_worker.esa.text import loggable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esa_preload_worker.esa.replies import Fields

RETRY_AFTER_MAX_S = 120.0
"""No hint makes us wait for longer: the official client has the same cap."""
YEARS = range(2000, 2200)
"""A date beyond these is nobody's clock; reckoning with it would leave what a date can hold."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")
_SITE_RESOURCE = re.compile(r"\bsite/\d")

_THROTTLED = re.compile(r"TooManyRequests|Throttling|^FlowControl")
_EXPIRED = re.compile(r"^(InvalidSecurityToken|SecurityTokenExpired|ExpiredToken)")
_ROTATED = re.compile(r"^(InvalidAccessKeyId|SignatureDoesNotMatch|MissingSecurityToken)")
_PERMISSION = re.compile(r"^(Forbidden|NoPermission|AccessDenied|Unauthorized)")
_NOT_OURS = re.compile(r"^InvalidUid\.PermissionDenied")
_CLOCK = re.compile(r"^(InvalidTimeStamp|IllegalTimestamp|RequestTimeTooSkewed)", re.IGNORECASE)
_NONCE = re.compile(r"^SignatureNonceUsed")
_SIZE = re.compile(r"TooLarge|TooLong|ExceedLimit|LimitExceed|OverLimit|ExceedMax|MaxExceed")


class _Block(NamedTuple):
    codes: re.Pattern[str]
    scope: Literal["site", "account"]
    hint: str


_KEYS = "check ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET: the key may be wrong, disabled or deleted"
_BLOCKS = (
    _Block(
        re.compile(r"^(SignatureDoesNotMatch|IncompleteSignature|InvalidSignature|UnsupportedSignature)"),
        "account",
        "check ALIBABA_CLOUD_ACCESS_KEY_SECRET, and that no proxy rewrites the Host header",
    ),
    _Block(re.compile(r"^(InvalidAccessKeyId|InvalidAccessKeySecret|MissingAccessKeyId)"), "account", _KEYS),
    _Block(_EXPIRED, "account", "the security token is not valid any more: renew the credentials"),
    _Block(re.compile(r"^MissingSecurityToken"), "account", "set ALIBABA_CLOUD_SECURITY_TOKEN"),
    _Block(_CLOCK, "account", "set the clock of this host: ESA refuses calls that are 15 minutes off"),
    _Block(
        _PERMISSION,
        "account",
        "grant the RAM user or role the esa: actions of the minimal policy, on every site",
    ),
    # The site is another account's, so far as anybody can tell: a producer's wrong id must not stop every other site.
    _Block(
        _NOT_OURS,
        "site",
        "check that the site id belongs to the account of the access key, and the key's permissions",
    ),
    _Block(
        re.compile(r"^(InvalidAccount|InvalidUser|UserDisable|Account\.|OutOfDebt|.*Arrearage|.*InDebt)"),
        "account",
        "see in the Alibaba Cloud console what the account lacks",
    ),
    _Block(
        re.compile(r"^(InvalidAction|InvalidVersion|InvalidApi)"),
        "account",
        "check ESA_PRELOAD_ENDPOINT: it does not know the operation",
    ),
    _Block(
        re.compile(r"^(SiteNotFound|InvalidSite(Id|\.|$)|Site\.Not|MissingSiteId)"),
        "site",
        "check the site id: ESA_PRELOAD_REGION or the account may be another one's",
    ),
    _Block(re.compile(r"QuotaExce"), "site", "the prefetch quota is used up: wait for its reset or raise it"),
)


_KINDS: tuple[tuple[re.Pattern[str], type[EsaError]], ...] = (
    (re.compile(r"^(Site\.ServiceBusy|LockFailed|SystemBusy)"), SiteBusyError),
    (re.compile(r"JobCountOfSiteFull"), JobCapError),
    (re.compile(r"^(InvalidJob|InvalidExecution)\.NotFound$"), NotFoundError),
    # A random nonce is used twice only when something between us and ESA repeats our calls.
    (_NONCE, UncertainError),
    (
        re.compile(r"^(ServiceUnavailable|Internal|UnknownError|RequestTimeout|GatewayTimeout)"),
        UncertainError,
    ),
)


class Remedy(Enum):
    """What the client can put right itself before it calls once more."""

    REFRESH = "the credentials ran out: fetch new ones"
    ROTATE = "the credentials may have been replaced: fetch them, call again if they differ"
    CLOCK = "the clocks differ: learn by how much"
    NONCE = "the nonce was seen before: take a new one, unless the call makes something"


def remedy_for(code: str) -> Remedy | None:
    """Return what may put right a call that ended with *code*; ``None`` for nothing."""
    remedies = (
        (_EXPIRED, Remedy.REFRESH),
        (_ROTATED, Remedy.ROTATE),
        (_CLOCK, Remedy.CLOCK),
        (_NONCE, Remedy.NONCE),
    )
    return next((remedy for codes, remedy in remedies if codes.search(code)), None)


def is_success(reply: Mapping[str, object]) -> bool:
    """Say whether the reply of a 200 holds no error; none of those documented has a Code."""
    return reply.get("Code", reply.get("code")) in (None, "", "200", 200, "OK", "Success")


def error_of(*, status: int, body: bytes, headers: Mapping[str, str], now: datetime) -> EsaError:
    """Return the error that a reply without success is: any status, any bytes."""
    if 300 <= status < 400:
        return UncertainError(f"HTTP {status}: a redirect", code="uncertain.redirect", http_status=status)
    try:
        reply = parse_object(body)
    except UncertainError:
        reply = {}
    request_id = request_id_of(reply)
    code = reply.get("Code", reply.get("code"))
    message = reply.get("Message", reply.get("message"))
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        code = ""
    text = message if isinstance(message, str) else ""
    error = classify(
        status=status, code=code, message=text, headers=headers, now=now, names_site=_names_site(reply, text)
    )
    error.esa_request_id = request_id
    return error


def _names_site(reply: Fields, message: str) -> bool:
    detail = reply.get("AccessDeniedDetail")
    values = list(cast("Fields", detail).values()) if isinstance(detail, dict) else []
    return any(_SITE_RESOURCE.search(text) for text in (message, *values) if isinstance(text, str))


def classify(
    *,
    status: int,
    code: str,
    message: str,
    headers: Mapping[str, str],
    now: datetime,
    names_site: bool = False,
) -> EsaError:
    """
    Return the error for *code*, empty when the reply has none that is readable.

    A refused permission blocks the account, unless the reply names a site's resource (*names_site*): then that site.

    Args:
        headers: by lower-case name, or regardless of case.
        now: for a ``Retry-After`` that is a date, when the reply has no ``Date``.
    """
    text = f"{code or 'no code'} (HTTP {status}): {loggable(message)}"
    if status >= 400 and (status == 429 or _THROTTLED.search(code)):
        hint_s = retry_after_s(headers, now)
        return ThrottledError(text, code=code or "HTTP429", http_status=status, retry_after_s=hint_s)
    block = next((block for block in _BLOCKS if block.codes.search(code)), None)
    if status >= 400 and block is not None:
        scope = "site" if names_site and block.codes is _PERMISSION else block.scope
        return BlockedError(text, code=code, http_status=status, scope=scope, hint=block.hint)
    kind, own_code = _kind_of(status, code)
    return kind(text, code=own_code or code, http_status=status)


def _kind_of(status: int, code: str) -> tuple[type[EsaError], str]:
    """Return the class for a code that neither throttles nor blocks, and our own code where ESA's is none."""
    if status < 400:
        return UncertainError, "uncertain.error_in_success"
    if status == 413:
        return SizeError, "" if code else "HTTP413"
    if not code:
        return UncertainError, UNREADABLE if status < 500 else "uncertain.http_5xx"
    if (known := next((kind for codes, kind in _KINDS if codes.search(code)), None)) is not None:
        return known, ""
    if status >= 500:
        return UncertainError, ""
    return (SizeError if _SIZE.search(code) else RefusedError), ""


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Return for how many seconds the reply asks to wait, 120 at most; ``None`` when it does not say so."""
    for name, unit_s in (("x-acs-retry-after", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "").strip()
        if value.isascii() and value.isdigit():
            # Cut, so that no number is too long to be read; every one that long is over the cap.
            wait_s = int(value[:18]) * unit_s
        elif name == "retry-after" and (until := http_date(value)) is not None:
            wait_s = (until - (http_date(headers.get("date", "")) or now)).total_seconds()
        else:
            continue
        if wait_s > 0:
            return min(wait_s, RETRY_AFTER_MAX_S)
    return None


def http_date(value: str) -> datetime | None:
    """Read the date of a header; ``None`` when it is none, or in another age."""
    if not 10 <= len(value) <= 64:
        return None
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if when.year not in YEARS:
        return None
    return when if when.tzinfo is not None else when.replace(tzinfo=UTC)
