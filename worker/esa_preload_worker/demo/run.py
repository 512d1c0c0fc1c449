"""The demo from its first URL to its verdict: queue, two workers, a simulated ESA that throttles, and the books compared."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from esa_preload.cancellation import end_tasks, heed_cancellation
from esa_preload.client import PreloadClient
from esa_preload.connection import embedded_socket
from esa_preload.errors import EsaPreloadError, SettingsError, UnknownRequestError
from esa_preload.model import RequestStatus
from esa_preload_worker.demo import view
from esa_preload_worker.demo.scrape import Scraped, add_up, fetch
from esa_preload_worker.demo.signals import until_signal
from esa_preload_worker.demo.source import open_urls
from esa_preload_worker.demo.tally import Course, Tally, document, find_problems, read_books
from esa_preload_worker.demo.workers import NAMESPACE, Workers, environment, redis_url
from esa_preload_worker.embedded import embedded_valkey
from esa_preload_worker.sandbox import BucketLimit, Sandbox, SandboxConfig
from esa_preload_worker.sandbox.config import EVERY_OPERATION
from esa_preload_worker.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rich.console import Console

    from esa_preload.model import Receipt

SITE_ID = 190007158391808
WORKERS = 2
BATCH_MAX_URLS: int = Settings.model_fields["batch_max_urls"].default

SANDBOX = SandboxConfig(
    # A small burst, so that even the 20 batches of the sample meet the limit.
    limits={EVERY_OPERATION: BucketLimit(rate_per_s=20, burst=5)},
    sites={SITE_ID: ()},
    latency_s=0.02,
    jitter_s=0.02,
    kept_url_bytes=1 << 40,  # the books must be complete at the end
)

STALLED_S = 60.0
"""Without one URL ending; a cooldown of the sandbox's limit is below a second."""
_POLL_S = 0.1
_SCRAPE_S = 1.0
_AGREE_S = 5.0
"""A worker counts a batch just after it settled it: its metrics may be this late on a slow machine."""


def run(file: str | None, *, as_json: bool) -> int:
    """
    Run the demo on *file*, or on the sample.

    Returns:
        0; 1 when the figures do not add up; 128 + n when signal n ended it.

    Raises:
        InvalidRequestError: the list cannot be used.
        EsaPreloadError: a worker died, or nothing goes on.
    """
    console = view.console(to_stderr=as_json)
    with open_urls(file) as urls:
        logs = Path(tempfile.mkdtemp(prefix="esa-preload-demo-"))
        try:
            with asyncio.Runner() as runner:
                code, ended_by = runner.run(until_signal(Demo(console, logs=logs).run(urls, as_json=as_json)))
        except EsaPreloadError:
            click.echo(f"The demo broke off; its log files are in {logs}.", err=True)
            raise
    if ended_by is not None:
        click.echo(f"{ended_by.name}: everything is stopped; the log files are in {logs}.", err=True)
    return code


