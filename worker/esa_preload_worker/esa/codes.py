"""The closed set of codes that metrics may be labelled with."""

from __future__ import annotations

OK = "ok"
OTHER = "other"
FAMILIES = (
    "Throttling",
    "FlowControl",
    "Forbidden",
    "NoPermission",
    "InvalidAccessKeyId",
    "InvalidSecurityToken",
)
"""Codes that begin with one of these count as it."""

OWN_CODES = frozenset(
    {
        "no_credentials",
        "not_sent.connect",
        "not_sent.dns",
        "not_sent.proxy",
        "not_sent.refused",
        "not_sent.timeout",
        "not_sent.tls",
        "uncertain.error_in_success",
        "uncertain.http_5xx",
        "uncertain.incomplete",
        "uncertain.list_moving",
        "uncertain.protocol",
        "uncertain.redirect",
        "uncertain.reset",
        "uncertain.timeout",
        "uncertain.too_large",
        "uncertain.unreadable",
        "HTTP413",
        "HTTP429",
    }
)
ESA_CODES = frozenset(
    {
        "IllegalTimestamp",
        "InternalError",
        "InternalException",
        "InvalidAccount.NotFound",
        "InvalidEndTime.Mismatch",
        "InvalidExecution.NotFound",
        "InvalidJob.JobCountOfSiteFull",
        "InvalidJob.NotFound",
        "InvalidParameter.ObjectId",
        "InvalidSiteId",
        "InvalidTimeStamp.Expired",
        "InvalidUid.PermissionDenied",
        "LockFailed",
        "LogNotFound",
        "MissingOssUrl",
        "MissingUrlList",
        "RequestEntityTooLarge",
        "ServiceUnavailable",
        "SignatureDoesNotMatch",
        "SignatureNonceUsed",
        "Site.ServiceBusy",
        "SiteNotFound",
        "SystemBusy",
        "TooManyRequests",
        "UnknownError",
    }
)
LABELS = frozenset({OK, OTHER, *FAMILIES, *OWN_CODES, *ESA_CODES})
"""Every value that :func:`label_of` returns."""


def label_of(code: str) -> str:
    """Return *code* if it is one we know, else its family, else ``other``: what ESA sends must not grow a metric."""
    if code in LABELS:
        return code
    return next(
        (family for family in FAMILIES if code.startswith(family)),
        "Throttling" if "Throttling" in code else OTHER,
    )
