"""A queue in full flow gives no false alarm, and a repair of it does no harm."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from esa_preload import PreloadClient
from esa_preload.cancellation import end_tasks
from esa_preload.connection import connect
from esa_preload_worker.check.audit import Auditor
from esa_preload_worker.check.reader import LedgerReader
from esa_preload_worker.check.repair import repair
from esa_preload_worker.sandbox import BucketLimit, Sandbox, SandboxConfig
from processes import started, worker_environment
from waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from esa_preload.keys import Keys
    from integration.check.queue_content import Queue

SITES = (11, 12, 13)
LOAD_S = 3.0


class _Producer:
    """Enqueues small and large requests, repeats, promotions and cancellations until stopped."""

    def __init__(self, client: PreloadClient) -> None:
        self._client = client
        self._dice = random.Random(7)
        self.request_ids: list[str] = []

    async def run(self) -> None:
        while True:
            await self._one()
            await asyncio.sleep(0.005)

    async def _one(self) -> None:
        dice = self._dice
        start, count = dice.randrange(3_000), dice.choice((1, 10, 150, 1_500))
        site = dice.choice(SITES)
        host = "other.example" if site == 13 and dice.random() < 0.3 else "www.example.com"
        receipt = await self._client.enqueue(
            site,
            [f"https://{host}/{number}" for number in range(start, start + count)],
            priority=dice.choice(("high", "normal", "low")),
            expires_in=0.3 if dice.random() < 0.2 else None,
        )
        self.request_ids.append(receipt.request_id)
        if dice.random() < 0.2:
            await self._client.cancel(dice.choice(self.request_ids))


@asynccontextmanager
async def _load(redis_url: str, keys: Keys) -> AsyncGenerator[_Producer]:
    """Run a producer, a worker and an ESA that throttles and refuses a foreign domain, while inside."""
    config = SandboxConfig(
        limits={"*": BucketLimit(rate_per_s=60, burst=10)},
        sites={11: ("example.com",), 12: ("example.com",), 13: ("example.com",)},
        latency_s=0.01,
    )
    async with Sandbox(config) as sandbox:
        env = worker_environment(
            redis_url,
            sandbox.url,
            ESA_PRELOAD_NAMESPACE=keys.namespace,
            ESA_PRELOAD_RATE_INITIAL="60",
            ESA_PRELOAD_BATCH_QUIET="0.05",
        )
        redis = connect(redis_url)
        async with (
            started("esa-preload-worker", "run", env=env),
            PreloadClient(redis, namespace=keys.namespace) as client,
        ):
            producer = _Producer(client)
            task = asyncio.create_task(producer.run())
            try:
                yield producer
            finally:
                await end_tasks(task)
        await redis.aclose()


async def test_a_live_queue_gives_no_false_alarm(queue: Queue, redis_url: str) -> None:
    """Audits in a row, while URLs are accepted, merged, claimed, throttled, refused and cancelled, find nothing; all is counted at the end."""
    reader = LedgerReader(queue.redis, queue.keys)
    async with _load(redis_url, queue.keys) as producer:

        async def has_work() -> bool:
            audit = await Auditor(reader).run()
            return bool(audit.counts["batches"] and len(producer.request_ids) > 20)

        await wait_until_async(has_work, timeout_s=60)
        seen = {"urls": 0, "in_flight": 0, "requests_active": 0}
        until, audits = time.monotonic() + LOAD_S, 0
        while time.monotonic() < until:
            audit = await Auditor(reader).run()
            assert audit.violations == []
            audits += 1
            seen = {name: max(most, audit.counts[name]) for name, most in seen.items()}
    assert audits >= 1  # more of them on a machine with time to spare
    assert all(seen.values()), seen


async def test_a_repair_of_a_live_queue_does_no_harm(queue: Queue, redis_url: str) -> None:
    """Indexes are broken under load and mended time and again; afterwards every invariant holds, while the load goes on."""
    reader = LedgerReader(queue.redis, queue.keys)
    said: list[str] = []
    async with _load(redis_url, queue.keys) as producer:
        await wait_until_async(lambda: queue.run("EXISTS", "{}ring"), timeout_s=60)
        for _ in range(3):
            for key in ("{}ring", "{}queue", f"{{}}lanes:{SITES[0]}", f"{{}}lanes:{SITES[1]}", "{}leases"):
                await queue.run("DEL", key)
            await queue.run("HINCRBY", f"{{}}site:{SITES[0]}", "pending", 5)
            audit = await Auditor(reader).run()
            await repair(reader, audit, said.append)
        audit = await Auditor(reader).run()
        assert audit.violations == []
        assert len(producer.request_ids) > 5
    assert said
