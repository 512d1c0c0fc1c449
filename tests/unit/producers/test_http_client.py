"""The client over HTTP, against answers made up here: what it sends, what it repeats, what it raises, what it keeps to itself."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from esa_preload import (
    AccessDeniedError,
    EsaPreloadError,
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    Plan,
    QueueFullError,
    QueueUnavailableError,
    RequestConflictError,
    SettingsError,
    UnknownRequestError,
    UnknownSiteError,
)
from esa_preload.http import PreloadClient
from esa_preload.tracing import continue_trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

SITE = 190007158391808
TOKEN = "esa_secret-token"
RECEIPT: dict[str, object] = {
    "request_id": "r",
    "site_id": SITE,
    "accepted": 2,
    "rejected": [],
    "waiting_until": None,
}
STATUS: dict[str, object] = {
    "request_id": "r",
    "site_id": SITE,
    "state": "active",
    "accepted": 7,
    "merged": 2,
    **dict.fromkeys(("pending", "in_flight", "submitted", "refused", "expired", "cancelled", "unknown"), 0),
}
URLS = ["https://www.example.com/1", "https://www.example.com/\n2"]

Answer = httpx.Response | Exception


class Service:
    """Answers in turn, the last answer for ever, and keeps what it was asked."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **arguments: Any) -> PreloadClient:
        return PreloadClient(
            "https://preload.example", token=TOKEN, transport=httpx.MockTransport(self), **arguments
        )


def accepted() -> httpx.Response:
    return httpx.Response(202, json=RECEIPT)


def problem(status: int, kind: str = "x", *, after_s: int | None = None, **facts: Any) -> httpx.Response:
    headers = {"content-type": "application/problem+json"}
    if after_s is not None:
        headers["retry-after"] = str(after_s)
    document = {"type": f"/docs#problem-{kind}", "detail": "what is wrong", "hint": "what to do", **facts}
    return httpx.Response(status, headers=headers, content=json.dumps(document))


def urls_in(body: bytes, encoding: str | None) -> list[Any]:
    """Return what the lines of a body hold."""
    text = gzip.decompress(body) if encoding == "gzip" else body
    return [json.loads(line) for line in text.splitlines()]


async def test_an_enqueue_is_one_request_of_lines() -> None:
    """Each URL is one JSON string on a line of its own, whatever it holds; the arguments are in the query, the id in its header."""
    service = Service(accepted())
    async with service.client() as client:
        receipt = await client.enqueue(
            SITE,
            URLS,
            plan=Plan(interval_s=60, slice_len=5),
            priority="low",
            expires_in=60,
            source="cms",
            durable=True,
        )
    assert (receipt.request_id, receipt.accepted) == ("r", 2)
    (request,), (body,) = service.requests, service.bodies
    assert urls_in(body, None) == URLS
    assert (request.method, request.url.path) == ("POST", "/v1/preloads")
    assert dict(request.url.params) == {
        "site_id": str(SITE), "priority": "low", "expires_in": "60.0", "source": "cms", "durable": "true",
        "interval_s": "60", "slice_len": "5",
    }  # fmt: skip
    assert request.headers["content-type"] == "application/x-ndjson"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert len(request.headers["idempotency-key"]) == 32


@pytest.mark.parametrize(
    ("count", "header", "encoding"),
    [
        (1, "content-length", None),
        (2_100, "content-length", None),
        (2_200, "transfer-encoding", "gzip"),
        (200_000, "transfer-encoding", "gzip"),
    ],
)
async def test_the_length_of_a_small_body_is_told(count: int, header: str, encoding: str | None) -> None:
    """It goes as it is, up to 64 KiB, so that it takes none of the service's places for large bodies; a large one is packed as it is read."""
    urls = [f"https://www.example.com/{number}" for number in range(count)]
    service = Service(accepted())
    async with service.client() as client:
        await client.enqueue(SITE, urls)
    (request,), (body,) = service.requests, service.bodies
    assert header in request.headers
    assert request.headers.get("content-encoding") == encoding
    assert urls_in(body, encoding) == urls


