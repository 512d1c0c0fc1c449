"""No secret shows: not in an error, nor behind it, nor in a log."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest

from esa_preload_worker.esa.client import EsaClient
from esa_preload_worker.esa.errors import EsaError
from integration.esa.loopback import (
    JOB,
    SECRET,
    TOKEN,
    Reply,
    Source,
    client_of,
    credential,
    raw_server,
    read_request,
    recording_server,
)
from ports import free_port

if TYPE_CHECKING:
    import asyncio


def behind(exc: BaseException | None) -> list[BaseException]:
    """Return *exc* and all that led to it."""
    return [exc, *behind(exc.__cause__), *behind(exc.__context__)] if exc is not None else []


def ways_to_write(secret: str) -> tuple[str, ...]:
    """Return *secret* as it is, in a query (once and twice encoded, also in lower case), and as JSON writers escape it."""
    quoted = quote(secret, safe="~")
    html_safe = secret.replace("=", "\\u003d").replace("+", "\\u002B").replace("/", "\\/")
    return (
        secret,
        quoted,
        quoted.lower(),
        quote(quoted),
        quote_plus(secret),
        secret.replace("/", "\\/"),
        html_safe,
    )


def assert_hidden(exc: BaseException, *others: object) -> None:
    """Check every text that a log or a debugger would show of *exc*."""
    texts = ["".join(traceback.format_exception(exc)), *(f"{other!r}{other}" for other in others)]
    texts += [f"{each!r}{each}{vars(each)!r}" for each in behind(exc)]
    for secret in (SECRET, TOKEN):
        for form in ways_to_write(secret):
            assert not any(form in text for text in texts)


@pytest.mark.parametrize("status", [200, 302, 400, 403, 500])
@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "Whatever", TOKEN, ""])
async def test_a_reply_that_echoes_the_request(
    status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    """ESA may answer a bad signature with what was signed, token included: it goes no further."""
    caplog.set_level(logging.DEBUG)
    source = Source(credential(token=TOKEN))
    echo = f"x-acs-security-token:{TOKEN}\n{quote(TOKEN, safe='~')} {SECRET} {quote_plus(SECRET)}"
    body = {"Code": code, "Message": echo, "RequestId": TOKEN, "AccessDeniedDetail": {"x": echo}}
    async with recording_server() as server, client_of(server.url, source) as client:
        server.answer(Reply(body, status=status))
        with pytest.raises(EsaError) as caught:
            await client.get_job("x")
        assert_hidden(caught.value, client, source.queue[0], caplog.text)


@pytest.mark.parametrize("status", [200, 400])
async def test_a_reply_that_echoes_it_as_json_does(status: int) -> None:
    """However the writer of the reply escapes it (Gson does ``=``), the secret is out of it before it is read."""
    source = Source(credential(token=TOKEN))
    said = " ".join(form for secret in (SECRET, TOKEN) for form in ways_to_write(secret))
    body = b'{"Code":"Odd","Message":"%b","ErrorInfo":"%b"}' % (said.encode(), said.encode())
    async with recording_server() as server, client_of(server.url, source) as client:
        server.answer(Reply(body, status=status))
        with pytest.raises(EsaError) as caught:
            await client.get_job("x")
        assert_hidden(caught.value)
        server.answer(Reply(body.replace(b'"Code":"Odd",', json.dumps(JOB).encode()[1:-1] + b",")))
        job = await client.get_job("x")
        assert "***" in job.error_info
        assert "canary" not in job.error_info


async def test_a_proxy_that_echoes_its_password() -> None:
    """What a proxy answers to CONNECT may hold our login to it: it goes no further."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        login = head.split(b"proxy-authorization: ")[1].split(b"\r\n")[0]
        writer.write(b"HTTP/1.1 407 %b\r\nContent-Length: %d\r\n\r\n%b" % (login, len(login), login))

    login = base64.b64encode(b"u:canary").decode()
    async with raw_server(echo) as port:
        environ = {"HTTPS_PROXY": f"http://u:canary@127.0.0.1:{port}"}
        async with EsaClient("https://esa.invalid", Source(), 5.0, environ=environ) as client:
            with pytest.raises(EsaError, match="HTTP 407") as caught:
                await client.get_job("x")
    shown = "".join(traceback.format_exception(caught.value)) + f"{behind(caught.value)!r}"
    assert "canary" not in shown
    assert login.lower() not in shown.lower()


async def test_a_break_hides_the_request_behind_it() -> None:
    """aiohttp's errors show the request's headers in their repr, so none of them is kept as a cause."""

    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"garbage\r\n\r\n")

    source = Source(credential(token=TOKEN))
    async with raw_server(garbage) as port:
        for url in (
            f"http://127.0.0.1:{port}",
            f"https://127.0.0.1:{port}",
            f"http://127.0.0.1:{free_port()}",
        ):
            async with client_of(url, source, timeout_s=1.0) as client:
                with pytest.raises(EsaError) as caught:
                    await client.get_job("x")
                assert_hidden(caught.value, client)
