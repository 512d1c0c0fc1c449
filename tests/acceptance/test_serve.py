"""``esa-preload serve`` and ``esa-preload token`` as installed commands: their life, signals, tokens, and what never gets out."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from acceptance.serving import serving
from esa_preload.api.token_file import new_token
from esa_preload.client import PreloadClient
from processes import api_environment, environment, finish
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    import httpx
    from redis.asyncio import Redis

SITE = 190007158391808
LINES = {"Content-Type": "text/plain", "Idempotency-Key": "r"}


async def test_the_life_of_a_server(redis: Redis, redis_url: str) -> None:
    """Enqueue, follow, probes, metrics; SIGTERM ends it with 0; the log is JSON and shows neither paths nor queries."""
    del redis
    async with serving(api_environment(redis_url)) as (server, http, ops_url):
        reply = await http.post(
            f"/v1/preloads?site_id={SITE}", content=b"https://www.example.com/?canary", headers=LINES
        )
        assert (reply.status_code, reply.json()["accepted"]) == (202, 1)
        assert "server" not in reply.headers
        assert (await http.get("/v1/preloads/r")).json()["pending"] == 1
        assert (await http.get("/v1/no-such-path-canary?canary")).status_code == 404
        pages = {name: await http.get(f"{ops_url}/{name}") for name in ("livez", "readyz", "metrics")}
        assert [page.status_code for page in pages.values()] == [200] * 3
        for line in (
            'esa_preload_http_requests_total{method="POST",route="/v1/preloads",status="202"} 1.0',
            'esa_preload_http_requests_total{method="GET",route="/v1/preloads/{request_id}",status="200"} 1.0',
            'esa_preload_http_urls_total{outcome="accepted"} 1.0',
            "esa_preload_redis_up 1.0",
        ):
            assert line in pages["metrics"].text
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    assert [event["event"] for event in server.events()][-2:] == ["http.stopping", "http.stopped"]
    requests = server.events("http.request")
    assert [(each["route"], each["status"], each["token"]) for each in requests] == [
        ("/v1/preloads", 202, "local"),
        ("/v1/preloads/{request_id}", 200, "local"),
        ("other", 404, None),
    ]
    assert all(line.startswith("{") for line in server.lines)
    assert "canary" not in "".join(server.lines)


async def test_a_body_in_flight_is_taken_to_its_end(redis: Redis, redis_url: str) -> None:
    """SIGTERM while lines come in: no new connection is taken, the request is answered, then the process ends."""
    del redis
    go_on = asyncio.Event()

    async def lines() -> AsyncIterator[bytes]:
        yield b"".join(b"https://www.example.com/%d\n" % number for number in range(3_000))
        await go_on.wait()
        yield b"https://www.example.com/last\n"

    async with (
        serving(api_environment(redis_url)) as (server, http, ops_url),
        PreloadClient(redis_url) as queue,
    ):
        posting = asyncio.create_task(
            http.post(f"/v1/preloads?site_id={SITE}", content=lines(), headers=LINES)
        )

        async def begun() -> bool:
            return any(site.pending >= 1_000 for site in await queue.sites())

        await wait_until_async(begun)
        server.process.send_signal(signal.SIGTERM)
        await wait_until(lambda: server.events("http.stopping"))
        assert (await http.get(f"{ops_url}/readyz")).text == "stopping\n"
        go_on.set()
        reply = await posting
        assert (reply.status_code, reply.json()["accepted"]) == (202, 3_001)
        assert await server.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_that_do_not_wait(redis: Redis, redis_url: str, number: signal.Signals) -> None:
    """A body that never ends is cut off after the grace; a second signal ends the process at once."""
    del redis

    async def lines() -> AsyncIterator[bytes]:
        yield b"https://www.example.com/\n" * 1_000
        await asyncio.Event().wait()

    for grace, second in (("1", False), ("60", True)):
        env = api_environment(redis_url, ESA_PRELOAD_SHUTDOWN_GRACE=grace)
        async with serving(env) as (server, http, _):
            posting = asyncio.create_task(
                http.post(f"/v1/preloads?site_id={SITE}", content=lines(), headers=LINES)
            )
            await wait_until_async(lambda: _in_flight(http))
            server.process.send_signal(number)
            await wait_until(lambda: server.events("http.stopping"))
            if second:
                server.process.send_signal(number)
            assert await server.ended() == (128 + number if second else 0)
            posting.cancel()
            await asyncio.gather(posting, return_exceptions=True)


async def _in_flight(http: httpx.AsyncClient) -> bool:
    return (await http.get("/v1/sites")).status_code == 200


async def test_tokens_come_and_go_while_it_runs(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Made, used, revoked: the server follows the file; a broken one is told, and changes nothing. No secret gets out."""
    del redis
    file = tmp_path / "tokens.json"
    env = api_environment(redis_url, ESA_PRELOAD_TOKENS_FILE=str(file))
    made = [
        await finish(
            "esa-preload", "token", "new", "--name", name, "--role", "producer", "--site", str(SITE), env=env
        )
        for name in ("cms", "app")
    ]
    secrets = [each.out.strip() for each in made]
    assert all(each.code == 0 and each.out.startswith("esap_") for each in made)

    async with serving(env) as (server, http, ops_url):

        async def status_of(secret: str) -> int:
            reply = await http.get("/v1/sites", headers={"Authorization": f"Bearer {secret}"})
            return reply.status_code

        assert [await status_of(secret) for secret in secrets] == [200, 200]
        assert (await finish("esa-preload", "token", "revoke", "cms", env=env)).code == 0

        async def revoked() -> bool:
            return await status_of(secrets[0]) == 401

        await wait_until_async(revoked)
        file.write_text("{")

        async def told() -> bool:
            assert await status_of(secrets[1]) == 200
            return bool(server.events("tokens.kept"))

        await wait_until_async(told)
        metrics = (await http.get(f"{ops_url}/metrics")).text
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    shown = metrics + "\n".join(server.lines)
    assert not any(secret in shown for secret in secrets)
    assert {"app", "cms"} <= {str(event["token"]) for event in server.events("http.request")}


