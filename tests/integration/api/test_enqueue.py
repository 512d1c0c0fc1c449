"""Enqueue by HTTP: every form of a body, and everything that may be wrong with one."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from esa_preload.api.schemas import Receipt
from integration.api.conftest import OTHER_SITE, SITE, problem
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from integration.api.conftest import Served

BODIES: dict[str, tuple[str, bytes]] = {
    "text": (
        "text/plain",
        b"# a comment\nhttps://www.example.com/a\r\n\n  https://www.example.com/b\nhttps://www.example.com/a",
    ),
    "ndjson": (
        "application/x-ndjson; charset=utf-8",
        b'"https://www.example.com/a"\n\n{"url": "https://www.example.com/b", "x": 1}\n"https://www.example.com/a"\n',
    ),
    "json": (
        "application/json",
        json.dumps({"site_id": SITE, "urls": [f"https://www.example.com/{name}" for name in "aba"]}).encode(),
    ),
}


def url_of(**query: Any) -> str:
    """Return the path of an enqueue for the site, with *query*."""
    return str(httpx.URL("/v1/preloads", params={"site_id": SITE, **query}))


@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("form", BODIES)
async def test_each_form_of_a_body(served: Served, form: str, is_packed: bool) -> None:
    """Lines, NDJSON and JSON, plain or gzip, come to the same receipt; the queue holds the URLs under the name of the token."""
    content_type, body = BODIES[form]
    headers = {"Content-Type": content_type, "Idempotency-Key": form}
    if is_packed:
        headers["Content-Encoding"] = "gzip"
        middle = len(body) // 2
        body = gzip.compress(body[:middle]) + gzip.compress(body[middle:])
    replies = [
        await served.http["producer"].post(url_of(source="cms"), content=body, headers=headers)
        for _ in range(2)
    ]
    for reply in replies:
        assert reply.status_code == 202, reply.text
        found = reply.json()
        expected = {"request_id": form, "site_id": SITE, "accepted": 2, "duplicates": 1, "rejected_count": 0}
        assert {name: found[name] for name in expected} == expected
    assert replies[0].json() == replies[1].json()
    assert (await served.queue.status(form)).pending == 2
    entry = (await served.queue.audit()).items[0]
    assert (entry.action, entry.actor, entry.source, entry.site_id) == (
        "enqueued",
        "token:producer",
        "cms",
        SITE,
    )


async def test_arguments_of_the_query_and_of_the_body(served: Served) -> None:
    """A plan, a priority, an end: a document's own go before those of the query."""
    document = {
        "urls": ["https://www.example.com/a"],
        "site_id": str(SITE),
        "priority": "high",
        "plan": {"start": "2199-01-01T00:00:00Z", "end": "2199-01-02T00:00:00+08:00", "interval_s": 7},
        "expires_in": 30.5,
    }
    url = url_of(priority="low", slice_len=9, source="cms")
    reply = await served.http["operator"].post(url, json=document, headers={"Idempotency-Key": "x"})
    assert reply.status_code == 202, reply.text
    facts = await served.queue.explain("x")
    assert facts.state == "pending"


@pytest.mark.parametrize(
    ("query", "plan", "why"),
    [
        ({"start": "2199-01-01T00:01:00Z", "end": "2199-01-01T00:00:00Z"}, None, "later than its start"),
        ({}, {"start": "2199-01-01T00:00:00+08:00", "end": "2198-12-31T15:00:00Z"}, "later than its start"),
        ({"end": "2020-01-01T00:00:00Z"}, None, "has passed"),
        ({}, {"end": "2020-01-01T00:00:00Z"}, "has passed"),
    ],
)
async def test_a_plan_that_fetches_nothing_is_refused(
    served: Served, query: dict[str, str], plan: dict[str, str] | None, why: str
) -> None:
    """422 at once, in the query and in a document: an end before its start, by the moments of both, and one that has passed."""
    document = {"urls": ["https://a.example/"], **({"plan": plan} if plan else {})}
    reply = await served.http["producer"].post(url_of(**query), json=document)
    assert why in problem(reply, 422, "invalid")["detail"]
    assert not (await served.queue.requests()).items


async def test_a_list_in_oss(served: Served) -> None:
    """One batch: its count is the receipt's, and text bodies know no such thing."""
    document: dict[str, Any] = {
        "site_id": SITE,
        "oss_url": "https://b.oss-cn-hangzhou.aliyuncs.com/list.txt",
        "count": 7,
    }
    reply = await served.http["producer"].post("/v1/preloads", json=document)
    assert (reply.status_code, reply.json()["accepted"]) == (202, 7)
    document["oss_url"] = "http://b.oss-cn-hangzhou.aliyuncs.com/list.txt"
    problem(await served.http["producer"].post("/v1/preloads", json=document), 422, "invalid")


