"""What the client puts right by itself: once, at once, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.esa.errors import BlockedError, EsaError, ThrottledError, UncertainError
from esa_preload_worker.esa.model import PlanOrder
from integration.esa.loopback import (
    JOB,
    Reply,
    Source,
    assert_signed,
    client_of,
    credential,
    raw_server,
    read_request,
    recording_server,
)

if TYPE_CHECKING:
    import asyncio


def refusal(code: str, *, status: int = 400, date: str = "") -> Reply:
    """Make a reply that refuses with *code*."""
    body = {"Code": code, "Message": "m", "RequestId": "R-9"}
    return Reply(body, status=status, headers={"Date": date} if date else {})


async def test_a_nonce_seen_before() -> None:
    """The call is made again with another nonce."""
    observed: list[tuple[str, str]] = []
    async with recording_server() as server, client_of(server.url, observed=observed) as client:
        server.answer(refusal("SignatureNonceUsed"), Reply(JOB))
        await client.get_job("x")
        nonces = {request.headers["x-acs-signature-nonce"] for request in server.requests}
        assert len(nonces) == len(server.requests) == 2
        for request in server.requests:
            assert_signed(request, credential())
    assert [code for _, code in observed] == ["SignatureNonceUsed", "ok"]


async def test_a_nonce_seen_before_time_and_again() -> None:
    """Twice means that something repeats our calls, so one of them may have been carried out."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(refusal("SignatureNonceUsed"))
        with pytest.raises(UncertainError) as caught:
            await client.get_job("x")
        assert len(server.requests) == 2
        assert caught.value.esa_request_id == "R-9"


@pytest.mark.parametrize("operation", ["CreateScheduledPreloadJob", "CreateScheduledPreloadExecutions"])
async def test_what_makes_something_is_not_made_twice(operation: str) -> None:
    """A Create whose nonce was seen before may have been carried out the first time: it is uncertain, and not sent again."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(refusal("SignatureNonceUsed"), Reply(JOB))
        create = (
            client.create_job(site_id=7, name="n", urls=["https://a/b"])
            if operation == "CreateScheduledPreloadJob"
            else client.create_plans("x", [PlanOrder(start=None, end=None, interval_s=1, slice_len=1)])
        )
        with pytest.raises(UncertainError) as caught:
            await create
        assert [request.headers["x-acs-action"] for request in server.requests] == [operation]
        assert caught.value.code == "SignatureNonceUsed"


async def test_what_may_be_repeated_is() -> None:
    """A Delete whose nonce was seen before is made again: deleted twice is deleted."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(refusal("SignatureNonceUsed"), Reply({"RequestId": "r"}))
        await client.delete_job("x")
        assert len(server.requests) == 2


async def test_the_transport_sends_no_create_twice() -> None:
    """On a kept connection that closes under a call, aiohttp repeats a GET by itself, nonce and all; a Create it never does."""
    heads: list[bytes] = []
    good = json.dumps(JOB).encode()

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(good), good))
        heads.append(await reader.readuntil(b"\r\n\r\n"))

    async with raw_server(serve_one) as port, client_of(f"http://127.0.0.1:{port}") as client:
        await client.get_job("x")
        with pytest.raises(UncertainError):
            await client.create_job(site_id=7, name="n", urls=["https://a/b"])
        assert [head.split(b" ", 1)[0] for head in heads] == [b"POST"]
        await client.get_job("x")
        assert (await client.get_job("x")).job_id == JOB["Id"]
    assert heads[1].startswith(b"GET ")


