"""Drive the ledger's two sides at a clock of the test's own, and read back everything that they left in Redis."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from conftest import NAMESPACE
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.ledger import Accepted, Header, Ledger
from esa_preload.model import LIST_LANE, PLAN_COUNTS
from esa_preload.scripts import as_text, command, commands
from esa_preload_worker.claims import Batch, LostClaim, Settled, Settlement, Wait
from esa_preload_worker.ledger import CREATE_JOB, WorkerLedger

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from redis.asyncio import Redis

_T = TypeVar("_T")

START_MS = 1_700_000_000_000
PROBE_MS = 10_000
"""A probe whose outcome nobody tells is replaced after so long."""
KEYS = Keys(NAMESPACE)
JOB_PREFIX = "arq:job:"
RUNNING_PREFIX = "arq:in-progress:"

SUBMITTED = Settlement(what="end", outcome="submitted", verdict="submitted", site_ok=True)
PUT_BACK = Settlement(what="end", outcome="requeued", verdict="pending")
SPLIT = Settlement(what="split", outcome="split", code="InvalidParameter")
HOLD = Settlement(what="hold", outcome="held", reason="refused", code="InvalidParameter", hint="look")


class LedgerDriver:
    """Both sides of the ledger on one clock, which only the test moves. Ids are made up in order."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.producers = Ledger(redis, KEYS, now_ms=START_MS)
        self.workers = WorkerLedger(redis, KEYS, now_ms=START_MS)
        self._ids = itertools.count(1)

    @property
    def now_ms(self) -> int:
        """The time that the scripts see."""
        assert self.workers.now_ms is not None
        return self.workers.now_ms

    def advance(self, ms: int) -> None:
        """Move the clock."""
        self.producers.now_ms = self.workers.now_ms = self.now_ms + ms

    def new_id(self) -> str:
        """Return an id that was never used, of hexadecimal digits as batches have them."""
        return f"{next(self._ids):08x}"

    async def publish(self, **limits: float) -> None:
        """Publish limits over those that let every call through at once."""
        await self.workers.publish({"rate_initial": 1_000_000, "rate_max": 1_000_000, **limits})

    async def accept(
        self,
        urls: Sequence[str],
        *,
        request_id: str = "",
        site: int = 1,
        lane: str = "",
        band: int = 1,
        expires_in_ms: int = 0,
        number: int | None = 0,
        total: int | None = 1,
        weight: int = 1,
        digest: str = "",
        forget: Sequence[str] = (),
    ) -> Accepted:
        """Accept one chunk, by itself a whole request unless said otherwise."""
        header = Header(
            request_id=request_id or f"r{self.new_id()}",
            site_id=site,
            plan=lane,
            lane=lane,
            band=band,
            expires_in_ms=expires_in_ms,
        )
        digest = digest or hashlib.sha1("\n".join(urls).encode(), usedforsecurity=False).hexdigest()[:16]
        return await self.producers.accept(
            header, urls, number=number, digest=digest, total=total, weight=weight, forget=forget
        )

    async def take(self, *, token: str = "", pump: str = "", new_batch_id: str = "") -> Batch | Wait | None:
        """Take as a pump of its own, unless it is named."""
        return await self.workers.take(
            token=token or self.new_id(),
            pump=pump or self.new_id(),
            new_batch_id=new_batch_id or self.new_id(),
        )

    async def take_batch(self) -> Batch:
        """Take, and insist on a batch."""
        taken = await self.take()
        assert isinstance(taken, Batch), taken
        return taken

    async def take_nothing(self) -> Wait | None:
        """Take, and insist on there being nothing to do now."""
        taken = await self.take()
        assert not isinstance(taken, Batch), taken
        return taken

    async def settle(self, batch: Batch, settlement: Settlement = SUBMITTED, *, roll: float = 0.5) -> Settled:
        """Settle a claim."""
        children = (self.new_id(), self.new_id()) if settlement.what == "split" else ()
        return await self.workers.settle(batch, settlement, children=children, roll=roll)

    async def drain(self, settlement: Settlement = SUBMITTED, *, step_ms: int = 10_000) -> list[Batch]:
        """Take and settle until the ledger says that nothing is left to wait for."""
        taken: list[Batch] = []
        for _ in range(10_000):
            found = await self.take()
            if isinstance(found, Batch):
                taken.append(found)
                await self.settle(found, settlement)
            elif found is None:
                return taken
            else:
                self.advance(max(found.ms, 1) if found.stay else step_ms)
        raise AssertionError("does not end")

    async def redis_does(self, *arguments: str | float) -> Any:
        """Run one command by hand."""
        return await command(self.redis, *arguments)

    async def hash(self, key: str) -> dict[str, str]:
        """Read a hash as text."""
        return text_hash(await command(self.redis, "HGETALL", key))

    async def counts(self, request_id: str) -> dict[str, int]:
        """Return what a request's status shows, zeros left out."""
        status = await self.producers.status(request_id)
        shown = {name: getattr(status, name) for name in (*COUNTS, *PLAN_COUNTS)}
        return {name: count for name, count in shown.items() if count}


