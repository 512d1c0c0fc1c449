"""
Check OSS4-HMAC-SHA256 signatures, in a header or in a pre-signed address.

Written from Alibaba's description of OSS's V4 signature, and apart from any client's signer on purpose: one mistake in a
shared implementation would agree with itself.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

from esa_preload_worker.sandbox.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esa_preload_worker.sandbox.config import Credential

ALGORITHM = "OSS4-HMAC-SHA256"
WINDOW_S = 15 * 60
MOST_EXPIRES_S = 7 * 86_400
UNSIGNED = "UNSIGNED-PAYLOAD"

_SCOPE = r"([^,/\s]{1,256})/([0-9]{8})/([a-z0-9-]{1,64})/oss/aliyun_v4_request"
_AUTHORIZATION = re.compile(
    ALGORITHM
    + rf" ?Credential={_SCOPE}(?:, ?AdditionalHeaders=([a-z0-9;-]{{1,1024}}))?, ?Signature=([0-9a-f]{{64}})"
)
_CREDENTIAL = re.compile(_SCOPE)
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_DATE = re.compile(r"[0-9]{8}T[0-9]{6}Z")
_ALWAYS_SIGNED = frozenset({"content-type", "content-md5"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Signed:
    """
    What a request is signed with.

    Attributes:
        additional: names of the headers that are signed beside those that always are.
        expires_s: seconds for which a pre-signed address holds; ``None``: signed in the header.
    """

    access_key_id: str
    token: str
    day: str
    region: str
    date: str
    additional: tuple[str, ...]
    signature: str
    expires_s: int | None = None


class OssVerifier:
    """Lets signed requests of the known credentials pass, for the region of the buckets."""

    __slots__ = ("_credentials", "_region")

    def __init__(self, credentials: Sequence[Credential], *, region: str) -> None:
        self._credentials = tuple(credentials)
        self._region = region

    def verify(
        self, *, method: str, bucket: str, key: str, query: str, headers: Mapping[str, str], now_s: float
    ) -> bool:
        """
        Return whether the request is signed; what is signed is authentic and fresh.

        Args:
            key: decoded.
            query: as it was received.
            headers: by lower-case name, as received.

        Raises:
            ApiError: OSS's refusal.
        """
        parameters = _parameters(query)
        signed = _in_header(headers) or _in_query(parameters)
        if signed is None:
            return False
        if "authorization" in headers and "x-oss-signature" in parameters:
            raise _invalid("Only one way of signing may be used.")
        if signed.region != self._region:
            raise _invalid("Invalid signing region in the credential.")
        credential = self._credential_of(signed, now_s)
        _check_date(signed, now_s)
        canonical = _canonical_request(method, bucket, key, parameters, headers, signed)
        if not hmac.compare_digest(
            _signature(credential.access_key_secret, signed, canonical), signed.signature
        ):
            raise ApiError(
                403, "SignatureDoesNotMatch", "The request signature we calculated does not match yours."
            )
        return True

    def _credential_of(self, signed: Signed, now_s: float) -> Credential:
        known = [one for one in self._credentials if one.access_key_id == signed.access_key_id]
        if not known:
            raise ApiError(403, "InvalidAccessKeyId", "The OSS Access Key Id does not exist in our records.")
        for credential in known:
            if credential.security_token == signed.token:
                if credential.expires_at_s is not None and now_s >= credential.expires_at_s:
                    raise ApiError(403, "SecurityTokenExpired", "The security token has expired.")
                return credential
        raise ApiError(403, "InvalidSecurityToken", "The security token does not belong to the access key.")


def _in_header(headers: Mapping[str, str]) -> Signed | None:
    text = headers.get("authorization")
    if text is None:
        return None
    match = _AUTHORIZATION.fullmatch(text)
    if match is None:
        raise _invalid("The Authorization header is malformed, or not of signature version 4.")
    if headers.get("x-oss-content-sha256") != UNSIGNED:
        raise _invalid(f"x-oss-content-sha256 must be {UNSIGNED}.")
    access_key_id, day, region, additional, signature = match.groups()
    return Signed(
        access_key_id=access_key_id,
        token=headers.get("x-oss-security-token", ""),
        day=day,
        region=region,
        date=headers.get("x-oss-date", ""),
        additional=_names(additional),
        signature=signature,
    )


def _in_query(parameters: Mapping[str, str]) -> Signed | None:
    if "OSSAccessKeyId" in parameters:
        raise _invalid("Only signatures of version 4 are accepted.")
    if not any(name in parameters for name in ("x-oss-signature", "x-oss-signature-version")):
        return None
    match = _CREDENTIAL.fullmatch(parameters.get("x-oss-credential", ""))
    expires = parameters.get("x-oss-expires", "")
    signature = parameters.get("x-oss-signature", "")
    if (
        parameters.get("x-oss-signature-version") != ALGORITHM
        or match is None
        or not _SIGNATURE.fullmatch(signature)
        or not (expires.isascii() and expires.isdigit() and 1 <= int(expires[:9]) <= MOST_EXPIRES_S)
    ):
        raise _invalid("The pre-signed address lacks a parameter, or one is malformed.")
    access_key_id, day, region = match.groups()
    return Signed(
        access_key_id=access_key_id,
        token=parameters.get("x-oss-security-token", ""),
        day=day,
        region=region,
        date=parameters.get("x-oss-date", ""),
        additional=_names(parameters.get("x-oss-additional-headers")),
        signature=signature,
        expires_s=int(expires),
    )


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(text.split(";"))
    if list(names) != sorted(set(names)) or not all(names):
        raise _invalid("The additional headers must be sorted, without repetition.")
    return names


def _check_date(signed: Signed, now_s: float) -> None:
    if not _DATE.fullmatch(signed.date) or signed.day != signed.date[:8]:
        raise _invalid("x-oss-date is missing or malformed, or the credential is of another day.")
    try:
        then_s = datetime.strptime(signed.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise _invalid("x-oss-date is no time.") from None
    if signed.expires_s is None:
        if abs(now_s - then_s) > WINDOW_S:
            raise ApiError(
                403, "RequestTimeTooSkewed", "The request time and the server's differ by too much."
            )
    elif then_s - now_s > WINDOW_S or now_s >= then_s + signed.expires_s:
        raise ApiError(403, "AccessDenied", "Request has expired.")


def _parameters(query: str) -> dict[str, str]:
    """Return the parameters of a query, decoded; a plus sign is a plus sign."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    parameters = {_decoded(name): _decoded(value) for name, _, value in pairs}
    if len(parameters) != len(pairs):
        raise _invalid("A parameter is given more than once.")
    return parameters


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _encoded(text: str) -> str:
    return quote_from_bytes(text.encode("utf-8", "surrogateescape"), safe="")


