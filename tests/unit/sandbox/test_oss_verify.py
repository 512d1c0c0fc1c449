"""The check of OSS's signatures, against the official signer."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.sandbox.config import Credential
from esa_preload_worker.sandbox.oss_verify import MOST_EXPIRES_S, WINDOW_S, OssVerifier
from esa_preload_worker.sandbox.replies import ApiError

# The library has no types: everything of it is Any here.
oss: Any = importlib.import_module("alibabacloud_oss_v2")
types: Any = importlib.import_module("alibabacloud_oss_v2.types")

NOW = datetime(2026, 11, 24, 4, 30, tzinfo=UTC)
NOW_S = NOW.timestamp()
BUCKET = "lists"
NAME = "esa-preload/default/b 1+ü.txt"

Request = tuple[str, dict[str, str]]
"""The target's query, and the headers."""


def signed(
    *,
    method: str = "GET",
    key: str = NAME,
    headers: dict[str, str] | None = None,
    query: str = "",
    expires_s: int | None = None,
    token: str = "",
    region: str = "cn-hangzhou",
    additional: tuple[str, ...] = (),
) -> Request:
    """Return a request that the official signer signed, in its address if it is to expire."""
    request = types.HttpRequest(
        method=method, url=f"https://h/{BUCKET}/{quote(key)}" + (f"?{query}" if query else "")
    )
    request.headers.update(headers or {})
    context = types.SigningContext(
        product="oss", region=region, bucket=BUCKET, key=key, request=request, signing_time=NOW,
        credentials=types.Credentials("sandbox", "sandbox-secret", token or None), additional_headers=additional,
    )  # fmt: skip
    if expires_s is not None:
        context.auth_method_query, context.expiration_time = True, NOW + timedelta(seconds=expires_s)
    oss.signer.SignerV4().sign(context)
    return urlsplit(str(request.url)).query, {
        str(name).lower(): str(value) for name, value in request.headers.items()
    }


def verify(
    request: Request,
    *,
    method: str = "GET",
    key: str = NAME,
    now_s: float = NOW_S,
    credential: Credential | None = None,
) -> bool:
    """Check *request*; return whether it is signed."""
    query, headers = request
    return OssVerifier([credential or Credential()], region="cn-hangzhou").verify(
        method=method, bucket=BUCKET, key=key, query=query, headers=headers, now_s=now_s
    )


def refusal(request: Request, **changes: Any) -> str:
    """Return the code with which *request* is refused."""
    with pytest.raises(ApiError) as caught:
        verify(request, **changes)
    return caught.value.code


@given(
    key=st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=30),
    headers=st.dictionaries(st.sampled_from(["Content-Type", "Content-MD5", "x-oss-object-acl", "Range"]), st.text("abc/;=19", min_size=1), max_size=4),
    expires_s=st.one_of(st.none(), st.integers(1, MOST_EXPIRES_S)),
    token=st.text("aZ0+/=", max_size=9),
)  # fmt: skip
def test_whatever_the_official_signer_signs(
    key: str, headers: dict[str, str], expires_s: int | None, token: str
) -> None:
    """Any name, any headers, in a header or in the address, with a token or without."""
    request = signed(method="PUT", key=key, headers=headers, expires_s=expires_s, token=token)
    assert verify(request, method="PUT", key=key, credential=Credential(security_token=token))


def test_nothing_signed_is_no_error() -> None:
    """Whether an unsigned request may do what it asks is for the object to say."""
    assert not verify(("", {}))
    assert not verify(("x=1", {"host": "h"}))


@pytest.mark.parametrize("expires_s", [None, 60])
def test_what_was_changed_is_refused(expires_s: int | None) -> None:
    """Method, name, a parameter, a header of OSS's, the secret: each is under the signature."""
    query, headers = signed(headers={"x-oss-object-acl": "private"}, expires_s=expires_s)
    assert verify((query, headers))
    for request, changes in (
        ((query, headers), {"method": "PUT"}),
        ((query, headers), {"key": NAME + "x"}),
        ((f"{query}&x-oss-process=a".lstrip("&"), headers), {}),
        ((query, headers | {"x-oss-object-acl": "public-read"}), {}),
        ((query, headers | {"content-type": "text/html"}), {}),
        ((query, headers), {"credential": Credential(access_key_secret="other")}),
    ):
        assert refusal(request, **changes) == "SignatureDoesNotMatch"


