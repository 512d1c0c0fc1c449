"""How long work stands still after a crash, at the default settings: each scenario returns the seconds of one round."""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.page import Section
from benchmarks.stage import BATCH, CREATE_JOB, CREATE_PLANS, Stage, events, staged
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from chaos.machines import Machine

ROUNDS = 5
AT_ONCE = 3
"""Rounds that run side by side: they mostly wait."""
_SLOW_S = 8.0
"""Of a call in the middle of which its worker dies: within ``CALL_TIMEOUT``."""
_FREEZE_S = 25.0
"""Beyond the lease, the time-out and the lag."""
_PHASE_S = 0.6
"""A round begins so much later in the three seconds between two renewals than the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One thing that happens, and how long it may take."""

    what: str
    run: Callable[[Stage, int], Awaitable[float]]
    target_s: float | None = None
    settings: Mapping[str, str] | None = None


async def _create_committed(stage: Stage, number: int) -> float:
    holder, request_id = await _in_create(stage, number)
    killed = time.monotonic()
    await holder.kill()
    await stage.until_done(request_id)
    took_s = time.monotonic() - killed
    await stage.assert_planned_once()
    assert any(events(worker, "batch.adopted") for worker in stage.workers)
    return took_s


async def _nothing_created(stage: Stage, number: int) -> float:
    await stage.sandbox.freeze()
    request_id = await stage.enqueue()
    batch = await stage.until_state("sent")
    holder = await stage.holder()
    await asyncio.sleep(number * _PHASE_S)
    await holder.kill()
    # What was sent is in the buffers of a process that ends: it is never committed.
    await stage.sandbox.kill()
    await stage.sandbox.start()
    await stage.until_done(request_id)
    await stage.assert_planned_once()
    return time.time() - int(batch["sent_at"]) / 1000


async def _frozen(stage: Stage, number: int) -> float:
    holder, request_id = await _in_create(stage, number)
    stopped = time.monotonic()
    holder.freeze()
    await stage.until_done(request_id)
    took_s = time.monotonic() - stopped
    await asyncio.sleep(max(0.0, stopped + _FREEZE_S - time.monotonic()))
    holder.thaw()
    await wait_until(lambda: _lost(holder), timeout_s=30)
    assert not events(holder, "batch.submitted")
    await stage.assert_planned_once()
    return took_s


async def _plan_committed(stage: Stage, number: int) -> float:
    await stage.strike("slow_after", CREATE_PLANS, _SLOW_S)
    request_id = await stage.enqueue()

    async def planned() -> bool:
        return any(job["plans_made"] for job in await stage.jobs())

    await wait_until_async(planned)
    holder = await stage.holder()
    await asyncio.sleep(number * _PHASE_S)
    killed = time.monotonic()
    await holder.kill()
    await stage.until_done(request_id)
    took_s = time.monotonic() - killed
    await stage.assert_planned_once()
    return took_s


async def _no_plan(stage: Stage, number: int) -> float:
    await stage.strike("slow_before", CREATE_PLANS, _SLOW_S)
    request_id = await stage.enqueue()
    await stage.until_state("created")
    created = time.monotonic()
    holder = await stage.holder()
    await stage.sandbox.configure(faults=[])
    await asyncio.sleep(number * _PHASE_S)
    await holder.kill()
    await stage.sandbox.kill()
    await stage.sandbox.start()
    await stage.until_done(request_id)
    took_s = time.monotonic() - created
    await stage.assert_planned_once()
    return took_s


def _valkey_killed(down_s: float) -> Callable[[Stage, int], Awaitable[float]]:
    async def run(stage: Stage, number: int) -> float:
        request_id = await stage.enqueue(80 * BATCH)
        await stage.until_more_submitted(request_id)
        await asyncio.sleep(number * _PHASE_S / 3)
        await stage.valkey.end(at_once=True)
        await asyncio.sleep(down_s)
        await stage.valkey.start()
        back = time.monotonic()
        await stage.until_more_submitted(request_id)
        took_s = time.monotonic() - back
        await stage.until_done(request_id)
        await stage.assert_planned_once()
        return took_s

    return run