@pytest.mark.parametrize("code", ["InvalidTimeStamp.Expired", "IllegalTimestamp"])
@pytest.mark.parametrize("ahead_s", [3600, -3600])
async def test_a_clock_that_is_off(code: str, ahead_s: int) -> None:
    """ESA's clock is learnt from the refusal: the repetition and every later call are signed with it."""
    theirs = datetime.now(UTC) + timedelta(seconds=ahead_s)
    async with recording_server() as server, client_of(server.url) as client:
        assert client.clock_offset_s == 0
        server.answer(refusal(code, date=format_datetime(theirs, usegmt=True)), Reply(JOB))
        await client.get_job("x")
        await client.get_job("x")
        assert client.clock_offset_s == pytest.approx(ahead_s, abs=5)
        assert len(server.requests) == 3
        for request in server.requests[1:]:
            signed_at = datetime.strptime(request.headers["x-acs-date"], "%Y-%m-%dT%H:%M:%S%z")
            assert abs((signed_at - theirs).total_seconds()) < 10
            assert_signed(request, credential())


@pytest.mark.parametrize(
    "date",
    [
        "nonsense",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 1600 00:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 -2359",
    ],
)
async def test_a_clock_that_cannot_be_learnt(date: str) -> None:
    """Refused twice, a person must look at the clock; a date of another age leaves ours as it is, and the next call works."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(refusal("InvalidTimeStamp.Expired", date=date))
        with pytest.raises(BlockedError) as caught:
            await client.get_job("x")
        assert len(server.requests) == 2
        assert client.clock_offset_s == 0
        assert client.esa_ms is None
        assert "clock" in caught.value.hint
        server.answer(Reply(JOB))
        await client.get_job("x")


async def test_a_session_that_expired() -> None:
    """The credentials are refreshed and the call made again with the new ones."""
    old, new = credential(token="token-old"), credential(token="token-new")
    source = Source(old, new)
    async with recording_server() as server, client_of(server.url, source) as client:
        server.answer(refusal("InvalidSecurityToken.Expired"), Reply(JOB))
        await client.get_job("x")
        assert source.refreshes == 1
        assert_signed(server.requests[0], old)
        assert_signed(server.requests[1], new)


async def test_a_session_that_stays_expired() -> None:
    """Exactly one repetition; then the account is blocked."""
    source = Source(credential(token="token-old"))
    async with recording_server() as server, client_of(server.url, source) as client:
        server.answer(refusal("InvalidSecurityToken.Expired"))
        with pytest.raises(BlockedError):
            await client.get_job("x")
        assert (source.refreshes, len(server.requests)) == (1, 2)


@pytest.mark.parametrize("code", ["InvalidAccessKeyId.NotFound", "SignatureDoesNotMatch"])
async def test_a_key_that_was_rotated(code: str) -> None:
    """When the key is another one now, the call is made again with it; the same key would only be refused again."""
    async with recording_server() as server:
        server.answer(refusal(code, status=403), Reply(JOB))
        async with client_of(server.url, Source(credential(), credential(secret="another"))) as client:
            await client.get_job("x")
        assert_signed(server.requests[1], credential(secret="another"))
        server.answer(refusal(code, status=403))
        async with client_of(server.url, Source()) as client:
            with pytest.raises(BlockedError):
                await client.get_job("x")
        assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("TooManyRequests", 400),
        ("ServiceUnavailable", 503),
        ("InternalError", 500),
        ("Site.ServiceBusy", 400),
        ("Forbidden.RAM", 403),
        ("InvalidJob.NotFound", 404),
        ("SignatureNonceUsed", 503),
    ],
)
async def test_nothing_else_is_repeated(code: str, status: int) -> None:
    """Everything else is for the caller, who sees the whole picture: one request each."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(refusal(code, status=status))
        with pytest.raises(EsaError) as caught:
            await client.get_job("x")
        assert len(server.requests) == 1
        assert (caught.value.code, caught.value.http_status) == (code, status)
        assert caught.value.esa_request_id == "R-9"


async def test_the_hint_of_a_throttle() -> None:
    """The wait that ESA names in milliseconds arrives in seconds."""
    async with recording_server() as server, client_of(server.url) as client:
        server.answer(Reply({"Code": "TooManyRequests"}, status=400, headers={"x-acs-retry-after": "700"}))
        with pytest.raises(ThrottledError) as caught:
            await client.get_job("x")
        assert caught.value.retry_after_s == pytest.approx(0.7)
