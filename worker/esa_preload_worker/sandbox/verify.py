"""
Check ACS3-HMAC-SHA256 signatures.

Written from Alibaba's description of the V3 signature, and apart from the client's signer on purpose: one mistake in
a shared implementation would agree with itself.
"""

from __future__ import annotations

import hmac
import re
from datetime import datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote_from_bytes

from esa_preload_worker.sandbox.forms import decode_pairs
from esa_preload_worker.sandbox.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esa_preload_worker.sandbox.config import Credential

ALGORITHM = "ACS3-HMAC-SHA256"
WINDOW_S = 15 * 60

_AUTHORIZATION = re.compile(
    ALGORITHM + r" Credential=([^,\s]{1,256}), ?SignedHeaders=([!-+\--~]{1,4096}), ?Signature=([0-9a-f]{64})"
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_ALWAYS_SIGNED = frozenset(
    {"host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256"}
)

# A generation of nonces is dropped when the next one is full or old: two of them are the most that is held.
_NONCES_A_GENERATION = 1_000_000


class NonceMemory:
    """Which nonces were used in the last 15 minutes, in at most two generations of a million each."""

    __slots__ = ("_began_s", "_new", "_old")

    def __init__(self) -> None:
        self._new: set[str] = set()
        self._old: set[str] = set()
        self._began_s = 0.0

    def use(self, nonce: str, now_s: float) -> bool:
        """Remember *nonce*; return whether this was its first use."""
        if now_s - self._began_s >= WINDOW_S or len(self._new) >= _NONCES_A_GENERATION:
            is_recent = now_s - self._began_s < 2 * WINDOW_S
            self._old = self._new if is_recent else set()
            self._new = set()
            self._began_s = now_s
        if nonce in self._new or nonce in self._old:
            return False
        self._new.add(nonce)
        return True


class Verifier:
    """Lets signed calls of the known credentials pass, each once."""

    __slots__ = ("_credentials", "_nonces")

    def __init__(self, credentials: Sequence[Credential]) -> None:
        self._nonces = NonceMemory()
        self._credentials: dict[str, list[Credential]] = {}
        self.change(credentials)

    def change(self, credentials: Sequence[Credential]) -> None:
        """Know these credentials from now on, and no others; used nonces stay used."""
        self._credentials = {}
        for credential in credentials:
            self._credentials.setdefault(credential.access_key_id, []).append(credential)

    def verify(
        self, *, method: str, target: str, headers: Mapping[str, str], body: bytes, now_s: float
    ) -> None:
        """
        Return when the call is authentic, fresh and new.

        Args:
            target: the request target as it was received, with its query.
            headers: by lower-case name, as received.

        Raises:
            ApiError: the gateway's refusal.
        """
        match = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if match is None:
            raise _incomplete("the Authorization header is missing or malformed")
        access_key_id, signed, signature = match.groups()
        signed_names = signed.split(";")
        _check_signed_headers(signed_names, headers, has_body=bool(body))
        credential = self._credential_of(access_key_id, headers, now_s)
        _check_date(headers["x-acs-date"], now_s)
        _check_content(headers["x-acs-content-sha256"], body)
        canonical = _canonical_request(method, target, signed_names, headers)
        if not hmac.compare_digest(_signature(credential.access_key_secret, canonical), signature):
            raise _does_not_match("calculate it again with this canonical request's rules and your secret")
        if not self._nonces.use(headers["x-acs-signature-nonce"], now_s):
            raise ApiError(400, "SignatureNonceUsed", "Specified signature nonce was used already.")

    def _credential_of(self, access_key_id: str, headers: Mapping[str, str], now_s: float) -> Credential:
        known = self._credentials.get(access_key_id)
        if known is None:
            raise ApiError(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        token = headers.get("x-acs-security-token", "")
        for credential in known:
            if credential.security_token == token:
                if credential.expires_at_s is not None and now_s >= credential.expires_at_s:
                    raise ApiError(403, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
                return credential
        if not token:
            raise ApiError(400, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
        raise ApiError(
            403,
            "InvalidSecurityToken.MismatchWithAccessKey",
            "Specified SecurityToken mismatches with the AccessKey.",
        )


def _check_signed_headers(signed_names: Sequence[str], headers: Mapping[str, str], *, has_body: bool) -> None:
    signed = set(signed_names)
    if list(signed_names) != sorted(signed):
        raise _incomplete("SignedHeaders must be sorted, without repetition")
    required = _ALWAYS_SIGNED | {name for name in headers if name.startswith("x-acs-")}
    # Without a body the official async client lets aiohttp add a content type that it did not sign.
    if has_body and "content-type" in headers:
        required |= {"content-type"}
    unsigned = required - signed
    if unsigned:
        raise _incomplete(f"not signed: {', '.join(sorted(unsigned))}")
    absent = _ALWAYS_SIGNED - headers.keys()
    if absent:
        raise _incomplete(f"missing: {', '.join(sorted(absent))}")


def _check_date(text: str, now_s: float) -> None:
    malformed = ApiError(
        400, "InvalidTimeStamp.Format", "Specified time stamp or date value is not well formatted."
    )
    if not _DATE.fullmatch(text):
        raise malformed
    try:
        then_s = datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise malformed from None
    if abs(now_s - then_s) > WINDOW_S:
        raise ApiError(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")


def _check_content(stated: str, body: bytes) -> None:
    if stated != sha256(body).hexdigest():
        raise _does_not_match("x-acs-content-sha256 is not the hash of the body")


def _canonical_request(
    method: str, target: str, signed_names: Sequence[str], headers: Mapping[str, str]
) -> bytes:
    path, _, query = target.partition("?")
    lines = [method, path, _canonical_query(query)]
    lines += [f"{name}:{headers.get(name, '').strip()}" for name in signed_names]
    lines += ["", ";".join(signed_names), headers["x-acs-content-sha256"]]
    return "\n".join(lines).encode("utf-8", "surrogateescape")


def _canonical_query(query: str) -> str:
    if not query:
        return ""
    pairs = decode_pairs(query.encode("utf-8", "surrogateescape"))
    encoded = sorted(
        (quote_from_bytes(name, safe="~"), quote_from_bytes(value, safe="~")) for name, value in pairs
    )
    return "&".join(f"{name}={value}" for name, value in encoded)


def _signature(secret: str, canonical: bytes) -> str:
    to_sign = f"{ALGORITHM}\n{sha256(canonical).hexdigest()}"
    return hmac.digest(secret.encode(), to_sign.encode(), "sha256").hex()


def _incomplete(why: str) -> ApiError:
    return ApiError(
        400, "IncompleteSignature", f"The request signature does not conform to Aliyun standards: {why}."
    )


def _does_not_match(why: str) -> ApiError:
    return ApiError(
        400,
        "SignatureDoesNotMatch",
        f"Specified signature is not matched with our calculation: {why}.",
    )
