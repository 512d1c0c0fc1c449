"""What it costs that a claim is on disk before its batch is sent, and for how long an acknowledged write is not."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import re
import secrets
import shutil
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.page import Section
from chaos.machines import Valkey
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import pipelined
from esa_preload_worker.claims import Batch, Settlement, Wait
from esa_preload_worker.ids import new_id
from esa_preload_worker.ledger import WorkerLedger

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

KEYS = Keys("bench")
SITES = 20
BATCH = 100
SITE_URLS = 10_000
LOOP_S = 20.0
LOAD_S = 30.0
SAMPLERS = 16
CHUNK = 1_000
LOAD_URLS_A_S = 20_000
_CLOCK_S = 0.005
"""What strace's stamps may be off by."""
_TOOK = re.compile(r"<([0-9.]+)>$")
_SUBMITTED = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True)
_LIMITS = {"rate_initial": 100_000, "rate_max": 100_000, "batch_max_urls": BATCH, "site_concurrency": 1_000}


async def measure() -> Section:
    """Measure under both policies of the append-only file."""
    rows: list[tuple[str, ...]] = []
    documents: list[dict[str, Any]] = []
    for policy in ("everysec", "always"):
        for loops in (1, 16):
            async with _valkey(policy) as valkey:
                bare_ms, bare_rate = await _claims(valkey.url, loops, waits=False)
            async with _valkey(policy) as valkey:
                durable_ms, durable_rate = await _claims(valkey.url, loops, waits=True)
            what = f"settle and claim, {loops} at once, appendfsync {policy}"
            rows += [
                _row(what, bare_ms, f"{bare_rate:,.0f} batches/s"),
                _row(
                    f"the same, on disk by `WAITAOF` ({durable_rate / bare_rate:.2f} x)",
                    durable_ms,
                    f"{durable_rate:,.0f} batches/s",
                ),
            ]
            documents.append(
                {"what": what, "bare_s": bare_rate, "durable_s": durable_rate, "durable_ms": durable_ms}
            )
        async with _valkey(policy) as valkey:
            window = await _window(valkey.url, valkey.pid)
        what = f"a write until `WAITAOF` says that it is on disk, appendfsync {policy}, {LOAD_S:g} s of enqueueing"
        rows.append(_row(what, window.waited_ms, f"{window.urls_a_s:,.0f} URLs/s"))
        if window.synced_ms:
            said = f"`WAITAOF` said so before: {window.early} of {len(window.waited_ms)}"
            rows.append(_row(f"the same until the disk has it, by strace ({said})", window.synced_ms, ""))
        documents.append({"what": what, **asdict(window)})
    return Section(
        name="durability",
        columns=("what", "p50", "p99", "longest", "rate"),
        rows=rows,
        note=f"Load of the machine at the end {os.getloadavg()[0]:.1f}.",
        document=documents,
    )


@asynccontextmanager
async def _valkey(policy: str) -> AsyncGenerator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="esap-dur-") as directory:
        valkey = Valkey(Path(directory), is_killed=policy == "always")
        await valkey.start()
        try:
            yield valkey
        finally:
            await valkey.stop()


async def _claims(url: str, loops: int, *, waits: bool) -> tuple[list[float], float]:
    """Return the ms of each round trip that settles a batch and claims the next, and batches a second."""
    redis = connect(url)
    ledger = WorkerLedger(redis, KEYS, waits_for_disk=waits)
    await ledger.publish(_LIMITS)
    took_ms: list[float] = []
    until = 0.0

    async def loop() -> None:
        batch = await _first(ledger)
        while batch is not None and time.monotonic() < until:
            begun = time.perf_counter()
            _, taken = await ledger.settle_and_take(
                batch,
                _SUBMITTED,
                children=(),
                roll=0.5,
                token=secrets.token_hex(8),
                pump=secrets.token_hex(6),
                new_batch_id=new_id(),
            )
            took_ms.append((time.perf_counter() - begun) * 1000)
            batch = taken if isinstance(taken, Batch) else await _first(ledger)

    async with PreloadClient(url, namespace=KEYS.namespace) as client, asyncio.TaskGroup() as group:
        for site in range(1, SITES + 1):
            await client.enqueue(site, (f"https://a.example/{site}/{i}.js" for i in range(SITE_URLS)))
        begun = time.monotonic()
        until = begun + LOOP_S
        for _ in range(loops):
            group.create_task(loop())
    await redis.aclose()
    return took_ms, len(took_ms) / (time.monotonic() - begun)


