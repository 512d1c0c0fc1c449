"""The HTTP API beside the bare Redis path: small enqueues, a list of a million lines, its memory, and slow clients."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from benchmarks.measures import SITE, urls_of
from benchmarks.page import Section
from benchmarks.servers import serving
from esa_preload import PreloadClient
from esa_preload_worker.embedded import valkey_binary
from processes import api_environment, started
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

CONNECTIONS = 16
SMALL = 3_000
LINES = 1_000_000
PAIRS = 3
PROBES = 300
SLOW_CLIENTS = 50
_BLOCK = 1_000
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """A server of the API, and the Redis behind it."""

    host: str
    port: int
    pid: int
    redis_url: str

    def memory_mib(self, field: str) -> float:
        """Return ``VmRSS`` (now) or ``VmHWM`` (the most so far)."""
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) / 1024


@dataclass(slots=True, kw_only=True)
class Connection:
    """One keep-alive connection: so simple that the client's own work hardly counts."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(self, site: int, body: bytes) -> None:
        """Enqueue the lines of *body*."""
        self.writer.write(_head(site, f"Content-Length: {len(body)}") + body)
        await self.answer()

    async def stream(self, site: int, blocks: Iterable[bytes]) -> None:
        """Enqueue the lines of *blocks*, one chunk of the body each."""
        self.writer.write(_head(site, "Transfer-Encoding: chunked"))
        for block in blocks:
            self.writer.write(b"%x\r\n%b\r\n" % (len(block), block))
            await self.writer.drain()
        self.writer.write(b"0\r\n\r\n")
        await self.answer()

    async def answer(self) -> None:
        """Read an answer, which must be 202."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        assert head.startswith(b"HTTP/1.1 202"), head
        assert length
        await self.reader.readexactly(int(length[1]))


def _head(site: int, length: str) -> bytes:
    return (
        f"POST /v1/preloads?site_id={site} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\n{length}\r\n\r\n"
    ).encode()


@contextlib.asynccontextmanager
async def _connected(api: Api) -> AsyncGenerator[Connection]:
    reader, writer = await asyncio.open_connection(api.host, api.port)
    try:
        yield Connection(reader=reader, writer=writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@contextlib.asynccontextmanager
async def _api() -> AsyncGenerator[Api]:
    async with serving(str(valkey_binary())) as valkey:
        env = api_environment(valkey.url, ESA_PRELOAD_HTTP_BODY_TIMEOUT="600")
        async with started("esa-preload", "serve", env=env) as server:
            event = (await wait_until(lambda: server.events("http.started"), timeout_s=_START_S))[0]
            url = urlsplit(str(event["url"]))
            assert url.hostname
            assert url.port
            yield Api(host=url.hostname, port=url.port, pid=server.process.pid, redis_url=valkey.url)


async def measure() -> Section:
    """Measure all on one server."""
    async with _api() as api, PreloadClient(api.redis_url) as client:
        small = [(await _small_by_http(api), await _small_by_redis(client)) for _ in range(PAIRS)]
        latency = await _latencies(api)
        async with _slow_clients(api):
            beside_slow = await _latencies(api)
        before = api.memory_mib("VmRSS")
        urls = urls_of(LINES)
        long = [
            (await _long_by_http(api, urls, 100 + n), await _long_by_redis(client, urls, 200 + n))
            for n in range(PAIRS)
        ]
        peak = api.memory_mib("VmHWM")
    rows = [
        _rates(f"enqueues of one URL, {CONNECTIONS} connections", "requests/s", small),
        _rates(f"a body of {LINES:,} lines, streamed", "URLs/s", long),
        (
            f"memory of the server: before, and the most while {LINES:,} lines come in",
            f"{before:,.0f} MiB, {peak:,.0f} MiB",
            "",
            "",
        ),
        _times("one enqueue at a time", latency),
        _times(f"the same, while {SLOW_CLIENTS} clients hold bodies open", beside_slow),
    ]
    document: dict[str, Any] = {
        "small": small,
        "long": long,
        "memory_mib": [before, peak],
        "latency_ms": latency,
        "beside_slow_ms": beside_slow,
    }
    return Section(
        name="http",
        columns=("what", "by HTTP", "by Redis", "ratio"),
        rows=rows,
        note=f"Client, server and Valkey share {os.cpu_count()} processors; load of the machine at the end {os.getloadavg()[0]:.1f}.",
        document=document,
    )


def _rates(what: str, unit: str, pairs: list[tuple[float, float]]) -> tuple[str, ...]:
    ours, bare = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return (what, f"{ours:,.0f} {unit}", f"{bare:,.0f} {unit}", f"{ratio:.2f}")


def _times(what: str, found_ms: list[float]) -> tuple[str, ...]:
    ordered = sorted(found_ms)
    p50, p99 = ordered[len(ordered) // 2], ordered[math.ceil(0.99 * len(ordered)) - 1]
    return (what, f"p50 {p50:.1f} ms, p99 {p99:.1f} ms", "", "")


_numbers = itertools.count()


def _url() -> str:
    return f"https://www.example.com/{next(_numbers)}.js"


async def _rate(post: Callable[[], Awaitable[object]], count: int) -> float:
    """Return how often a second *post* is done by one of several at once."""

    async def loop() -> None:
        for _ in range(count // CONNECTIONS):
            await post()

    begun = time.perf_counter()
    await asyncio.gather(*(loop() for _ in range(CONNECTIONS)))
    return count / (time.perf_counter() - begun)


async def _small_by_http(api: Api) -> float:
    async with contextlib.AsyncExitStack() as stack:
        free: list[Connection] = [
            await stack.enter_async_context(_connected(api)) for _ in range(CONNECTIONS)
        ]

        async def post() -> None:
            connection = free.pop()
            await connection.post(SITE, _url().encode())
            free.append(connection)

        return await _rate(post, SMALL)


async def _small_by_redis(client: PreloadClient) -> float:
    return await _rate(lambda: client.enqueue(SITE, [_url()]), SMALL)


async def _long_by_http(api: Api, urls: list[str], site: int) -> float:
    blocks = (
        "".join(f"{url}\n" for url in urls[at : at + _BLOCK]).encode() for at in range(0, len(urls), _BLOCK)
    )
    begun = time.perf_counter()
    async with _connected(api) as connection:
        await connection.stream(site, blocks)
    return len(urls) / (time.perf_counter() - begun)


async def _long_by_redis(client: PreloadClient, urls: list[str], site: int) -> float:
    begun = time.perf_counter()
    await client.enqueue(site, urls)
    return len(urls) / (time.perf_counter() - begun)


async def _latencies(api: Api) -> list[float]:
    found_ms: list[float] = []
    async with _connected(api) as connection:
        for _ in range(PROBES):
            begun = time.perf_counter()
            await connection.post(SITE, _url().encode())
            found_ms.append((time.perf_counter() - begun) * 1000)
    return found_ms


@contextlib.asynccontextmanager
async def _slow_clients(api: Api) -> AsyncGenerator[None]:
    """Hold bodies open while inside: each sends a line now and then."""

    async def drip(connection: Connection) -> None:
        connection.writer.write(_head(SITE, "Transfer-Encoding: chunked"))
        while True:
            line = f"{_url()}\n".encode()
            connection.writer.write(b"%x\r\n%b\r\n" % (len(line), line))
            await asyncio.sleep(0.5)

    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(_connected(api)) for _ in range(SLOW_CLIENTS)]
        dripping = [asyncio.create_task(drip(connection)) for connection in held]
        try:
            yield
        finally:
            for task in dripping:
                task.cancel()
            await asyncio.gather(*dripping, return_exceptions=True)