COUNTS = (
    "accepted",
    "merged",
    "pending",
    "in_flight",
    "submitted",
    "refused",
    "expired",
    "cancelled",
    "unknown",
)
ENDS = ("submitted", "refused", "expired", "cancelled", "unknown")


def text_hash(raw: Any) -> dict[str, str]:
    """Return a hash as text, from a mapping or from a flat reply."""
    flat: list[Any] = [part for item in raw.items() for part in item] if hasattr(raw, "items") else raw
    return {as_text(key): as_text(value) for key, value in zip(flat[0::2], flat[1::2], strict=True)}


@dataclass(slots=True)
class Snapshot:
    """Everything under the namespace and of arq, by kind of key; times as numbers."""

    strings: dict[str, str] = field(default_factory=dict[str, str])
    hashes: dict[str, dict[str, str]] = field(default_factory=dict[str, "dict[str, str]"])
    lists: dict[str, list[str]] = field(default_factory=dict[str, "list[str]"])
    sorted_sets: dict[str, dict[str, float]] = field(default_factory=dict[str, "dict[str, float]"])
    streams: dict[str, list[dict[str, str]]] = field(default_factory=dict[str, "list[dict[str, str]]"])
    ttl_ms: dict[str, int] = field(default_factory=dict[str, int])

    def under(
        self, kind: Literal["urls", "band", "lanes", "batch", "request", "held", "parts", "site", "job"]
    ) -> list[str]:
        """Return what follows ``<kind>:`` in the names of the keys of that kind."""
        start = f"{KEYS.prefix}{kind}:"
        return sorted(key[len(start) :] for key in self.ttl_ms if key.startswith(start))

    def hash_of(self, name: str) -> dict[str, str]:
        """Return a hash of the namespace, empty when there is none."""
        return self.hashes.get(KEYS.prefix + name, {})

    def zset_of(self, name: str) -> dict[str, float]:
        """Return a sorted set of the namespace, empty when there is none."""
        return self.sorted_sets.get(KEYS.prefix + name, {})

    def list_of(self, name: str) -> list[str]:
        """Return a list of the namespace, empty when there is none."""
        return self.lists.get(KEYS.prefix + name, [])

    def waiting_wakes(self) -> list[float]:
        """Return the moments of the wake-ups that nobody has begun."""
        return [
            score
            for job, score in self.zset_of("queue").items()
            if RUNNING_PREFIX + job not in self.ttl_ms and JOB_PREFIX + job in self.ttl_ms
        ]

    def gate_ms(self, operation: str = CREATE_JOB) -> float:
        """Return when *operation* may be called, if no probe's outcome comes before."""
        rate, circuit = self.hash_of(f"rate:{operation}"), self.hash_of("rate:endpoint")
        probe, tried = float(rate.get("probe", 0)), float(circuit.get("probe", 0))
        return max(
            float(rate.get("cooldown", 0)),
            probe + PROBE_MS if probe > 0 else 0 if probe else float(rate.get("next", 0)),
            float(circuit.get("cooldown", 0)),
            tried + PROBE_MS if tried > 0 and float(circuit.get("strikes", 0)) else 0,
            float(self.hash_of("meta").get("blocked_until", 0)),
        )

    def next_ms(self) -> float:
        """Return the next moment at which somebody has something to do, infinite when there is none."""
        ring, leases = self.zset_of("ring"), self.zset_of("leases")
        at = max(min(ring.values()), self.gate_ms()) if ring else float("inf")
        return min(at, *leases.values()) if leases else at


