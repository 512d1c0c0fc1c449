"""Make one call: signed, within a deadline, its outcome classified, and once more where that puts it right."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from esa_preload_worker.esa import wire
from esa_preload_worker.esa.classify import Remedy, error_of, http_date, is_success, remedy_for
from esa_preload_worker.esa.codes import OK, label_of
from esa_preload_worker.esa.errors import EsaError, NotSentError, UncertainError
from esa_preload_worker.esa.failures import BREAKS, failure_of
from esa_preload_worker.esa.replies import parse_object, request_id_of
from esa_preload_worker.esa.signing import sign

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from aiohttp.connector import Connection

    from esa_preload_worker.esa.credentials import Credential, CredentialSource
    from esa_preload_worker.esa.endpoint import Endpoint, Proxies
    from esa_preload_worker.esa.replies import Fields
    from esa_preload_worker.esa.wire import WireRequest

REPLY_MAX_BYTES = 1024 * 1024
CONNECT_MAX_S = 5.0
IDLE_MAX_S = 10.0
"""We close idle connections first: a POST on one that ESA closes at that moment would be uncertain."""
CONNECTIONS_MAX = 64
READ_PAUSES_S = (0.2, 1.0)
"""Before a file is read again: of one that cannot be read a whole list of URLs ends as unknown."""
USER_AGENT = "esa-preload"

T = TypeVar("T")


class BodyTooLargeError(Exception):
    """A reply's body went over its bound while it was read."""


class _Response(aiohttp.ClientResponse):
    """A response without its reason phrase: httpx-aiohttp stumbles over one that is not UTF-8, and nobody reads it."""

    async def start(self, connection: Connection) -> Self:
        await super().start(connection)
        self.reason = ""
        return self


class _Reply(NamedTuple):
    status: int
    headers: httpx.Headers
    body: bytes


