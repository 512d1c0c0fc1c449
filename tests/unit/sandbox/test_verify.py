"""The signature check, against the documentation's own example and the official signer."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.sandbox.config import Credential
from esa_preload_worker.sandbox.replies import ApiError
from esa_preload_worker.sandbox.verify import WINDOW_S, NonceMemory, Verifier

# The SDK has no types: everything of it is Any here.
official: Any = importlib.import_module("alibabacloud_tea_openapi.utils")
requests: Any = importlib.import_module("darabonba.request")

EMPTY = sha256(b"").hexdigest()
NOW_S = datetime(2023, 10, 26, 10, 22, 32, tzinfo=UTC).timestamp()


def signed(
    *,
    method: str = "POST",
    query: dict[str, str] | None = None,
    body: bytes = b"",
    extra: dict[str, str] | None = None,
) -> tuple[str, dict[str, str]]:
    """Return target and headers of a call that Alibaba's own signer signed."""
    request = requests.DaraRequest()
    request.method, request.pathname, request.query = method, "/", query or {}
    request.headers = {
        "host": "127.0.0.1:1",
        "x-acs-action": "ListSites",
        "x-acs-version": "2024-09-10",
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "n1",
        "x-acs-content-sha256": sha256(body).hexdigest(),
    } | (extra or {})
    authorization: str = official.Utils.get_authorization(
        request, "ACS3-HMAC-SHA256", request.headers["x-acs-content-sha256"], "sandbox", "sandbox-secret"
    )
    target = "/" + (f"?{urlencode(query)}" if query else "")
    return target, {**request.headers, "authorization": authorization}


def verify(
    target: str, headers: dict[str, str], *, method: str = "POST", body: bytes = b"", now_s: float = NOW_S
) -> None:
    Verifier([Credential()]).verify(method=method, target=target, headers=headers, body=body, now_s=now_s)


def test_the_documented_example() -> None:
    """The signature that Alibaba's description prints for its example is accepted."""
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": EMPTY,
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }
    headers["authorization"] = (
        f"ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders={';'.join(sorted(headers))},"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )
    verifier = Verifier(
        [Credential(access_key_id="YourAccessKeyId", access_key_secret="YourAccessKeySecret")]
    )
    verifier.verify(
        method="POST",
        target="/?ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai",
        headers=headers,
        body=b"",
        now_s=NOW_S,
    )


@given(
    query=st.dictionaries(
        st.text("abcXYZ019", min_size=1), st.text(st.characters(exclude_categories=["Cs"])), max_size=4
    ),
    body=st.binary(max_size=50),
)
def test_whatever_the_official_signer_signs(query: dict[str, str], body: bytes) -> None:
    """Any query and any body that the official signer signed is accepted."""
    target, headers = signed(query=query, body=body)
    verify(target, headers, body=body)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"authorization": ""}, "IncompleteSignature"),
        ({"authorization": "Basic c2FuZGJveDo="}, "IncompleteSignature"),
        ({"x-acs-extra": "not signed"}, "IncompleteSignature"),
        ({"x-acs-date": "2023-10-26 10:22:32"}, "InvalidTimeStamp.Format"),
        ({"x-acs-date": "2023-02-31T10:22:32Z"}, "InvalidTimeStamp.Format"),
        ({"x-acs-date": "2023-10-26T10:22:33Z"}, "SignatureDoesNotMatch"),
        ({"x-acs-action": "ListOther"}, "SignatureDoesNotMatch"),
        ({"host": "other"}, "SignatureDoesNotMatch"),
        ({"x-acs-content-sha256": "0" * 64}, "SignatureDoesNotMatch"),
    ],
)
def test_changed_headers(changes: dict[str, str], code: str) -> None:
    """A header that was changed, added or spoiled after signing is refused by its code."""
    target, headers = signed()
    with pytest.raises(ApiError) as refused:
        verify(target, headers | changes)
    assert refused.value.code == code