async def test_of_a_list_that_breaks_off_the_service_is_asked_what_it_took() -> None:
    """It could not answer the call itself. When it cannot say either, nothing is known to be taken."""

    def damaged() -> Iterator[str]:
        yield from (f"https://www.example.com/{number}" for number in range(200_000))
        raise InvalidRequestError("the list is damaged")

    for answer, taken in ((httpx.Response(200, json=STATUS), (7, 2)), (problem(404), (0, 0))):
        service = Service(answer)
        async with service.client() as client:
            with pytest.raises(IncompleteError, match="damaged") as caught:
                await client.enqueue(SITE, damaged(), request_id="r")
        assert (caught.value.receipt.accepted, caught.value.receipt.merged) == taken
        assert (service.requests[-1].method, service.requests[-1].url.path) == ("GET", "/v1/preloads/r")


async def test_an_enqueue_goes_on_with_the_trace_that_it_is_in() -> None:
    """The context that came with a request travels with what is enqueued for it; without one no header is sent."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    service = Service(accepted())
    async with service.client() as client:
        with continue_trace({"traceparent": parent}):
            await client.enqueue(SITE, URLS)
        await client.enqueue(SITE, URLS)
    traced, untraced = (request.headers.get("traceparent") for request in service.requests)
    assert (traced, untraced) == (parent, None)


async def test_a_retry_is_the_same_request_with_the_same_key() -> None:
    """Broken connections, a full queue and a service without Redis are waited for, as long as told; nothing is taken twice."""
    service = Service(
        httpx.ConnectError("refused"), problem(503, after_s=0), problem(429, after_s=0), httpx.ReadError("reset"), accepted()
    )  # fmt: skip
    async with service.client(wait_for_service=30) as client:
        assert (await client.enqueue(SITE, URLS)).accepted == 2
    assert len({request.headers["idempotency-key"] for request in service.requests}) == 1
    assert len(set(service.bodies)) == 1
    assert len(service.requests) == 5


@pytest.mark.parametrize(
    "answer", [httpx.ConnectError("refused"), problem(503), problem(502), httpx.Response(504)]
)
async def test_it_fails_fast_unless_told(answer: Answer) -> None:
    """Without patience one attempt is made; the error has the id for the repeat, and an empty receipt."""
    service = Service(answer)
    async with service.client() as client:
        with pytest.raises(QueueUnavailableError, match=r"reached|wrong|answered") as caught:
            await client.enqueue(SITE, URLS, request_id="publish-1")
    assert (len(service.requests), caught.value.is_outage) == (1, True)
    assert caught.value.request_id == "publish-1"
    assert caught.value.receipt is not None
    assert caught.value.receipt.request_id == "publish-1"
    assert "same request_id" in caught.value.hint


async def test_it_does_not_wait_beyond_its_patience() -> None:
    """A service that asks for a minute is not waited for by who has a second."""
    service = Service(problem(429, after_s=60, receipt=RECEIPT))
    async with service.client(wait_for_service=1) as client:
        with pytest.raises(QueueFullError) as caught:
            await client.enqueue(SITE, URLS)
    assert (len(service.requests), caught.value.retry_after_s) == (1, 60.0)
    assert caught.value.receipt is not None
    assert caught.value.receipt.accepted == 2


async def test_what_can_be_read_only_once_is_not_sent_half() -> None:
    """An iterator that was begun cannot be sent again; one that was not yet begun can."""

    async def later() -> AsyncIterator[str]:
        for url in URLS:
            yield url

    for urls in (iter(URLS), later()):
        service = Service(httpx.ReadError("reset"), accepted())
        async with service.client(wait_for_service=30) as client:
            with pytest.raises(QueueUnavailableError):
                await client.enqueue(SITE, urls)
        assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(403), AccessDeniedError),
        (problem(404), UnknownSiteError),
        (problem(409), RequestConflictError),
        (problem(413), InvalidRequestError),
        (problem(422), InvalidRequestError),
        (problem(503, "not-durable", receipt=RECEIPT), NotDurableError),
        (problem(503, "unavailable"), QueueUnavailableError),
        (problem(500), QueueUnavailableError),
    ],
)
async def test_problems_are_the_errors_of_every_client(
    answer: httpx.Response, error: type[EsaPreloadError]
) -> None:
    """Each status is what the client over Redis would have raised, with its sentence and its hint."""
    async with Service(answer).client() as client:
        with pytest.raises(error, match="what is wrong") as caught:
            await client.enqueue(SITE, URLS)
    assert caught.value.hint.startswith("what to do")


@pytest.mark.parametrize("status", [400, 408, 413])
async def test_a_body_that_was_not_read_to_its_end_may_have_been_taken_in_part(status: int) -> None:
    """As of a list that breaks off by itself: the receipt of the problem tells how far."""
    async with Service(problem(status, receipt=RECEIPT)).client() as client:
        with pytest.raises(IncompleteError, match="what is wrong") as caught:
            await client.enqueue(SITE, URLS)
    assert (caught.value.receipt.accepted, caught.value.hint) == (2, "what to do")


async def test_who_is_not_known_is_told_how_to_be() -> None:
    """In the words of this client: what the service says of headers is of no use on a command line."""
    async with Service(problem(401)).client() as client:
        with pytest.raises(AccessDeniedError, match="what is wrong") as caught:
            await client.sites()
    assert "ESA_PRELOAD_TOKEN" in caught.value.hint


async def test_what_is_not_there_is_what_was_asked_for() -> None:
    """Of a request it is the request, of a site the site."""
    async with Service(problem(404)).client() as client:
        with pytest.raises(UnknownRequestError):
            await client.status("r")
        with pytest.raises(UnknownSiteError):
            await client.pause(SITE)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<p>hello"),
        httpx.Response(200, json={"ok": True}),
        httpx.Response(200, json=[]),
        httpx.Response(302, headers={"location": "https://elsewhere.example/"}),
        httpx.Response(404, html="<p>not here"),
    ],
)
async def test_what_is_not_our_service_is_told(answer: httpx.Response) -> None:
    """A page of something else, also a redirect, which is not followed, is no answer; nothing goes elsewhere."""
    service = Service(answer)
    async with service.client(wait_for_service=30) as client:
        for ask in (client.status("r"), client.sites(), client.audit(), client.cancel("r")):
            with pytest.raises(QueueUnavailableError) as caught:
                await ask
            assert not caught.value.is_outage
    assert {request.url.host for request in service.requests} == {"preload.example"}


async def test_cookies_are_not_kept() -> None:
    """What a proxy hands out to tell its callers apart does not come back."""
    service = Service(httpx.Response(200, json={"items": []}, headers={"set-cookie": "a=b"}))
    async with service.client() as client:
        await client.sites()
        await client.sites()
    assert "cookie" not in service.requests[1].headers


@pytest.mark.parametrize(
    ("base_url", "arguments"),
    [
        ("http://preload.example", {}),
        ("https://me:secret@preload.example", {}),
        ("ftp://preload.example", {}),
        ("preload.example", {}),
        ("https://", {}),
        ("https://preload.example", {"token": "two words"}),
        ("https://preload.example", {"token": "line\nfeed"}),
        ("https://preload.example", {"wait_for_service": -1}),
    ],
)
def test_what_would_show_the_token_or_cannot_work_is_refused(
    base_url: str, arguments: dict[str, Any]
) -> None:
    """http:// to another host, credentials in the URL, and a token that is none; the error does not show them."""
    given: dict[str, Any] = {"token": TOKEN, **arguments}
    with pytest.raises(SettingsError) as caught:
        PreloadClient(base_url, **given)
    assert "secret" not in f"{caught.value!r} {caught.value.hint}"
    assert "two words" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url", ["http://127.0.0.1:8080", "http://localhost", "http://[::1]:1", "https://a.example/x/"]
)
def test_where_the_token_may_go(base_url: str) -> None:
    """TLS, or this machine; the token is not in what is printed."""
    client = PreloadClient(base_url, token=TOKEN)
    assert TOKEN not in repr(client)
    assert base_url.rstrip("/") in repr(client)
    assert "preload.example" in repr(
        PreloadClient("http://preload.example", token=TOKEN, allow_insecure=True)
    )


