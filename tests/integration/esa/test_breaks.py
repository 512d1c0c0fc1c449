"""Every way in which a call can break, over real sockets, and what it is taken for."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.esa.client import EsaClient
from esa_preload_worker.esa.codes import LABELS
from esa_preload_worker.esa.errors import EsaError, NotSentError, RefusedError, ThrottledError, UncertainError
from integration.esa.loopback import JOB, Source, client_of, raw_server, read_request
from ports import free_port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload_worker.esa.credentials import Credential
    from esa_preload_worker.esa.model import Job

    Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

TIMEOUT_S = 0.6
GOOD = json.dumps(JOB).encode()


def create(client: EsaClient) -> Awaitable[Job]:
    """Make the call that must not be misjudged."""
    return client.create_job(site_id=7, name="n", urls=["https://a/b"])


async def failure(url: str, *, timeout_s: float = TIMEOUT_S) -> EsaError:
    """Return what creating a job at *url* ends with, after checking that exactly that was observed."""
    observed: list[tuple[str, str]] = []
    async with client_of(url, timeout_s=timeout_s, observed=observed) as client:
        with pytest.raises(EsaError) as caught:
            await create(client)
    assert [operation for operation, _ in observed] == ["CreateScheduledPreloadJob"]
    assert observed[0][1] in LABELS
    return caught.value


def http(body: bytes, *, status: str = "200 OK", headers: str = "", length: int | None = None) -> bytes:
    """Write a reply."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def answer(*parts: bytes) -> Behaviour:
    """Read the request, then answer these bytes and close."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"".join(parts))
        await writer.drain()

    return behave


async def close_at_once(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Close before the request is read."""


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read the request, then reset the connection."""
    await read_request(reader)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer one byte at a time, never silent and never done."""
    await read_request(reader)
    for byte in http(GOOD):
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    """Read the request and never answer."""
    await read_request(reader)
    await reader.read()