async def test_some_urls_are_rejected_or_all(served: Served) -> None:
    """202 with the reasons while one is accepted; 422 with the receipt when none is. Nothing that is no URL breaks the others."""
    bad = [
        b"ftp://x/",
        b'{"url": 1}',
        b"\xff\xfe",
        b"[" * 60_000,
        b"x" * 200_000,
        b'{"url"',
        b"1" * 5_000,
        b"null",
    ]
    headers = {"Content-Type": "application/x-ndjson"}
    body = b"\n".join([*bad, b'"https://www.example.com/a"', b""])
    reply = await served.http["producer"].post(url_of(), content=b"\n" + body, headers=headers)
    assert reply.status_code == 202, reply.text
    assert (reply.json()["accepted"], reply.json()["rejected_count"]) == (1, len(bad))
    assert all(len(each["url"]) <= 2_048 for each in reply.json()["rejected"])
    reply = await served.http["producer"].post(url_of(), content=b"\n".join([b"", *bad]), headers=headers)
    receipt = problem(reply, 422, "nothing-accepted")["receipt"]
    assert receipt["rejected_count"] == len(bad)
    assert receipt.keys() == Receipt.model_fields.keys()


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({}, ""),
        ({"site_id": SITE, "urls": []}, "urls"),
        ({"site_id": 0, "urls": ["https://a/"]}, "site_id"),
        ({"site_id": 2**63, "urls": ["https://a/"]}, "site_id"),
        ({"site_id": SITE, "urls": [7]}, "urls.0"),
        ({"site_id": SITE, "urls": ["https://a/"], "oss_url": "https://a/"}, ""),
        ({"site_id": SITE, "urls": ["https://a/"], "plan": {"start": "2199-01-01"}}, "plan.start"),
        ({"site_id": SITE, "urls": ["https://a/"], "plan": {"slice_len": True}}, "plan.slice_len"),
        ({"site_id": SITE, "urls": ["https://a/"], "priority": "highest"}, "priority"),
        ({"site_id": SITE, "urls": ["https://a/"], "expires_in": 0}, "expires_in"),
        ({"site_id": SITE, "urls": ["https://a/"], "sites": 1}, "sites"),
    ],
)
async def test_a_wrong_document_names_the_field(served: Served, document: object, field: str) -> None:
    """422, with the name of what is wrong and without its value."""
    found = problem(await served.http["producer"].post("/v1/preloads", json=document), 422, "invalid")
    assert [each["field"] for each in found["errors"]] == [field]


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"nul",
        b"[" * 100_000,
        b'{"site_id": NaN, "urls": ["https://a/"]}',
        b'"\xff"',
        b"[]",
        b'{"a":' * 9_000,
    ],
    ids=lambda body: body[:8].decode(errors="replace"),
)
async def test_what_is_no_document(served: Served, body: bytes) -> None:
    """Cut, deep, of another encoding: 422, and no error of ours."""
    headers = {"Content-Type": "application/json"}
    problem(await served.http["producer"].post("/v1/preloads", content=body, headers=headers), 422, "invalid")


async def test_a_repeated_name_is_harmless(served: Served) -> None:
    """The last of two members of one name counts, as everywhere."""
    body = f'{{"site_id": {OTHER_SITE}, "urls": ["https://www.example.com/a"], "site_id": {SITE}}}'
    reply = await served.http["producer"].post(
        "/v1/preloads", content=body, headers={"Content-Type": "application/json"}
    )
    assert (reply.status_code, reply.json()["site_id"]) == (202, SITE)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"site_id": "x"}, 422),
        ({"site_id": ""}, 422),
        ({"priority": "x"}, 422),
        ({"x": 1}, 422),
        ({"start": "tomorrow"}, 422),
        ({"site": "a"}, 422),
    ],
)
async def test_a_wrong_query_names_the_parameter(served: Served, query: dict[str, Any], status: int) -> None:
    """422; two names of a site are one too many."""
    reply = await served.http["producer"].post(
        url_of(**query), content=b"https://a.example/", headers={"Content-Type": "text/plain"}
    )
    document = problem(reply, status, "invalid")
    assert "site" in document["detail"] or [each["field"] for each in document["errors"]] == list(query)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/xml"},
        {"Content-Type": "text/plain; charset=latin-1"},
        {"Content-Type": "text/plain", "Content-Encoding": "br"},
        {"Content-Type": "application/json", "Content-Encoding": "deflate"},
    ],
)
async def test_a_type_or_encoding_that_is_not_read(served: Served, headers: dict[str, str]) -> None:
    """415, which says what is read."""
    reply = await served.http["producer"].post(url_of(), content=b"https://a.example/", headers=headers)
    problem(reply, 415, "unsupported-media-type")


async def test_other_content_under_a_known_key(served: Served) -> None:
    """409, and the request stays as it was."""
    headers = {"Content-Type": "text/plain", "Idempotency-Key": "k"}
    for body, status in ((b"https://a.example/1", 202), (b"https://a.example/2", 409)):
        reply = await served.http["producer"].post(url_of(), content=body, headers=headers)
        assert reply.status_code == status, reply.text
    assert (await served.queue.status("k")).accepted == 1


async def test_a_key_of_another_form(served: Served) -> None:
    """422, with the name of the header."""
    headers = {"Content-Type": "text/plain", "Idempotency-Key": "a b"}
    reply = await served.http["producer"].post(url_of(), content=b"https://a.example/1", headers=headers)
    assert [each["field"] for each in problem(reply, 422, "invalid")["errors"]] == ["Idempotency-Key"]


