"""The list of refused URLs, read over a real connection."""

from __future__ import annotations

import asyncio
import gzip

import pytest

from esa_preload_worker.esa.client import EsaClient
from esa_preload_worker.esa.errors import FailedFileError
from esa_preload_worker.esa.failed_file import MAX_BYTES
from esa_preload_worker.esa.model import RefusedUrl
from integration.esa.loopback import (
    Reply,
    Source,
    client_of,
    credential,
    raw_server,
    recording_server,
)
from ports import free_port


async def test_the_list_is_read_without_credentials() -> None:
    """A signed address keeps its query, and nothing that is ours goes with the request."""
    async with recording_server() as server:
        async with client_of(server.url, Source(credential(token="t"))) as client:
            server.answer(Reply(b"https://a/1\r\nhttps://a/2,InvalidDomain\n"))
            refused = await client.read_failed_file(f"{server.url}/list?Expires=1&Signature=a%2Fb%2Bc%3D")
        assert refused == (
            RefusedUrl(url="https://a/1", reason=""),
            RefusedUrl(url="https://a/2", reason="InvalidDomain"),
        )
        [request] = server.requests
        assert (request.method, request.body) == ("GET", b"")
        assert request.query == [("Expires", "1"), ("Signature", "a/b+c=")]
        assert set(request.headers) == {"host", "accept", "accept-encoding", "user-agent"}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b"", status=302, headers={"Location": "/elsewhere"}),
        Reply(b"<Error><Code>AccessDenied</Code></Error>", status=403),
        Reply(b"https://a/1", status=404),
        Reply(b"https://a/1", status=206),
        Reply(b"<html>"),
        Reply(b"https://a/" + b"x" * MAX_BYTES),
        Reply(gzip.compress(b"https://a/1"), headers={"Content-Encoding": "gzip"}),
    ],
    ids=["redirect", "denied", "gone", "a part", "a page", "too large", "compressed"],
)
async def test_what_cannot_be_read(reply: Reply) -> None:
    """No redirect is followed, no part or page is taken for the list, and no more than 8 MiB is read."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(reply)
        with pytest.raises(FailedFileError):
            await client.read_failed_file(f"{server.url}/list?Signature=canary")
        assert len(server.requests) == 1


async def test_a_list_is_asked_for_again() -> None:
    """What passes must not make a hundred thousand URLs unknown: a 5xx and half a reply are followed by the list."""
    replies = [
        b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhttps://a/1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhttps://a/2",
    ]

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(replies.pop(0))

    async with raw_server(answer) as port, client_of("http://127.0.0.1:1", timeout_s=5) as client:
        refused = await client.read_failed_file(f"http://127.0.0.1:{port}/")
    assert ([one.url for one in refused], replies) == (["https://a/2"], [])


async def test_a_list_that_does_not_arrive() -> None:
    """A host that is away, drops or drips is unreadable within the time of a call, and the address does not show."""

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
        for _ in range(100):
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def drop(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")

    async with (
        raw_server(drip) as dripping,
        raw_server(drop) as dropping,
        client_of("http://127.0.0.1:1", timeout_s=0.3) as client,
    ):
        for port in (dripping, dropping, free_port()):
            with pytest.raises(FailedFileError) as caught:
                await client.read_failed_file(f"http://127.0.0.1:{port}/?Signature=canary")
            assert "canary" not in f"{caught.value!r}{caught.value}"


async def test_who_may_be_asked() -> None:
    """With a public endpoint this machine is not asked at all, unless an operator allowed everything."""
    async with recording_server() as server:
        server.answer(Reply(b"https://a/1"))
        async with EsaClient("https://esa.invalid", Source(), 1.0, environ={}) as client:
            with pytest.raises(FailedFileError):
                await client.read_failed_file(f"{server.url}/list")
        assert server.requests == []
        async with EsaClient(
            "https://esa.invalid", Source(), 1.0, allow_insecure_endpoint=True, environ={}
        ) as client:
            assert len(await client.read_failed_file(f"{server.url}/list")) == 1


@pytest.mark.parametrize("address", ["http://[:::1]/x", "http://[1]/x", "https://999.999.999.999/x"])
async def test_an_address_that_only_the_library_finds_odd(address: str) -> None:
    """Even where every address is allowed, one that cannot be called is an unreadable list, not a crash."""
    async with EsaClient(
        "http://127.0.0.1:1", Source(), 1.0, allow_insecure_endpoint=True, environ={}
    ) as client:
        with pytest.raises(FailedFileError):
            await client.read_failed_file(address)