@pytest.mark.parametrize(
    ("trusted", "address", "cookie"),
    [
        ("127.0.0.1", "203.0.113.7", "__Host-esa-preload-default"),
        ("127.0.0.0/8, 198.51.100.1", "203.0.113.7", "__Host-esa-preload-default"),
        ("192.0.2.1", "127.0.0.1", "esa-preload-default"),
        ("", "127.0.0.1", "esa-preload-default"),
    ],
)
async def test_what_a_proxy_forwards_is_believed_of_trusted_ones_only(
    redis: Redis, redis_url: str, tmp_path: Path, trusted: str, address: str, cookie: str
) -> None:
    """Who is behind it, past what that client said of itself, for the log and the wait after wrong tokens; and that there is TLS, for the cookie."""
    del redis
    file = tmp_path / "tokens.json"
    new_token(file, name="anna", role="viewer", sites=["*"])
    env = api_environment(
        redis_url, ESA_PRELOAD_TOKENS_FILE=str(file), ESA_PRELOAD_HTTP_TRUSTED_PROXIES=trusted
    )
    forwarded = {"X-Forwarded-For": "10.9.9.9, 203.0.113.7", "X-Forwarded-Proto": "https"}
    async with serving(env) as (server, http, _):
        page = await http.get("/sign-in", headers=forwarded)
        name, _, value = page.headers["set-cookie"].partition(";")[0].partition("=")
        assert (name, "; Secure" in page.headers["set-cookie"]) == (cookie, cookie.startswith("__Host-"))
        (csrf,) = re.findall(r'name="csrf" value="([^"]+)"', page.text)
        wrong = await http.post(
            "/sign-in",
            data={"csrf": csrf, "token": "wrong"},
            headers=forwarded | {"Cookie": f"{name}={value}"},
        )
        assert wrong.status_code == 401
        assert [event["address"] for event in server.events("console.refused")] == [address]


