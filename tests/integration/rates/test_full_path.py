"""The whole of a batch's path at a limit: claim, record, settle and the next claim, several loops at once, in virtual time."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.claims import Batch, Call, Turn, Wait
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from integration.ledger.driver import PUT_BACK, START_MS, SUBMITTED, LedgerDriver
from integration.ledger.test_order import urls
from integration.rates.limits import Bucket

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload_worker.claims import CallOutcome

SECONDS = 60
RATE = 5
LOOPS = 6
BATCHES = 400


@pytest.fixture
async def ledger(redis: Redis) -> LedgerDriver:
    """A backlog of batches of one URL, over three sites, and the default rates."""
    driver = LedgerDriver(redis)
    await driver.workers.publish({"batch_max_urls": 1, "site_concurrency": 100, "lease_ms": 60_000})
    for site in (1, 2, 3):
        await driver.accept(urls(BATCHES), site=site, request_id=f"r{site}")
    return driver


class Esa:
    """Create and the plan call each have a bucket of their own; latency 100 to 300 ms."""

    def __init__(self) -> None:
        self.dice = random.Random(1)
        self.limits = {CREATE_JOB: Bucket(RATE, 10), CREATE_PLANS: Bucket(RATE, 10)}
        self.refused = self.accepted = 0

    def call(self, operation: str, sent_ms: int) -> tuple[Call, int]:
        """Return what became of a call, and when its reply is there."""
        took_ms = self.dice.randint(100, 300)
        wait_s = self.limits[operation].call((sent_ms + took_ms / 2 - START_MS) / 1000)
        self.accepted += wait_s is None
        self.refused += wait_s is not None
        outcome: CallOutcome = "ok" if wait_s is None else "throttled"
        return Call(operation=operation, sent_ms=sent_ms, outcome=outcome), sent_ms + took_ms


async def test_a_backlog_goes_out_at_the_limit(ledger: LedgerDriver) -> None:
    """Both calls of each batch keep to their limit: 90 % used at 5 % refused in a minute, learning included; no URL is lost."""
    esa, ids = Esa(), itertools.count()
    todo: list[tuple[int, int, str, Batch | None]] = []

    def later(at_ms: int, step: str, batch: Batch | None = None) -> None:
        heapq.heappush(todo, (at_ms, next(ids), step, batch))

    async def settle(batch: Batch, *, call: Call) -> None:
        is_planned = call.outcome == "ok" and call.operation == CREATE_PLANS
        back = PUT_BACK if call.operation == CREATE_JOB else replace(PUT_BACK, verdict="unknown")
        settled = await ledger.settle(batch, replace(SUBMITTED if is_planned else back, calls=(call,)))
        assert not settled.lost
        later(ledger.now_ms, "take")

    calls: dict[str, Call] = {}
    for _ in range(LOOPS):
        later(START_MS, "take")
    while todo and todo[0][0] < START_MS + SECONDS * 1000:
        at_ms, _, step, batch = heapq.heappop(todo)
        ledger.advance(max(0, at_ms - ledger.now_ms))
        if step == "take":
            taken = await ledger.take()
            if isinstance(taken, Batch):
                calls[taken.batch_id], back_ms = esa.call(CREATE_JOB, taken.sent_ms)
                later(back_ms, "created", taken)
            else:
                assert isinstance(taken, Wait)
                later(ledger.now_ms + min(taken.ms, 250), "take")  # stays, or is woken
            continue
        assert batch is not None
        call = calls.pop(batch.batch_id)
        if step == "planned" or call.outcome == "throttled":
            await settle(batch, call=call)
            continue
        if step == "created":
            turn = await ledger.workers.record_job(
                batch, job_id=batch.batch_id, job={}, plan_follows=True, calls=(call,)
            )
        else:
            turn = await ledger.workers.pace(CREATE_PLANS)
        assert isinstance(turn, Turn)
        if turn.wait_ms:
            calls[batch.batch_id] = call
            later(ledger.now_ms + turn.wait_ms, "waits", batch)
        else:
            calls[batch.batch_id], back_ms = esa.call(CREATE_PLANS, turn.sent_ms)
            later(back_ms, "planned", batch)
    assert esa.refused / (esa.accepted + esa.refused) <= 0.05
    for limit in esa.limits.values():
        assert limit.saved(SECONDS) < 10
    assert esa.accepted >= 0.9 * 2 * RATE * SECONDS
    for site in (1, 2, 3):
        counts = await ledger.counts(f"r{site}")
        assert sum(n for name, n in counts.items() if name != "accepted") == counts["accepted"] == BATCHES
