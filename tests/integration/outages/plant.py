"""A worker as a process of its own, what it says during an outage, and the judgement afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from esa_preload import PreloadClient, QueueUnavailableError
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload_worker.check.audit import Auditor
from esa_preload_worker.check.reader import LedgerReader
from processes import started, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection

    from esa_preload_worker.sandbox import Sandbox
    from processes import Running

NAMESPACE = "t"
SITE = 190007158391808
LEASE_S = 2.0
PATIENCE_S = 40.0
"""Of a test, on a machine that does much else."""

SETTINGS = {
    "ESA_PRELOAD_NAMESPACE": NAMESPACE,
    "ESA_PRELOAD_LEASE": str(LEASE_S),
    "ESA_PRELOAD_BATCH_QUIET": "0.05",
    "ESA_PRELOAD_BATCH_MAX_AGE": "0.5",
    "ESA_PRELOAD_CALL_TIMEOUT": "1",
    "ESA_PRELOAD_LIST_LAG": "0.2",
    "ESA_PRELOAD_RATE_INITIAL": "100",
    "ESA_PRELOAD_SHUTDOWN_GRACE": "2",
}

QUIET_LEVELS = ("debug", "info")


@dataclass(kw_only=True)
class Plant:
    """
    One worker, its ESA and a producer, around a Redis that has an outage.

    Attributes:
        back_s: seconds from :meth:`ends` until work was done again, and until the worker said that it is ready.
    """

    worker: Running
    sandbox: Sandbox
    client: PreloadClient
    redis_url: str
    ops_url: str
    accepted: int = 0
    requests: list[str] = field(default_factory=list[str])
    ended_at: float = 0.0
    back_s: tuple[float, float] = (0.0, 0.0)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def enqueue(self, count: int) -> str:
        """Enqueue *count* URLs that nobody else asks for; repeated with the same id until they are accepted."""
        urls = [f"https://www.example.com/{next(self._numbers)}.js" for _ in range(count)]
        request_id = f"request-{len(self.requests)}"
        self.requests.append(request_id)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                receipt = await self.client.enqueue(SITE, urls, request_id=request_id)
            except QueueUnavailableError:
                assert time.monotonic() < until
                await asyncio.sleep(0.02)
            else:
                self.accepted += receipt.accepted
                return request_id

    async def submitted(self, request_id: str, *, timeout_s: float = PATIENCE_S) -> None:
        """Wait until all of a request were submitted."""

        async def look() -> bool:
            try:
                status = await self.client.status(request_id)
            except QueueUnavailableError:
                return False
            return status.submitted == status.accepted

        await wait_until_async(look, timeout_s=timeout_s)

    async def probe(self, name: str) -> tuple[int, str]:
        """Ask a probe."""
        async with httpx.AsyncClient(trust_env=False) as http:
            reply = await http.get(f"{self.ops_url}/{name}")
            return reply.status_code, reply.text.strip()

    async def until_ready(self, *, is_ready: bool = True, timeout_s: float = PATIENCE_S) -> str:
        """Wait until the worker says that it is ready, or is not; returns what it says. It is alive all the while."""

        async def look() -> str:
            assert await self.probe("livez") == (200, "ok")
            status, text = await self.probe("readyz")
            return text if status == (200 if is_ready else 503) else ""

        return await wait_until_async(look, timeout_s=timeout_s)

    def ends(self) -> None:
        """Note that the outage ends now."""
        self.ended_at = time.monotonic()

    async def until_back(self, request_id: str) -> None:
        """Wait until a request from before the end of the outage, and one from after it, were submitted; then until ready."""
        await self.submitted(request_id)
        await self.submitted(await self.enqueue(3))
        work_s = time.monotonic() - self.ended_at
        await self.until_ready()
        self.back_s = (work_s, time.monotonic() - self.ended_at)

    async def judge(self, name: str, *, episodes: Collection[int] = (1,)) -> None:
        """
        Make sure that nothing was lost or planned twice, that the ledger is whole, and that the log tells of one outage.

        Args:
            episodes: how many outages the log may tell of instead; each has a line at its begin and one at its end.
        """
        stats = self.sandbox.stats()
        assert (stats["planned_urls"], stats["urls_planned_again"]) == (self.accepted, 0)
        redis = connect(self.redis_url)
        try:
            assert (await Auditor(LedgerReader(redis, Keys(NAMESPACE))).run()).violations == []
        finally:
            await redis.aclose()
        with contextlib.suppress(AssertionError):  # the worker is ready a moment before its line is read here
            await wait_until(lambda: len(set(self._told())) == 1)
        begun, ended = self._told()
        lines = "\n".join(self.worker.lines)
        assert begun == ended, lines
        assert begun in episodes, lines
        assert self.stray() == [], lines
        if begun:
            print(
                f"\n{name}: work again {self.back_s[0]:.2f} s, ready again {self.back_s[1]:.2f} s after its end;"
                f" {self.worker.events('redis.unavailable')[0]['error']}"
            )

    def _told(self) -> tuple[int, int]:
        """Return how many begins and how many ends of an outage the log tells of."""
        said = [event["event"] for event in self.worker.events()]
        return said.count("redis.unavailable"), said.count("redis.recovered")

    def stray(self) -> list[Any]:
        """Return what the worker said, at warning or above, beside the one line that tells of the outage, and batches in doubt."""
        known = ("redis.unavailable", "batch.uncertain")
        return [line for line in self.worker.lines if not line.startswith("{")] + [
            event
            for event in self.worker.events()
            if event["level"] not in QUIET_LEVELS
            and event["event"] not in known
            and not _is_of_the_test(event)
        ]


def _is_of_the_test(event: dict[str, Any]) -> bool:
    """Tell whether a warning is about how the tests run a worker: ESA over http."""
    return event["event"] == "worker.warning" and "http" in str(event.get("message"))


@asynccontextmanager
async def plant(
    redis_url: str, sandbox: Sandbox, *, producer_url: str = "", **settings: str
) -> AsyncGenerator[Plant]:
    """Run a worker while inside, once it is ready and has done some work."""
    env = worker_environment(redis_url, sandbox.url, **SETTINGS | settings)
    async with (
        PreloadClient(producer_url or redis_url, namespace=NAMESPACE) as client,
        started("esa-preload-worker", "run", env=env) as worker,
    ):
        begun = await wait_until(lambda: worker.events("worker.started"), timeout_s=PATIENCE_S)
        built = Plant(
            worker=worker,
            sandbox=sandbox,
            client=client,
            redis_url=producer_url or redis_url,
            ops_url=begun[0]["ops_url"],
        )
        await built.until_ready()
        await built.submitted(await built.enqueue(3))
        yield built
