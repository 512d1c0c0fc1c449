"""Producers, operators and workers on a Redis with TLS and the users of deploy/redis/users.acl, and what its errors say."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

import acl
from esa_preload.client import PreloadClient
from esa_preload.connection import connect
from esa_preload.errors import QueueUnavailableError
from esa_preload.scripts import as_text, command
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from integration.security.certificates import make_certificates
from integration.security.servers import KINDS, SecureServer, secure_server
from ports import free_port
from processes import environment, finish, started, worker_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from processes import Finished

SITE = 190007158391808
PRODUCER, OPERATOR, WORKER, MONITOR = (
    (f"esa-{part}", acl.PASSWORD) for part in ("producer", "operator", "worker", "monitor")
)
USERS = (PRODUCER, OPERATOR, WORKER, MONITOR)


@pytest.fixture(params=KINDS)
async def server(request: pytest.FixtureRequest) -> AsyncIterator[SecureServer]:
    """A server with TLS that knows the users of the file."""
    async with secure_server(str(request.param)) as running:
        for user, _ in USERS:
            await running.admin("ACL", "SETUSER", user, *acl.rules(user))
        await running.admin("ACL", "LOG", "RESET")
        yield running


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with one site, which owns example.com."""
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as running:
        yield running


async def refused(server: SecureServer) -> list[str]:
    """Return what the server refused to whom, as far as it could matter: looking at its configuration need not work."""
    entries = [
        dict(zip(map(as_text, entry[0::2]), map(as_text, entry[1::2]), strict=True))
        for entry in await server.admin_list("ACL", "LOG")
    ]
    return [f"{entry['username']}: {entry['object']}" for entry in entries if entry["object"] != "config|get"]


def assert_clear(ended: Finished, code: int, *words: str) -> None:
    """Check that a command ended with *code* and a sentence that holds *words*, without a password or a traceback."""
    assert (ended.code, "Traceback" in ended.err) == (code, False), ended.err
    for word in words:
        assert re.search(word, ended.out + ended.err, re.IGNORECASE), (word, ended)
    assert not any(secret in ended.out + ended.err for secret in (acl.PASSWORD, "wrong-password"))


async def test_the_whole_path_with_no_more_rights_than_the_file_gives(
    server: SecureServer, sandbox: Sandbox
) -> None:
    """Every command of a producer, an operator and a worker runs as their user, over TLS, and the server refuses none of it."""
    secret = server.directory / "redis-url"
    secret.write_text(server.url(*WORKER) + "\n")
    worker = worker_environment("", sandbox.url, ESA_PRELOAD_REDIS_URL_FILE=str(secret))
    worker["ESA_PRELOAD_OPS_PORT"] = str(free_port())
    quick = {"ESA_PRELOAD_BATCH_QUIET": "0.1", "ESA_PRELOAD_RATE_INITIAL": "100"}
    urls = [*(f"https://www.example.com/{i}" for i in range(20)), "https://x.example.net/"]
    async with PreloadClient(server.url(*PRODUCER)) as client:
        receipt = await client.enqueue(SITE, urls)
        checked = await finish("esa-preload-worker", "check", "--ledger", env=worker)
        assert checked.code == 0, checked.out + checked.err
        async with started("esa-preload-worker", "run", env=worker | quick) as running:
            status = await client.wait(receipt.request_id, timeout=30)
            assert (status.accepted, status.submitted, status.refused) == (21, 20, 1)
            live = await finish("esa-preload-worker", "check", "--live", env=worker)
            running.process.terminate()
            assert await running.ended() == 0
        assert live.code == 0, live.err
    async with PreloadClient(server.url(*OPERATOR)) as client:
        assert [entry.reason for entry in await client.failures(SITE)] == ["invalid_domain"]
        assert await client.pause(SITE)
        [again] = await client.requeue(SITE)
        assert again.accepted == 1
        assert [site.state for site in await client.sites()] == ["paused"]
        await client.cancel(again.request_id)
        assert await client.resume(SITE)
    shell = environment(ESA_PRELOAD_REDIS_URL=server.url(*PRODUCER))
    ended = await finish("esa-preload", "enqueue", "--site", str(SITE), urls[0], env=shell)
    assert ended.code == 0, ended.err
    checked = await finish("esa-preload-worker", "check", env=worker)
    assert checked.code == 0, checked.out + checked.err
    assert sandbox.stats()["planned_urls"] == 20
    assert await refused(server) == []