def test_additional_headers_are_signed() -> None:
    """When they are named; a name that is added or taken away is seen."""
    query, headers = signed(headers={"Range": "bytes=0-9"}, additional=("range",))
    assert verify((query, headers))
    assert refusal((query, headers | {"range": "bytes=0-99"})) == "SignatureDoesNotMatch"
    for names in ("range;host", "range;range", "Range"):
        text = headers["authorization"].replace("Headers=range", f"Headers={names}")
        assert refusal((query, headers | {"authorization": text})) == "InvalidArgument"


def test_a_signature_in_a_header_is_fresh() -> None:
    """To a quarter of an hour, either way."""
    request = signed()
    for off_s in (-WINDOW_S, WINDOW_S):
        assert verify(request, now_s=NOW_S + off_s)
    for off_s in (-WINDOW_S - 1, WINDOW_S + 1):
        assert refusal(request, now_s=NOW_S + off_s) == "RequestTimeTooSkewed"


@pytest.mark.parametrize("expires_s", [None, 60])
def test_the_days_agree(expires_s: int | None) -> None:
    """The day of the credential is that of the request: the key of the signature is made of it."""
    query, headers = signed(expires_s=expires_s)
    other = {name: value.replace("/20261124/", "/20261123/") for name, value in headers.items()}
    assert refusal((query.replace("%2F20261124%2F", "%2F20261123%2F"), other)) == "InvalidArgument"


def test_a_presigned_address_ends() -> None:
    """At its second; and it can't be made longer, nor longer than a week."""
    query, headers = signed(expires_s=60)
    assert verify((query, headers), now_s=NOW_S + 59)
    assert refusal((query, headers), now_s=NOW_S + 60) == "AccessDenied"
    longer = query.replace("x-oss-expires=60", "x-oss-expires=600")
    assert refusal((longer, headers)) == "SignatureDoesNotMatch"
    assert refusal(signed(expires_s=MOST_EXPIRES_S + 1)) == "InvalidArgument"


def test_who_signs_must_be_known() -> None:
    """Key, token, its end, and the region."""
    assert refusal(signed(), credential=Credential(access_key_id="x")) == "InvalidAccessKeyId"
    assert refusal(signed(token="t")) == "InvalidSecurityToken"
    assert refusal(signed(), credential=Credential(security_token="t")) == "InvalidSecurityToken"
    ended = Credential(security_token="t", expires_at_s=NOW_S)
    for expires_s in (None, 60):
        assert refusal(signed(token="t", expires_s=expires_s), credential=ended) == "SecurityTokenExpired"
    assert refusal(signed(region="cn-shanghai")) == "InvalidArgument"


@pytest.mark.parametrize("part", ["credential", "date", "expires", "signature", "signature-version"])
def test_a_presigned_address_needs_all_its_parts(part: str) -> None:
    """One that is missing, given twice or malformed is an error, not an unsigned request."""
    query, headers = signed(expires_s=60)
    name = f"x-oss-{part}"
    (given_,) = (pair for pair in query.split("&") if pair.startswith(f"{name}="))
    assert refusal((query.replace(given_, ""), headers)) == "InvalidArgument"
    assert refusal((f"{query}&{given_}", headers)) == "InvalidArgument"
    assert refusal((query.replace(given_, f"{name}=-"), headers)) == "InvalidArgument"


def test_other_ways_of_signing_are_refused() -> None:
    """Version 1, in the header or in the address, and both places at once."""
    query, headers = signed(expires_s=60)
    assert refusal(("", {"authorization": "OSS sandbox:c2ln"})) == "InvalidArgument"
    assert refusal(("OSSAccessKeyId=sandbox&Expires=1&Signature=x", {})) == "InvalidArgument"
    assert refusal((query, headers | signed()[1])) == "InvalidArgument"
    without = {name: value for name, value in signed()[1].items() if name != "x-oss-content-sha256"}
    assert refusal(("", without)) == "InvalidArgument"