async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer without an end, however little of it is wanted."""
    await read_request(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        await writer.drain()


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HTML = b"<html><body>Service Unavailable</body></html>"
DEEP = b'{"a":' * 50_000
BREAKS: dict[str, tuple[Behaviour, type[EsaError], str]] = {
    "dropped before it is read": (close_at_once, UncertainError, "uncertain.reset"),
    "dropped after it is read": (answer(), UncertainError, "uncertain.reset"),
    "reset": (reset, UncertainError, "uncertain.reset"),
    "half a status line": (answer(b"HTTP/1."), UncertainError, "uncertain.reset"),
    "half the headers": (answer(b"HTTP/1.1 200 OK\r\nContent-Le"), UncertainError, "uncertain.reset"),
    "half the body": (answer(http(GOOD, length=9999)), UncertainError, "uncertain.incomplete"),
    "half a chunk": (answer(CHUNKED, b"ff\r\n", GOOD[:9]), UncertainError, "uncertain.incomplete"),
    "a wrong chunk": (answer(CHUNKED, b"zz\r\n", GOOD), UncertainError, "uncertain.protocol"),
    "not HTTP": (answer(b"\x00\xffSSH-2.0-x\r\n\r\n"), UncertainError, "uncertain.protocol"),
    "endless header": (
        answer(b"HTTP/1.1 200 OK\r\na: " + b"x" * 99_999),
        UncertainError,
        "uncertain.protocol",
    ),
    "never answered": (hang, UncertainError, "uncertain.timeout"),
    "dripping": (drip, UncertainError, "uncertain.timeout"),
    "endless": (flood, UncertainError, "uncertain.too_large"),
    "too large": (answer(http(b" " * 1_100_000)), UncertainError, "uncertain.too_large"),
    "not JSON": (answer(http(b"{garbage")), UncertainError, "uncertain.unreadable"),
    "empty 200": (answer(http(b"")), UncertainError, "uncertain.unreadable"),
    "204": (answer(b"HTTP/1.1 204 No Content\r\n\r\n"), UncertainError, "uncertain.error_in_success"),
    "deep JSON": (answer(http(DEEP)), UncertainError, "uncertain.unreadable"),
    "JSON without an id": (answer(http(b"{}")), UncertainError, "uncertain.unreadable"),
    "error in a 200": (answer(http(b'{"Code":"X"}')), UncertainError, "uncertain.error_in_success"),
    "HTML 200": (answer(http(HTML)), UncertainError, "uncertain.unreadable"),
    "HTML 503": (answer(http(HTML, status="503 Down")), UncertainError, "uncertain.http_5xx"),
    "empty 500": (answer(http(b"", status="500 Oops")), UncertainError, "uncertain.http_5xx"),
    "deep 500": (answer(http(DEEP, status="500 Oops")), UncertainError, "uncertain.http_5xx"),
    "HTML 403": (answer(http(HTML, status="403 No")), UncertainError, "uncertain.unreadable"),
    "HTML 429": (
        answer(http(HTML, status="429 Slow", headers="Retry-After: 2\r\n")),
        ThrottledError,
        "HTTP429",
    ),
    "unknown 400": (answer(http(b'{"Code":"Odd.One"}', status="400 Bad")), RefusedError, "Odd.One"),
    "redirect": (
        answer(http(b"", status="302 Found", headers="Location: http://127.0.0.1:1/\r\n")),
        UncertainError,
        "uncertain.redirect",
    ),
    "redirect that keeps the method": (
        answer(http(b"", status="307 There", headers="Location: /\r\n")),
        UncertainError,
        "uncertain.redirect",
    ),
    "compressed unasked": (
        answer(http(gzip.compress(GOOD), headers="Content-Encoding: gzip\r\n")),
        UncertainError,
        "uncertain.unreadable",
    ),
}


@pytest.mark.parametrize(("behave", "kind", "code"), BREAKS.values(), ids=BREAKS)
async def test_a_call_that_breaks(behave: Behaviour, kind: type[EsaError], code: str) -> None:
    """Once a byte of it may have gone out, no break of a Create is taken for one that surely did nothing."""
    # Only those that wait for the deadline need a short one.
    timeout_s = TIMEOUT_S if code == "uncertain.timeout" else 20.0
    async with raw_server(behave) as port:
        error = await failure(f"http://127.0.0.1:{port}", timeout_s=timeout_s)
    assert (type(error), error.code) == (kind, code)


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/octet-stream", "", "application/json;charset=x"]
)
async def test_the_content_type_does_not_matter(content_type: str) -> None:
    """JSON is what it is, whatever a gateway calls it."""
    reply = http(GOOD, headers=f"Content-Type: {content_type}\r\n")
    async with raw_server(answer(reply)) as port, client_of(f"http://127.0.0.1:{port}") as client:
        assert (await create(client)).job_id == JOB["Id"]


async def test_refused_connection() -> None:
    """Nobody listens: surely not sent."""
    error = await failure(f"http://127.0.0.1:{free_port()}")
    assert (type(error), error.code) == (NotSentError, "not_sent.refused")


async def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is not known: surely not sent, and the hint says where to look."""

    def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    error = await failure("https://esa.invalid")
    assert (type(error), error.code) == (NotSentError, "not_sent.dns")
    assert "ESA_PRELOAD_ENDPOINT" in error.hint


async def test_a_server_without_tls() -> None:
    """The handshake fails before the request is written: surely not sent."""

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(http(b"", status="400 Bad Request"))

    async with raw_server(plain) as port:
        error = await failure(f"https://127.0.0.1:{port}", timeout_s=20.0)
    assert (type(error), error.code) == (NotSentError, "not_sent.tls")


async def test_a_handshake_that_hangs() -> None:
    """The time to connect ends before the whole call's: surely not sent, not merely late."""

    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()
        await reader.read()

    async with raw_server(silent) as port:
        error = await failure(f"https://127.0.0.1:{port}")
    assert (type(error), error.code) == (NotSentError, "not_sent.timeout")