async def _rolled(stage: Stage, number: int) -> float:
    alone, other = stage.workers
    assert await other.stop() in (0, -signal.SIGTERM)
    await stage.sandbox.configure(latency_s=0.5)
    request_id = await stage.enqueue(40 * BATCH)
    await stage.until_more_submitted(request_id)
    await asyncio.sleep(number * _PHASE_S / 3)
    told = time.monotonic()
    assert await alone.stop(timeout_s=40) == 0
    successor = await stage.start_worker()
    await wait_until(lambda: events(successor, "batch.submitted"), timeout_s=60)
    took_s = time.monotonic() - told
    await stage.until_done(request_id)
    await stage.assert_planned_once()
    assert not any(events(worker, "batch.adopted") for worker in stage.workers)
    return took_s


async def _handed_over(stage: Stage, number: int) -> float:
    holder, request_id = await _in_create(stage, number)
    told = time.monotonic()
    stopping = asyncio.create_task(holder.stop(timeout_s=40))
    await stage.until_done(request_id)
    took_s = time.monotonic() - told
    await stopping
    await stage.assert_planned_once()
    return took_s


SCENARIOS = (
    Scenario(
        what="SIGKILL of a worker in a Create that ESA commits: from the kill until another has adopted the job and settled",
        run=_create_committed,
        target_s=15,
    ),
    Scenario(
        what="SIGKILL of a worker in a Create of which nothing comes: from the *send* until created again and settled",
        run=_nothing_created,
        target_s=20,
    ),
    Scenario(
        what="SIGSTOP of a worker in a Create that ESA commits: from the stop until another has settled;"
        " after SIGCONT it settles nothing",
        run=_frozen,
        target_s=15,
    ),
    Scenario(
        what="SIGKILL of a worker in a plan call that ESA commits: from the kill until settled",
        run=_plan_committed,
        target_s=15,
    ),
    Scenario(
        what="SIGKILL of a worker between job and plan: from the job on record until planned and settled",
        run=_no_plan,
        target_s=20,
    ),
    Scenario(
        what="SIGKILL of Valkey, back on its file after 1 s: from when it serves until the next batch is settled",
        run=_valkey_killed(1.0),
    ),
    Scenario(
        what="the same, back after 8 s: beyond half a lease, so half a lease is waited before anybody claims",
        run=_valkey_killed(8.0),
    ),
    Scenario(
        what="restart of the only worker in full flow, ESA taking 0.5 s a call: from SIGTERM until its successor has settled a batch",
        run=_rolled,
    ),
    Scenario(
        what="SIGTERM of a worker in a call longer than its `SHUTDOWN_GRACE` (here 1 s): from SIGTERM until another has settled",
        run=_handed_over,
        settings={"SHUTDOWN_GRACE": "1"},
    ),
)


async def measure() -> Section:
    """Run every scenario for all its rounds."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(scenario: Scenario, number: int) -> float:
        async with room:
            with tempfile.TemporaryDirectory(prefix="esap-rec-") as directory:
                async with staged(Path(directory), scenario.settings) as stage:
                    return await scenario.run(stage, number)

    took = await asyncio.gather(
        *(asyncio.gather(*(one(scenario, number) for number in range(ROUNDS))) for scenario in SCENARIOS)
    )
    rows = [
        (
            scenario.what,
            f"{statistics.median(values):.1f} s",
            f"{max(values):.1f} s",
            f"at most {scenario.target_s:g} s" if scenario.target_s else "",
        )
        for scenario, values in zip(SCENARIOS, took, strict=True)
    ]
    return Section(
        name="recovery",
        columns=("what", "median", "worst", "target"),
        rows=rows,
        note=f"{ROUNDS} rounds each, {AT_ONCE} at a time; load of the machine at the end {os.getloadavg()[0]:.1f}.",
        document=[
            {"what": scenario.what, "seconds": values, "target_s": scenario.target_s}
            for scenario, values in zip(SCENARIOS, took, strict=True)
        ],
    )


async def _in_create(stage: Stage, number: int) -> tuple[Machine, str]:
    """Return the worker that waits for the reply to a Create that is committed, and the request."""
    await stage.strike("slow_after", CREATE_JOB, _SLOW_S)
    request_id = await stage.enqueue()
    await wait_until_async(stage.jobs)
    holder = await stage.holder()
    await asyncio.sleep(number * _PHASE_S)
    return holder, request_id


def _lost(worker: Machine) -> bool:
    return any(event.get("outcome") == "lost" for event in events(worker, "batch.requeued"))
