"""The single measures: each runs its peer beside it, in turns, on the same server and the same URLs."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arq.connections import ArqRedis

from benchmarks.page import ROOT, Section
from benchmarks.servers import ALWAYS, EVERYSEC, binaries, serving
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.scripts import command, commands
from esa_preload_worker.embedded import valkey_binary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from redis.asyncio import Redis

MEMORY_URLS = 200_000
ENQUEUE_URLS = 200_000
ARQ_JOBS = 5_000
ARQ_AT_ONCE = 16
STREAQ_JOBS = 20_000
PAIRS = 5
URL_CHARS = 72
SITE = 190007158391808
_STREAQ = ROOT / "build" / "streaq"
_STREAQ_LOCK = Path(__file__).with_name("streaq.txt")
_STEM = "https://static.example.com/npm/package-name@1.2.3/dist/js/"
_DIGITS = URL_CHARS - len(_STEM) - len(".js")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """
    One line of the table.

    Attributes:
        values: of each run; ``unit`` says what.
        ratios: our value by the peer's, pair by pair; on a peer's line.
    """

    what: str
    unit: str
    values: list[float]
    ratios: list[float]
    target: str = ""

    def shown(self, value: float) -> str:
        """Return a value as text."""
        return f"{value:,.0f} {self.unit}"

    def document(self) -> dict[str, Any]:
        """Return the figure for JSON."""
        return {
            "what": self.what,
            "unit": self.unit,
            "values": self.values,
            "ratios": self.ratios,
            "target": self.target,
        }


def urls_of(count: int) -> list[str]:
    """Return distinct URLs of exactly ``URL_CHARS`` characters."""
    return [url_of(number) for number in range(count)]


def url_of(number: int) -> str:
    """Return one of them."""
    return f"{_STEM}{number:0{_DIGITS}d}.js"


async def measure() -> Section:
    """Measure memory on each server, and how fast is enqueued under both policies of the append-only file."""
    figures: list[Figure] = []
    for name, binary in binaries():
        async with serving(binary) as server:
            figures += await memory_a_url(server.url, name)
    for policy in (ALWAYS, EVERYSEC):
        async with serving(str(valkey_binary()), appendfsync=policy) as server:
            figures += await enqueue_rates(server.url, policy)
    return section(figures)


async def memory_a_url(redis_url: str, server: str) -> list[Figure]:
    """Measure what the server holds more after an enqueue, by URL; beside a bare sorted set and a bare list of them."""
    redis = connect(redis_url)
    urls = urls_of(MEMORY_URLS)

    async def ours() -> None:
        async with PreloadClient(redis_url, namespace="bench") as client:
            await client.enqueue(SITE, urls)

    async def sorted_set() -> None:
        await _in_calls(
            redis, urls, lambda some: ("ZADD", "z", *(part for url in some for part in (1.0, url)))
        )

    async def plain_list() -> None:
        await _in_calls(redis, urls, lambda some: ("RPUSH", "l", *some))

    held = {
        name: await _held(redis, fill) / MEMORY_URLS
        for name, fill in (("ours", ours), ("zset", sorted_set), ("list", plain_list))
    }
    await redis.aclose()
    return [
        Figure(
            what=f"memory a pending URL of {URL_CHARS} bytes, with owner, {server}",
            unit="bytes",
            values=[held["ours"]],
            ratios=[],
            target="at most 300 bytes",
        ),
        Figure(
            what="the same URLs in a bare sorted set (`ZADD`)",
            unit="bytes",
            values=[held["zset"]],
            ratios=[held["ours"] / held["zset"]],
        ),
        Figure(
            what="the same URLs in a bare list (`RPUSH`)",
            unit="bytes",
            values=[held["list"]],
            ratios=[held["ours"] / held["list"]],
        ),
    ]


async def enqueue_rates(redis_url: str, policy: str) -> list[Figure]:
    """Measure the public client beside streaq and arq, in turns: a job a URL, and a job a batch, which is less work."""
    redis = connect(redis_url)
    arq: Any = connect(redis_url, redis_class=ArqRedis)
    urls = urls_of(ENQUEUE_URLS)
    python = _streaq_environment()

    async def ours() -> float:
        begun = time.perf_counter()
        async with PreloadClient(redis_url, namespace="bench") as client:
            receipt = await client.enqueue(SITE, urls)
        assert receipt.accepted == ENQUEUE_URLS
        return ENQUEUE_URLS / (time.perf_counter() - begun)

    async def with_streaq() -> float:
        return await asyncio.to_thread(_run_streaq, str(python), redis_url, urls[:STREAQ_JOBS])

    async def with_arq() -> float:
        some = urls[:ARQ_JOBS]
        begun = time.perf_counter()
        for start in range(0, ARQ_JOBS, ARQ_AT_ONCE):
            await asyncio.gather(
                *(arq.enqueue_job("preload", url) for url in some[start : start + ARQ_AT_ONCE])
            )
        return ARQ_JOBS / (time.perf_counter() - begun)

    async def with_arq_batches() -> float:
        begun = time.perf_counter()
        await asyncio.gather(
            *(arq.enqueue_job("preload", urls[start : start + 1_000]) for start in range(0, len(urls), 1_000))
        )
        return len(urls) / (time.perf_counter() - begun)

    peers: dict[str, tuple[str, Callable[[], Awaitable[float]]]] = {
        "ours": ("URLs/s", ours),
        "arq 0.28 `enqueue_job`, a job a URL, 16 at once": ("jobs/s", with_arq),
        "arq 0.28, a job of 1,000 URLs: nothing is known of a single one": ("URLs/s", with_arq_batches),
    }
    if python:
        peers["streaq 7.2 `enqueue_many` of 5,000, a job a URL"] = ("jobs/s", with_streaq)
    rates: dict[str, list[float]] = {name: [] for name in peers}
    for _ in range(PAIRS):
        for name, (_, run) in peers.items():
            await command(redis, "FLUSHALL", "SYNC")
            rates[name].append(await run())
    await redis.aclose()
    await arq.aclose()
    own = rates.pop("ours")
    first = Figure(
        what=f"enqueue, one process, tracking, append-only file on, appendfsync {policy}",
        unit="URLs/s",
        values=own,
        ratios=[],
        target="at least 50,000 URLs/s",
    )
    if not python:
        rates["streaq 7.2: it could not be installed"] = []
    return [first, *(_beside(own, name, peers, values) for name, values in rates.items())]


def _beside(
    own: list[float], name: str, peers: Mapping[str, tuple[str, object]], values: list[float]
) -> Figure:
    return Figure(
        what=name,
        unit=peers[name][0] if values else "",
        values=values or [0.0],
        ratios=[mine / its for mine, its in zip(own, values, strict=True)] if values else [],
        target="at least 5 x" if "a job a URL" in name else "",
    )


def _streaq_environment() -> Path | None:
    """Return the Python of an environment that has streaq, made when it is not there; ``None``: it cannot be."""
    python = _STREAQ / "bin" / "python"
    if python.exists():
        return python
    making = [
        [sys.executable, "-m", "venv", str(_STREAQ)],
        [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(_STREAQ_LOCK)],
    ]
    for step in making:
        if subprocess.run(step, check=False).returncode:
            shutil.rmtree(_STREAQ, ignore_errors=True)
            return None
    return python


def _run_streaq(python: str, redis_url: str, urls: list[str]) -> float:
    command_line = [python, str(_STREAQ_LOCK.with_name("streaq_enqueue.py")), redis_url]
    done = subprocess.run(
        command_line, input="\n".join(urls), capture_output=True, text=True, check=True, timeout=120
    )
    return float(done.stdout)


def section(figures: list[Figure]) -> Section:
    """Return the table of *figures*."""
    rows = [
        (
            figure.what,
            figure.shown(statistics.median(figure.values)),
            f"{figure.shown(min(figure.values))} to {figure.shown(max(figure.values))}",
            f"{statistics.median(figure.ratios):.2f} x" if figure.ratios else "",
            f"{min(figure.ratios):.2f} to {max(figure.ratios):.2f}" if figure.ratios else "",
            figure.target,
        )
        for figure in figures
    ]
    return Section(
        name="figures",
        columns=("what", "median", "spread", "ours to it", "spread", "target"),
        rows=rows,
        document=[figure.document() for figure in figures],
    )


async def _held(redis: Redis, fill: Callable[[], Awaitable[None]]) -> float:
    await command(redis, "FLUSHALL", "SYNC")
    before = await _used_memory(redis)
    await fill()
    return await _used_memory(redis) - before


async def _used_memory(redis: Redis) -> int:
    info: dict[str, Any] = await command(redis, "INFO", "memory")
    # Buffers of clients and of the append-only file come and go: they are not what a URL costs.
    return int(info["used_memory_dataset"])


async def _in_calls(redis: Redis, urls: list[str], call: Callable[[list[str]], tuple[Any, ...]]) -> None:
    for start in range(0, len(urls), 1_000):
        await commands(redis, [call(urls[start : start + 1_000])])
