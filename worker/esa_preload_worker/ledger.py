"""The workers' side of the ledger: claim, record, settle, keep the pace. The one module of this package that runs its scripts."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal, cast

from redis.exceptions import NoScriptError, RedisError, ResponseError

from esa_preload.scripts import (
    Argument,
    Reply,
    Script,
    as_text,
    command,
    commands,
    load_script,
    pipelined,
    run_script,
)
from esa_preload_worker.claims import (
    Batch,
    Call,
    Exemption,
    Gathered,
    JobState,
    LostClaim,
    OperationRate,
    Settled,
    Settlement,
    Swept,
    Turn,
    Wait,
    WatchedJob,
    read_settled,
    read_taken,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from redis.asyncio import Redis

    from esa_preload.keys import Keys

CREATE_JOB = "CreateScheduledPreloadJob"
CREATE_PLANS = "CreateScheduledPreloadExecutions"
LIST_SITES = "ListSites"
_RATE = (("esa_preload", "gate"), ("esa_preload_worker", "rate"))


def _script(name: str, *includes: str) -> Script:
    package = "esa_preload_worker"
    more = tuple((package, include) for include in includes)
    return load_script(name, package=package, includes=(*_RATE, *more))


TAKE = _script("take", "claim")
GATHER = _script("gather", "claim")
CREATED = _script("created")
SETTLE = _script("settle", "jobs")
PACE = _script("pace")
REPORT = _script("report")
RENEW = _script("renew")
SWEEP = _script("sweep")
NAMES = load_script("names", package="esa_preload_worker")
VISIT = _script("visit", "jobs")
VISITED = _script("visited", "jobs")

PACK_URLS = 500
"""URLs of a pack: as many as one script may claim, end or put back in some milliseconds."""

SITE_NAMES_TTL_MS = 86_400_000
"""A fleet that has stopped forgets the names of the account's sites; one that cannot list them for some hours does not."""

SWEEP_STEPS = 16
"""Steps of a sweep, while more is to be done: a thousand requests and four thousand URLs a second, in steps that hold nobody up."""

TRACES_MAX = 32
"""Requests of a batch whose trace contexts are read; one of 100 URLs seldom has more."""

DISK_TIMEOUT_MS = 3_000
"""A server that needs longer to write is in trouble: its claims wait for their lease."""

_CANNOT_TELL = re.compile(r"unknown command|appendonly is disabled|no permissions")
"""What WAITAOF answers where it is no use asking: too old a server, no append-only file, or no right to ask."""


class NotDurableError(RedisError):
    """The server did not put a claim on disk in time. The batch stays where it is; its lease runs out, then it is looked up."""


