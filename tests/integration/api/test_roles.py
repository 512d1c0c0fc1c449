"""Who may do what: each role, each route, and what belongs to others."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from conftest import NAMESPACE
from esa_preload.api.app import create_app
from esa_preload.api.token_file import revoke_token
from esa_preload.errors import QueueUnavailableError, UnknownRequestError
from esa_preload.http import PreloadClient as HttpPreloadClient
from esa_preload.keys import Keys
from esa_preload_worker.ledger import WorkerLedger
from integration.api.conftest import OTHER_SITE, SITE, problem
from integration.clients.stages import REASON, LedgerWorkers

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

    from integration.api.conftest import Served

READS = (
    "/v1/sites",
    f"/v1/sites/{SITE}",
    "/v1/preloads",
    "/v1/preloads/r",
    "/v1/preloads/r/info",
    "/v1/preloads/r/urls?state=pending",
    "/v1/failures",
    f"/v1/failures?site_id={SITE}",
    "/v1/limits",
    f"/v1/explain?site_id={SITE}",
    "/v1/explain?request_id=r",
    "/v1/audit",
    "/v1/traffic",
)
WRITES: tuple[tuple[str, str, Any, str], ...] = (
    ("POST", f"/v1/preloads?site_id={SITE}", b"https://www.example.com/x", "producer"),
    ("DELETE", "/v1/preloads/r", None, "producer"),
    ("POST", f"/v1/sites/{SITE}/pause", {"reason": "origin is down"}, "operator"),
    ("POST", f"/v1/sites/{SITE}/resume", None, "operator"),
    ("POST", "/v1/failures/requeue", {"site_id": SITE}, "operator"),
    ("POST", "/v1/account/resume", None, "admin"),
    ("PUT", "/v1/limits/CreateScheduledPreloadJob", {"rate": 12}, "admin"),
    ("DELETE", "/v1/limits/CreateScheduledPreloadJob", None, "admin"),
    ("PATCH", "/v1/limits", {"changes": [{"operation": "DeleteScheduledPreloadJob", "rate": None}]}, "admin"),
)
RANKS = ("viewer", "producer", "operator", "admin")


async def ask(http: httpx.AsyncClient, method: str, path: str, body: Any) -> httpx.Response:
    """Send one request; bytes are lines."""
    if isinstance(body, bytes):
        return await http.request(method, path, content=body, headers={"Content-Type": "text/plain"})
    return await http.request(method, path, json=body) if body else await http.request(method, path)


@pytest.mark.parametrize("path", READS)
async def test_every_role_may_read(served: Served, path: str) -> None:
    """A token of any role reads; none, and a wrong one, gets 401 and is told how to ask."""
    await served.queue.enqueue(SITE, ["https://www.example.com/a"], request_id="r")
    for name in RANKS:
        reply = await served.http[name].get(path)
        assert reply.status_code == 200, reply.text
        assert reply.headers["cache-control"] == "no-store"
    for headers in (
        {},
        {"Authorization": "Bearer x"},
        {"Authorization": f"Basic {served.secrets['viewer']}"},
    ):
        reply = await served.http["nobody"].get(path, headers=headers)
        problem(reply, 401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(("method", "path", "body", "least"), WRITES)
async def test_each_write_takes_a_role(served: Served, method: str, path: str, body: Any, least: str) -> None:
    """Those of too low a role are told which it takes, before the body is looked at; the others do it, under their name."""
    await served.queue.enqueue(SITE, ["https://www.example.com/a"], request_id="r")
    for name in RANKS:
        reply = await ask(served.http[name], method, path, body)
        if RANKS.index(name) < RANKS.index(least):
            problem(reply, 403, "forbidden")
            problem(await ask(served.http[name], method, path, body and b"{"), 403, "forbidden")
        else:
            assert reply.status_code == (202 if "preloads?" in path else 200), reply.text
    problem(await ask(served.http["nobody"], method, path, body), 401, "unauthorized")


@pytest.mark.parametrize(
    ("method", "path", "body", "least"),
    [each for each in WRITES if each[3] != "admin"]
    + [("GET", path, None, "viewer") for path in READS if path not in ("/v1/limits", "/v1/traffic")],
)
async def test_what_belongs_to_others_is_not_there(
    served: Served, method: str, path: str, body: Any, least: str
) -> None:
    """An operator of another site gets what there would be without such a site or request: 404, or an empty list."""
    del least
    await served.queue.enqueue(SITE, ["https://www.example.com/a"], request_id="r")
    reply = await ask(served.http["stranger"], method, path, body)
    if path in ("/v1/sites", "/v1/audit", "/v1/preloads", "/v1/failures"):
        assert reply.json()["items"] == []
    else:
        problem(reply, 404, "not-found")
    assert (await served.queue.status("r")).pending == 1


async def test_a_foreign_request_reads_as_an_unknown_one(served: Served) -> None:
    """The answers differ in nothing but the id that was asked for."""
    await served.queue.enqueue(SITE, ["https://www.example.com/a"], request_id="there")
    for path in ("/v1/preloads/{}", "/v1/preloads/{}/info"):
        texts = [
            (await served.http["stranger"].get(path.format(name))).text.replace(name, "X")
            for name in ("there", "gone")
        ]
        assert texts[0] == texts[1]


async def test_who_made_a_request_is_told_beside_its_status(served: Served) -> None:
    """The token that enqueued is its actor; the status itself has the fields that it had."""
    lines = await served.http["producer"].post(
        f"/v1/preloads?site_id={SITE}&source=cms&priority=low&interval_s=60",
        content=b"https://www.example.com/a",
        headers={"Content-Type": "text/plain", "Idempotency-Key": "r"},
    )
    assert lines.status_code == 202
    status = (await served.http["viewer"].get("/v1/preloads/r")).json()
    info = (await served.http["viewer"].get("/v1/preloads/r/info")).json()
    assert info.pop("status") == status
    assert info.pop("created_at").endswith("Z")
    assert info == {
        "source": "cms",
        "actor": "token:producer",
        "priority": "low",
        "plan": {"start": None, "end": None, "interval_s": 60, "slice_len": None},
        "expires_at": None,
    }
    assert "actor" not in status


async def test_failures_of_all_sites_are_those_of_the_token(served: Served, redis: Redis) -> None:
    """Site after site, in pages; a token of some sites learns of no other, nor of its number by a cursor."""
    for site in (SITE, OTHER_SITE):
        await served.queue.enqueue(site, [f"https://www.example.com/{site}/{n}" for n in range(3)])
    await LedgerWorkers(redis).end_all("refused")

    async def read(name: str) -> tuple[list[dict[str, Any]], set[str]]:
        query: dict[str, Any] = {"limit": 2, "reason": REASON}
        found: list[dict[str, Any]] = []
        named: set[str] = set()
        while True:
            page = (await served.http[name].get("/v1/failures", params=query)).json()
            found += page["items"]
            if page["cursor"] is None:
                return found, named
            query["cursor"] = page["cursor"]
            named.add(page["cursor"].partition(":")[0])

    own = [
        {**asdict(each), "at": each.at.isoformat().replace("+00:00", "Z")}
        for each in await served.queue.failures(SITE)
    ]
    found, named = await read("viewer")
    assert found == own[::-1]
    assert named == {str(SITE)}
    everything, _ = await read("admin")
    assert [each["site_id"] for each in everything] == [OTHER_SITE] * 3 + [SITE] * 3
    assert everything[3:] == own[::-1]
    other_reason = await served.http["admin"].get("/v1/failures?reason=expired")
    assert other_reason.json() == {"items": [], "cursor": None}
    for cursor in ("x", f"{SITE}:x"):
        problem(await served.http["admin"].get(f"/v1/failures?cursor={cursor}"), 422, "invalid")


async def test_a_foreign_site_s_name_reads_as_an_unknown_one(served: Served, redis: Redis) -> None:
    """A token of some sites is told neither the id behind another's name nor what others are named; its own are found."""
    await WorkerLedger(redis, Keys(NAMESPACE)).keep_site_names({"www.example.com": SITE})
    path = "/v1/site-id?name="
    for name in ("admin", "viewer"):
        reply = await served.http[name].get(f"{path}WWW.example.com")
        assert reply.json() == {"site_id": SITE, "name": "WWW.example.com"}
    texts: list[str] = []
    for name in ("www.example.com", "www.example.con"):
        for stranger in (
            ("GET", f"{path}{name}", None),
            ("POST", f"/v1/preloads?site={name}", b"https://a.example/"),
        ):
            reply = await ask(served.http["stranger"], *stranger)
            problem(reply, 404, "not-found")
            texts.append(reply.text.replace(name, "X"))
    assert len(set(texts)) == 1
    assert str(SITE) not in texts[0]
    problem(await served.http["viewer"].get(f"{path}a%20b"), 422, "invalid")