async def test_the_token_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """By value or by file, unless it is given."""
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}-of-file\n")
    service = Service(httpx.Response(200, json={"items": []}))

    async def sent() -> str | None:
        async with PreloadClient("https://preload.example", transport=httpx.MockTransport(service)) as client:
            await client.sites()
        return cast("str | None", service.requests[-1].headers.get("authorization"))

    assert await sent() is None
    monkeypatch.setenv("ESA_PRELOAD_TOKEN_FILE", str(path))
    assert await sent() == f"Bearer {TOKEN}-of-file"
    monkeypatch.setenv("ESA_PRELOAD_TOKEN", TOKEN)
    assert await sent() == f"Bearer {TOKEN}"


async def test_the_token_is_in_no_error() -> None:
    """Not in what is raised, nor in what it was raised from."""
    async with Service(httpx.ConnectError("refused")).client() as client:
        with pytest.raises(QueueUnavailableError) as caught:
            await client.sites()
    error: BaseException | None = caught.value
    while error is not None:
        assert TOKEN not in f"{error!r} {vars(error)!r}"
        error = error.__cause__ or error.__context__


async def test_progress_tells_how_many_urls_were_sent() -> None:
    """It grows to the number of all."""
    seen: list[int] = []
    async with Service(accepted()).client() as client:
        await client.enqueue(SITE, [f"https://a.example/{n}" for n in range(2_500)], progress=seen.append)
    assert (seen[-1], seen) == (2_500, sorted(seen))


