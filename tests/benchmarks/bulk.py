"""A large backlog at a few calls a second: by lists in OSS, by text boxes, and by a bare loop over the official SDK."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.measures import SITE, urls_of
from benchmarks.page import Section
from benchmarks.sdk_loop import DONE
from chaos.machines import Machine, SandboxProcess, Valkey, start_worker
from esa_preload import PreloadClient
from processes import environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

URLS, MANY_URLS = 100_000, 1_000_000
RATE, BURST = 5, 5
LATENCY_S, JITTER_S = 0.05, 0.1
BATCH = 100
POLL_S, PROGRESS_S, START_S = 0.1, 10.0, 60.0
SETTINGS = {"MAX_PENDING_PER_SITE": "10000000", "LOG_LEVEL": "info"}
"""The defaults, but for the room that a million URLs need."""
OPERATIONS = ("CreateScheduledPreloadJob", "CreateScheduledPreloadExecutions", "PutObject")
_TESTS = str(Path(__file__).resolve().parents[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """
    What one way of submitting came to.

    Attributes:
        enqueued_s: when the last URL was accepted; 0 where nothing is enqueued.
        seconds: until the last URL was submitted; both from the beginning of the enqueue, or of the loop.
        calls: those that went through, by operation; ``throttled``: those that were refused for the rate.
        again: URLs that were planned more than once.
        peak_mb: memory that the worker held at most; 0 for the loop, which holds all URLs.
    """

    name: str
    enqueued_s: float
    seconds: float
    calls: Mapping[str, int]
    throttled: int
    again: int
    peak_mb: float


class Board:
    """How far each way is, a line now and then."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._submitted: dict[str, str] = {}

    def note(self, name: str, text: str) -> None:
        """Remember how far *name* is."""
        self._submitted[name] = text

    async def show(self) -> None:
        """Print a line every ten seconds, until cancelled."""
        while True:
            await asyncio.sleep(PROGRESS_S)
            told = "; ".join(f"{name}: {text}" for name, text in self._submitted.items())
            print(f"{time.monotonic() - self._began_s:6.0f} s  {told}", flush=True)


async def by_worker(
    name: str,
    urls: int,
    directory: Path,
    board: Board,
    settings: Callable[[str], Mapping[str, str]] = lambda _: {},
) -> Way:
    """Enqueue *urls* while a worker runs, and wait until they are submitted; *settings* gets the sandbox's address."""
    valkey = Valkey(directory, is_killed=False)
    await valkey.start()
    try:
        async with _sandbox(directory) as sandbox, PreloadClient(valkey.url) as client:
            worker = start_worker(
                "worker",
                redis_url=valkey.url,
                endpoint=sandbox.url,
                directory=directory,
                settings={**SETTINGS, **settings(sandbox.url)},
            )
            try:
                await wait_until(lambda: worker.ops_url() or worker.exit_code is not None, timeout_s=START_S)
                assert worker.exit_code is None, worker.lines()[-5:]
                began_s = time.monotonic()
                receipt = await client.enqueue(SITE, urls_of(urls))
                enqueued_s = time.monotonic() - began_s
                assert receipt.accepted == urls
                while (status := await client.status(receipt.request_id)).state != "done":
                    board.note(name, f"{status.submitted:,}")
                    await asyncio.sleep(POLL_S)
                seconds = time.monotonic() - began_s
                peak_mb = _peak_mb(worker.pid)
                assert status.submitted == urls, status
                board.note(name, f"all after {seconds:.1f} s")
            finally:
                await worker.stop()
            return await _counted(
                name, sandbox, urls, enqueued_s=enqueued_s, seconds=seconds, peak_mb=peak_mb
            )
    finally:
        await valkey.stop()


