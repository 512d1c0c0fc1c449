"""
A worker lives through whatever befalls its Redis.

Each test proves the same: alive all the while; not ready, with a reason, and ready again by itself; one line at each end of the
outage and no other; every URL submitted once; a ledger without a flaw.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from esa_preload import PreloadClient, QueueUnavailableError
from integration.outages.plant import NAMESPACE, SETTINGS, SITE, plant
from integration.outages.proxy import Proxy
from integration.outages.servers import Server
from processes import started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from esa_preload_worker.sandbox import Sandbox


async def test_killed_and_restarted(server: Server, sandbox: Sandbox) -> None:
    """SIGKILL in the middle of the work, and a restart on the same append-only file."""
    async with plant(server.url, sandbox) as run:
        sandbox.reconfigure(latency_s=0.05)
        work = await run.enqueue(1_000)
        server.kill()
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        run.ends()
        await server.start()
        await run.until_back(work)
        await run.judge("SIGKILL")


async def test_frozen(server: Server, sandbox: Sandbox) -> None:
    """SIGSTOP: the server accepts connections, and never answers."""
    async with plant(server.url, sandbox) as run:
        work = await run.enqueue(1_000)
        server.freeze()
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        await asyncio.sleep(1)
        run.ends()
        server.thaw()
        await run.until_back(work)
        await run.judge("SIGSTOP")


async def test_a_path_that_is_cut(server: Server, sandbox: Sandbox) -> None:
    """What passes is swallowed, and what was lost stays lost: every connection is dead without knowing it."""
    async with Proxy(server.port) as proxy, plant(proxy.url, sandbox, producer_url=server.url) as run:
        proxy.swallows = True
        work = await run.enqueue(1_000)
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        run.ends()
        proxy.swallows = False
        await run.until_back(work)
        await run.judge("half-open")


async def test_a_path_that_resets(server: Server, sandbox: Sandbox) -> None:
    """Connections that are reset are made anew: that alone is no outage."""
    async with Proxy(server.port) as proxy, plant(proxy.url, sandbox, producer_url=server.url) as run:
        sandbox.reconfigure(latency_s=0.02)
        work = await run.enqueue(2_000)
        for _ in range(5):
            proxy.reset()
            await asyncio.sleep(0.1)
        run.ends()
        await run.until_back(work)
        await run.judge("resets", episodes=(0, 1))


async def test_replies_that_are_slow(server: Server, sandbox: Sandbox) -> None:
    """A third of a second for each reply is slow, and no outage: the work goes on."""
    async with (
        Proxy(server.port) as proxy,
        plant(proxy.url, sandbox, producer_url=server.url, ESA_PRELOAD_LEASE="10") as run,
    ):
        proxy.delay_s = 0.3
        await run.submitted(await run.enqueue(100))
        assert (await run.probe("readyz"))[0] == 200
        proxy.delay_s = 0
        await run.judge("slow replies", episodes=(0,))


async def test_loading(server: Server, sandbox: Sandbox) -> None:
    """A server that reads its file for seconds refuses every command meanwhile."""
    async with plant(server.url, sandbox) as run:
        work = await run.enqueue(100)
        await run.submitted(work)
        with server.client() as client, client.pipeline(transaction=False) as pipe:
            for number in range(3_000):
                pipe.set(f"ballast:{number}", "x" * 1_000)
            pipe.execute()
        server.kill()
        server.begin(key_load_delay="1000", loading_process_events_interval_bytes="65536")
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        await asyncio.sleep(1)
        work = await run.enqueue(10)
        run.ends()
        await run.until_back(work)
        await run.judge("LOADING")


async def test_read_only(server: Server, sandbox: Sandbox) -> None:
    """The server became a replica of one that is gone: it reads, and writes nothing."""
    async with plant(server.url, sandbox) as run:
        work = await run.enqueue(1_000)
        server.command("REPLICAOF", "127.0.0.1", 1)
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        with pytest.raises(QueueUnavailableError, match="replica"):
            await run.client.enqueue(SITE, ["https://www.example.com/refused"])
        await asyncio.sleep(1)
        run.ends()
        server.command("REPLICAOF", "NO", "ONE")
        await run.until_back(work)
        await run.judge("READONLY")


async def test_an_address_that_leads_to_another_server(
    server: Server, sandbox: Sandbox, tmp_path: Path
) -> None:
    """
    A failover behind a name, as managed services do it: the old primary lives on, as a replica of the new one.

    Connections that exist lead to the old one still, and it answers what is read: they are given up at its first refusal.
    """
    successor = Server(tmp_path / "successor")
    server.command("CONFIG", "SET", "repl-diskless-sync-delay", "0")
    try:
        await successor.start(replicaof=f"127.0.0.1 {server.port}", repl_diskless_sync_delay="0")
        await wait_until(lambda: "'online'" in str(server.command("INFO", "replication")))
        async with Proxy(server.port) as name, plant(name.url, sandbox) as run:
            sandbox.reconfigure(latency_s=0.05)
            work = await run.enqueue(1_000)
            server.command("CLIENT", "PAUSE", 5_000, "WRITE")
            await wait_until(lambda: has_all(server))
            successor.command("REPLICAOF", "NO", "ONE")
            name.leads_to = successor.port
            server.command("REPLICAOF", "127.0.0.1", successor.port)
            run.ends()
            server.command("CLIENT", "UNPAUSE")
            await run.until_back(work)
            await run.judge("READONLY behind a name", episodes=(0, 1))
    finally:
        successor.kill()


def has_all(primary: Server) -> bool:
    """Tell whether the one replica has all that the primary has."""
    said = primary.command("INFO", "replication")
    return bool(said["slave0"]["offset"] == said["master_repl_offset"])


async def test_out_of_memory(server: Server, sandbox: Sandbox) -> None:
    """Nothing more is accepted, and the producer is told why; what was accepted is worked off, and frees the memory."""
    async with plant(server.url, sandbox) as run:
        sandbox.reconfigure(latency_s=0.05)
        work = await run.enqueue(3_000)
        server.command("CONFIG", "SET", "maxmemory", "1mb")
        assert "OutOfMemory" in await run.until_ready(is_ready=False)
        with pytest.raises(QueueUnavailableError, match="maxmemory") as refused:
            await run.client.enqueue(SITE, ["https://www.example.com/refused"])
        assert "memory" in refused.value.hint
        await run.submitted(work)
        run.ends()
        server.command("CONFIG", "SET", "maxmemory", "0")
        await run.until_back(work)
        await run.judge("OOM")


async def test_a_worker_that_starts_out_of_memory(server: Server, sandbox: Sandbox) -> None:
    """A worker that comes back to a server whose memory is full does what makes room: the work."""
    async with plant(server.url, sandbox) as run:
        work = await run.enqueue(3)
        await run.submitted(work)
    async with PreloadClient(server.url, namespace=NAMESPACE) as client:
        receipt = await client.enqueue(
            SITE, [f"https://www.example.com/full/{number}" for number in range(200)]
        )
        server.command("CONFIG", "SET", "maxmemory", "1mb")
        env = worker_environment(server.url, sandbox.url, **SETTINGS)
        async with started("esa-preload-worker", "run", env=env) as worker:
            status = await client.wait(receipt.request_id, timeout=15)
            assert status.submitted == 200
            messages = [str(event.get("message")) for event in worker.events("worker.warning")]
    assert any("out of memory" in message for message in messages)


async def test_a_password_that_was_changed(server: Server, sandbox: Sandbox) -> None:
    """NOAUTH and WRONGPASS until the old password holds again."""
    server.command("ACL", "SETUSER", "worker", "on", ">before", "~*", "&*", "+@all")
    url = server.url.replace("redis://", "redis://worker:before@")
    async with plant(url, sandbox, producer_url=server.url) as run:
        server.command("ACL", "SETUSER", "worker", "resetpass", ">after")
        server.command("CLIENT", "KILL", "USER", "worker")
        work = await run.enqueue(100)
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        await asyncio.sleep(1)
        run.ends()
        server.command("ACL", "SETUSER", "worker", ">before")
        await run.until_back(work)
        await run.judge("password")
        assert "before" not in "\n".join(run.worker.lines)


async def test_rights_that_were_taken(server: Server, sandbox: Sandbox) -> None:
    """NOPERM: the user may not run scripts any more."""
    server.command("ACL", "SETUSER", "worker", "on", ">secret", "~*", "&*", "+@all")
    url = server.url.replace("redis://", "redis://worker:secret@")
    async with plant(url, sandbox, producer_url=server.url) as run:
        server.command("ACL", "SETUSER", "worker", "-@scripting")
        work = await run.enqueue(100)
        assert "redis unavailable" in await run.until_ready(is_ready=False)
        await asyncio.sleep(1)
        run.ends()
        server.command("ACL", "SETUSER", "worker", "+@all")
        await run.until_back(work)
        await run.judge("NOPERM")


async def test_too_many_clients(server: Server, sandbox: Sandbox) -> None:
    """The server takes no connection more, and has closed those of the worker."""
    async with plant(server.url, sandbox) as run:
        with server.client() as admin:
            admin.config_set("maxclients", 1)
            admin.client_kill_filter(_type="normal", skipme=True)
            assert "redis unavailable" in await run.until_ready(is_ready=False)
            with pytest.raises(QueueUnavailableError, match="cannot be reached"):
                await run.client.enqueue(SITE, ["https://www.example.com/refused"])
            await asyncio.sleep(1)
            run.ends()
            admin.config_set("maxclients", 10_000)
        await run.until_back(await run.enqueue(10))
        await run.judge("max number of clients")


async def test_a_disk_that_cannot_be_written(server: Server, sandbox: Sandbox) -> None:
    """MISCONF: the last snapshot failed, and the server refuses every write until one succeeds."""
    async with plant(server.url, sandbox) as run:
        with server.client() as admin:
            admin.config_set("save", "3600 1")
            work = await run.enqueue(1_000)
            obstacle = server.directory / "dump.rdb"
            obstacle.mkdir()
            admin.bgsave()
            assert "redis unavailable" in await run.until_ready(is_ready=False)
            with pytest.raises(QueueUnavailableError, match="MISCONF"):
                await run.client.enqueue(SITE, ["https://www.example.com/refused"])
            await asyncio.sleep(1)
            obstacle.rmdir()
            run.ends()
            admin.bgsave()
        await run.until_back(work)
        await run.judge("MISCONF")