async def test_a_name_of_dots_is_no_step_up_the_path() -> None:
    """A request may be called ``..``, and is asked for by that name."""
    status = {"request_id": "..", "site_id": SITE, "state": "done"}
    service = Service(httpx.Response(200, json=status))
    async with service.client() as client:
        assert (await client.status("..")).request_id == ".."
    assert service.requests[0].url.raw_path == b"/v1/preloads/%2E%2E"


async def test_the_urls_own_errors_come_out() -> None:
    """What an iterable raises is not taken for a failure of the service."""

    def urls() -> Iterator[str]:
        yield URLS[0]
        raise KeyError("row")

    async with Service(accepted()).client(wait_for_service=30) as client:
        with pytest.raises(KeyError, match="row"):
            await client.enqueue(SITE, urls())


@pytest.mark.parametrize("change", [{"extra": 1}, {}])
async def test_fields_of_newer_services_are_passed_over(change: dict[str, Any]) -> None:
    """What this release does not know, it does not read; what an older one does not send has its default."""
    plan: dict[str, object] = {"interval_s": 60}
    info = {
        "status": {"request_id": "r", "site_id": SITE, "state": "done", **change},
        "created_at": "2026-11-23T10:00:00Z", "source": "", "actor": "a", "priority": "low", "plan": plan, **change,
    }  # fmt: skip
    service = Service(httpx.Response(200, json={"items": [info], "cursor": "c", **change}))
    async with service.client() as client:
        page = await client.requests()
    assert (page.cursor, page.items[0].plan, page.items[0].expires_at) == ("c", Plan(interval_s=60), None)
    assert page.items[0].created_at.tzinfo is not None


async def test_arguments_are_checked_before_anything_is_sent() -> None:
    """What is wrong by itself does not reach the service."""
    service = Service(accepted())
    async with service.client() as client:
        with pytest.raises(InvalidRequestError):
            await client.enqueue(SITE, "https://www.example.com/")
        with pytest.raises(InvalidRequestError):
            await client.requests(limit=0)
    assert service.requests == []
