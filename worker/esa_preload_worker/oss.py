"""Lists of URLs in a bucket of OSS, from where ESA reads them. The one module that knows the official library."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import importlib
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from esa_preload_worker.esa.endpoint import Proxies
from esa_preload_worker.esa.errors import BlockedError
from esa_preload_worker.oss_endpoint import OssEndpoint
from esa_preload_worker.oss_errors import OssError, is_of_credentials, oss_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from types import TracebackType

    from esa_preload_worker.esa.credentials import Credential, CredentialSource
    from esa_preload_worker.settings import Settings

__all__ = ["ListStore", "OssError", "list_store", "object_name"]

LINK_LIFETIME = timedelta(hours=24)
"""When ESA reads a list is not documented: a day, if the credential lives as long."""
ATTEMPTS = 3
TOTAL_S = 60.0
"""For one operation, its repetitions included: 10 MB at 2 Mbit/s take 40 s."""
SLICE_BYTES = 65_536


def object_name(settings: Settings, batch_id: str) -> str:
    """Return the name of the object that holds the URLs of a batch."""
    return f"{settings.oss_prefix}{settings.namespace}/{batch_id}.txt"


def list_store(
    settings: Settings, credentials: CredentialSource, environ: Mapping[str, str] | None = None
) -> ListStore | None:
    """
    Return the store of lists that *settings* ask for, if any.

    Raises:
        ValueError: HTTPS_PROXY is no proxy.
    """
    if not settings.oss_bucket:
        return None
    return ListStore(settings, credentials, Proxies(os.environ if environ is None else environ))


class ListStore:
    """
    The objects of one bucket, as an async context manager: the library is imported when it is entered.

    Every method is safe to repeat, repeats passing trouble by itself, ends within a minute, and raises only
    :class:`OssError`.
    """

    def __init__(self, settings: Settings, credentials: CredentialSource, proxies: Proxies) -> None:
        self._bucket = settings.oss_bucket
        self._prefix = settings.oss_prefix
        self._is_signed = settings.oss_link == "signed"
        self._timeout_s = settings.call_timeout
        self._endpoint = OssEndpoint.parse(
            settings.oss_endpoint_url,
            region=settings.region,
            allow_insecure=settings.allow_insecure_endpoint,
        )
        self._credentials = credentials
        self._proxy = proxies.proxy_for(self._endpoint.url)
        self._library: Any = None
        self._session: Any = None
        self._provider = _Provider()
        self._client: Any = None
        self._linker: Any = None

    def __repr__(self) -> str:
        return f"<ListStore of {self._bucket} at {self._endpoint.url}>"

    async def __aenter__(self) -> Self:
        aiohttp: Any = importlib.import_module("aiohttp")
        transport: Any = importlib.import_module("alibabacloud_oss_v2.aio.transport")
        self._library = importlib.import_module("alibabacloud_oss_v2")
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        sender = transport.AioHttpClient(
            session=self._session,
            connect_timeout=self._timeout_s,
            readwrite_timeout=self._timeout_s,
            proxy_host=str(self._proxy.url) if self._proxy else None,
        )
        headers = dict(self._proxy.headers) if self._proxy else {}
        self._client = self._connect(self._endpoint.url, _Sender(sender, headers))
        self._linker = self._connect(self._endpoint.link_url, sender)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def put(self, name: str, lines: bytes) -> None:
        """Store *lines* under *name*, private, in the place of what was there."""
        # Checked by OSS before it stores anything; the library's own check compares afterwards.
        digest = await asyncio.to_thread(lambda: hashlib.md5(lines, usedforsecurity=False).digest())
        request = self._library.PutObjectRequest(
            bucket=self._bucket,
            key=name,
            acl="private",
            content_type="text/plain; charset=utf-8",
            content_length=len(lines),
            content_md5=base64.b64encode(digest).decode(),
            body=_Body(lines) if lines else b"",
        )
        await self._run("PutObject", lambda: self._client.put_object(request))

    async def get(self, name: str) -> bytes:
        """Return what is stored under *name*."""
        request = self._library.GetObjectRequest(bucket=self._bucket, key=name)
        result = await self._run("GetObject", lambda: self._client.get_object(request))
        return bytes(result.body.content)

    async def link(self, name: str) -> str:
        """
        Return the address from which ESA can read *name*: a secret while it is signed.

        Nothing is asked of OSS. A signed one ends after a day, or with the session token that signed it.
        """
        request = self._library.GetObjectRequest(bucket=self._bucket, key=name)
        if not self._is_signed:
            return self._plain_link(name)
        result = await self._run("GetObject", lambda: self._linker.presign(request, expires=LINK_LIFETIME))
        return str(result.url)

    async def delete(self, name: str) -> None:
        """Delete *name*; no error when it is gone."""
        request = self._library.DeleteObjectRequest(bucket=self._bucket, key=name)
        await self._run("DeleteObject", lambda: self._client.delete_object(request))

    def _plain_link(self, name: str) -> str:
        scheme, _, host = self._endpoint.link_url.partition("://")
        match self._endpoint.style:
            case "virtual":
                return f"{scheme}://{self._bucket}.{host}/{quote(name)}"
            case "path":
                return f"{scheme}://{host}/{self._bucket}/{quote(name)}"
            case "domain":
                return f"{scheme}://{host}/{quote(name)}"

    def _connect(self, url: str, sender: object) -> Any:
        aio: Any = importlib.import_module("alibabacloud_oss_v2.aio")
        return aio.AsyncClient(
            self._library.Config(
                region=self._endpoint.region,
                endpoint=url,
                signature_version="v4",
                credentials_provider=self._provider,
                retry_max_attempts=ATTEMPTS,
                http_client=sender,
                use_path_style=self._endpoint.style == "path",
                use_cname=self._endpoint.style == "domain",
                disable_upload_crc64_check=True,
                user_agent="esa-preload",
            )
        )

    async def _run(self, action: str, call: Callable[[], Awaitable[Any]]) -> Any:
        """Run *call* with the current credential, and once more with a new one when that was refused."""
        try:
            self._provide(await self._credentials.get())
            try:
                return await self._once(action, call)
            except OssError as exc:
                if not is_of_credentials(exc.code):
                    raise
            self._provide(await self._credentials.refresh())
            return await self._once(action, call)
        except BlockedError as exc:
            raise OssError(str(exc), code=exc.code, hint=exc.hint, is_passing=False) from None

    async def _once(self, action: str, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            async with asyncio.timeout(TOTAL_S):
                return await call()
        except self._library.exceptions.BaseError as exc:
            # Without its cause: the library's texts quote addresses with signatures, and what the server said.
            failure = oss_error(action, _innermost(exc), resource=f"{self._bucket}/{self._prefix}*")
        except TimeoutError:
            failure = OssError(
                f"{action}: no answer from OSS within {TOTAL_S:g} s", code="oss.timeout", is_passing=True
            )
        raise failure

    def _provide(self, credential: Credential) -> None:
        self._provider.current = self._library.credentials.StaticCredentialsProvider(
            credential.access_key_id, credential.access_key_secret, credential.security_token or None
        ).get_credentials()


class _Provider:
    """What the library asks for credentials before every attempt; it cannot wait for them itself."""

    current: Any = None

    def get_credentials(self) -> Any:
        return self.current


class _Sender:
    """The library's HTTP client, with the one thing that it cannot be told: the headers that a proxy wants."""

    def __init__(self, sender: Any, proxy_headers: Mapping[str, str]) -> None:
        self._sender = sender
        self._options = {"proxy_headers": dict(proxy_headers)} if proxy_headers else {}

    async def send(self, request: Any, **options: Any) -> Any:
        return await self._sender.send(request, **options, **self._options)


class _Body:
    """The bytes of a list, a slice at a time and from the start for every attempt: 10 MB at once would hold up the loop."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), SLICE_BYTES):
            yield self._content[start : start + SLICE_BYTES]


def _innermost(error: Any) -> Any:
    """Return what the library wrapped."""
    while (inner := getattr(error, "unwrap", lambda: None)()) is not None:
        error = inner
    return error
