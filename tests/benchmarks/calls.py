"""How many calls a second one worker makes when ESA takes no time, all bookkeeping on, beside the bare official SDK."""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from benchmarks.measures import urls_of
from benchmarks.page import Section
from benchmarks.quick_esa import ANNOUNCED, COUNTS, CREATE_JOB, CREATE_PLANS
from benchmarks.submitters import BATCH
from chaos.machines import Machine, Valkey
from esa_preload import PreloadClient
from processes import BIN, environment, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

ROUNDS = 5
BATCHES = 2_000
SITES = 10
FAST = 10_000.0
"""Calls/s that the pace allows: never what limits."""
SETTINGS = {"RATE_INITIAL": str(FAST), "RATE_MAX": str(FAST), "LOG_LEVEL": "info"}
_TESTS = str(Path(__file__).resolve().parents[1])
_START_S = 60.0
_RUN_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """
    Who submits the batches.

    Attributes:
        by: ``sdk`` and ``client`` alone, or a ``worker`` with its ledger.
        waits: a claim is on disk (WAITAOF) before its batch is sent; ``syncs``: appendfsync always, else everysec.
    """

    what: str
    by: str
    uvloop: bool = False
    waits: bool = False
    syncs: bool = False


SDK = Variant(what="bare official asynchronous SDK", by="sdk")
VARIANTS = (
    SDK,
    Variant(what="the same on uvloop", by="sdk", uvloop=True),
    Variant(what="our client alone", by="client"),
    Variant(what="our client alone, uvloop", by="client", uvloop=True),
    Variant(what="a worker", by="worker"),
    Variant(what="a worker, uvloop", by="worker", uvloop=True),
    Variant(
        what="a worker, uvloop, `WAITAOF`, appendfsync always",
        by="worker",
        uvloop=True,
        waits=True,
        syncs=True,
    ),
    Variant(what="a worker, uvloop, `WAITAOF`, appendfsync everysec", by="worker", uvloop=True, waits=True),
)


@dataclass(slots=True)
class Mark:
    """How far ESA and the processes have come: ``calls`` in all, and ``batches`` by their URLs; s."""

    at: float
    calls: int
    batches: dict[int, int]
    cpu_s: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """
    What went through in mid-flow: start and end are left out.

    Attributes:
        cpu_ms: of the submitting process, and of Valkey if there is one, a call.
        fill: URLs a batch by the most that one holds.
    """

    calls_s: float
    cpu_ms: Sequence[float]
    fill: float


@dataclass(slots=True)
class QuickEsa:
    """The ESA that takes no time."""

    url: str
    pid: int

    async def counts(self) -> dict[str, Any]:
        """Return what it got so far."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.url}{COUNTS}") as reply:
            return cast("dict[str, Any]", await reply.json())


def run_module(name: str, directory: Path, *arguments: str, **variables: str) -> Machine:
    """Start a module of the tests as a process."""
    env = environment(PYTHONPATH=_TESTS, **variables)
    return Machine(name, [sys.executable, "-m", *arguments], env=env, log=directory / f"{name}.log")


@contextlib.asynccontextmanager
async def quick_esa(directory: Path) -> AsyncGenerator[QuickEsa]:
    """Run the ESA that takes no time while inside."""
    machine = run_module("esa", directory, "benchmarks.quick_esa")

    def announced() -> str:
        assert machine.exit_code is None, machine.lines()
        return next((line for line in machine.lines() if line.startswith(ANNOUNCED)), "")

    try:
        line = await wait_until(announced, timeout_s=_START_S)
        yield QuickEsa(line.removeprefix(ANNOUNCED), machine.pid)
    finally:
        await machine.kill()


@contextlib.asynccontextmanager
async def valkey_of(directory: Path, *, syncs: bool = False) -> AsyncGenerator[Valkey]:
    """Run a Valkey with its append-only file while inside."""
    valkey = Valkey(directory, is_killed=syncs)
    await valkey.start()
    try:
        yield valkey
    finally:
        await valkey.stop()


def worker(
    directory: Path, redis_url: str, endpoint: str, settings: dict[str, str], *, uvloop: bool = True
) -> Machine:
    """Start `esa-preload-worker run`; its log goes to a file."""
    variables = {f"ESA_PRELOAD_{name}": value for name, value in settings.items()}
    env = worker_environment(redis_url, endpoint, **variables) | {"PYTHONPATH": _TESTS}
    command = (
        [str(BIN / "esa-preload-worker")] if uvloop else [sys.executable, "-m", "benchmarks.plain_worker"]
    )
    return Machine("worker", [*command, "run"], env=env, log=directory / "worker.log")


async def fill_queue(redis_url: str, batches: int, sites: int = SITES) -> None:
    """Enqueue so many full batches, evenly over the sites."""
    urls = urls_of(batches // sites * BATCH)
    async with PreloadClient(redis_url) as client:
        for site in range(101, 101 + sites):
            await client.enqueue(site, urls)


def cpu_s(pid: int) -> float:
    """Return the processor time that the threads of a process have used."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