async def test_what_is_done_is_written_down(served: Served) -> None:
    """The audit names the token; a token of some sites sees what was done to these."""
    await served.http["operator"].post(
        f"/v1/preloads?site_id={SITE}", content=b"https://a.example/", headers={"Content-Type": "text/plain"}
    )
    await served.http["operator"].post(f"/v1/sites/{SITE}/pause", json={"reason": "origin"})
    await served.http["admin"].put("/v1/limits/CreateScheduledPreloadJob", json={"rate": 3})
    for name, expected in (
        ("admin", ["limit_set", "paused", "enqueued"]),
        ("viewer", ["paused", "enqueued"]),
        ("stranger", []),
    ):
        items = (await served.http[name].get("/v1/audit")).json()["items"]
        assert [each["action"] for each in items] == expected
    assert [each["actor"] for each in items] == []
    items = (await served.http["admin"].get("/v1/audit", params={"limit": 2})).json()["items"]
    assert [each["actor"] for each in items] == ["token:admin", "token:operator"]


async def test_a_revoked_token_is_refused(served: Served, tokens_file: Path) -> None:
    """Within a second, and without a restart."""
    assert (await served.http["viewer"].get("/v1/sites")).status_code == 200
    revoke_token(tokens_file, "viewer")
    tokens = served.app.state.context.tokens
    tokens._looked_at -= 60
    problem(await served.http["viewer"].get("/v1/sites"), 401, "unauthorized")
    assert (await served.http["producer"].get("/v1/sites")).status_code == 200


