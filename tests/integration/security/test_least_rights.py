"""The users of deploy/redis/users.acl: each has what its part of the path takes, and no right that could be left out."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

import acl
from esa_preload.reading import EXPLAIN
from esa_preload.scripts import as_text, command
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from integration.security.whole_path import carry, check, operate, produce, work
from integration.worker.rig import NAMESPACE, SITE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from redis.asyncio import Redis

PATHS = ("esa-producer", "esa-operator", "esa-api", "esa-worker")
SETTERS = ("on", "-@all", "resetkeys")
"""Rules that give nothing."""
TAKEN = ("-@dangerous", "-select")
"""Rules that take a right away: each has a test of its own below."""
SAMPLE = (
    ("esa-producer", "+hset"),
    ("esa-operator", "+xdel"),
    ("esa-worker", "+incrby"),
    ("esa-worker", "~arq:retry:esa-preload:default:*"),
)

ARQ_LEAVES = pytest.mark.filterwarnings(
    "ignore:Unclosed client session:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
"""arq leaves a pipeline open when Redis refuses it something."""


@pytest.fixture(autouse=True)
def swept() -> Iterator[None]:
    """Let what a test leaves open be found under its own filter of warnings."""
    yield
    gc.collect()


@pytest.fixture(autouse=True)
def short_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a lane of a few hundred be long, in which a place is estimated."""
    assert "REACH = 20000" in EXPLAIN.text
    script = replace(EXPLAIN, text=EXPLAIN.text.replace("REACH = 20000", "REACH = 50"), sha="0" * 40)
    monkeypatch.setattr("esa_preload.reading.EXPLAIN", script)


def rights(user: str) -> list[str]:
    """Return the rules of *user* that give it something."""
    return [rule for rule in acl.users()[user] if rule not in (*SETTERS, *TAKEN)]


@asynccontextmanager
async def logged_in(admin: Redis, admin_url: str, user: str, *, without: str = "") -> AsyncGenerator[str]:
    """Let *user* exist while inside; gives its URL."""
    await command(admin, "ACL", "SETUSER", user, *acl.rules(user, namespace=NAMESPACE, without=without))
    try:
        yield acl.url_of(user, admin_url)
    finally:
        await command(admin, "ACL", "DELUSER", user)


async def walk(user: str, url: str, admin: Redis, admin_url: str) -> None:
    """Do what *user* is there for, with somebody else's rights where it needs others."""
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as sandbox:
        await command(admin, "SCRIPT", "FLUSH")
        has_waitaof = tuple(
            map(int, (await command(admin, "INFO", "server"))["redis_version"].split("."))
        ) >= (7, 2)
        match user:
            case "esa-worker":
                await check(url, admin)
                await command(admin, "FLUSHALL")
                await carry(url)
                await work(url, sandbox, admin)
            case "esa-producer":
                await produce(url, has_waitaof=has_waitaof)
            case _:
                await produce(url, has_waitaof=has_waitaof)
                await command(admin, "FLUSHALL")
                await work(admin_url, sandbox, admin)
                await operate(url)


async def refused(admin: Redis, user: str) -> set[str]:
    """Return what the server refused to *user*, but for looking at its configuration, which need not work."""
    entries = [
        dict(zip(map(as_text, entry[0::2]), map(as_text, entry[1::2]), strict=True))
        for entry in await command(admin, "ACL", "LOG")
    ]
    return {entry["object"] for entry in entries if entry["username"] == user} - {"config|get"}


@pytest.mark.parametrize("user", PATHS)
async def test_each_user_may_do_what_it_is_there_for(
    redis: Redis, admin: Redis, admin_url: str, user: str
) -> None:
    """The whole path works with the rights of the file, and the server refuses none of it."""
    del redis  # an empty server
    await command(admin, "ACL", "LOG", "RESET")
    async with logged_in(admin, admin_url, user) as url:
        await walk(user, url, admin, admin_url)
        # Before 7.2 a durable enqueue asks for replicas instead, which need not work either.
        assert await refused(admin, user) <= {"info"}
    await command(admin, "FLUSHALL")


@ARQ_LEAVES
@pytest.mark.parametrize(("user", "right"), SAMPLE)
async def test_the_path_breaks_without_one_right(
    redis: Redis, admin: Redis, admin_url: str, user: str, right: str
) -> None:
    """A few of the rights, as a sample of the slow test below."""
    del redis
    await breaks_without(admin, admin_url, user, right)


@ARQ_LEAVES
@pytest.mark.slow
@pytest.mark.parametrize(("user", "right"), [(user, right) for user in PATHS for right in rights(user)])
async def test_no_right_of_the_file_could_be_left_out(
    redis: Redis, admin: Redis, admin_url: str, user: str, right: str
) -> None:
    """Whatever right is taken away, a command or a pattern of keys: something of the path fails for it."""
    del redis
    await breaks_without(admin, admin_url, user, right)


async def breaks_without(admin: Redis, admin_url: str, user: str, right: str) -> None:
    """Make sure that the path of *user* fails without *right*, and that the server refused something for it."""
    await command(admin, "ACL", "LOG", "RESET")
    try:
        async with logged_in(admin, admin_url, user, without=right) as url:
            with pytest.raises(Exception):  # noqa: B017, PT011 - whichever step it is that fails
                await walk(user, url, admin, admin_url)
            assert await refused(admin, user)
    finally:
        await command(admin, "FLUSHALL")
