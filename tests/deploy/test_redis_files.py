"""The files of deploy/redis: both servers start with them, they promise what the service rests on, and the page tells of every user."""

from __future__ import annotations

import re
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import AuthenticationError, RedisError

import acl
import esa_preload
import esa_preload_worker
from deploy.programs import program
from docs.pages import DOCS, code_spans, read, table
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.scripts import as_text, command
from esa_preload_worker.check.environment import judge_server
from esa_preload_worker.check.probe import server_facts
from esa_preload_worker.embedded import valkey_binary
from processes import environment, started
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from redis.asyncio import Redis

CONFIG = acl.FILE.with_name("redis.conf")
PACKAGES = [Path(str(module.__file__)).parent for module in (esa_preload, esa_preload_worker)]


@pytest.fixture
def directory() -> Iterator[Path]:
    """Where a server keeps its data: a short name, for its socket."""
    with tempfile.TemporaryDirectory(prefix="esap-") as name:
        yield Path(name)


@asynccontextmanager
async def server(kind: str, directory: Path) -> AsyncGenerator[Redis]:
    """Run a server with the two files, but for where it listens and keeps its data; gives a client of its `admin`."""
    users = directory / "users.acl"
    users.write_text(read(acl.FILE).replace("user admin on ", f"user admin on >{acl.PASSWORD} "))
    socket = directory / "s"
    own = f"\nport 0\nunixsocket {socket}\ndir {directory}\naclfile {users}\nlogfile {directory}/log\n"
    config = directory / "redis.conf"
    config.write_text(re.sub(r"^aclfile .*$", "", read(CONFIG), flags=re.MULTILINE) + own)
    binary = str(valkey_binary()) if kind == "valkey" else program(("redis-server",))
    async with started(binary, str(config), env=environment()):
        await wait_until(socket.exists)
        client = connect(f"unix://admin:{acl.PASSWORD}@{socket}")
        try:
            yield client
        finally:
            await client.aclose()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_what_was_accepted_is_there_after_a_restart(kind: str, directory: Path) -> None:
    """Redis 7.0 replays transactions as `default`, with its rights: one that may nothing loses the queue."""
    async with server(kind, directory) as admin, PreloadClient(admin) as client:
        receipt = await client.enqueue(1, ["https://www.example.com/a", "https://www.example.com/b"])
    async with server(kind, directory) as admin, PreloadClient(admin, wait_for_redis=10) as client:
        assert (await client.status(receipt.request_id)).pending == 2


async def test_default_may_all_and_is_nobody(directory: Path) -> None:
    """Its rights are for the server's own replay: without a password, and off, nobody becomes it."""
    async with server("valkey", directory) as admin:
        stranger = connect(f"unix://{directory}/s")
        with pytest.raises(RedisError, match="Authentication required"):
            await command(stranger, "PING")
        await stranger.aclose()
        for password in ("", "default"):
            with pytest.raises(AuthenticationError):
                await command(admin, "AUTH", "default", password)


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_server_starts_with_the_files_and_is_fit_for_a_queue(kind: str, directory: Path) -> None:
    """Each line is known to the server, all users are there, nobody but they gets in, and `check` has nothing to say against it."""
    async with server(kind, directory) as admin:
        outcomes = judge_server(await server_facts(admin))
        odd = {each.name: each.state for each in outcomes if each.state not in ("ok", "skipped")}
        # Redis 7.0 has no WAITAOF, and with `appendfsync always` needs none.
        assert odd in ({}, {"waitaof": "warn"})
        names = [as_text(name) for name in await command(admin, "ACL", "USERS")]
        assert sorted(names) == sorted(acl.users())
        for line in map(as_text, await command(admin, "ACL", "LIST")):
            rules = line.split()
            assert rules[1] in ("admin", "default") or rules[2] == "on"
            assert "nopass" not in rules or rules[1:3] == ["default", "off"]


def test_no_user_of_the_file_has_a_password() -> None:
    """Who takes the file as it is lets nobody in: a password that everybody can read here would be none."""
    for user, rules in acl.users().items():
        assert not [rule for rule in rules if rule[0] in "#>" or rule == "nopass"], user


def commands_of(package: Path) -> set[str]:
    """Return the commands that a package's scripts, and the calls beside them, send to Redis."""
    found: set[str] = set()
    for path in package.rglob("*.lua"):
        found |= set(re.findall(r"\bcall\('([A-Z]+)'", path.read_text(encoding="utf-8")))
    for path in package.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        found |= set(re.findall(r"\bcommand\(\s*(?:self\.)?_?redis, \"([A-Z]+)\"", text))
    return {name.lower() for name in found}


def test_every_command_of_the_packages_is_somebody_s_right() -> None:
    """A command that is new in a script is missing in users.acl, or is optional: this fails before an operator's queue does."""
    given = {rule.removeprefix("+").partition("|")[0] for user in acl.users() for rule in acl.users()[user]}
    connection = {"ping", "wait", "waitaof"}  # of +@connection
    optional = {"config"}
    for package in PACKAGES:
        assert commands_of(package) - given - connection - optional == set(), package.name


def test_nothing_that_only_the_tests_do_is_in_the_packages() -> None:
    """What the tests may do beside the users' rights gives the packages nothing: they send none of it."""
    own = {rule.removeprefix("+").partition("|")[0] for rule in acl.PLUMBING} - {"config", "script"}
    sent = {name for package in PACKAGES for name in commands_of(package)}
    assert sent & own == set()
    assert not {rule for rules in acl.users().values() for rule in rules} & set(acl.PLUMBING)


def test_the_page_tells_of_each_user() -> None:
    """Its table has a row for each user of the file, and no other."""
    rows = table(read(DOCS / "how-to" / "secure-redis.md"), "user", "for", "may")
    assert sorted(code_spans(row[0])[0] for row in rows) == sorted(acl.users())