async def flow_of(esa: QuickEsa, batches: int, pids: Sequence[int]) -> Flow:
    """Measure from a tenth of the batches to nine tenths."""

    async def until(share: float) -> Mark:
        async def look() -> Mark | None:
            counts = await esa.counts()
            calls = counts["calls"]
            if calls.get(CREATE_PLANS.decode(), 0) < share * batches:
                return None
            assert set(calls) <= {CREATE_JOB.decode(), CREATE_PLANS.decode()}, calls
            lots = {int(urls): number for urls, number in counts["batches"].items()}
            return Mark(counts["at"], sum(calls.values()), lots, [cpu_s(pid) for pid in pids])

        mark = await wait_until_async(look, timeout_s=_RUN_S, every_s=0.02)
        assert mark
        return mark

    first, last = await until(0.1), await until(0.9)
    calls = last.calls - first.calls
    sent = sum(urls * number for urls, number in last.batches.items())
    return Flow(
        calls_s=calls / (last.at - first.at),
        cpu_ms=[1000 * (b - a) / calls for a, b in zip(first.cpu_s, last.cpu_s, strict=True)],
        fill=sent / sum(last.batches.values()) / BATCH,
    )


async def run_once(variant: Variant, batches: int) -> Flow:
    """Submit so many batches in fresh processes."""
    with tempfile.TemporaryDirectory(prefix="esap-calls-") as name:
        directory = Path(name)
        async with quick_esa(directory) as esa:
            if variant.by != "worker":
                options = ["--by", variant.by, "--batches", str(batches), *(["--uvloop"] * variant.uvloop)]
                alone = run_module("alone", directory, "benchmarks.submitters", esa.url, *options)
                try:
                    return await flow_of(esa, batches, [alone.pid])
                finally:
                    await alone.kill()
            async with valkey_of(directory, syncs=variant.syncs) as valkey:
                await fill_queue(valkey.url, batches)
                settings = SETTINGS | {"WAIT_AOF": str(variant.waits).lower()}
                ours = worker(directory, valkey.url, esa.url, settings, uvloop=variant.uvloop)
                try:
                    return await flow_of(esa, batches, [ours.pid, valkey.pid])
                finally:
                    await ours.kill()


async def measure(
    variants: Sequence[Variant] = VARIANTS, *, rounds: int = ROUNDS, batches: int = BATCHES
) -> Section:
    """Run each variant in turn, time and again; ratios are to the SDK of the same round."""
    flows: dict[Variant, list[Flow]] = {variant: [] for variant in variants}
    for _ in range(rounds):
        for variant in variants:
            flows[variant].append(await run_once(variant, batches))
    rows = [_row(variant, found, flows[SDK]) for variant, found in flows.items()]
    fill = min(flow.fill for variant, found in flows.items() for flow in found if variant.by == "worker")
    return Section(
        name="calls",
        columns=(
            "create + plan, batches of 100 URLs, 16 at once",
            "calls/s",
            "to the SDK",
            "spread",
            "CPU a call",
            "to the SDK's",
            "Valkey's CPU a call",
        ),
        rows=rows,
        note=(
            f"{rounds} rounds of {batches:,} batches; load of the machine at the end {os.getloadavg()[0]:.1f}. "
            f"The workers' batches were {fill:.1%} full."
        ),
        document=[
            {
                "what": v.what,
                "calls_s": [f.calls_s for f in found],
                "cpu_ms": [list(f.cpu_ms) for f in found],
                "fill": [f.fill for f in found],
            }
            for v, found in flows.items()
        ],
    )


def _row(variant: Variant, found: Sequence[Flow], sdk: Sequence[Flow]) -> list[str]:
    ratios = [mine.calls_s / its.calls_s for mine, its in zip(found, sdk, strict=True)]
    cpu = [mine.cpu_ms[0] / its.cpu_ms[0] for mine, its in zip(found, sdk, strict=True)]
    return [
        variant.what,
        f"{statistics.median(flow.calls_s for flow in found):,.0f}",
        f"{statistics.median(ratios):.2f} x",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
        f"{statistics.median(flow.cpu_ms[0] for flow in found):.2f} ms",
        f"{statistics.median(cpu):.2f} x",
        f"{statistics.median(flow.cpu_ms[1] for flow in found):.2f} ms" if variant.by == "worker" else "",
    ]
