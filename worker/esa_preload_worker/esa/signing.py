"""Sign requests as ACS3-HMAC-SHA256 asks, and encode what is signed."""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable

    from esa_preload_worker.esa.credentials import Credential

ALGORITHM = "ACS3-HMAC-SHA256"

# "%" comes first, so that nothing is encoded twice, and " " (which becomes "+") after "+".
_ESCAPES = tuple(
    (char.encode(), b"+" if char == " " else b"%%%02X" % ord(char))
    for char in "%!\"#$&'()*+,/:;<=>?@[\\]^`{|} \n"
)
_PRINTABLE = bytes([*range(32, 127), 10])
_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


def form_encode(text: str) -> str:
    """
    Encode *text* as a form field's value: the same characters as ``quote_plus``, several times as fast.

    Only printable ASCII and line feeds take the fast path, which is what normalised URLs consist of.
    """
    # As bytes, because replacing takes a third of the time there.
    raw = text.encode() if text.isascii() else b"\0"
    if raw.translate(None, _PRINTABLE):
        return quote_plus(text)
    for char, escape in _ESCAPES:
        raw = raw.replace(char, escape)
    return raw.decode()


def canonical_query(query: Iterable[tuple[str, str]]) -> str:
    """Encode *query* sorted by key, a space as ``%20``: the form that is signed and sent alike."""
    return "&".join(f"{quote(key, safe='~')}={quote(value, safe='~')}" for key, value in sorted(query))


def sign(
    *,
    method: str,
    host: str,
    query: str,
    body: bytes,
    content_type: str,
    action: str,
    version: str,
    credential: Credential,
    date: str,
    nonce: str,
) -> dict[str, str]:
    """
    Return the headers that make a signed request of this one.

    Only host, content-type and ``x-acs-*`` are signed, so that a proxy may touch the others.

    Args:
        host: as the Host header says it, with the port unless it is the scheme's own.
        query: as :func:`canonical_query` writes it.
        content_type: empty when there is no body; not signed and not sent then.
        date: UTC, ``2026-11-23T11:58:29Z``; within 15 minutes of ESA's clock.
        nonce: new for every attempt.

    Source: V3 request structure and signature.
    """
    token = credential.security_token
    payload_hash = hashlib.sha256(body).hexdigest() if body else _EMPTY_SHA256
    # In the order in which they are signed, which is alphabetical.
    headers = {"content-type": content_type} if content_type else {}
    headers["host"] = host
    if token:
        headers["x-acs-accesskey-id"] = credential.access_key_id
    headers["x-acs-action"] = action
    headers["x-acs-content-sha256"] = payload_hash
    headers["x-acs-date"] = date
    if token:
        headers["x-acs-security-token"] = token
    headers["x-acs-signature-nonce"] = nonce
    headers["x-acs-version"] = version

    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"{method}\n/\n{query}\n{lines}\n{names}\n{payload_hash}"
    to_sign = f"{ALGORITHM}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    signature = hmac.digest(credential.access_key_secret.encode(), to_sign.encode(), "sha256").hex()
    headers["authorization"] = (
        f"{ALGORITHM} Credential={credential.access_key_id},SignedHeaders={names},Signature={signature}"
    )
    return headers