async def _first(ledger: WorkerLedger) -> Batch | None:
    while True:
        taken = await ledger.take(
            token=secrets.token_hex(8), pump=secrets.token_hex(6), new_batch_id=new_id()
        )
        if not isinstance(taken, Wait):
            return taken
        if not taken.stay:
            return None
        await asyncio.sleep(taken.ms / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Window:
    """
    What writes under load had to wait for.

    Attributes:
        waited_ms: from an acknowledged write until ``WAITAOF`` said that it is on disk.
        synced_ms: from the same until a sync that began after it had ended, as strace saw it.
        early: how often ``WAITAOF`` said so before there was one.
    """

    waited_ms: list[float]
    synced_ms: list[float]
    early: int
    urls_a_s: float


async def _window(url: str, pid: int) -> _Window:
    """Write under the load of a producer that enqueues, and see when the writes were on disk."""
    redis = connect(url)
    until = time.time() + LOAD_S
    samples: list[tuple[float, float]] = []
    urls = 0

    async def sample(number: int) -> None:
        while time.time() < until:
            # One connection: WAITAOF asks for what its own wrote.
            begun = time.time()
            _, on_disk = await pipelined(
                redis, [("SET", f"probe:{number}", begun), ("WAITAOF", 1, 0, 10_000)], raise_on_error=True
            )
            assert int(on_disk[0]) == 1
            samples.append((begun, time.time()))
            await asyncio.sleep(secrets.randbelow(50) / 1000)

    async def load(client: PreloadClient) -> None:
        nonlocal urls
        for number in count():
            next_s = time.time() + CHUNK / LOAD_URLS_A_S
            if next_s > until:
                return
            await client.enqueue(
                1 + number % SITES, [f"https://a.example/{number}/{i}.js" for i in range(CHUNK)]
            )
            urls += CHUNK
            await asyncio.sleep(max(0.0, next_s - time.time()))

    async with _syncs_of(pid) as syncs:
        async with PreloadClient(url, namespace=KEYS.namespace) as client, asyncio.TaskGroup() as group:
            group.create_task(load(client))
            for number in range(SAMPLERS):
                group.create_task(sample(number))
        await asyncio.sleep(2.5)  # the sync that the last write waits for
    await redis.aclose()
    waited_ms = [(told - begun) * 1000 for begun, told in samples]
    if not syncs:
        return _Window(waited_ms=waited_ms, synced_ms=[], early=0, urls_a_s=urls / LOAD_S)
    on_disk = [min((end for start, end in syncs if start >= begun), default=math.inf) for begun, _ in samples]
    synced = [
        (end - begun) * 1000 for (begun, _), end in zip(samples, on_disk, strict=True) if end < math.inf
    ]
    early = sum(told + _CLOCK_S < end for (_, told), end in zip(samples, on_disk, strict=True))
    return _Window(waited_ms=waited_ms, synced_ms=synced, early=early, urls_a_s=urls / LOAD_S)


@asynccontextmanager
async def _syncs_of(pid: int) -> AsyncGenerator[list[tuple[float, float]]]:
    """Yield a list that holds, at the end, when each sync of a process began and ended; empty without strace."""
    syncs: list[tuple[float, float]] = []
    strace = shutil.which("strace")
    if strace is None:
        yield syncs
        return
    with tempfile.NamedTemporaryFile("r") as seen:
        arguments = ["-f", "-ttt", "-T", "-e", "trace=fdatasync,fsync", "-o", seen.name, "-p", str(pid)]
        tracer = await asyncio.create_subprocess_exec(strace, *arguments, stderr=asyncio.subprocess.DEVNULL)
        await asyncio.sleep(1.0)
        try:
            yield syncs
        finally:
            with contextlib.suppress(ProcessLookupError):
                tracer.terminate()
            await tracer.wait()
        began: dict[str, float] = {}
        for line in seen.read().splitlines():
            thread, at, what = line.split(maxsplit=2)
            if "unfinished" in what:
                began[thread] = float(at)
            elif took := _TOOK.search(what):
                start = began.pop(thread, float(at))
                syncs.append((start, start + float(took[1])))


def _row(what: str, values_ms: Sequence[float], rate: str) -> tuple[str, ...]:
    return (what, *(f"{value:,.1f} ms" for value in _percentiles(values_ms)), rate)


def _percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[math.ceil(0.99 * len(ordered)) - 1], ordered[-1]