def _canonical_request(
    method: str,
    bucket: str,
    key: str,
    parameters: Mapping[str, str],
    headers: Mapping[str, str],
    signed: Signed,
) -> str:
    pairs = sorted(
        (_encoded(name), _encoded(value)) for name, value in parameters.items() if name != "x-oss-signature"
    )
    names = sorted(
        name
        for name in headers
        if name.startswith("x-oss-") or name in _ALWAYS_SIGNED or name in signed.additional
    )
    lines = [
        method,
        quote(f"/{bucket}/{key}", safe="/"),
        "&".join(f"{name}={value}" if value else name for name, value in pairs),
        *(f"{name}:{headers[name].strip()}" for name in names),
        "",
        ";".join(signed.additional),
        headers.get("x-oss-content-sha256", UNSIGNED),
    ]
    return "\n".join(lines)


def _signature(secret: str, signed: Signed, canonical: str) -> str:
    scope = f"{signed.day}/{signed.region}/oss/aliyun_v4_request"
    digest = sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    key = f"aliyun_v4{secret}".encode()
    for part in (signed.day, signed.region, "oss", "aliyun_v4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, f"{ALGORITHM}\n{signed.date}\n{scope}\n{digest}".encode(), "sha256").hex()


def _invalid(why: str) -> ApiError:
    return ApiError(400, "InvalidArgument", why)
