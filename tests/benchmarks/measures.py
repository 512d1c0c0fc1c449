"""The single measures: each runs its peer beside it, in turns, on the same server and the same URLs."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

from arq.connections import ArqRedis

from benchmarks.page import Section
from esa_preload import PreloadClient
from esa_preload.connection import connect
from esa_preload.scripts import command, commands

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

MEMORY_URLS = 200_000
ENQUEUE_URLS = 200_000
ARQ_JOBS = 5_000
PAIRS = 5
URL_CHARS = 72
SITE = 190007158391808
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


async def memory_a_url(redis_url: str) -> list[Figure]:
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
            what=f"memory a pending URL of {URL_CHARS} bytes, with owner",
            unit="bytes",
            values=[held["ours"]],
            ratios=[],
            target="at most 300 bytes",
        ),
        Figure(
            what="the same URLs in a bare sorted set",
            unit="bytes",
            values=[held["zset"]],
            ratios=[held["ours"] / held["zset"]],
        ),
        Figure(
            what="the same URLs in a bare list",
            unit="bytes",
            values=[held["list"]],
            ratios=[held["ours"] / held["list"]],
        ),
    ]


async def enqueue_rates(redis_url: str) -> list[Figure]:
    """Measure the public client beside arq's ``enqueue_job`` (a job a URL), append-only file on, in turns."""
    redis = connect(redis_url)
    arq: Any = connect(redis_url, redis_class=ArqRedis)
    urls = urls_of(ENQUEUE_URLS)

    async def ours() -> None:
        async with PreloadClient(redis_url, namespace="bench") as client:
            receipt = await client.enqueue(SITE, urls)
            assert receipt.accepted == ENQUEUE_URLS

    async def with_arq() -> None:
        for url in islice(urls, ARQ_JOBS):
            await arq.enqueue_job("preload", url)

    rates: dict[str, list[float]] = {"ours": [], "arq": []}
    for _ in range(PAIRS):
        rates["ours"].append(ENQUEUE_URLS / await _time(redis, ours))
        rates["arq"].append(ARQ_JOBS / await _time(redis, with_arq))
    await redis.aclose()
    await arq.aclose()
    ratios = [mine / its for mine, its in zip(rates["ours"], rates["arq"], strict=True)]
    return [
        Figure(
            what="enqueue, one process, tracking and append-only file on",
            unit="URLs/s",
            values=rates["ours"],
            ratios=[],
            target="at least 50,000 URLs/s",
        ),
        Figure(
            what="arq 0.28 enqueue_job, a job a URL",
            unit="jobs/s",
            values=rates["arq"],
            ratios=ratios,
            target="at least 5 x",
        ),
    ]


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


async def _time(redis: Redis, run: Callable[[], Awaitable[None]]) -> float:
    await command(redis, "FLUSHALL", "SYNC")
    begun = time.perf_counter()
    await run()
    return time.perf_counter() - begun


async def _used_memory(redis: Redis) -> int:
    info: dict[str, Any] = await command(redis, "INFO", "memory")
    # Buffers of clients and of the append-only file come and go: they are not what a URL costs.
    return int(info["used_memory_dataset"])


async def _in_calls(redis: Redis, urls: list[str], call: Callable[[list[str]], tuple[Any, ...]]) -> None:
    for start in range(0, len(urls), 1_000):
        await commands(redis, [call(urls[start : start + 1_000])])
