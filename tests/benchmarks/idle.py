"""How soon an idle worker has submitted what comes, and how much memory one needs before a small and a large backlog."""

from __future__ import annotations

import asyncio
import math
import os
import random
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.calls import SETTINGS, quick_esa, valkey_of, worker
from benchmarks.measures import urls_of
from benchmarks.page import Section
from benchmarks.quick_esa import CREATE_PLANS
from esa_preload import PreloadClient
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from benchmarks.calls import QuickEsa

REQUESTS = 200
QUIET_S = 0.2
"""So short that 200 requests, one after the other, take two minutes; a worker waits for it in the same way as for five seconds."""
POLL_S = 0.002
SITES = 10
BACKLOGS = (1_000, 1_000_000)
BATCHES = 600
_START_S = 60.0
_RUN_S = 240.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Of a worker that has submitted ``BATCHES`` batches: the most it ever had, MiB."""

    backlog: int
    peak_mib: float


async def delays(*, syncs: bool) -> list[float]:
    """Return the s from each call of enqueue until its one URL is submitted, without the quiet time."""
    found: list[float] = []
    with tempfile.TemporaryDirectory(prefix="esap-idle-") as name:
        directory = Path(name)
        async with (
            quick_esa(directory) as esa,
            valkey_of(directory, syncs=syncs) as valkey,
            PreloadClient(valkey.url) as client,
        ):
            ours = worker(directory, valkey.url, esa.url, {"BATCH_QUIET": str(QUIET_S)})
            try:
                await wait_until(ours.ops_url, timeout_s=_START_S)
                for number in range(REQUESTS):
                    await asyncio.sleep(random.uniform(0.1, 0.3))
                    begun = time.monotonic()
                    receipt = await client.enqueue(101, [f"https://www.example.com/{number}"])
                    await _until_submitted(client, receipt.request_id, begun + QUIET_S)
                    found.append(time.monotonic() - begun - QUIET_S)
            finally:
                await ours.kill()
    return found


async def _until_submitted(client: PreloadClient, request_id: str, due_at: float) -> None:
    await asyncio.sleep(max(0.0, due_at - time.monotonic()))  # nothing to see before

    async def look() -> bool:
        return (await client.status(request_id)).submitted == 1

    await wait_until_async(look, timeout_s=_START_S, every_s=POLL_S)


async def measure_idle() -> Section:
    """Measure under both policies of the append-only file."""
    rows: list[list[str]] = []
    document: dict[str, list[float]] = {}
    for policy in ("always", "everysec"):
        found = sorted(await delays(syncs=policy == "always"))
        document[policy] = found
        p50, p99 = found[len(found) // 2], found[math.ceil(0.99 * len(found)) - 1]
        rows.append([f"appendfsync {policy}", *(f"{s * 1000:,.0f} ms" for s in (p50, p99, found[-1]))])
    return Section(
        name="idle",
        columns=("from enqueue to submitted, without `BATCH_QUIET`", "p50", "p99", "longest"),
        rows=rows,
        note=f"{REQUESTS} requests each; load of the machine at the end {os.getloadavg()[0]:.1f}. Wanted: at most 250 ms at p99.",
        document=document,
    )


async def memory_of(backlog: int) -> Memory:
    """Measure one backlog, which is filled up when it runs out."""
    with tempfile.TemporaryDirectory(prefix="esap-memory-") as name:
        directory = Path(name)
        async with (
            quick_esa(directory) as esa,
            valkey_of(directory) as valkey,
            PreloadClient(valkey.url) as client,
        ):
            urls = urls_of(backlog // SITES)
            await _enqueue(client, urls)
            ours = worker(directory, valkey.url, esa.url, SETTINGS | {"WAIT_AOF": "false"})
            try:
                done = 0
                while done < BATCHES:
                    done = min(BATCHES, done + backlog // 100)
                    await _until_planned(esa, done)
                    if done < BATCHES:
                        await _enqueue(client, urls)
                return Memory(backlog=backlog, peak_mib=_peak_mib(ours.pid))
            finally:
                await ours.kill()


async def _enqueue(client: PreloadClient, urls: list[str]) -> None:
    for site in range(101, 101 + SITES):
        await client.enqueue(site, urls)


async def _until_planned(esa: QuickEsa, batches: int) -> None:
    async def look() -> bool:
        calls: dict[str, int] = (await esa.counts())["calls"]
        return calls.get(CREATE_PLANS.decode(), 0) >= batches

    await wait_until_async(look, timeout_s=_RUN_S)


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


async def measure_memory() -> Section:
    """Measure each backlog."""
    found = [await memory_of(backlog) for backlog in BACKLOGS]
    return Section(
        name="memory of a worker",
        columns=("pending", f"most memory that a worker had after {BATCHES} batches", "to the first"),
        rows=[
            [f"{each.backlog:,}", f"{each.peak_mib:.0f} MiB", f"{each.peak_mib / found[0].peak_mib:.2f} x"]
            for each in found
        ],
        note="16 batches of 100 URLs at once, uvloop.",
        document=[[each.backlog, each.peak_mib] for each in found],
    )


async def measure() -> list[Section]:
    """Measure both."""
    return [await measure_idle(), await measure_memory()]
