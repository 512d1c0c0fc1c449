"""A primary, a replica and a sentinel as processes of their own: what a failover takes, and what it may lose."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from esa_preload import QueueUnavailableError, UnknownRequestError
from integration.outages.plant import PATIENCE_S, SITE, plant
from integration.outages.servers import Server
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from esa_preload_worker.sandbox import Sandbox

DOWN_AFTER_MS = 500
SERVICE = "queue"
QUICK = {"repl_diskless_sync_delay": "0"}


class Trio:
    """A primary, its replica, and the sentinel that watches both, alone."""

    def __init__(self, directory: Path) -> None:
        self.primary = Server(directory / "primary")
        self.replica = Server(directory / "replica")
        self.sentinel = Server(
            directory / "sentinel",
            config={},
            lines=(
                f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 1",
                f"sentinel down-after-milliseconds {SERVICE} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {SERVICE} 5000",
            ),
        )

    @property
    def url(self) -> str:
        """Where both the worker and the producer look for the primary."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}?socket_timeout=2"

    async def start(self) -> None:
        """Start all three, and wait until the sentinel knows of a replica that is in step."""
        await self.primary.start(**QUICK)
        await self.replica.start(**QUICK, replicaof=f"127.0.0.1 {self.primary.port}")
        await self.until_in_step()
        await self.sentinel.start()
        await wait_until(lambda: "'ok'" in str(self.sentinel.command("SENTINEL", "REPLICAS", SERVICE)))

    async def until_in_step(self) -> None:
        """Wait until the replica has all that the primary has."""

        def look() -> bool:
            said = self.primary.command("INFO", "replication")
            return bool(said.get("slave0", {}).get("offset") == said["master_repl_offset"] > 0)

        await wait_until(look)

    def cut_off(self) -> None:
        """End the replication for good: the primary takes the replica back no more."""
        self.primary.command("ACL", "SETUSER", "default", "-psync", "-sync")
        self.primary.command("CLIENT", "KILL", "TYPE", "replica")

    def kill(self) -> None:
        """End all three."""
        for server in (self.sentinel, self.replica, self.primary):
            server.kill()


@pytest.fixture
async def trio(tmp_path: Path) -> AsyncIterator[Trio]:
    """All three, in step."""
    built = Trio(tmp_path)
    try:
        await built.start()
        yield built
    finally:
        built.kill()


async def test_a_failover(trio: Trio, sandbox: Sandbox) -> None:
    """The primary dies in the middle of the work: worker and producer find the new one, and nothing is lost or planned twice."""
    async with plant(trio.url, sandbox) as run:
        sandbox.reconfigure(latency_s=0.05)
        work = await run.enqueue(2_000)
        await trio.until_in_step()
        trio.primary.kill()
        run.ends()
        await run.enqueue(3)
        accepted_s = time.monotonic() - run.ended_at
        await run.until_back(work)
        assert trio.replica.command("ROLE")[0] == "master"
        await run.judge("failover")
    print(
        f"producer: first accepted {accepted_s:.2f} s after the SIGKILL; down-after {DOWN_AFTER_MS} ms of them"
    )


async def test_what_a_failover_may_lose(trio: Trio, sandbox: Sandbox) -> None:
    """
    What was accepted while the replica was cut off is lost with the primary, and nothing else.

    The producer can tell: its request is unknown, or short. The same call with the same id brings it back.
    """
    async with plant(trio.url, sandbox) as run:
        kept = await run.enqueue(200)
        await run.submitted(kept)
        await run.client.pause(SITE)  # what is claimed meanwhile may be planned, forgotten, and planned again
        await trio.until_in_step()
        trio.cut_off()
        urls = [f"https://www.example.com/lost/{number}" for number in range(2_500)]
        receipt = await run.client.enqueue(SITE, urls, request_id="cut-off")
        trio.primary.kill()
        run.ends()

        async def is_unknown() -> bool:
            try:
                await run.client.status("cut-off")
            except UnknownRequestError:
                return True
            except QueueUnavailableError:
                pass
            return False

        await wait_until_async(is_unknown, timeout_s=PATIENCE_S)
        assert (await run.client.status(kept)).submitted == 200
        again = await run.client.enqueue(SITE, urls, request_id="cut-off")
        assert (receipt.accepted, again.accepted) == (2_500, 2_500)
        run.accepted += again.accepted
        await run.client.resume(SITE)
        await run.until_back("cut-off")
        await run.judge("failover without the replica")
    print(
        f"acknowledged and lost: {receipt.accepted} of {receipt.accepted} URLs accepted since the replica was cut off"
    )
