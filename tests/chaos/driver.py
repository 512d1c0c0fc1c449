"""One run: start everything, break it while producers produce, let it settle, and judge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from chaos.books import Accepted, audit
from chaos.logbook import read_logs, recreated
from chaos.machines import (
    Machine,
    SandboxProcess,
    Valkey,
    check_ledger,
    start_producer,
    start_worker,
)
from chaos.options import BULK_SETTINGS, WORKER_SETTINGS, sandbox_config
from chaos.producers import Record, requests_of, write_order
from chaos.report import Report
from chaos.troublemaker import ENDS_WELL, NO_REDIS, Crew, Troublemaker
from chaos.troubles import troubles_of
from esa_preload import PreloadClient, QueueUnavailableError
from esa_preload.cancellation import end_tasks
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from pathlib import Path
    from typing import TypeVar

    from chaos.options import Options
    from chaos.producers import Request
    from esa_preload import RequestStatus

    T = TypeVar("T")

_POLL_S = 0.25
_SCRAPE_S = 0.7
_PATIENCE_S = 60.0
_FAULTS, _FAULTS_S = 15, 6.0
# The list of refused URLs of a site is cut at 10,000.
_FAILURES_MAX = 10_000


class Run:
    """
    One run in *directory*, where its logs stay.

    Attributes:
        report: what is known so far.
    """

    def __init__(self, options: Options, directory: Path) -> None:
        self.report = Report(options=options)
        self._options = options
        self._directory = directory
        self._dice = Random(options.seed)
        self._machines: list[Machine] = []
        self._begun = time.monotonic()
        self._batches_concerned: set[str] = set()

    def clock(self) -> float:
        """Return the seconds since the begin."""
        return time.monotonic() - self._begun

    async def run(self) -> Report:
        """Do it all; raises ``TimeoutError`` when the queue does not settle."""
        options, report = self._options, self.report
        longest = max(20, options.urls // 25)
        requests = requests_of(self._dice, urls=options.urls, seconds=options.seconds, longest=longest)
        troubles = troubles_of(
            self._dice,
            seconds=options.seconds,
            most=max(options.workers, options.producers),
            every_s=options.trouble_every_s,
            but=frozenset() if options.kill_valkey else frozenset(("kill_valkey",)),
        )
        record = Record(self._directory / "record")
        async with (
            self._valkey() as valkey,
            SandboxProcess(self._directory, seed=options.seed, **sandbox_config(options)) as sandbox,
            PreloadClient(valkey.url) as client,
        ):
            self._begun = time.monotonic()
            self._write_orders(valkey, requests)
            maker = Troublemaker(
                workers=Crew(
                    start=partial(self._start_worker, valkey, sandbox),
                    size=options.workers,
                    may_end_with=(NO_REDIS,),
                ),
                producers=Crew(
                    start=partial(self._start_producer, record), size=options.producers, may_end_with=(0,)
                ),
                valkey=valkey,
                sandbox=sandbox,
                note=self._note,
            )
            background = [asyncio.create_task(maker.keep()), asyncio.create_task(self._count_recreated())]
            try:
                for machine in self._machines[: options.workers]:
                    await wait_until(machine.ops_url, timeout_s=_PATIENCE_S)
                self._begun = time.monotonic()
                await maker.run(troubles, self.clock)
                accepted = await self._all_accepted(record, requests)
                await self._enough_faults(sandbox)
                await maker.calm()
                self._note("faults and troubles end")
                calm_s = self.clock()
                statuses = await self._drain(client, requests)
                report.drain_s = self.clock() - calm_s
                report.troubles = maker.done
                await self._judge(client, sandbox, _told(requests, accepted, statuses))
                report.errors += await check_ledger(
                    redis_url=valkey.url, endpoint=sandbox.url, directory=self._directory
                )
                await end_tasks(*background)
                for machine in maker.everybody():
                    if (code := await machine.stop()) not in ENDS_WELL:
                        report.errors.append(f"{machine.name} ended with {code}")
            finally:
                for task in background:
                    task.cancel()
                for machine in self._machines:
                    machine.thaw()
                    await machine.kill()
                report.seconds = self.clock()
        report.retried_requests = sum(calls > 1 for calls in record.read()[0].values())
        read_logs(report, self._machines, self._batches_concerned)
        return report

    # -- the parts ----------------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def _valkey(self) -> AsyncGenerator[Valkey]:
        valkey = Valkey(self._directory, is_killed=self._options.kill_valkey)
        try:
            await valkey.start()
            yield valkey
        finally:
            await valkey.stop()

    def _start_worker(self, valkey: Valkey, sandbox: SandboxProcess, number: int) -> Machine:
        name = self._name("worker", number)
        bulk = BULK_SETTINGS | {"OSS_ENDPOINT": sandbox.url} if self._options.bulk else {}
        machine = start_worker(
            name,
            redis_url=valkey.url,
            endpoint=sandbox.url,
            directory=self._directory,
            settings=WORKER_SETTINGS | bulk,
        )
        self._machines.append(machine)
        return machine

    def _write_orders(self, valkey: Valkey, requests: Sequence[Request]) -> None:
        for number in range(self._options.producers):
            write_order(
                self._order(number),
                redis_url=valkey.url,
                begun=time.time(),
                requests=requests[number :: self._options.producers],
            )

    def _order(self, number: int) -> Path:
        return self._directory / f"order-{number}"

    def _start_producer(self, record: Record, number: int) -> Machine:
        machine = start_producer(
            self._name("producer", number),
            order=self._order(number),
            record=record.path,
            directory=self._directory,
        )
        self._machines.append(machine)
        return machine

    def _name(self, sort: str, number: int) -> str:
        before = sum(machine.name.startswith(f"{sort}-{number}.") for machine in self._machines)
        return f"{sort}-{number}.{before}"

    async def _all_accepted(self, record: Record, requests: Sequence[Request]) -> dict[str, int]:
        """Wait until producers were told of every request that it is in; faults go on for so long."""
        with contextlib.suppress(AssertionError):  # the audit names what is missing
            await wait_until(
                lambda: len(record.read()[1]) == len(requests),
                timeout_s=self._options.drain_s,
                every_s=_POLL_S,
            )
        return record.read()[1]

    async def _enough_faults(self, sandbox: SandboxProcess) -> None:
        """Go on for a moment with faults where a short run, and ESA away for much of it, had next to none."""

        async def look() -> bool:
            _, faults = await sandbox.counts()
            return sum(faults.values()) >= _FAULTS

        if self._options.fault_rate:
            with contextlib.suppress(AssertionError):  # the queue is empty
                await wait_until_async(look, timeout_s=_FAULTS_S, every_s=_POLL_S)

    async def _count_recreated(self) -> None:
        """Read from the workers' metrics, until cancelled, what no log line and no book says."""
        known: dict[str, float] = {}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http:
            while True:
                for machine in self._machines:
                    if machine.exit_code is None and (url := machine.ops_url()):
                        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                            async with http.get(f"{url}/metrics") as reply:
                                known[machine.name] = recreated(await reply.text())
                self.report.created_again = int(sum(known.values()))
                await asyncio.sleep(_SCRAPE_S)

    async def _drain(self, client: PreloadClient, requests: Sequence[Request]) -> list[RequestStatus]:
        """Wait until every request is done; return their states in order."""
        waiting = {request.request_id for request in requests}
        done: dict[str, RequestStatus] = {}
        until = self.clock() + self._options.drain_s
        while waiting:
            for request_id in sorted(waiting):
                status = await _insist(partial(client.status, request_id))
                if status.state == "done" or self.clock() > until:
                    done[request_id] = status
                    waiting.discard(request_id)
            await asyncio.sleep(_POLL_S)
        return [done[request.request_id] for request in requests]

    async def _judge(
        self, client: PreloadClient, sandbox: SandboxProcess, accepted: Sequence[Accepted]
    ) -> None:
        # A worker that was slow to give up may still delete a job of its own: one lag, and no more.
        await asyncio.sleep(2.0)
        report = self.report
        stats = cast("dict[str, Any]", await sandbox.read("stats"))
        jobs = cast("list[dict[str, Any]]", await sandbox.read("jobs"))
        failures = {
            failure.url: _end_of(failure.reason) for failure in await client.failures(limit=_FAILURES_MAX)
        }
        sites = {site.site_id: (site.submitted, site.refused) for site in await client.sites()}
        report.verdict = audit(accepted, jobs=jobs, stats=stats, ended_otherwise=failures, sites=sites)
        report.accepted = sum(request.accepted for request in accepted)
        for request in accepted:
            for end in ("pending", "in_flight", "submitted", "refused", "expired", "cancelled", "unknown"):
                if count := int(getattr(request.status, end)):
                    report.ends[end] += count
        report.calls, report.faults = await sandbox.counts()
        report.jobs = stats["jobs_created"]
        report.second_jobs = sum(count - 1 for count in stats["jobs_of_one_name"].values())
        names = self._names_concerned(jobs)
        self._batches_concerned = {name.rpartition("-")[2] for name in names}
        for job in jobs:
            if job["name"] in names:
                shown = {
                    key: job[key]
                    for key in ("id", "name", "site_id", "created_at_s", "plans", "plans_made", "is_deleted")
                }
                report.problems.append(f"job: {json.dumps(shown)}")

    def _names_concerned(self, jobs: Sequence[dict[str, Any]]) -> set[str]:
        verdict = self.report.verdict
        urls, ids = {*verdict.lost, *verdict.planned_twice}, set(verdict.jobs)
        return {job["name"] for job in jobs if job["id"] in ids or (urls and urls.intersection(job["urls"]))}

    def _note(self, line: str) -> None:
        self.report.history.append(f"{datetime.now().astimezone().isoformat()} {self.clock():7.2f} s  {line}")


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Return what *call* returns, once the queue can be reached."""
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                return await call()
            except QueueUnavailableError:
                await asyncio.sleep(_POLL_S)


def _told(
    requests: Sequence[Request], accepted: Mapping[str, int], statuses: Sequence[RequestStatus]
) -> list[Accepted]:
    return [
        Accepted(
            request_id=request.request_id,
            site_id=request.site_id,
            urls=request.urls,
            accepted=accepted.get(request.request_id, 0),
            status=status,
        )
        for request, status in zip(requests, statuses, strict=True)
    ]


def _end_of(reason: str) -> str:
    return {"list_unreadable": "unknown", "expired": "expired"}.get(reason, "refused")
