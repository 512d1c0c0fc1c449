"""Secrets that are recognised wherever they turn up, and in whatever spelling."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote, quote_plus

ACCESS_KEY_SECRET = "canary/key+secret=1~"
SECURITY_TOKEN = "canary/security+token==2"
REDIS_PASSWORD = "canary p@ss:w/rd#3%?&"
SENTINEL_PASSWORD = "canary-sentinel-4"
PROXY_PASSWORD = "canary-proxy@5"
URI_TOKEN = "canary-uri-6"
ENDPOINT_PASSWORD = "canary-endpoint-7"

SECRETS = (
    *(ACCESS_KEY_SECRET, SECURITY_TOKEN, REDIS_PASSWORD, SENTINEL_PASSWORD, PROXY_PASSWORD),
    *(URI_TOKEN, ENDPOINT_PASSWORD),
)
QUERY = "canary-query-8"
"""Of a URL that is preloaded: the queue holds it, and who asks for the URL sees it, but no log, error or metric does."""

LOGIN = base64.b64encode(f"proxy-user:{PROXY_PASSWORD}".encode()).decode()


def spellings(secret: str) -> set[str]:
    """Return *secret* as it is, as URLs and JSON write it, and in Base64."""
    plain = {secret, quote(secret), quote(secret, safe=""), quote(secret, safe="/~"), quote_plus(secret)}
    return plain | {
        json.dumps(secret)[1:-1],
        secret.replace("/", "\\/"),
        base64.b64encode(secret.encode()).decode(),
        *([LOGIN] if secret == PROXY_PASSWORD else []),
    }


def found_in(text: str | bytes) -> list[str]:
    """Return the secrets that *text* shows in any spelling, in any case."""
    shown = (text.decode("utf-8", "replace") if isinstance(text, bytes) else text).lower()
    return [secret for secret in SECRETS if any(each.lower() in shown for each in spellings(secret))]
