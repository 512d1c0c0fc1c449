"""Why a site or the account is blocked, as a closed set for labels."""

from __future__ import annotations

import re

BLOCK_REASONS = ("credentials", "signature", "permission", "unknown_site", "account", "request")

_BY_CODE = (
    (re.compile(r"no_credentials|(Invalid|Missing)AccessKey|.*SecurityToken|ExpiredToken"), "credentials"),
    (re.compile(r"Signature|(Incomplete|Invalid|Unsupported)Signature"), "signature"),
    (re.compile(r"InvalidTimeStamp|IllegalTimestamp|RequestTimeTooSkewed", re.IGNORECASE), "signature"),
    (re.compile(r"Forbidden|NoPermission|AccessDenied|Unauthorized|InvalidUid"), "permission"),
    (re.compile(r"SiteNotFound|InvalidSite|Site\.Not|MissingSiteId"), "unknown_site"),
    (
        re.compile(r"InvalidAccount|InvalidUser|UserDisable|Account\.|OutOfDebt|.*(Arrearage|InDebt)"),
        "account",
    ),
)

_QUOTA = re.compile(r"QuotaExce")


def is_quota(code: str) -> bool:
    """Tell whether time alone mends what *code* says: a used-up quota comes back, and blocks nothing."""
    return _QUOTA.search(code) is not None


def block_reason(code: str) -> str:
    """Return the reason that *code* of ESA belongs to; ``request`` for every code that is none of the others."""
    return next((reason for codes, reason in _BY_CODE if codes.match(code)), "request")