def lines(count: int, *, start: int = 0) -> bytes:
    """Return so many lines."""
    return b"".join(b"https://www.example.com/%d\n" % number for number in range(start, start + count))


async def post_text(served: Served, body: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    """Enqueue *body* as lines."""
    kept = {"Content-Type": "text/plain", "Idempotency-Key": "r", **headers}
    return await served.http["producer"].post(url_of(), content=body, headers=kept)


async def test_a_bomb_ends_where_the_bound_is(served: Served) -> None:
    """A megabyte of gzip holds a gigabyte: 413 once a megabyte is out, the receipt says what was taken, and it is in the queue."""
    packer = zlib.compressobj(9, wbits=31)

    async def bomb() -> AsyncIterator[bytes]:
        yield packer.compress(lines(5_000))
        for _ in range(1_024):
            yield packer.compress(b"#" * 1_048_576)
        yield packer.flush()

    document = problem(await post_text(served, bomb(), **{"Content-Encoding": "gzip"}), 413, "too-large")
    assert document["receipt"]["accepted"] == (await served.queue.status("r")).accepted == 4_000


async def test_a_long_body_is_refused_at_once(served: Served) -> None:
    """Content-Length is believed when it says too much, and a body without it ends at the bound."""
    problem(await post_text(served, lines(50_000)), 413, "too-large")
    document = {"site_id": SITE, "urls": ["https://a.example/" + "a" * 1_000] * 1_100}
    problem(await served.http["producer"].post("/v1/preloads", json=document), 413, "too-large")


@pytest.mark.parametrize("damage", ["cut", "bytes", "header", "no-gzip", "unsaid"])
async def test_damaged_gzip(served: Served, damage: str) -> None:
    """400; what came before the damage was taken, as the receipt says."""
    packed = bytearray(gzip.compress(lines(20_000), 1))
    match damage:
        case "cut":
            del packed[-12:]
        case "bytes":
            packed[-4_000:-3_900] = bytes(100)
        case "header":
            packed[2] = 0
        case _:
            packed = bytearray(lines(3)) if damage == "no-gzip" else packed
    headers = {} if damage == "unsaid" else {"Content-Encoding": "gzip"}
    document = problem(await post_text(served, bytes(packed), **headers), 400, "bad-body")
    assert ("receipt" in document) == (damage in ("cut", "bytes"))
    if "receipt" in document:
        assert document["receipt"]["accepted"] >= 15_000
        assert document["request_id"] == "r"


async def test_a_body_that_breaks_off_is_resumed(served: Served) -> None:
    """After damage the whole list under the same key takes nothing twice."""
    problem(
        await post_text(served, gzip.compress(lines(5_500))[:-20], **{"Content-Encoding": "gzip"}),
        400,
        "bad-body",
    )
    reply = await post_text(served, lines(5_500))
    assert (reply.status_code, reply.json()["accepted"]) == (202, 5_500)
    assert (await served.queue.status("r")).pending == 5_500


async def test_a_body_that_stands_still(served: Served) -> None:
    """408 after the timeout, with what was taken; others are answered meanwhile."""
    go_on = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield lines(2_500)
        await go_on.wait()

    stalled = asyncio.create_task(post_text(served, slow()))
    assert (await served.http["viewer"].get("/v1/sites")).status_code == 200
    assert not stalled.done()
    document = problem(await stalled, 408, "stalled-body")
    go_on.set()
    assert document["receipt"]["accepted"] == 1_000


async def test_streams_are_bounded(served: Served) -> None:
    """Two of four places for one token: a third large body is told to come back, and so is gzip, which may hold more; a small one and another token's are not."""
    go_on = asyncio.Event()

    async def slow(start: int) -> AsyncIterator[bytes]:
        yield lines(1, start=start)
        await go_on.wait()
        yield lines(1, start=start + 1)

    async def post(name: str, start: int) -> httpx.Response:
        headers = {"Content-Type": "text/plain"}
        return await served.http[name].post(url_of(), content=slow(start), headers=headers)

    held = [asyncio.create_task(post("producer", start)) for start in (0, 10)]
    await wait_until(lambda: served.app.state.context.streams._held.total() == 2)
    busy = problem(await post("producer", 20), 503, "busy")
    assert busy["hint"]
    packed = await post_text(served, gzip.compress(lines(1)), **{"Content-Encoding": "gzip"})
    problem(packed, 503, "busy")
    assert (await post_text(served, lines(1))).status_code == 202
    go_on.set()
    assert (await post("operator", 30)).status_code == 202
    assert [(await each).status_code for each in held] == [202, 202]
    assert (await post("producer", 40)).status_code == 202


async def test_an_empty_body(served: Served) -> None:
    """There is nothing to enqueue: 422."""
    for body in (b"", b"\n# nothing\n"):
        problem(await post_text(served, body), 422, "invalid")
    problem(await post_text(served, gzip.compress(b""), **{"Content-Encoding": "gzip"}), 422, "invalid")