class Caller:
    """
    Makes calls over one pool of connections; open while used as a context manager.

    Args:
        observe: see ``EsaClient``.
    """

    def __init__(
        self,
        *,
        endpoint: Endpoint,
        proxies: Proxies,
        credentials: CredentialSource,
        call_timeout_s: float,
        observe: Callable[[str, str, float], None],
    ) -> None:
        self._endpoint = endpoint
        self._proxies = proxies
        self._credentials = credentials
        self._call_timeout_s = call_timeout_s
        self._observe = observe
        self._base_url = httpx.URL(f"{endpoint.url}/")
        self._ssl = httpx.create_ssl_context()
        self._session: aiohttp.ClientSession | None = None
        self._transport: AiohttpTransport | None = None
        self.clock_offset = timedelta()
        self._date_seen = ("", 0.0)

    def __repr__(self) -> str:
        return f"<Caller {self._endpoint.url} {'open' if self._transport else 'closed'}>"

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=self._ssl, limit=CONNECTIONS_MAX, keepalive_timeout=IDLE_MAX_S
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            response_class=_Response,
            timeout=aiohttp.ClientTimeout(total=None),
            trust_env=False,
            # Else aiohttp makes one up for a POST without a body; the official client sends none.
            skip_auto_headers=("Content-Type",),
        )
        self._transport = self._transport_for(self._endpoint.url)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        session, self._session, self._transport = self._session, None, None
        if session is not None:
            await session.close()

    async def call(self, request: WireRequest, parse: Callable[[Fields], T]) -> T:
        """
        Make *request* and return its reply as *parse* reads it.

        Raises:
            EsaError: of the class that says what to do next.
        """
        is_under_way = False
        try:
            async with asyncio.timeout(self._call_timeout_s) as deadline:
                credential = await self._credentials.get()
                is_under_way = True
                try:
                    return await self._attempt(request, parse, credential, deadline)
                except EsaError as error:
                    is_under_way = False
                    renewed = await self._put_right(error, request, credential)
                    if renewed is None:
                        raise
                is_under_way = True
                return await self._attempt(request, parse, renewed, deadline)
        except TimeoutError:
            if is_under_way:
                raise UncertainError("no reply in time", code="uncertain.timeout") from None
            raise NotSentError("no time was left to send it", code="not_sent.timeout") from None

    async def read(self, url: str, *, max_bytes: int) -> tuple[int, bytes]:
        """
        Read *url*, unsigned; return the status and the body as it is. What breaks, or fails with a 5xx, is repeated in that time.

        Raises:
            BodyTooLargeError: over *max_bytes*.
            TimeoutError: not within the time of a call.
            httpx.HTTPError, aiohttp.ClientError, OSError: it broke.
        """
        async with asyncio.timeout(self._call_timeout_s):
            for pause_s in READ_PAUSES_S:
                with contextlib.suppress(httpx.TransportError, aiohttp.ClientError, OSError):
                    reply = await self._read_once(url, max_bytes)
                    if reply.status < 500:
                        return reply.status, reply.body
                await asyncio.sleep(pause_s)
            reply = await self._read_once(url, max_bytes)
        return reply.status, reply.body

    async def _read_once(self, url: str, max_bytes: int) -> _Reply:
        request = _prepare("GET", httpx.URL(url), {}, b"", self._call_timeout_s)
        return await _exchange(self._transport_for(url), request, max_bytes)

    async def _put_right(self, error: EsaError, request: WireRequest, used: Credential) -> Credential | None:
        """Return the credential to call again with; ``None`` when a repetition would end the same."""
        # A 5xx may have done something before it failed.
        match remedy_for(error.code) if error.http_status < 500 else None:
            case Remedy.REFRESH:
                return await self._credentials.refresh()
            case Remedy.ROTATE:
                renewed = await self._credentials.refresh()
                return renewed if renewed != used else None
            case Remedy.CLOCK:
                return used
            case Remedy.NONCE:
                # Its twin came first, and may have been carried out: what makes something must be looked up.
                return used if request.operation not in wire.NOT_REPEATABLE else None
            case None:
                return None

    async def _attempt(
        self,
        request: WireRequest,
        parse: Callable[[Fields], T],
        credential: Credential,
        deadline: asyncio.Timeout,
    ) -> T:
        """Send one signed request, and observe how it ended."""
        started = time.perf_counter()
        code = "uncertain.timeout"  # unless the deadline or a cancellation ends it
        left_s = (deadline.when() or 0.0) - asyncio.get_running_loop().time()
        try:
            # Shorter than what is left, so that a connection that cannot be made is seen as such.
            signed = self._sign(
                request, credential, connect_timeout_s=min(CONNECT_MAX_S, max(left_s, 0.001) / 2)
            )
            value = self._read(await self._send(signed), parse, credential)
            code = OK
        except EsaError as error:
            code = error.code
            raise
        finally:
            self._observe(request.operation, label_of(code), time.perf_counter() - started)
        return value

    async def _send(self, signed: httpx.Request) -> _Reply | EsaError:
        """
        Return the reply, or the error that stands for what broke.

        The error is returned, not raised: as its context the foreign one would go with it, whose repr shows our headers.
        """
        if self._transport is None:
            raise RuntimeError("the client is not open: use it with `async with`")
        try:
            return await _exchange(self._transport, signed, REPLY_MAX_BYTES)
        except BodyTooLargeError:
            return UncertainError("the reply is too large", code="uncertain.too_large")
        except BREAKS as exc:
            return failure_of(exc)

    def _sign(
        self, request: WireRequest, credential: Credential, *, connect_timeout_s: float
    ) -> httpx.Request:
        now = datetime.now(UTC) + self.clock_offset
        headers = sign(
            method=request.method,
            host=self._endpoint.host_header,
            query=request.query,
            body=request.body,
            content_type=wire.FORM if request.body else "",
            action=request.operation,
            version=wire.API_VERSION,
            credential=credential,
            date=now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            nonce=secrets.token_hex(16),
        )
        url = self._base_url.copy_with(query=request.query.encode()) if request.query else self._base_url
        return _prepare(request.method, url, headers, request.body, connect_timeout_s)

    def _read(self, reply: _Reply | EsaError, parse: Callable[[Fields], T], credential: Credential) -> T:
        if isinstance(reply, EsaError):
            raise reply
        if date := reply.headers.get("date"):
            self._date_seen = (date, time.monotonic())
        body = _redact(reply.body, credential)
        if reply.status == 200:
            fields: Fields = {}
            try:
                fields = parse_object(body)
                if is_success(fields):
                    return parse(fields)
            except UncertainError as exc:
                exc.http_status, exc.esa_request_id = reply.status, request_id_of(fields)
                raise
        now = datetime.now(UTC)
        error = error_of(status=reply.status, body=body, headers=reply.headers, now=now)
        server_time = http_date(reply.headers.get("date", ""))
        if remedy_for(error.code) is Remedy.CLOCK and server_time is not None:
            # The Date header is cut to the second: half of one is the best guess.
            self.clock_offset = server_time + timedelta(seconds=0.5) - now
        raise error

    @property
    def server_ms(self) -> int | None:
        """What the server's clock shows now, by the Date of its last reply; right to about a second."""
        date, seen_at = self._date_seen
        server_time = http_date(date)
        if server_time is None:
            return None
        # The Date header is cut to the second: half of one is the best guess.
        return round((server_time.timestamp() + 0.5 + time.monotonic() - seen_at) * 1000)

    def _transport_for(self, url: str) -> AiohttpTransport:
        proxy = self._proxies.proxy_for(url)
        return AiohttpTransport(verify=self._ssl, client=self._session, proxy=proxy, trust_env=False)