async def by_loop(name: str, urls: int, directory: Path, board: Board) -> Way:
    """Have the loop over the official SDK submit *urls*."""
    async with _sandbox(directory) as sandbox:
        command = [sys.executable, "-m", "benchmarks.sdk_loop", "--endpoint", sandbox.url.partition("//")[2]]
        for option, value in (("site", SITE), ("urls", urls), ("batch", BATCH), ("rate", RATE)):
            command += [f"--{option}", str(value)]
        loop = Machine("loop", command, env=environment(PYTHONPATH=_TESTS), log=directory / "loop.log")
        try:
            while loop.exit_code is None:
                await asyncio.sleep(POLL_S)
                if lines := loop.lines():
                    board.note(name, f"{int(lines[-1]):,}" if lines[-1].isdigit() else lines[-1][:80])
            assert loop.exit_code == 0, loop.lines()[-5:]
            found = cast("dict[str, float]", json.loads(loop.lines()[-1].removeprefix(DONE)))
            board.note(name, f"all after {found['seconds']:.1f} s")
        finally:
            await loop.kill()
        return await _counted(name, sandbox, urls, enqueued_s=0, seconds=found["seconds"])


async def measure(urls: int = URLS) -> Section:
    """Run the three side by side, each against a sandbox of its own."""
    board = Board()
    with tempfile.TemporaryDirectory(prefix="esap-bulk-") as directory:
        oss, box, sdk = _places(Path(directory))
        showing = asyncio.create_task(board.show())
        try:
            async with asyncio.TaskGroup() as group:
                running = [
                    group.create_task(by_worker("lists in OSS", urls, oss, board, _with_bucket)),
                    group.create_task(by_worker("text boxes", urls, box, board)),
                    group.create_task(by_loop("bare SDK loop", urls, sdk, board)),
                ]
        finally:
            showing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await showing
        ways = [task.result() for task in running]
    return _section(urls, ways)


def _section(urls: int, ways: list[Way]) -> Section:
    loop_s = ways[-1].seconds
    rows = [
        (
            way.name,
            f"{way.enqueued_s:.1f} s" if way.enqueued_s else "",
            f"{way.seconds:,.1f} s",
            f"{urls / way.seconds:,.0f}",
            f"{loop_s / way.seconds:,.2f} x",
            *(f"{way.calls.get(operation, 0):,}" for operation in OPERATIONS),
            f"{way.throttled:,}",
            f"{way.again:,}",
            f"{way.peak_mb:.0f} MB" if way.peak_mb else "",
        )
        for way in ways
    ]
    return Section(
        name="bulk" if urls == URLS else f"bulk of {urls:,}",
        columns=(
            *("way", "enqueued after", "all submitted after", "URLs/s", "beside the loop"),
            *("jobs", "plans", "uploads", "throttled", "planned twice", "worker's memory"),
        ),
        rows=rows,
        note=(
            f"{urls:,} URLs of one site; {RATE} calls/s of each operation, burst {BURST}; a call takes"
            f" {LATENCY_S * 1000:.0f} to {(LATENCY_S + JITTER_S) * 1000:.0f} ms; {BATCH} URLs a text box."
        ),
        document={"urls": urls, "ways": [asdict(way) for way in ways]},
    )


def _places(root: Path) -> list[Path]:
    places = [root / name for name in ("oss", "box", "sdk")]
    for place in places:
        place.mkdir()
    return places


def _sandbox(directory: Path) -> SandboxProcess:
    limits = {"*": {"rate_per_s": RATE, "burst": BURST}}
    return SandboxProcess(directory, latency_s=LATENCY_S, jitter_s=JITTER_S, limits=limits)


def _with_bucket(url: str) -> dict[str, str]:
    return {"OSS_BUCKET": "lists", "OSS_ENDPOINT": url}


def _peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


async def _counted(
    name: str,
    sandbox: SandboxProcess,
    urls: int,
    *,
    enqueued_s: float,
    seconds: float,
    peak_mb: float = 0.0,
) -> Way:
    stats = cast("dict[str, Any]", await sandbox.read("stats"))
    assert stats["planned_urls"] == urls, stats["planned_urls"]
    calls = cast("dict[str, dict[str, int]]", stats["calls"])
    return Way(
        name=name,
        enqueued_s=enqueued_s,
        seconds=seconds,
        calls={operation: codes.get("OK", 0) for operation, codes in calls.items()},
        throttled=sum(codes.get("TooManyRequests", 0) for codes in calls.values()),
        again=stats["urls_planned_again"],
        peak_mb=peak_mb,
    )
