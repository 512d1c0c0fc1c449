"""What a call of OSS came to, in words for an operator, from what the official library raises."""

from __future__ import annotations

import re
from typing import Any

_CODE = re.compile(r"[A-Za-z0-9.]{1,64}")
_REQUEST_ID = re.compile(r"[0-9A-Za-z-]{1,64}")
_OF_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "InvalidSecurityToken", "SecurityTokenExpired", "SignatureDoesNotMatch"}
)
_PASSING = frozenset({"RequestTimeout", "OperationAborted", "TooManyRequests", "RequestRateLimitExceeded"})

_HINTS = {
    "NoSuchBucket": "create the bucket, or correct ESA_PRELOAD_OSS_BUCKET",
    "PublicEndpointForbidden": "map a domain of your own to the bucket and name it in ESA_PRELOAD_OSS_ENDPOINT: OSS refuses its"
    " public endpoints in the Chinese mainland to newer accounts",
    "RequestTimeTooSkewed": "set this host's clock: it is more than 15 minutes off",
    "UserDisable": "the account of the bucket is suspended or overdue: see its console",
    "EntityTooLarge": "lower ESA_PRELOAD_OSS_MAX_URLS",
}
_PERMISSIONS = {"PutObject": "oss:PutObject and oss:PutObjectAcl"}
_ACTION_HINT = {
    "AccessDenied": "grant {permissions} on acs:oss:*:*:{resource} to the RAM user or role of the worker; and make sure that"
    " ESA_PRELOAD_OSS_ENDPOINT is of the bucket's region",
}


class OssError(Exception):
    """
    A call of OSS that did not succeed, after all repetitions. Its text holds neither a key nor a signature.

    Attributes:
        code: OSS's error code, or one of ours in lower case (``oss.timeout``, ``oss.not_reached``, ``no_credentials``).
        hint: what an operator can do about it, in a sentence, or empty.
        is_passing: it may work a while later without anybody's help.
    """

    def __init__(self, message: str, *, code: str, hint: str = "", is_passing: bool) -> None:
        super().__init__(message)
        self.code = code
        self.hint = hint
        self.is_passing = is_passing


def is_of_credentials(code: str) -> bool:
    """Tell whether OSS refused the access key or the token, not what was asked for."""
    return code in _OF_CREDENTIALS


def oss_error(action: str, error: Any, *, resource: str) -> OssError:
    """
    Return what *error* of the library means; only codes and ids of it are quoted.

    Args:
        action: the operation's name in a RAM policy, without ``oss:``.
        resource: bucket and objects, as a RAM policy names them.
    """
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return _without_reply(action, error)
    code = _matching(_CODE, getattr(error, "code", "")) or f"HTTP{status}"
    request_id = _matching(_REQUEST_ID, getattr(error, "request_id", ""))
    permissions = _PERMISSIONS.get(action, f"oss:{action}")
    hint = _ACTION_HINT.get(code, _HINTS.get(code, "")).format(permissions=permissions, resource=resource)
    if is_of_credentials(code):
        hint = "check the access key of the worker, and that the clock of this host is right"
    return OssError(
        f"{action}: OSS answered {code} (HTTP {status}{f', request {request_id}' if request_id else ''})",
        code=code,
        hint=hint,
        is_passing=status >= 500 or status in {408, 429} or code in _PASSING,
    )


def _without_reply(action: str, error: Any) -> OssError:
    kind = type(error).__name__
    if kind == "TimeoutError" or "Timeout" in kind:
        return OssError(f"{action}: no answer from OSS in time", code="oss.timeout", is_passing=True)
    return OssError(
        f"{action}: OSS was not reached, or its answer not understood ({kind})",
        code="oss.not_reached",
        hint="check ESA_PRELOAD_OSS_ENDPOINT, and the way to it",
        is_passing=True,
    )


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""
