"""Why a site or the account is blocked, as a closed set for labels."""

from __future__ import annotations

BLOCK_REASONS = ("credentials", "signature", "permission", "unknown_site", "request")

_BY_START = (
    ("no_credentials", "credentials"),
    ("InvalidAccessKeyId", "credentials"),
    ("InvalidSecurityToken", "credentials"),
    ("InvalidAccount", "credentials"),
    ("Signature", "signature"),
    ("IncompleteSignature", "signature"),
    ("InvalidTimeStamp", "signature"),
    ("IllegalTimestamp", "signature"),
    ("Forbidden", "permission"),
    ("NoPermission", "permission"),
    ("InvalidUid", "permission"),
    ("SiteNotFound", "unknown_site"),
    ("InvalidSite", "unknown_site"),
)


def block_reason(code: str) -> str:
    """Return the reason that *code* of ESA belongs to; ``request`` for every code that is none of the others."""
    return next((reason for start, reason in _BY_START if code.startswith(start)), "request")
