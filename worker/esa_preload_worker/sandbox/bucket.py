"""The objects of the simulated OSS: private unless said otherwise, read by signature. No input or output."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from hashlib import md5
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes, urlsplit

from esa_preload_worker.sandbox.oss_verify import OssVerifier
from esa_preload_worker.sandbox.replies import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from esa_preload_worker.sandbox.config import SandboxConfig

OSS_OPERATIONS: Mapping[str, str] = {
    "PUT": "PutObject",
    "GET": "GetObject",
    "HEAD": "HeadObject",
    "DELETE": "DeleteObject",
}
"""By method; the names are those of faults and counts."""

_PATH = re.compile(r"/([a-z0-9][a-z0-9-]{1,61}[a-z0-9])/(.+)", re.DOTALL)
_MOST_KEY_BYTES = 1_023
_PUBLIC = {"public-read", "public-read-write"}
_ACLS = {"default", "private"} | _PUBLIC


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object."""

    body: bytes
    content_type: str
    is_public: bool
    stored_s: float

    @property
    def etag(self) -> str:
        """As OSS gives it: the MD5 of the content, in capitals and quotes."""
        return f'"{md5(self.body, usedforsecurity=False).hexdigest().upper()}"'


class Objects:
    """Every object of every bucket. Calls are atomic: nothing here awaits."""

    def __init__(self, config: SandboxConfig, now_s: Callable[[], float]) -> None:
        self._objects: dict[tuple[str, str], StoredObject] = {}
        self._now_s = now_s
        self.change(config)

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def names(self) -> list[str]:
        """Bucket and key of each object, in order of their first storing."""
        return [f"{bucket}/{key}" for bucket, key in self._objects]

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(len(stored.body) for stored in self._objects.values())

    def change(self, config: SandboxConfig) -> None:
        """Follow *config* from now on; objects stay."""
        self._config = config
        self._verifier = OssVerifier(config.credentials, region=config.oss_region)

    def run(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> StoredObject | None:
        """
        Do what a request asks; return the object that it is about, if there is one.

        Args:
            target: the request target as it was received, with its query.
            headers: by lower-case name.

        Raises:
            ApiError: OSS's refusal.
        """
        path, _, query = target.partition("?")
        bucket, key = _bucket_and_key(path)
        is_trusted = not self._config.verify_signatures or self._verifier.verify(
            method=method, bucket=bucket, key=key, query=query, headers=headers, now_s=self._now_s()
        )
        if self._config.oss_buckets and bucket not in self._config.oss_buckets:
            raise ApiError(404, "NoSuchBucket", "The specified bucket does not exist.")
        stored = self._objects.get((bucket, key))
        is_read = method in {"GET", "HEAD"}
        if not is_trusted and not (is_read and stored is not None and stored.is_public):
            raise ApiError(403, "AccessDenied", "You have no right to access this object.")
        if method == "PUT":
            stored = self._stored(headers, body)
            self.store(bucket, key, stored)
        elif method == "DELETE":
            self.drop(bucket, key)
        elif stored is None:
            raise ApiError(404, "NoSuchKey", "The specified key does not exist.")
        return stored

    def store(self, bucket: str, key: str, stored: StoredObject) -> None:
        """Keep an object in the place of what was there."""
        self._objects[bucket, key] = stored

    def drop(self, bucket: str, key: str) -> None:
        """Forget an object, if there is one."""
        self._objects.pop((bucket, key), None)

    def read(self, address: str) -> bytes | None:
        """Return what is behind *address*, as who has nothing but this address sees it; ``None``: nothing to see."""
        parts = urlsplit(address)
        try:
            stored = self.run("GET", f"{parts.path}?{parts.query}", {})
        except ApiError:
            return None
        return None if stored is None else stored.body

    def _stored(self, headers: Mapping[str, str], body: bytes) -> StoredObject:
        if len(body) > self._config.max_object_bytes:
            raise ApiError(400, "EntityTooLarge", "Your proposed upload exceeds the maximum allowed size.")
        acl = headers.get("x-oss-object-acl", "default")
        if acl not in _ACLS:
            raise ApiError(400, "InvalidArgument", "no such object access control exists")
        stated = headers.get("content-md5")
        if stated is not None and stated != _md5_header(body):
            raise ApiError(
                400, "InvalidDigest", "The Content-MD5 you specified did not match what we received."
            )
        return StoredObject(
            body=body,
            content_type=headers.get("content-type", "application/octet-stream"),
            is_public=acl in _PUBLIC or (acl == "default" and self._config.oss_is_public),
            stored_s=self._now_s(),
        )


def is_object_path(path: str) -> bool:
    """Tell whether *path*, as received, is of a bucket and an object in it."""
    return _PATH.fullmatch(path) is not None


def _bucket_and_key(path: str) -> tuple[str, str]:
    match = _PATH.fullmatch(path)
    if match is None:
        raise ApiError(400, "InvalidBucketName", "The specified bucket is not valid.")
    raw = unquote_to_bytes(match[2].encode("utf-8", "surrogateescape"))
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        key = ""
    if not key or len(raw) > _MOST_KEY_BYTES or key[0] in "/\\":
        raise ApiError(400, "InvalidObjectName", "The specified object is not valid.")
    return match[1], key


def _md5_header(body: bytes) -> str:
    return base64.b64encode(md5(body, usedforsecurity=False).digest()).decode()
