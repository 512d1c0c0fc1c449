"""The signature is the documented one and the official client's, and the fast encoder writes the standard one's bytes."""

from __future__ import annotations

import hashlib
import importlib
from types import SimpleNamespace
from urllib.parse import quote_plus

from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.esa.credentials import Credential
from esa_preload_worker.esa.signing import ALGORITHM, canonical_query, form_encode, sign

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)


def test_the_documented_example_is_signed_as_documented() -> None:
    """The vector of Alibaba's page on the V3 signature comes out to the last digit."""
    headers = sign(
        method="POST",
        host="ecs.cn-shanghai.aliyuncs.com",
        query=canonical_query(
            [
                ("RegionId", "cn-shanghai"),
                ("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"),
            ]
        ),
        body=b"",
        content_type="",
        action="RunInstances",
        version="2014-05-26",
        credential=Credential(access_key_id="YourAccessKeyId", access_key_secret="YourAccessKeySecret"),
        date="2023-10-26T10:22:32Z",
        nonce="3156853299f313e23d1673dc12e1703d",
    )
    assert headers["authorization"] == (
        "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;"
        "x-acs-signature-nonce;x-acs-version,"
        "Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    )


@given(
    method=st.sampled_from(["GET", "POST"]),
    query=st.dictionaries(st.from_regex(r"[A-Za-z]{1,12}", fullmatch=True), st.text(), max_size=5),
    body=st.binary(max_size=200),
    secret=printable,
    token=st.one_of(st.just(""), printable),
    nonce=st.from_regex(r"[0-9a-f]{32}", fullmatch=True),
)
def test_any_request_is_signed_as_the_official_client_does(
    *, method: str, query: dict[str, str], body: bytes, secret: str, token: str, nonce: str
) -> None:
    """For arbitrary methods, queries, bodies and tokens our signature equals the official library's own."""
    credential = Credential(access_key_id="AKID", access_key_secret=secret, security_token=token)
    headers = sign(
        method=method,
        host="127.0.0.1:18080",
        query=canonical_query(query.items()),
        body=body,
        content_type="application/x-www-form-urlencoded" if body else "",
        action="ListSites",
        version="2024-09-10",
        credential=credential,
        date="2026-11-23T11:58:29Z",
        nonce=nonce,
    )
    ours = headers.pop("authorization")
    utils = importlib.import_module("alibabacloud_tea_openapi.utils").Utils
    request = SimpleNamespace(method=method, pathname="/", query=query, headers=headers)
    digest = hashlib.sha256(body).hexdigest()
    assert ours == utils.get_authorization(request, ALGORITHM, digest, "AKID", secret)
    assert ("x-acs-security-token" in headers) is bool(token)


@given(st.one_of(st.text(), st.text(st.characters(max_codepoint=127))))
def test_the_fast_encoder_equals_quote_plus(text: str) -> None:
    """Whatever the text, the bytes are those of the standard library."""
    assert form_encode(text) == quote_plus(text)


def test_every_ascii_character_is_encoded_alike() -> None:
    """No character of the fast path is forgotten, alone or together with the others."""
    every = "".join(map(chr, range(128)))
    assert form_encode(every) == quote_plus(every)
    fast = "".join(char for char in every if char.isprintable() or char == "\n")
    assert form_encode(fast * 2) == quote_plus(fast * 2)
