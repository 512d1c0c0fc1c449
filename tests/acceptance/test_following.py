"""Commands that list and follow requests, export failures, and complete what is typed: as they are installed."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Literal, cast

import pytest

from esa_preload import PreloadClient
from esa_preload.scripts import command
from integration.clients.stages import LedgerWorkers
from processes import BIN, finish

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator

    from redis.asyncio import Redis

    from esa_preload.keys import Keys

SITE = 190007158391808


async def test_requests_are_listed_and_waited_for(redis: Redis, env: dict[str, str]) -> None:
    """The newest first, of a site and in a state; `wait` ends with 0 for a cancelled one, with 4 when time is up, with 1 for an unknown one."""
    client = PreloadClient(redis, namespace="t")
    for number in range(3):
        await client.enqueue(SITE + number % 2, [f"https://a.example/{number}"], request_id=f"r{number}")
    await client.cancel("r0")
    listed = await finish("esa-preload", "requests", "--site", str(SITE), "--json", env=env)
    assert [(each["request_id"], each["state"]) for each in listed.json()] == [
        ("r2", "active"),
        ("r0", "done"),
    ]
    table = await finish("esa-preload", "requests", "--state", "active", "--limit", "1", env=env)
    assert "r2" in table.out
    assert "r1" not in table.out
    done = await finish("esa-preload", "wait", "r0", "--json", env=env)
    assert (done.code, done.json()["cancelled"]) == (0, 1)
    assert (await finish("esa-preload", "wait", "r2", "--timeout", "0", env=env)).code == 4
    assert (await finish("esa-preload", "wait", "nobody", env=env)).code == 1


@contextlib.asynccontextmanager
async def watching(*arguments: str, env: dict[str, str]) -> AsyncGenerator[Process]:
    """Run `watch --json` while inside; gives the process, whose standard output can be read."""
    command_line = (str(BIN / "esa-preload"), "watch", *arguments, "--interval", "0.05", "--json")
    process = await asyncio.create_subprocess_exec(*command_line, env=env, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def next_document(process: Process) -> dict[str, object]:
    """Return what the next line holds."""
    assert process.stdout is not None
    return cast("dict[str, object]", json.loads(await asyncio.wait_for(process.stdout.readline(), 30)))


async def test_watch_prints_a_document_each_change(redis: Redis, env: dict[str, str]) -> None:
    """A request is followed to its end, a line a change; sites are, until somebody interrupts."""
    client = PreloadClient(redis, namespace="t")
    await client.enqueue(SITE, ["https://a.example/1", "https://a.example/2"], request_id="r")
    async with watching("r", env=env) as process:
        first = await next_document(process)
        await client.cancel("r")
        last = await next_document(process)
        assert (first["state"], first["pending"]) == ("active", 2)
        assert (last["state"], last["cancelled"]) == ("done", 2)
        assert await asyncio.wait_for(process.wait(), 30) == 0
    async with watching(env=env) as process:
        assert (await next_document(process))["state"] == "active"
        await client.pause(SITE, reason="a test")
        assert (await next_document(process))["reason"] == "a test"


@pytest.mark.parametrize(("how", "code"), [("submitted", 0), ("refused", 1)])
@pytest.mark.parametrize("form", [(), ("--json",)])
async def test_watch_ends_as_wait_does(
    redis: Redis, env: dict[str, str], how: Literal["submitted", "refused"], code: int, form: tuple[str, ...]
) -> None:
    """With 1 when some URLs did not get through, whatever it prints."""
    await PreloadClient(redis, namespace="t").enqueue(SITE, ["https://a.example/1"], request_id="r")
    await LedgerWorkers(redis).end_all(how)
    for verb in ("watch", "wait"):
        assert (await finish("esa-preload", verb, "r", *form, env=env)).code == code, verb


async def test_failures_are_exported(redis: Redis, keys: Keys, env: dict[str, str]) -> None:
    """All of them, over several pages, as rows and as lines; together with --json it is a mistake."""
    await PreloadClient(redis, namespace="t").enqueue(SITE, ["https://a.example/"])
    fields = ("state", "refused", "reason", "r", "code", "=1+1", "at", "1", "batch", "b", "lane", "")
    for number in range(1_200):
        url = f"https://a.example/{number}"
        await command(redis, "XADD", keys.failures(SITE), "*", "url", url, *fields)
    await command(redis, "PEXPIRE", keys.failures(SITE), 60_000)
    rows = (await finish("esa-preload", "failures", "--export", "csv", env=env)).out.splitlines()
    assert len(rows) == 1_201
    assert rows[1].split(",")[3:6] == ["'=1+1", "b", "https://a.example/1199"]
    lines = (await finish("esa-preload", "failures", "--export", "jsonl", env=env)).out.splitlines()
    assert {json.loads(line)["url"] for line in lines} == {f"https://a.example/{n}" for n in range(1_200)}
    assert (await finish("esa-preload", "failures", "--export", "csv", "--json", env=env)).code == 2


async def test_the_shell_completes_what_is_typed(env: dict[str, str]) -> None:
    """Commands by their beginning, and the choices of an option; the script for bash asks for them."""
    asks = env | {
        "_ESA_PRELOAD_COMPLETE": "bash_complete",
        "COMP_WORDS": "esa-preload req",
        "COMP_CWORD": "1",
    }
    done = await finish("esa-preload", env=asks)
    assert {line.partition(",")[2] for line in done.out.split()} == {"requests", "requeue"}
    choice = asks | {"COMP_WORDS": "esa-preload failures --export ", "COMP_CWORD": "3"}
    done = await finish("esa-preload", env=choice)
    assert {line.partition(",")[2] for line in done.out.split()} == {"csv", "jsonl"}
    script = await finish("esa-preload", env=env | {"_ESA_PRELOAD_COMPLETE": "bash_source"})
    assert "_ESA_PRELOAD_COMPLETE=bash_complete" in script.out