@pytest.mark.parametrize(
    "name", ["host", "x-acs-date", "x-acs-signature-nonce", "x-acs-content-sha256", "x-acs-action"]
)
def test_required_headers(name: str) -> None:
    """A call that does not sign what must be signed is refused, and so is one that lacks what it signed."""
    target, headers = signed()
    unsigned = headers["authorization"].replace(f"{name};", "").replace(f";{name}", "")
    for spoiled in (
        {**headers, "authorization": unsigned},
        {key: value for key, value in headers.items() if key != name},
    ):
        with pytest.raises(ApiError) as refused:
            verify(target, spoiled)
        assert refused.value.code == "IncompleteSignature"


def test_a_signed_header_that_is_gone() -> None:
    """A signed header that does not arrive spoils the signature, also when it is not a required one."""
    target, headers = signed(extra={"accept": "application/json"})
    del headers["accept"]
    with pytest.raises(ApiError) as refused:
        verify(target, headers)
    assert refused.value.code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("off_s", [-WINDOW_S - 1, WINDOW_S + 1])
def test_stale_and_future_dates(off_s: float) -> None:
    """A date more than 15 minutes off, either way, is refused; 15 minutes are accepted."""
    target, headers = signed()
    verify(target, headers, now_s=NOW_S + off_s - (1 if off_s > 0 else -1))
    with pytest.raises(ApiError) as refused:
        verify(target, headers, now_s=NOW_S + off_s)
    assert refused.value.code == "InvalidTimeStamp.Expired"


def test_a_refused_call_does_not_use_up_its_nonce() -> None:
    """Only an authentic call counts its nonce; the second one with it is refused."""
    verifier = Verifier([Credential()])
    target, headers = signed()
    forged = headers["authorization"][:-64] + "0" * 64
    for _ in range(2):
        with pytest.raises(ApiError, match="not matched"):
            verifier.verify(
                method="POST",
                target=target,
                headers={**headers, "authorization": forged},
                body=b"",
                now_s=NOW_S,
            )
    verifier.verify(method="POST", target=target, headers=headers, body=b"", now_s=NOW_S)
    with pytest.raises(ApiError) as refused:
        verifier.verify(method="POST", target=target, headers=headers, body=b"", now_s=NOW_S)
    assert refused.value.code == "SignatureNonceUsed"


def test_nonces_are_remembered_for_at_least_the_window() -> None:
    """A nonce is known for 15 minutes whenever it came, and forgotten within three times that."""
    memory = NonceMemory()
    assert memory.use("first", 1000)
    assert memory.use("late", 1000 + WINDOW_S - 1)
    assert not memory.use("first", 1000 + WINDOW_S)
    assert not memory.use("late", 1000 + 2 * WINDOW_S - 2)
    assert memory.use("first", 1000 + 4 * WINDOW_S)


@pytest.mark.parametrize(
    ("token", "code"),
    [
        ("", "MissingSecurityToken"),
        ("wrong", "InvalidSecurityToken.MismatchWithAccessKey"),
        ("old", "InvalidSecurityToken.Expired"),
        ("new", None),
    ],
)
def test_security_tokens(token: str, code: str | None) -> None:
    """A temporary key needs its token, the right one, before it expires; of two tokens each is judged alone."""
    verifier = Verifier(
        [Credential(security_token="old", expires_at_s=NOW_S), Credential(security_token="new")]
    )
    target, headers = signed(extra={"x-acs-security-token": token} if token else {})
    if code is None:
        verifier.verify(method="POST", target=target, headers=headers, body=b"", now_s=NOW_S)
        return
    with pytest.raises(ApiError) as refused:
        verifier.verify(method="POST", target=target, headers=headers, body=b"", now_s=NOW_S)
    assert refused.value.code == code


def test_content_type_is_signed_with_a_body() -> None:
    """The type of a body must be signed; without a body a proxy or a library may add one."""
    target, headers = signed()
    verify(target, headers | {"content-type": "application/octet-stream"})
    target, headers = signed(body=b"a=b")
    with pytest.raises(ApiError, match="not signed: content-type"):
        verify(target, headers | {"content-type": "application/x-www-form-urlencoded"}, body=b"a=b")


def test_secrets_stay_out_of_text() -> None:
    """Neither the secret nor the token is in what a credential prints."""
    text = repr(Credential(access_key_secret="hidden-secret", security_token="hidden-token"))
    assert "hidden" not in text