async def read_all(redis: Redis) -> Snapshot:
    """Read every key."""
    listed = [as_text(key) for key in await command(redis, "KEYS", "*")]
    facts = await commands(redis, [call for name in listed for call in (("TYPE", name), ("PTTL", name))])
    reads: Mapping[str, tuple[str, tuple[str, ...]]] = {
        "string": ("GET", ()),
        "hash": ("HGETALL", ()),
        "list": ("LRANGE", ("0", "-1")),
        "zset": ("ZRANGE", ("0", "-1", "WITHSCORES")),
        "stream": ("XRANGE", ("-", "+")),
    }
    # What has ended since it was listed, as its TTL says, is not there.
    there = [
        (name, kind, ttl)
        for name, kind, ttl in zip(listed, map(as_text, facts[0::2]), facts[1::2], strict=True)
        if kind in reads
    ]
    names, kinds = [name for name, _, _ in there], [kind for _, kind, _ in there]
    values = await commands(
        redis, [(reads[kind][0], name, *reads[kind][1]) for name, kind in zip(names, kinds, strict=True)]
    )
    found = Snapshot(ttl_ms={name: ttl for name, _, ttl in there})
    for name, kind, value in zip(names, kinds, values, strict=True):
        match kind:
            case "string":
                found.strings[name] = as_text(value)
            case "hash":
                found.hashes[name] = text_hash(value)
            case "list":
                found.lists[name] = [as_text(item) for item in value]
            case "zset":
                pairs = (
                    value
                    if value and isinstance(value[0], (tuple, list))
                    else zip(value[0::2], value[1::2], strict=True)
                )
                found.sorted_sets[name] = {as_text(member): float(score) for member, score in pairs}
            case _:
                found.streams[name] = [text_hash(fields) for _, fields in value]
    return found


class Blocking:
    """A :class:`LedgerDriver` for code that is not async, with a loop and a client of its own."""

    def __init__(self, redis_url: str) -> None:
        self._runner = asyncio.Runner()
        self.driver = self.run(self._start(redis_url))

    async def _start(self, redis_url: str) -> LedgerDriver:
        redis = connect(redis_url)
        await command(redis, "FLUSHALL")
        return LedgerDriver(redis)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, awaitable: Awaitable[_T]) -> _T:
        """Wait for *awaitable*."""

        async def wait() -> _T:
            return await awaitable

        return self._runner.run(wait())

    def read_all(self) -> Snapshot:
        """Read every key."""
        return self.run(read_all(self.driver.redis))

    def close(self) -> None:
        """Leave an empty server and no connection."""
        self.run(command(self.driver.redis, "FLUSHALL"))
        self.run(self.driver.redis.aclose())
        self._runner.close()


def is_list(lane: str) -> bool:
    """Tell whether a lane is one list in OSS."""
    return lane.startswith(LIST_LANE)


def is_lost(value: object) -> bool:
    """Tell whether a script says that the claim is another's."""
    match value:
        case LostClaim():
            return True
        case Settled(lost=lost):
            return lost
        case _:
            return False
