"""Servers on this machine: one that records and checks signed calls, and one that misbehaves byte by byte."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import re
from collections import deque
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web

from esa_preload_worker.esa.client import EsaClient
from esa_preload_worker.esa.credentials import Credential
from esa_preload_worker.esa.signing import ALGORITHM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from esa_preload_worker.esa.credentials import CredentialSource

KEY_ID = "LTAI-test"
SECRET = "canary-secret/+=9f"
TOKEN = "canary-token/+=77"
JOB = {"Id": "665d3af3621bccf3fe29e1a4", "SiteId": 7, "Name": "n", "UrlCount": 1, "UrlSubmitted": 1}
PLAN = {"Id": "665d3af3621bccf3fe29e1a5", "JobId": JOB["Id"], "Status": "waiting"}


class Source:
    """Credentials that a test exchanges; counts refreshes."""

    def __init__(self, *credentials: Credential) -> None:
        self.queue = deque(credentials or [credential()])
        self.refreshes = 0

    async def get(self) -> Credential:
        """Return the first."""
        return self.queue[0]

    async def refresh(self) -> Credential:
        """Go on to the next, if there is one."""
        self.refreshes += 1
        if len(self.queue) > 1:
            self.queue.popleft()
        return self.queue[0]


def credential(*, token: str = "", secret: str = SECRET) -> Credential:
    """Make a credential."""
    return Credential(access_key_id=KEY_ID, access_key_secret=secret, security_token=token)


@dataclass
class Recorded:
    """One request as it arrived."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def query(self) -> list[tuple[str, str]]:
        """The query, decoded, in the order in which it came."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True, strict_parsing=False)


@dataclass
class Reply:
    """What the recording server answers."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass
class RecordingServer:
    """Answers with *replies* in turn, the last of them for ever, and keeps what it was asked."""

    port: int = 0
    replies: deque[Reply] = field(default_factory=lambda: deque([Reply(JOB)]))
    requests: list[Recorded] = field(default_factory=list[Recorded])

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def answer(self, *replies: Reply) -> None:
        """Set what is answered from now on."""
        self.replies = deque(replies)

    async def handle(self, request: web.Request) -> web.Response:
        """Record, and answer."""
        self.requests.append(
            Recorded(
                method=request.method,
                target=request.raw_path,
                headers={name.lower(): value for name, value in request.headers.items()},
                body=await request.read(),
            )
        )
        reply = self.replies.popleft() if len(self.replies) > 1 else self.replies[0]
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        return web.Response(status=reply.status, body=body, headers=reply.headers)


@asynccontextmanager
async def recording_server(server: RecordingServer | None = None) -> AsyncGenerator[RecordingServer]:
    """Run a recording server, one of the given kind, on a free port."""
    server = server or RecordingServer()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


@asynccontextmanager
async def raw_server(
    behave: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncGenerator[int, None]:
    """Run *behave* for each connection, then close it; yields the port."""

    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await behave(reader, writer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)
        await asyncio.wait_for(asyncio.gather(*(task for task in tasks if task)), 5)
        await server.wait_closed()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Read one whole request and return its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *(\d+)", head)
    return await reader.readexactly(int(length[1])) if length else b""


def client_of(
    url: str,
    credentials: CredentialSource | None = None,
    *,
    timeout_s: float = 5.0,
    observed: list[tuple[str, str]] | None = None,
) -> EsaClient:
    """Make a client that uses no proxy of this environment."""
    seen = observed if observed is not None else []
    return EsaClient(
        url,
        credentials or Source(),
        timeout_s,
        lambda operation, code, _seconds: seen.append((operation, code)),
        environ={},
    )


def assert_signed(request: Recorded, signed_with: Credential) -> None:
    """Check a request's signature with the official client's own code, from what arrived."""
    match = re.fullmatch(
        r"ACS3-HMAC-SHA256 Credential=(.+),SignedHeaders=(.+),Signature=[0-9a-f]{64}",
        request.headers["authorization"],
    )
    assert match, request.headers["authorization"]
    names = match[2].split(";")
    must = {"host"} | {name for name in request.headers if name.startswith("x-acs-")}
    if request.body:
        must.add("content-type")
    assert set(names) == must
    assert request.headers["x-acs-content-sha256"] == hashlib.sha256(request.body).hexdigest()
    utils = importlib.import_module("alibabacloud_tea_openapi.utils").Utils
    assert request.headers["authorization"] == utils.get_authorization(
        SimpleNamespace(
            method=request.method,
            pathname="/",
            query=dict(request.query),
            headers={name: request.headers[name] for name in names},
        ),
        ALGORITHM,
        request.headers["x-acs-content-sha256"],
        signed_with.access_key_id,
        signed_with.access_key_secret,
    )