class Demo:
    """
    One run.

    Args:
        console: where it talks.
        logs: an empty directory; log files and scraped metrics stay in it.
    """

    def __init__(self, console: Console, *, logs: Path) -> None:
        self._console = console
        self._logs = logs
        self._request_id = uuid.uuid4().hex

    async def run(self, urls: Iterator[str], *, as_json: bool) -> int:
        """Start everything, enqueue *urls*, follow them to their end, compare the books and stop everything."""
        async with contextlib.AsyncExitStack() as stack:
            socket = stack.enter_context(_valkey(self._logs))
            sandbox = await stack.enter_async_context(Sandbox(SANDBOX))
            environ = environment(os.environ, socket=socket, endpoint=sandbox.url)
            workers = await stack.enter_async_context(Workers(WORKERS, directory=self._logs, environ=environ))
            self._introduce(sandbox, workers)
            client = await stack.enter_async_context(PreloadClient(redis_url(socket), namespace=NAMESPACE))
            receipt, course = await self._follow(client, urls, sandbox, workers)
            status = await client.status(self._request_id)
            pages, scraped = await _scrape_settled(workers, status)
            self._keep_metrics(workers, pages)
            tally = Tally(
                receipt=receipt,
                status=status,
                books=read_books(sandbox.account.all_jobs(), sandbox.stats()),
                scraped=scraped,
                course=course,
                batch_max_urls=BATCH_MAX_URLS,
                worker_exit_codes=await workers.stop(),
            )
        return self._conclude(tally, as_json=as_json)

    async def _follow(
        self, client: PreloadClient, urls: Iterator[str], sandbox: Sandbox, workers: Workers
    ) -> tuple[Receipt, Course]:
        began = time.monotonic()
        pace = Pace(workers)
        moved = (0, began)
        enqueue = asyncio.create_task(
            client.enqueue(SITE_ID, urls, request_id=self._request_id, source="demo")
        )
        try:
            with view.View(self._console) as shown:
                while True:
                    is_enqueued = enqueue.done()
                    if is_enqueued:
                        enqueue.result()
                    workers.require_alive()
                    status = await _status(client, self._request_id)
                    heed_cancellation()
                    await pace.sample()
                    now = time.monotonic()
                    ended = status.accepted - status.pending - status.in_flight
                    shown.show(
                        view.Progress(
                            elapsed_s=now - began,
                            accepted=status.accepted,
                            is_enqueued=is_enqueued,
                            ended=ended,
                            jobs=sandbox.account.jobs_created,
                            scraped=pace.last,
                            calls_per_s=pace.calls_per_s,
                        )
                    )
                    if is_enqueued and status.state == "done":
                        return enqueue.result(), Course(elapsed_s=now - began, peak_calls_per_s=pace.peak)
                    moved = (ended, now) if ended != moved[0] or not is_enqueued else moved
                    if now - moved[1] > STALLED_S:
                        raise await _stalled(client, status)
                    await asyncio.sleep(_POLL_S)
        finally:
            await end_tasks(enqueue)

    def _introduce(self, sandbox: Sandbox, workers: Workers) -> None:
        view.say(
            self._console, f"Simulated ESA: {sandbox.url}, 20 calls/s for each operation, bursts of up to 5"
        )
        for worker in workers.processes:
            view.say(
                self._console,
                f"{worker.name}: pid {worker.pid}, {worker.ops_url}/metrics, log {worker.log_path}",
            )

    def _keep_metrics(self, workers: Workers, pages: list[str]) -> None:
        for worker, page in zip(workers.processes, pages, strict=True):
            (self._logs / f"{worker.name}.metrics").write_text(page, encoding="utf-8")

    def _conclude(self, tally: Tally, *, as_json: bool) -> int:
        problems = find_problems(tally)
        if as_json:
            found = {
                kind: [str(path) for path in sorted(self._logs.glob(f"*.{suffix}"))]
                for kind, suffix in (("metrics", "metrics"), ("logs", "log"))
            }
            click.echo(json.dumps(document(tally, metrics=found["metrics"], logs=found["logs"])))
        else:
            view.show_rejected(self._console, tally.receipt.rejected, tally.receipt.rejected_count)
            view.show_table(self._console, tally)
            view.say(self._console, f"Logs, one JSON object a line: less {self._logs}/worker-1.log")
            view.say(self._console, f"Metrics, as scraped at the end: less {self._logs}/worker-1.metrics")
        for problem in problems:
            click.echo(f"Does not add up: {problem}", err=True)
        if not problems and not as_json:
            view.say(self._console, "Everything adds up, and everything is stopped.")
        return 1 if problems else 0


class Pace:
    """Scrape the workers about once a second, and see how many calls a second that makes."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._at = time.monotonic()
        self.last = Scraped()
        self.calls_per_s = 0.0
        self.peak = 0.0

    async def sample(self) -> None:
        """Scrape, if the last time is a second ago; a worker that does not answer in time is asked again the next time."""
        now = time.monotonic()
        if now - self._at < _SCRAPE_S:
            return
        try:
            scraped = add_up(await fetch(self._workers.metrics_urls))
        except EsaPreloadError:
            self._workers.require_alive()
            return
        self.calls_per_s = (scraped.calls - self.last.calls) / (now - self._at)
        self.peak = max(self.peak, self.calls_per_s)
        self.last, self._at = scraped, now


@contextlib.contextmanager
def _valkey(logs: Path) -> Generator[Path]:
    """Run a Valkey in a directory that goes with it; its log stays in *logs*. Yields its socket."""
    directory = logs / "valkey"
    try:
        embedded_socket(directory)
    except SettingsError:
        # TMPDIR is long and a socket's path must be short.
        directory = Path(tempfile.mkdtemp(prefix="esa-preload-demo-", dir="/tmp"))
    try:
        with embedded_valkey(directory) as socket:
            yield socket
    finally:
        with contextlib.suppress(OSError):
            shutil.copyfile(directory / "valkey.log", logs / "valkey.log")
        shutil.rmtree(directory, ignore_errors=True)


async def _status(client: PreloadClient, request_id: str) -> RequestStatus:
    try:
        return await client.status(request_id)
    except UnknownRequestError:  # its first chunk is on the way
        return RequestStatus(request_id=request_id, site_id=SITE_ID, state="active")


async def _scrape_settled(workers: Workers, status: RequestStatus) -> tuple[list[str], Scraped]:
    until = time.monotonic() + _AGREE_S
    while True:
        workers.require_alive()
        pages = await fetch(workers.metrics_urls)
        scraped = add_up(pages)
        agrees = (scraped.urls_submitted, scraped.urls_refused) == (status.submitted, status.refused)
        if agrees or time.monotonic() > until:
            return pages, scraped
        await asyncio.sleep(_POLL_S)


async def _stalled(client: PreloadClient, status: RequestStatus) -> EsaPreloadError:
    sites = [f"{site.state} {site.reason}".strip() for site in await client.sites()]
    return EsaPreloadError(
        f"no URL ended for {STALLED_S:.0f} s: {status.pending:,} pending, {status.in_flight:,} in flight",
        hint=f"the site is {', '.join(sites) or 'not known'}; the workers' logs say more",
    )
