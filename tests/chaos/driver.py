"""One run: start everything, break it while producers produce, let it settle, and judge."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from chaos.books import Accepted, Verdict, audit
from chaos.machines import Machine, SandboxProcess, Valkey, start_worker
from chaos.options import sandbox_config
from chaos.producers import produce, requests_of
from chaos.troubles import ENDS_WELL, NO_REDIS, Troublemaker, troubles_of
from esa_preload import PreloadClient, QueueUnavailableError
from esa_preload.cancellation import end_tasks

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
    from pathlib import Path
    from typing import TypeVar

    from chaos.options import Options
    from chaos.producers import Request
    from esa_preload import RequestStatus

    T = TypeVar("T")

_POLL_S = 0.25
_SCRAPE_S = 0.7
_TROUBLE_EVERY_S = 1.2
_PATIENCE_S = 60.0
# The list of refused URLs of a site is cut at 10,000.
_FAILURES_MAX = 10_000


@dataclass(slots=True, kw_only=True)
class Report:
    """
    What a run came to.

    Attributes:
        seconds: from the begin to the judgement; ``drain_s`` of them after the troubles.
        troubles: by kind.
        faults: of the sandbox, by kind.
        recoveries: batches submitted otherwise than at their first claim; ``slowest_recovery_s`` from claim to end.
        adopted: jobs found by their name.
        created_again: Creates of batches whose name was not found, but for those of processes killed soon after.
        second_jobs: jobs of a name that had one, none of which may be planned.
        worker_errors: log lines that a run should not have.
        noise: log lines of other libraries, and the first of them.
        history: one line each for what the driver did.
        problems: log lines about the batches concerned.
    """

    options: Options
    verdict: Verdict = field(default_factory=Verdict)
    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    drain_s: float = 0.0
    troubles: Counter[str] = field(default_factory=Counter[str])
    faults: dict[str, int] = field(default_factory=dict[str, int])
    calls: int = 0
    recoveries: int = 0
    adopted: int = 0
    created_again: int = 0
    second_jobs: int = 0
    jobs: int = 0
    slowest_recovery_s: float = 0.0
    retried_requests: int = 0
    worker_errors: list[str] = field(default_factory=list[str])
    noise: list[str] = field(default_factory=list[str])
    history: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept, and no process failed in a way of its own."""
        return self.verdict.is_clean and not self.worker_errors and not self.troubles["ended_badly"]

    def lines(self) -> list[str]:
        """Return the figures, a line each."""
        troubles = dict(sorted(self.troubles.items()))
        return [
            f"seed {self.options.seed}: {self.accepted} URLs accepted in {self.seconds:.0f} s,"
            f" the last {self.drain_s:.1f} s of them without trouble",
            f"lost {len(self.verdict.lost)}, planned twice {len(self.verdict.planned_twice)},"
            f" counts that do not add up {len(self.verdict.odd)}",
            f"ended: {dict(self.ends)}",
            f"jobs {self.jobs}, recoveries {self.recoveries}, adopted {self.adopted},"
            f" created again {self.created_again}, second jobs of a name {self.second_jobs},"
            f" slowest recovery {self.slowest_recovery_s:.1f} s",
            f"troubles: {troubles}; requests tried again {self.retried_requests}",
            f"log lines of other libraries {len(self.noise)}",
            f"faults: {sum(self.faults.values())} of {self.calls} calls: {dict(sorted(self.faults.items()))}",
        ]

    def full(self) -> str:
        """Return everything that helps to find out why."""
        verdict = self.verdict
        parts = [
            *self.lines(),
            *(f"lost: {url}" for url in verdict.lost[:20]),
            *(f"planned twice: {url}" for url in verdict.planned_twice[:20]),
            *(f"odd: {line}" for line in verdict.odd[:20]),
            *(f"error: {line}" for line in self.worker_errors[:20]),
            *(f"noise: {line}" for line in self.noise[:5]),
            "history:",
            *self.history,
            "of the batches concerned:",
            *self.problems[:400],
        ]
        return "\n".join(parts)


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
            self._dice, seconds=options.seconds, workers=options.workers, every_s=_TROUBLE_EVERY_S
        )
        async with (
            self._valkey() as valkey,
            SandboxProcess(self._directory) as sandbox,
            PreloadClient(valkey.url) as client,
        ):
            await sandbox.configure(**sandbox_config(options))
            workers = [self._start_worker(valkey, sandbox, number) for number in range(options.workers)]
            maker = Troublemaker(
                workers=workers,
                restart=lambda number: self._start_worker(valkey, sandbox, number),
                valkey=valkey,
                sandbox=sandbox,
                note=self._note,
            )
            background = [asyncio.create_task(maker.keep()), asyncio.create_task(self._count_recreated())]
            try:
                self._begun = time.monotonic()
                await asyncio.gather(maker.run(troubles, self.clock), produce(client, requests, self.clock))
                await sandbox.configure(faults=[])
                self._note("faults and troubles end")
                calm_s = self.clock()
                statuses = await self._drain(client, requests)
                report.drain_s = self.clock() - calm_s
                report.troubles = maker.done
                await self._judge(client, sandbox, requests, statuses)
                await end_tasks(*background)
                for worker in workers:
                    if (code := await worker.stop()) not in ENDS_WELL:
                        report.worker_errors.append(f"{worker.name} ended with {code}")
            finally:
                for task in background:
                    task.cancel()
                for machine in self._machines:
                    machine.thaw()
                    await machine.kill()
                report.seconds = self.clock()
        self._read_logs()
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
        name = f"worker-{number}.{sum(m.name.startswith(f'worker-{number}.') for m in self._machines)}"
        machine = start_worker(name, redis_url=valkey.url, endpoint=sandbox.url, directory=self._directory)
        self._machines.append(machine)
        return machine

    async def _count_recreated(self) -> None:
        """Read from the workers' metrics, until cancelled, what no log line and no book says."""
        known: dict[str, float] = {}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=1)) as http:
            while True:
                for machine in self._machines:
                    if machine.exit_code is None and (url := machine.ops_url()):
                        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                            async with http.get(f"{url}/metrics") as reply:
                                known[machine.name] = _recreated(await reply.text())
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
        self,
        client: PreloadClient,
        sandbox: SandboxProcess,
        requests: Sequence[Request],
        statuses: Sequence[RequestStatus],
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
        accepted = [
            Accepted(
                request_id=request.request_id,
                site_id=request.site_id,
                urls=request.urls,
                accepted=request.receipt.accepted if request.receipt else 0,
                status=status,
            )
            for request, status in zip(requests, statuses, strict=True)
        ]
        report.verdict = audit(accepted, jobs=jobs, stats=stats, ended_otherwise=failures, sites=sites)
        report.accepted = sum(request.accepted for request in accepted)
        for status in statuses:
            for end in ("pending", "in_flight", "submitted", "refused", "expired", "cancelled", "unknown"):
                if count := int(getattr(status, end)):
                    report.ends[end] += count
        report.faults = stats["faults"]
        report.calls = sum(sum(codes.values()) for codes in stats["calls"].values())
        report.jobs = stats["jobs_created"]
        report.second_jobs = sum(count - 1 for count in stats["jobs_of_one_name"].values())
        report.retried_requests = sum(request.tries > 1 for request in requests)
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

    def _read_logs(self) -> None:
        report = self.report
        concerned: list[tuple[str, str]] = []
        for machine in self._machines:
            for line in machine.lines():
                if not line.startswith("{"):
                    if machine.exit_code == NO_REDIS:
                        continue
                    report.worker_errors.append(f"{machine.name}: {line}")
                    continue
                event = cast("dict[str, Any]", json.loads(line))
                self._count(machine, event)
                if event.get("batch_id") in self._batches_concerned:
                    concerned.append((str(event["timestamp"]), f"{machine.name}: {line}"))
        report.problems.extend(line for _, line in sorted(concerned))

    def _count(self, machine: Machine, event: dict[str, Any]) -> None:
        report = self.report
        name = event["event"]
        if name == "batch.adopted":
            report.adopted += 1
        elif name == "batch.submitted" and event["attempt"] > 1:
            report.recoveries += 1
            ended_s = datetime.fromisoformat(event["timestamp"]).timestamp()
            begun_s = int(event["batch_id"][:11], 16) / 1000
            report.slowest_recovery_s = max(report.slowest_recovery_s, ended_s - begun_s)
        if name == "worker.error":
            report.worker_errors.append(f"{machine.name}: {json.dumps(event)[:2000]}")
        elif name == "library":
            report.noise.append(f"{machine.name}: {json.dumps(event)[:500]}")

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


def _recreated(metrics: str) -> float:
    for line in metrics.splitlines():
        if line.startswith("esa_preload_reconciled_total{") and '"recreated"' in line:
            return float(line.rpartition(" ")[2])
    return 0.0


def _end_of(reason: str) -> str:
    return "unknown" if reason == "list_unreadable" else "refused"
