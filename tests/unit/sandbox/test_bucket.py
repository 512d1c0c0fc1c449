"""The simulated OSS without HTTP: whatever it is asked, it answers or refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from esa_preload_worker.sandbox.bucket import Objects, is_object_path
from esa_preload_worker.sandbox.config import SandboxConfig
from esa_preload_worker.sandbox.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

PARTS: Sequence[str] = (
    *("x-oss-signature-version=OSS4-HMAC-SHA256", "x-oss-signature=" + "0" * 64, "x-oss-expires=60"),
    *("x-oss-credential=sandbox%2F20261124%2Fcn-hangzhou%2Foss%2Faliyun_v4_request", "x-oss-date=20261124T000000Z"),
    *("x-oss-date=99999999T999999Z", "x-oss-expires=\u0663", "x-oss-additional-headers=host;", "%ff=%ff", "=", "OSSAccessKeyId=x"),
)  # fmt: skip
HEADERS: Sequence[tuple[str, str]] = (
    ("authorization", "OSS4-HMAC-SHA256 Credential=sandbox/20261124/cn-hangzhou/oss/aliyun_v4_request,Signature=" + "0" * 64),
    ("authorization", "OSS4-HMAC-SHA256 \udcff"),
    ("x-oss-content-sha256", "UNSIGNED-PAYLOAD"),
    ("x-oss-date", "20261124T000000Z"),
    ("x-oss-object-acl", "\udcff"),
    ("content-md5", "x"),
)  # fmt: skip


def objects(**config: object) -> Objects:
    """Return an empty OSS, in which the 24th of November 2026 has just begun."""
    return Objects(SandboxConfig(**config), lambda: 1_795_478_400.0)  # type: ignore[arg-type]


@given(
    method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE"]),
    key=st.text(st.characters(codec="latin-1")),
    parts=st.lists(st.sampled_from(PARTS) | st.text("abc%=&+ ", max_size=9), max_size=6),
    headers=st.lists(st.sampled_from(HEADERS), max_size=4),
)
@example("GET", "%ff", [], [])
@example("GET", "k", [PARTS[0], PARTS[1], PARTS[6]], [])
def test_no_request_is_more_than_refused(
    method: str, key: str, parts: list[str], headers: list[tuple[str, str]]
) -> None:
    """Nothing unsigned or forged does anything, and nothing raises but OSS's own refusal."""
    store = objects()
    with pytest.raises(ApiError):
        store.run(method, f"/lists/{key}?{'&'.join(parts)}", dict(headers), b"x")
    assert len(store) == 0


@given(st.text())
def test_no_address_is_more_than_unreadable(address: str) -> None:
    """ESA finds nothing behind it."""
    assert objects().read(f"http://127.0.0.1:1/lists/{address}") is None


def test_buckets_have_names_of_their_own_kind() -> None:
    """What else the sandbox serves cannot be taken for an object."""
    assert is_object_path("/lists/a/b")
    for path in ("/", "/lists", "/lists/", "/_sandbox/stats", "/index.html", "/A/b", "/-a-/b", "/ab/c"):
        assert not is_object_path(path), path


def test_a_public_bucket_is_read_by_everybody_where_an_object_says_nothing_else() -> None:
    """As ESA would, by a plain address; an object's own ACL goes before the bucket's."""
    store = objects(oss_is_public=True, verify_signatures=False)
    store.run("PUT", "/lists/a", {}, b"1")
    store.run("PUT", "/lists/b", {"x-oss-object-acl": "private"}, b"2")
    store.change(SandboxConfig())
    assert (store.read("http://h/lists/a"), store.read("http://h/lists/b")) == (b"1", None)
    assert (store.names, store.size) == (["lists/a", "lists/b"], 2)