class WorkerLedger:
    """
    Claim, record and settle batches; each method is one script, atomic and safe to repeat.

    Args:
        now_ms: overrides the server's clock, in tests.
        waits_for_disk: a claim counts only once the server's append-only file has it, where the server can tell (WAITAOF):
            else a crash of Redis could forget a batch that ESA has.
        bulk_min_urls: as many URLs a lane must hold to become bulk batches; 0: nobody here can carry one.
        reads_traces: the trace contexts of requests are wanted with their batches.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        now_ms: int | None = None,
        waits_for_disk: bool = False,
        bulk_min_urls: int = 0,
        reads_traces: bool = False,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.now_ms = now_ms
        self.bulk_min_urls = bulk_min_urls
        self._traces_max = TRACES_MAX if reads_traces else 0
        self._waits_for_disk = waits_for_disk
        self._are_loaded = False

    def __repr__(self) -> str:
        return f"<WorkerLedger {self.keys.namespace}>"

    @property
    def _now(self) -> str:
        return "" if self.now_ms is None else str(self.now_ms)

    async def publish(self, limits: Mapping[str, float | int]) -> None:
        """Publish batch settings and limits (ms, bytes, counts), which all scripts read."""
        fields = [part for item in limits.items() for part in item]
        await command(self.redis, "HSET", self.keys.settings, *fields)

    async def lease_in_force(self) -> float | None:
        """Return the seconds of a lease as last published; ``None``: the server has forgotten what was published."""
        calls = [("HGET", self.keys.settings, "lease_ms"), ("HGET", self.keys.meta, "fingerprint")]
        lease_ms, fingerprint = await commands(self.redis, calls)
        return None if lease_ms is None or fingerprint is None else int(lease_ms) / 1000

    async def trust_the_disk(self) -> bool:
        """Stop waiting for a disk that the server leaves to its system (``appendfsync no``); returns whether it does."""
        try:
            reply: Any = await command(self.redis, "CONFIG", "GET", "appendfsync")
        except ResponseError:
            return False
        values: list[Any] = [*reply.values()] if hasattr(reply, "values") else [*reply]
        is_left = "no" in map(as_text, values)
        self._waits_for_disk = self._waits_for_disk and not is_left
        return is_left

    async def claim_namespace(self, fingerprint: str) -> str:
        """Return the fingerprint on record, which is *fingerprint* when there was none."""
        known = await command(self.redis, "HGET", self.keys.meta, "fingerprint")
        if known is None:  # a server whose memory is full takes no more than is there
            await command(self.redis, "HSETNX", self.keys.meta, "fingerprint", fingerprint)
            known = await command(self.redis, "HGET", self.keys.meta, "fingerprint")
        return as_text(known)

    async def take(self, *, token: str, pump: str, new_batch_id: str) -> Batch | Wait | None:
        """
        Return a batch to act on, or how long to wait, or ``None`` when nothing is left.

        Raises:
            NotDurableError: the claim was made, but the server did not have it on disk in time: do not act on it.
        """
        (reply,) = await self._run([(TAKE, self._take_arguments(token, pump, new_batch_id))])
        return read_taken(reply, token)

    async def settle(
        self, batch: Batch, settlement: Settlement, *, children: Sequence[str], roll: float
    ) -> Settled:
        """End the claim of *batch* as decided."""
        arguments = self._settle_arguments(batch, settlement, children, roll)
        return read_settled(await run_script(self.redis, SETTLE, self.keys.prefix, arguments))

    async def settle_and_take(
        self,
        batch: Batch,
        settlement: Settlement,
        *,
        children: Sequence[str],
        roll: float,
        token: str,
        pump: str,
        new_batch_id: str,
    ) -> tuple[Settled, Batch | Wait | None]:
        """Do :meth:`settle`, then :meth:`take`, in one round trip."""
        first = self._settle_arguments(batch, settlement, children, roll)
        settled, taken = await self._run(
            [(SETTLE, first), (TAKE, self._take_arguments(token, pump, new_batch_id))]
        )
        return read_settled(settled), read_taken(taken, token)

    async def _run(self, steps: Sequence[tuple[Script, Sequence[Argument]]]) -> list[Reply]:
        """Run scripts and, where the server can, wait until its append-only file has what they did: one round trip."""
        if not self._are_loaded:  # were only the first unknown, the second would run before it
            await commands(self.redis, [("SCRIPT", "LOAD", script.text) for script in (SETTLE, TAKE)])
            self._are_loaded = True
        calls: list[Sequence[Argument]] = [
            ("EVALSHA", script.sha, 1, self.keys.prefix, *arguments) for script, arguments in steps
        ]
        if self._waits_for_disk:
            calls.append(("WAITAOF", 1, 0, DISK_TIMEOUT_MS))
        replies = await pipelined(self.redis, calls, raise_on_error=False)
        on_disk = replies.pop() if self._waits_for_disk else None
        if isinstance(on_disk, ResponseError) and _CANNOT_TELL.search(str(on_disk)):
            on_disk = None  # asked again at the next claim: a failover may lead to a server that can
        if any(isinstance(reply, NoScriptError) for reply in replies):
            for script, _ in steps:
                await command(self.redis, "SCRIPT", "LOAD", script.text)
            known = next(i for i, reply in enumerate(replies) if isinstance(reply, NoScriptError))
            return [*replies[:known], *await self._run(steps[known:])]
        for reply in (*replies, on_disk):
            if isinstance(reply, Exception):
                raise reply
        if on_disk is not None and int(cast("Any", on_disk)[0]) < 1:
            raise NotDurableError("the claim is not in the append-only file yet")
        return cast("list[Reply]", replies)

    def _take_arguments(self, token: str, pump: str, new_batch_id: str) -> tuple[Argument, ...]:
        return (self._now, token, pump, new_batch_id, self.bulk_min_urls, self._traces_max)

    def _settle_arguments(
        self, batch: Batch, settlement: Settlement, children: Sequence[str], roll: float
    ) -> tuple[Argument, ...]:
        facts = settlement.facts(children=children, roll=roll)
        return (self._now, batch.batch_id, batch.token, settlement.what, facts)

    async def gather(
        self, batch: Batch, *, pack_id: str, most_urls: int, most_bytes: int
    ) -> Gathered | LostClaim:
        """Claim more URLs for a bulk batch, as a pack of it; safe to repeat with the same *pack_id*."""
        arguments = (self._now, batch.batch_id, batch.token, pack_id, most_urls, most_bytes)
        kind, *rest = await run_script(self.redis, GATHER, self.keys.prefix, arguments)
        if as_text(kind) == "lost":
            return LostClaim()
        return Gathered(has_more=bool(rest[0]), urls=tuple(map(as_text, rest[1:])))

    async def packs(self, batch: Batch) -> list[str]:
        """Return the packs of a bulk batch that have not ended, in the order of its list."""
        reply = await command(self.redis, "LRANGE", self.keys.bulk(batch.batch_id), 0, -1)
        return [as_text(pack_id) for pack_id in reply]

    async def pack_urls(self, pack_id: str) -> tuple[str, ...]:
        """Return the URLs of a pack, in their order; none when it has ended."""
        members = await command(self.redis, "HGET", self.keys.batch(pack_id), "members")
        lines = as_text(members).split("\n") if members else []
        return tuple(line.partition(" ")[0] for line in lines)

    async def end_pack(
        self, batch: Batch, pack_id: str, settlement: Settlement, *, exemptions: Sequence[Exemption] = ()
    ) -> Settled:
        """
        End one pack of a bulk batch, by the verdict of *settlement* but for *exemptions*.

        Safe to repeat: what has ended is not ended again. The batch itself is settled when no pack is left.
        """
        facts: dict[str, Any] = {
            "pack": pack_id,
            "verdict": settlement.verdict,
            "reason": settlement.reason,
            "code": settlement.code,
        }
        if exemptions:
            facts["exceptions"] = [[e.index + 1, e.verdict, e.reason, e.code] for e in exemptions]
        if settlement.watch:
            facts["watch"] = settlement.watch.facts()
        if settlement.state == "returning":
            facts["returning"] = True
        arguments = (self._now, batch.batch_id, batch.token, "pack", json.dumps(facts, separators=(",", ":")))
        return read_settled(await run_script(self.redis, SETTLE, self.keys.prefix, arguments))

    async def record_job(
        self,
        batch: Batch,
        *,
        job_id: str,
        job: Mapping[str, Any],
        plan_follows: bool,
        calls: Sequence[Call] = (),
    ) -> Turn | LostClaim:
        """
        Record that the batch became a job, before its plan is created.

        Args:
            calls: to report, when the job is new on record.

        Returns:
            When the plan may be created (its token is spent if now), or that the claim is lost: then no call was reported.
        """
        arguments = (
            self._now,
            batch.batch_id,
            batch.token,
            job_id,
            json.dumps(job, separators=(",", ":")),
            "1" if plan_follows else "",
            *_flat(calls),
        )
        kind, value, *rest = await run_script(self.redis, CREATED, self.keys.prefix, arguments)
        if as_text(kind) == "lost":
            return LostClaim(job_id=as_text(value), is_alive=bool(rest[0]))
        return Turn(wait_ms=int(value), sent_ms=int(float(rest[0])))

    async def pace(
        self, operation: str, batch: Batch | None = None, *, calls: Sequence[Call] = ()
    ) -> Turn | LostClaim:
        """
        Report *calls*, then ask for one of *operation*; for Create of a batch, also write down that it is being sent.

        Returns:
            When to call or to ask again, or that the claim of *batch* is lost.
        """
        claim = (batch.batch_id, batch.token) if batch else ("", "")
        arguments = (self._now, operation, *claim, *_flat(calls))
        kind, *rest = await run_script(self.redis, PACE, self.keys.prefix, arguments)
        match as_text(kind):
            case "ok":
                return Turn(sent_ms=int(float(rest[0])))
            case "wait":
                return Turn(wait_ms=int(rest[0]))
            case _:
                return LostClaim()

    async def report(self, calls: Sequence[Call]) -> None:
        """Say what became of *calls* whose claim is lost, so that no settlement tells it."""
        await run_script(self.redis, REPORT, self.keys.prefix, (self._now, *_flat(calls)))

    async def visit(self, *, token: str) -> WatchedJob | int:
        """Return a job whose plans are to be listed now, for 30 s nobody else's, or the ms to wait for one."""
        kind, *rest = await run_script(self.redis, VISIT, self.keys.prefix, (self._now, token))
        if as_text(kind) == "wait":
            return int(rest[0])
        now, job_id, site, batch_id, plan_id, urls, state, starts, done, ended, others, looks, is_bulk = map(
            as_text, rest
        )
        return WatchedJob(
            job_id=job_id,
            token=token,
            site_id=int(site),
            batch_id=batch_id,
            plan_id=plan_id,
            urls=int(urls),
            state=cast("JobState", state),
            starts_ms=int(float(starts)),
            done_ms=int(float(done)),
            ended_ms=int(float(ended)),
            others=int(others),
            looks=int(looks),
            now_ms=int(float(now)),
            is_bulk=is_bulk == "1",
        )

    async def visited(
        self,
        job: WatchedJob,
        *,
        state: JobState,
        then: int | Literal["gone", "left"],
        ended_ms: int = 0,
        others: int = 0,
        looks: int | None = None,
        calls: Sequence[Call] = (),
    ) -> bool:
        """
        End a visit, or a part of it; returns whether it still was ours.

        Args:
            then: ms until the next visit, or why the job is forgotten: it is ``gone``, or ``left`` at ESA for good.
            ended_ms: since when all its plans have ended; 0: they have not.
            others: plans that it has besides ours.
            looks: how many have told something by now; by default this one has.
        """
        looks = job.looks + 1 if looks is None else looks
        claim = (job.site_id, job.job_id, job.token)
        share, to_report = 0, _flat(calls)
        while True:
            arguments = (self._now, *claim, then, state, ended_ms or "", others, looks, share, *to_report)
            kind, *rest = await run_script(self.redis, VISITED, self.keys.prefix, arguments)
            if as_text(kind) != "more":
                return as_text(kind) == "ok"
            share, to_report = int(rest[0]), ()

    async def renew(self, worker: str, claims: Mapping[str, str]) -> set[str]:
        """Renew the leases of *claims* (batch → token) and say that *worker* lives; returns the batches that are lost."""
        flat = [part for claim in claims.items() for part in claim]
        reply = await run_script(self.redis, RENEW, self.keys.prefix, (self._now, worker, *flat))
        return {as_text(batch_id) for batch_id in reply}

    async def sweep(self, worker: str, *, turn_ms: int) -> Swept:
        """Repair from the ledger alone what a crash, an outage or arq dropped, in some short steps; a turn lasts *turn_ms*."""
        mine, sealed, armed, lists_sites, expired = True, 0, 0, False, Counter[int]()
        for _ in range(SWEEP_STEPS):
            reply: Reply = await run_script(self.redis, SWEEP, self.keys.prefix, (self._now, worker, turn_ms))
            if as_text(reply[0]) != "ok":
                mine = False
                break
            sealed += int(reply[2])
            armed += int(reply[3])
            lists_sites = lists_sites or int(reply[4]) == 1
            for site, urls in zip(reply[5::2], reply[6::2], strict=True):
                expired[int(site)] += int(urls)
            if not int(reply[1]):
                break
        return Swept(mine=mine, sealed_requests=sealed, armed=armed, lists_sites=lists_sites, expired=expired)

    async def keep_site_names(self, ids: Mapping[str, int]) -> None:
        """Keep the ids of the account's sites by their names, in the place of those from before, for a day."""
        pairs = [part for pair in ids.items() for part in pair]
        await run_script(self.redis, NAMES, self.keys.prefix, (self._now, SITE_NAMES_TTL_MS, *pairs))

    async def rates(self, operations: Sequence[str]) -> dict[str, OperationRate]:
        """Return the pace of each operation that has one yet."""
        seconds, micros = await command(self.redis, "TIME")
        now_ms = self.now_ms or int(seconds) * 1000 + int(micros) // 1000
        replies = await commands(
            self.redis, [("HMGET", self.keys.rate(operation), "rate", "cooldown") for operation in operations]
        )
        found: dict[str, OperationRate] = {}
        for operation, (rate, cooldown) in zip(operations, replies, strict=True):
            if rate is not None:
                left_s = max(0.0, float(cooldown or 0) - now_ms) / 1000
                found[operation] = OperationRate(rate=float(rate), cooldown_s=left_s)
        return found


def _flat(calls: Sequence[Call]) -> tuple[Argument, ...]:
    return tuple(part for c in calls for part in (c.operation, c.sent_ms, c.outcome, c.hint_ms))