async def test_the_list_of_tokens(tmp_path: Path) -> None:
    """Whose, role, sites, end; never a secret or its hash; names are used once."""
    env = environment(ESA_PRELOAD_TOKENS_FILE=str(tmp_path / "tokens.json"))
    new = ("token", "new", "--name", "ops", "--role", "operator", "--site", "*", "--expires-in-days", "1")
    secret = (await finish("esa-preload", *new, env=env)).out.strip()
    again = await finish("esa-preload", *new, env=env)
    assert (again.code, "already" in again.err) == (2, True)
    (row,) = (await finish("esa-preload", "token", "list", "--json", env=env)).json()
    assert (row["name"], row["role"], row["sites"], set(row)) == (
        "ops",
        "operator",
        "*",
        {"name", "role", "sites", "created_at", "expires_at"},
    )
    listed = await finish("esa-preload", "token", "list", env=env)
    assert "ops  operator  sites *" in listed.out
    stored = json.loads((tmp_path / "tokens.json").read_text())["tokens"][0]["sha256"]
    assert secret not in listed.out
    assert stored not in listed.out
    named = ("token", "new", "--name", "shop", "--role", "viewer", "--site", "shop.example.com")
    refused = await finish("esa-preload", *named, env=env)
    assert (refused.code, "`esa-preload sites` lists the ids" in refused.err) == (2, True)
    gone = await finish("esa-preload", "token", "revoke", "nobody", env=env)
    assert (gone.code, "token list" in gone.err) == (2, True)
    unset = await finish("esa-preload", "token", "list", env=environment())
    assert (unset.code, "ESA_PRELOAD_TOKENS_FILE" in unset.err) == (2, True)


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ESA_PRELOAD_HTTP_HOST": "0.0.0.0"}, "ESA_PRELOAD_TOKENS_FILE"),
        ({"ESA_PRELOAD_TOKENS_FILE": "/nowhere/tokens.json"}, "token new"),
        ({"ESA_PRELOAD_HTTP_PORT": "x", "ESA_PRELOAD_OPS_PORT": "y"}, "OPS_PORT"),
        (
            {"ESA_PRELOAD_HTTP_HOST": "203.0.113.7", "ESA_PRELOAD_TOKENS_FILE": "TOKENS"},
            "ESA_PRELOAD_HTTP_HOST",
        ),
        ({"ESA_PRELOAD_OPS_HOST": "no such host"}, "ESA_PRELOAD_OPS_HOST"),
        ({"ESA_PRELOAD_REDIS_URL": ""}, "ESA_PRELOAD_REDIS_URL"),
    ],
)
async def test_a_start_that_fails(
    redis_url: str, tmp_path: Path, variables: dict[str, str], said: str
) -> None:
    """Exit code 2, the variable by name, no traceback."""
    tokens = tmp_path / "tokens.json"
    tokens.write_text('{"version": 1, "tokens": []}')
    given = {name: value.replace("TOKENS", str(tokens)) for name, value in variables.items()}
    ended = await finish("esa-preload", "serve", env=api_environment(redis_url) | given)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert "Traceback" not in ended.err


async def test_a_port_that_is_taken(redis: Redis, redis_url: str) -> None:
    """The second server on a port says which variable to change."""
    del redis
    env = api_environment(redis_url)
    async with serving(env) as (_, http, _):
        ended = await finish(
            "esa-preload", "serve", env=env | {"ESA_PRELOAD_HTTP_PORT": str(http.base_url.port)}
        )
    assert (ended.code, "ESA_PRELOAD_HTTP_PORT" in ended.err) == (2, True), ended.err


async def test_without_redis(tmp_path: Path) -> None:
    """It starts, says 503 with Retry-After, is alive and not ready; where Redis is stands in the log alone, and the password of the URL nowhere."""
    env = api_environment(f"unix://user:canary-password@{tmp_path}/none.sock")
    async with serving(env) as (server, http, ops_url):
        reply = await http.post(f"/v1/preloads?site_id={SITE}", content=b"https://a.example/", headers=LINES)
        document: dict[str, Any] = reply.json()
        assert (reply.status_code, document["request_id"], document["type"]) == (
            503,
            "r",
            "/docs#problem-unavailable",
        )
        assert int(reply.headers["retry-after"]) > 0
        assert document["detail"] == "Redis cannot be reached"
        assert str(tmp_path) not in reply.text
        await wait_until(lambda: server.events("http.unavailable"))
        assert str(tmp_path) in server.events("http.unavailable")[0]["message"]
        assert (await http.get(f"{ops_url}/livez")).status_code == 200
        ready = await http.get(f"{ops_url}/readyz")
        assert ready.status_code == 503
        metrics = await http.get(f"{ops_url}/metrics")
        assert "esa_preload_redis_up 0.0" in metrics.text
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0
    shown = (reply.text, ready.text, metrics.text, *server.lines)
    assert not any("canary-password" in each for each in shown)


async def test_settings_in_every_form() -> None:
    """Table, JSON, sample environment file, Markdown: all of them have every variable."""
    for form in ("table", "json", "env", "markdown"):
        shown = await finish("esa-preload", "serve", "--settings", form, env=environment())
        assert (shown.code, "ESA_PRELOAD_HTTP_MAX_BODY_BYTES" in shown.out) == (0, True)
