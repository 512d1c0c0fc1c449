"""A queue is put back from a copy of its file, or from a snapshot: what is there again, what is submitted twice, what is gone."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from esa_preload.client import PreloadClient
from esa_preload.connection import connect
from esa_preload.errors import UnknownRequestError
from esa_preload.keys import Keys
from esa_preload_worker.check.audit import Auditor
from esa_preload_worker.check.reader import LedgerReader
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from integration.outages.servers import Server
from integration.worker.rig import NAMESPACE, SITE, urls_of
from integration.worker.running import running
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

DONE, WAITING, AFTER = urls_of(30), urls_of(40, start=100), urls_of(10, start=200)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with one site, which outlives the servers of the queue."""
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as found:
        yield found


async def copy_of_the_file(server: Server, directory: Path) -> None:
    """Copy the append-only file, as the page says: none is rewritten meanwhile."""
    server.command("CONFIG", "SET", "auto-aof-rewrite-percentage", "0")
    shutil.copytree(server.directory / "appendonlydir", directory / "appendonlydir")
    server.command("CONFIG", "SET", "auto-aof-rewrite-percentage", "100")


async def snapshot(server: Server, directory: Path) -> None:
    """Take a snapshot, and copy it."""
    server.command("BGSAVE")
    await wait_until(lambda: "rdb_bgsave_in_progress:0" in raw_info(server))
    shutil.copy2(server.directory / "dump.rdb", directory)


def raw_info(server: Server) -> str:
    """Return what the server says of its files."""
    return "\n".join(f"{name}:{value}" for name, value in server.command("INFO", "persistence").items())


async def start_on(server: Server, way: str) -> None:
    """Start a server on what was put back."""
    if way == "file":
        await server.start()
        return
    # With appendonly yes it would look for that file only, find none, and start empty.
    await server.start(appendonly="no")
    server.command("CONFIG", "SET", "appendonly", "yes")
    await wait_until(
        lambda: "aof_rewrite_in_progress:0" in raw_info(server) and "aof_enabled:1" in raw_info(server)
    )


@pytest.mark.parametrize("way", ["file", "snapshot"])
async def test_what_was_submitted_after_the_copy_is_submitted_again_and_nothing_else(
    tmp_path: Path, sandbox: Sandbox, way: str
) -> None:
    """What had ended stays so, what waited goes on, what came later is unknown and comes back by its repeat; the ledger is sound."""
    first, second = Server(tmp_path / "first"), Server(tmp_path / "second")
    try:
        await first.start()
        async with PreloadClient(first.url, namespace=NAMESPACE) as client, running(first.url, sandbox):
            done = await client.enqueue(SITE, DONE, request_id="done")
            assert (await client.wait(done.request_id, timeout=5)).submitted == 30
            await client.pause(SITE)
            await client.enqueue(SITE, WAITING, request_id="waiting")
            await (copy_of_the_file if way == "file" else snapshot)(first, second.directory)
            await client.resume(SITE)
            await client.enqueue(SITE, AFTER, request_id="after")
            for name in ("waiting", "after"):
                await client.wait(name, timeout=5)
        first.kill()
        assert (sandbox.stats()["planned_urls"], sandbox.stats()["urls_planned_again"]) == (80, 0)

        await start_on(second, way)
        async with PreloadClient(second.url, namespace=NAMESPACE) as client, running(second.url, sandbox):
            assert (await client.status("done")).submitted == 30
            assert (await client.status("waiting")).pending == 40
            with pytest.raises(UnknownRequestError):
                await client.status("after")
            await client.enqueue(SITE, AFTER, request_id="after")
            await client.resume(SITE)
            assert (await client.wait("waiting", timeout=5)).submitted == 40
            assert (await client.wait("after", timeout=5)).submitted == 10
        redis = connect(second.url)
        audit = await Auditor(LedgerReader(redis, Keys(NAMESPACE))).run()
        await redis.aclose()
        assert audit.violations == []
        assert sandbox.stats()["urls_planned_again"] == 50
    finally:
        first.kill()
        second.kill()


async def test_a_snapshot_is_not_read_by_a_server_with_an_append_only_file(tmp_path: Path) -> None:
    """The trap that the page names: it starts, well and empty."""
    first, second = Server(tmp_path / "first"), Server(tmp_path / "second")
    try:
        await first.start()
        async with PreloadClient(first.url, namespace=NAMESPACE) as client:
            await client.enqueue(SITE, WAITING)
        await snapshot(first, second.directory)
        await second.start()
        assert second.command("DBSIZE") == 0
    finally:
        first.kill()
        second.kill()