async def test_a_connection_that_is_never_accepted() -> None:
    """A full backlog answers no handshake: surely not sent."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        try:
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
            error = await failure(f"http://127.0.0.1:{listener.getsockname()[1]}")
        finally:
            for filler in fillers:
                filler.close()
    assert (type(error), error.code) == (NotSentError, "not_sent.timeout")


async def test_a_proxy_that_refuses() -> None:
    """A CONNECT that the proxy denies comes before the request: surely not sent."""
    async with raw_server(answer(http(b"", status="407 Proxy Authentication Required"))) as port:
        proxy = {"HTTPS_PROXY": f"http://u:canary@127.0.0.1:{port}"}
        async with EsaClient("https://esa.invalid", Source(), TIMEOUT_S, environ=proxy) as client:
            with pytest.raises(NotSentError) as caught:
                await create(client)
    assert caught.value.code == "not_sent.proxy"
    assert "canary" not in f"{caught.value!r}{caught.value}{client!r}"


async def test_a_dead_proxy() -> None:
    """A proxy that is not there: surely not sent."""
    proxy = {"HTTPS_PROXY": f"http://127.0.0.1:{free_port()}"}
    async with EsaClient("https://esa.invalid", Source(), TIMEOUT_S, environ=proxy) as client:
        with pytest.raises(NotSentError) as caught:
            await create(client)
    assert caught.value.code == "not_sent.proxy"


async def test_credentials_that_take_too_long() -> None:
    """The deadline covers them, and what is not signed yet is surely not sent."""

    class Slow(Source):
        async def get(self) -> Credential:
            await asyncio.sleep(60)
            raise AssertionError

    async with client_of(f"http://127.0.0.1:{free_port()}", Slow(), timeout_s=0.05) as client:
        with pytest.raises(NotSentError) as caught:
            await create(client)
    assert caught.value.code == "not_sent.timeout"


async def test_cancellation_passes() -> None:
    """A cancelled call ends as cancelled, is observed, and leaves the client usable."""
    observed: list[tuple[str, str]] = []
    arrived = asyncio.Event()

    async def once_hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if arrived.is_set():
            await answer(http(GOOD))(reader, writer)
            return
        await read_request(reader)
        arrived.set()
        await reader.read()

    async with (
        raw_server(once_hang) as port,
        client_of(f"http://127.0.0.1:{port}", observed=observed) as client,
    ):
        call = asyncio.ensure_future(create(client))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await create(client)).job_id == JOB["Id"]
    assert [code for _, code in observed] == ["uncertain.timeout", "ok"]


async def test_a_connection_is_used_again() -> None:
    """Calls one after the other share a connection, so a handshake is not paid for each."""
    connections = 0

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await read_request(reader)
            writer.write(http(GOOD))

    async with raw_server(keep) as port, client_of(f"http://127.0.0.1:{port}") as client:
        for _ in range(3):
            await create(client)
    assert connections == 1


async def test_no_cookie_is_kept() -> None:
    """What one reply sets is not sent with the next request: workers must not stick to one gateway."""
    heads: list[bytes] = []

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await reader.readexactly(int(heads[-1].lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(http(GOOD, headers="Set-Cookie: a=b; Path=/\r\n"))

    async with raw_server(keep) as port, client_of(f"http://localhost:{port}") as client:
        await create(client)
        await create(client)
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def test_a_proxy_is_told_who_we_are() -> None:
    """The user and password of HTTPS_PROXY go with CONNECT."""
    heads: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(b"", status="502 Bad Gateway"))

    async with raw_server(record) as port:
        proxy = {"HTTPS_PROXY": f"http://u:p%40ss@127.0.0.1:{port}"}
        async with EsaClient("https://esa.invalid", Source(), TIMEOUT_S, environ=proxy) as client:
            with pytest.raises(NotSentError):
                await create(client)
    assert heads[0].startswith(b"CONNECT esa.invalid:443 ")
    assert b"proxy-authorization: basic dtpwqhnz" in heads[0].lower()