async def test_what_they_may_not_do(server: SecureServer) -> None:
    """Another namespace, other keys, flushing and configuring are closed to all; arq's locks and any look at what else is there to producers, and every key to who only watches."""
    forbidden: list[list[str | int]] = [
        ["FLUSHALL"],
        ["KEYS", "*"],
        ["CONFIG", "SET", "appendonly", "no"],
        ["CONFIG", "GET", "requirepass"],
        ["ACL", "LIST"],
        ["CLIENT", "LIST"],
        ["SCRIPT", "FLUSH"],
        ["FUNCTION", "LIST"],
        ["SHUTDOWN", "NOSAVE"],
        ["GET", "session:7"],
        ["HGETALL", "esa-preload:other:meta"],
        ["EVAL", "return redis.call('GET', 'session:7')", 0],
        ["SET", "arq:job:other", "x"],
        ["SUBSCRIBE", "x"],
    ]
    producers: list[list[str | int]] = [
        ["SET", "arq:in-progress:esa-preload:default:1-1", "x"],
        ["MULTI"],
        ["SCAN", 0],
        ["RANDOMKEY"],
        ["DBSIZE"],
        ["SELECT", 1],
        ["EVAL", "return redis.call('SCAN', '0')", 0],
    ]
    monitors: list[list[str | int]] = [["GET", "esa-preload:default:meta"], ["EVAL", "return 1", 0]]
    closed_to: tuple[tuple[tuple[str, str], list[list[str | int]]], ...] = (
        (PRODUCER, [*forbidden, *producers, ["INFO"]]),
        (OPERATOR, [*forbidden, *producers, ["INFO"]]),
        (WORKER, forbidden),
        (MONITOR, [*forbidden, *producers, *monitors]),
    )
    for (user, password), closed in closed_to:
        client = connect(server.url(user, password))
        try:
            for arguments in closed:
                with pytest.raises(Exception, match=r"(?i)permission|can't (access|run)"):
                    await command(client, *arguments)
        finally:
            await client.aclose()


async def test_a_right_that_is_missing_is_named(server: SecureServer, sandbox: Sandbox) -> None:
    """A user without a command, or for another namespace, is told which right the line lacks."""
    producer = environment(ESA_PRELOAD_REDIS_URL=server.url(*PRODUCER))
    enqueue = ["enqueue", "--site", str(SITE), "https://www.example.com/"]
    elsewhere = await finish("esa-preload", *enqueue, env=producer | {"ESA_PRELOAD_NAMESPACE": "other"})
    assert_clear(elsewhere, 3, "permission")
    await server.admin("ACL", "SETUSER", PRODUCER[0], "-evalsha")
    assert_clear(await finish("esa-preload", *enqueue, env=producer), 3, "permission", "evalsha")
    await server.admin("ACL", "SETUSER", WORKER[0], "-hset")
    env = worker_environment(server.url(*WORKER), sandbox.url)
    assert_clear(await finish("esa-preload-worker", "run", "--burst", env=env), 3, "permission", "hset")


@pytest.mark.parametrize(
    ("server", "command_line"),
    [
        ("valkey", ["esa-preload", "sites"]),
        ("valkey", ["esa-preload-worker", "run", "--burst"]),
        ("valkey", ["esa-preload-worker", "check"]),
        ("redis", ["esa-preload", "sites"]),
    ],
    indirect=["server"],
)
async def test_a_way_in_that_is_closed_is_named(server: SecureServer, command_line: list[str]) -> None:
    """Another authority, a wrong password, no TLS: each is a sentence that says which, with exit code 3."""
    others = make_certificates(server.directory / "others")
    closed = {
        server.url(*WORKER, ca=others.authority): "certificate verify failed",
        server.url(WORKER[0], "wrong-password"): "password",
        f"redis://esa-worker:{acl.PASSWORD}@127.0.0.1:{server.port}/0": "redis",
    }
    runs = (finish(*command_line, env=worker_environment(url, "http://127.0.0.1:1")) for url in closed)
    for ended, word in zip(await asyncio.gather(*runs), closed.values(), strict=True):
        assert_clear(ended, 3, word)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_for_another_name_is_refused(kind: str) -> None:
    """A certificate of the right authority for another name is somebody else's server, unless the URL says otherwise."""
    async with secure_server(kind, hosts=["localhost"]) as server:
        await server.admin("ACL", "SETUSER", PRODUCER[0], *acl.rules(PRODUCER[0]))
        url = server.url(*PRODUCER)
        async with PreloadClient(server.url(*PRODUCER, host="localhost")) as client:
            assert await client.sites() == []
        async with PreloadClient(url) as client:
            with pytest.raises(QueueUnavailableError, match=r"(?i)mismatch") as caught:
                await client.sites()
        assert PRODUCER[1] not in f"{caught.value!r}{caught.value}"
        for unchecked in ("ssl_check_hostname=false", "ssl_cert_reqs=none"):
            async with PreloadClient(f"{url}&{unchecked}") as client:
                assert await client.sites() == []