def _prepare(
    method: str, url: httpx.URL, headers: dict[str, str], body: bytes, connect_timeout_s: float
) -> httpx.Request:
    headers |= {"accept": "application/json", "accept-encoding": "identity", "user-agent": USER_AGENT}
    # "pool" is all of aiohttp's time to a connection: a free place, the name, the handshake.
    timeout = {"connect": connect_timeout_s, "pool": connect_timeout_s}
    return httpx.Request(method, url, headers=headers, content=body, extensions={"timeout": timeout})


async def _exchange(transport: AiohttpTransport, request: httpx.Request, max_bytes: int) -> _Reply:
    """Send *request* and read its reply, *max_bytes* at most."""
    response = await transport.handle_async_request(request)
    body = bytearray()
    async with aclosing(cast("httpx.AsyncByteStream", response.stream)) as stream:
        # Never unpacked: that is where a small body becomes a huge one.
        if response.headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise httpx.DecodingError("compressed, which nobody asked for")
        async for chunk in stream:
            body += chunk
            if len(body) > max_bytes:
                raise BodyTooLargeError
    return _Reply(response.status_code, response.headers, bytes(body))


def _redact(body: bytes, credential: Credential) -> bytes:
    """Take our secrets out of a reply: a refused signature may be answered with the request it was made of."""
    plain, escaped = _secret_forms(credential)
    for secret in plain:
        body = body.replace(secret, b"***")
    # Looked for only where there may be one: most replies hold neither, and this takes its time.
    return escaped.sub(b"***", body) if plain and (b"\\" in body or b"%" in body) else body


@lru_cache(maxsize=4)
def _secret_forms(credential: Credential) -> tuple[tuple[bytes, ...], re.Pattern[bytes]]:
    """Return our secrets, and what finds them as JSON or a query may write them, character by character."""
    # One shorter than this is no secret of Alibaba's, and could be any word of the reply.
    plain = [part for part in (credential.access_key_secret, credential.security_token) if len(part) >= 8]
    escaped = "|".join("".join(map(_written, secret)) for secret in plain)
    return tuple(secret.encode() for secret in plain), re.compile(escaped.encode())


def _written(char: str) -> str:
    r"""Return a pattern for *char* as it is, as ``\u002f`` or ``\/``, and as ``%2F`` or, encoded twice, ``%252F``."""
    return rf"(?:\\?{re.escape(char)}|(?i:\\u00{ord(char):02x}|%(?:25)?{ord(char):02x}))"