@pytest.mark.parametrize(
    ("headers", "is_served"),
    [
        ({}, True),
        ({"Host": "127.0.0.1:8080"}, True),
        ({"Host": "[::1]:8080"}, True),
        ({"Host": "LOCALHOST", "Origin": "http://LOCALHOST"}, True),
        ({"Host": "evil.example:8080"}, False),
        ({"Host": "127.0.0.1.evil.example"}, False),
        ({"Host": "[::"}, False),
        ({"Host": ""}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://localhost:81"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
    ],
)
async def test_without_tokens_no_web_page_gets_in(
    served: Served, headers: dict[str, str], is_served: bool
) -> None:
    """Only this machine's own names, and no page of another origin, whatever name leads here."""
    context = served.app.state.context
    app = create_app(context.client, settings=context.settings)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        reply = await http.get("/v1/sites", headers=headers)
    if is_served:
        assert reply.status_code == 200, reply.text
    else:
        problem(reply, 403, "forbidden")


async def test_paths_and_methods_that_are_none(served: Served) -> None:
    """Problems too, with Allow; every answer has its id and the headers that browsers heed."""
    http = served.http["admin"]
    problem(await http.get("/v1/nothing"), 404, "not-found")
    reply = await http.put("/v1/sites", headers={"X-Request-Id": "mine"})
    problem(reply, 405, "method-not-allowed")
    assert (reply.headers["allow"], reply.headers["x-request-id"]) == ("GET", "mine")
    assert reply.headers["x-content-type-options"] == "nosniff"
    reply = await http.put("/v1/preloads/x")
    assert reply.headers["allow"] == "GET, DELETE"
    odd = await http.get("/v1/sites", headers={"X-Request-Id": "a b"})
    assert odd.headers["x-request-id"] != "a b"
    problem(await http.get("/v1/preloads/a%20b"), 422, "invalid")
    problem(await http.get(f"/v1/sites/{OTHER_SITE}/pause"), 405, "method-not-allowed")


async def test_a_client_tells_a_path_that_is_none_from_a_request_that_is_none(served: Served) -> None:
    """Of a service without a newer verb, and of an address that leads past it, nobody reads that the request is unknown."""
    for path, error in (("", UnknownRequestError), ("/elsewhere", QueueUnavailableError)):
        transport = httpx.ASGITransport(served.app)
        async with HttpPreloadClient(
            f"http://localhost{path}", token=served.secrets["admin"], transport=transport
        ) as client:
            with pytest.raises(error):
                await client.request("r")


async def test_the_page_needs_nothing_from_elsewhere(served: Served) -> None:
    """Anybody reads it; it has every route and kind of problem, no script, and a policy that allows none."""
    page = await served.http["nobody"].get("/docs")
    assert page.status_code == 200
    assert "script" not in page.text
    assert "script" not in page.headers["content-security-policy"]
    assert page.text.count('id="problem-') == 16
    assert (await served.http["nobody"].get("/docs.css")).headers["content-type"].startswith("text/css")
    for path in (await served.http["nobody"].get("/openapi.json")).json()["paths"]:
        assert path in page.text
