"""Reads the ledger for the audit: small scripts for what must agree at one instant, chunks for what is long; decides nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import ResponseError

from esa_preload.scripts import as_text, command, load_script, pipelined, run_script
from esa_preload_worker.check.failures import FailuresSeen
from esa_preload_worker.check.rules import (
    COUNTS,
    ENDS,
    REQUEST_STATES,
    BatchFacts,
    BatchRecord,
    BulkFacts,
    LaneFacts,
    Limits,
    RequestFacts,
    SiteFacts,
    SplitFacts,
    WakeFacts,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence

    from redis.asyncio import Redis

    from esa_preload.keys import Keys
    from esa_preload.scripts import Argument

_PACKAGE = "esa_preload_worker"
_RATE = (("esa_preload", "gate"), (_PACKAGE, "rate"))
CHECK_SITE = load_script("check_site", package=_PACKAGE)
CHECK_REQUESTS = load_script("check_requests", package=_PACKAGE)
CHECK_URLS = load_script("check_urls", package=_PACKAGE)
CHECK_WAKE = load_script("check_wake", package=_PACKAGE, includes=_RATE)
REPAIR_SITE = load_script("repair_site", package=_PACKAGE)
REPAIR_LANE = load_script("repair_lane", package=_PACKAGE)
REPAIR_REQUESTS = load_script("repair_requests", package=_PACKAGE)
REPAIR_WAKE = load_script("repair_wake", package=_PACKAGE, includes=_RATE)

CHUNK = 1_000
"""Entries a command: some hundred microseconds of Redis's time."""
KEYS_A_CALL = 500
REQUESTS_A_CALL = 50
LOST_A_CALL = 10
PUT_BACK_A_CALL = 100
ENDS_LOOKED_AT = 10_000
"""Entries from each end of a band in which a URL is looked for that has moved while the band was read."""


@dataclass(slots=True)
class LaneScan:
    """
    What a walk over a lane's bands and then its URLs met. Nothing of it is of one instant.

    Attributes:
        owners: number of a request → URLs that name it.
        size_bytes, oldest: of the URLs met; ``oldest`` is ``None`` when there was none.
        entries: of the bands; ``stale``: those that are skipped, which is no fault.
        lost: URLs whose band was not seen to hold them, with their values; most have only just moved.
        malformed: URLs whose value cannot be read, the first few.
    """

    urls: int = 0
    owners: dict[str, int] = field(default_factory=dict[str, int])
    size_bytes: int = 0
    oldest: int | None = None
    entries: int = 0
    lost: dict[bytes, bytes] = field(default_factory=dict[bytes, bytes])
    malformed: list[str] = field(default_factory=list[str])
    found: int = 0

    @property
    def stale(self) -> int:
        """Entries of the bands that stand for no URL."""
        return max(0, self.entries - self.found)


class LedgerReader:
    """Read the ledger of a namespace. ``now_ms`` overrides the server's clock, in tests."""

    def __init__(self, redis: Redis, keys: Keys, *, now_ms: int | None = None) -> None:
        self.redis = redis
        self.keys = keys
        self.now_ms = now_ms

    def __repr__(self) -> str:
        return f"<LedgerReader {self.keys.namespace}>"

    @property
    def _now(self) -> str:
        return "" if self.now_ms is None else str(self.now_ms)

    async def size(self) -> int:
        """Return how many keys the database holds."""
        return int(await command(self.redis, "DBSIZE"))

    async def key_pages(self) -> AsyncIterator[list[str]]:
        """Yield the names of the namespace's keys, arq's among them, a page a time; some twice."""
        cursor: int | str = 0
        while True:
            reply = await command(
                self.redis, "SCAN", cursor, "MATCH", f"*{self.keys.prefix}*", "COUNT", KEYS_A_CALL
            )
            cursor = int(reply[0])
            names = [as_text(name) for name in reply[1]]
            yield [name for name in names if name.startswith((self.keys.prefix, "arq:"))]
            if cursor == 0:
                return

    async def without_ttl(self, keys: Sequence[str]) -> list[str]:
        """Return those of *keys* that exist and have no TTL."""
        ttls = await pipelined(self.redis, [("PTTL", key) for key in keys], raise_on_error=True)
        return [key for key, ttl in zip(keys, ttls, strict=True) if int(ttl) == -1]

    async def members(self, key: str) -> list[str]:
        """Return the members of a sorted set, in chunks; some twice."""
        found: list[str] = []
        cursor = 0
        while True:
            reply = await command(self.redis, "ZSCAN", key, cursor, "COUNT", CHUNK)
            cursor = int(reply[0])
            found += [as_text(member) for member, _ in reply[1]]
            if cursor == 0:
                return found

    async def gone_from(self, key: str) -> list[str]:
        """Return the numbers in a list of the index whose request is gone, and that no sweep is about to take out."""
        prefix = self.keys.prefix
        numbers = list(dict.fromkeys(await self.members(key)))
        records = await self._in_chunks([("EXISTS", f"{prefix}request:{number}") for number in numbers])
        left = [number for number, there in zip(numbers, records, strict=True) if not there]
        if not left:
            return []
        leaving = {member.partition(":")[0] for member in await self.members(f"{prefix}leaving")}
        left = [number for number in left if number not in leaving]
        still = await self._in_chunks([("ZSCORE", key, number) for number in left])
        return [number for number, score in zip(left, still, strict=True) if score is not None]

    async def exist(self, keys: Sequence[str]) -> list[bool]:
        """Tell which of *keys* exist."""
        replies = await pipelined(self.redis, [("EXISTS", key) for key in keys], raise_on_error=True)
        return [bool(reply) for reply in replies]

    async def batch_sites(self, batch_ids: Sequence[str]) -> dict[str, str]:
        """Return the site of each batch, empty for one that has none; batches that are gone are left out."""
        calls = [("HMGET", self.keys.batch(batch_id), "site", "state", "attempt") for batch_id in batch_ids]
        replies = await self._in_chunks(calls)
        return {
            batch_id: _text(reply[0])
            for batch_id, reply in zip(batch_ids, replies, strict=True)
            if any(value is not None for value in reply)
        }

    async def batch_records(self, batch_ids: Sequence[str]) -> list[BatchRecord]:
        """Return the records of those batches that exist, each as of one instant."""
        fields = ("v", "site", "lane", "state", "count", "owners", "members", "attempt")
        replies = await self._in_chunks(
            [("HMGET", self.keys.batch(batch_id), *fields) for batch_id in batch_ids]
        )
        return [
            _batch_record(batch_id, reply)
            for batch_id, reply in zip(batch_ids, replies, strict=True)
            if any(value is not None for value in reply)
        ]

    async def site(self, site: str, lanes: Collection[str], batches: Collection[str]) -> SiteFacts:
        """Return all of a site that must agree; *lanes* and *batches* are those that a scan has found."""
        arguments: tuple[Argument, ...] = (self._now, site, len(lanes), *lanes, *batches)
        reply = await run_script(self.redis, CHECK_SITE, self.keys.prefix, arguments)
        return _site_facts(site, _parse(reply))

    async def failures(self, site: str) -> tuple[FailuresSeen, dict[str, int]]:
        """Return what stands among a site's failures, and then its totals."""
        seen, start = FailuresSeen(), "-"
        key = self.keys.failures(int(site))
        while entries := await command(self.redis, "XRANGE", key, start, "+", "COUNT", CHUNK):
            for entry_id, fields in entries:
                seen.add(as_text(entry_id), {as_text(k): as_text(v) for k, v in fields.items()})
            start = f"({as_text(entries[-1][0])}"
        values = await command(self.redis, "HMGET", self.keys.site(int(site)), *ENDS)
        return seen, {name: _integer(value) for name, value in zip(ENDS, values, strict=True)}

    async def requests(self, numbers: Iterable[str]) -> list[RequestFacts]:
        """Return all of some requests that must agree, each as of one instant."""
        wanted = list(numbers)
        found: list[RequestFacts] = []
        for start in range(0, len(wanted), REQUESTS_A_CALL):
            arguments: tuple[Argument, ...] = (self._now, *wanted[start : start + REQUESTS_A_CALL])
            reply = await run_script(self.redis, CHECK_REQUESTS, self.keys.prefix, arguments)
            found += [_request_facts(record) for record in _array(_parse(reply))]
        return found

    async def wake(self) -> WakeFacts:
        """Return what there is to wake up for, and who will."""
        raw = _parse(await run_script(self.redis, CHECK_WAKE, self.keys.prefix, (self._now,)))
        return WakeFacts(
            now=float(raw["now"]),
            due=_number(raw["due"]),
            armed=_number(raw["armed"]),
            begun=int(raw["begun"]),
            waiters=int(raw["waiters"]),
            strays=tuple(_texts(raw["strays"])),
        )

    async def scan_lane(
        self, site: str, lane: str, *, progress: Callable[[int], object] | None = None
    ) -> LaneScan:
        """
        Walk over a lane's bands, then over its URLs; *progress* is told how many entries and URLs were met with each chunk.

        A URL that is there all the while, and its entry, are met: bands grow at their tail and are read from it, and what goes
        goes from the head.
        """
        scan = LaneScan()
        marks: dict[int, int] = {}
        for band in range(3):
            async for entries in self._band(site, lane, band):
                scan.entries += len(entries)
                bit = 1 << band
                for url in entries:
                    mark = hash(url)
                    marks[mark] = marks.get(mark, 0) | bit
                if progress:
                    progress(len(entries))
        async for urls in self._urls(site, lane):
            for url, value in urls.items():
                _note(scan, marks, url, value)
            if progress:
                progress(len(urls))
        return scan

    async def still_lost(self, site: str, lane: str, lost: dict[bytes, bytes]) -> dict[bytes, bytes]:
        """Return those of *lost* that are pending as they were, and in no list of their band."""
        missing = dict(lost)
        for band in range(3):
            digit = b"%d" % band
            async for entries in self._band(site, lane, band):
                for url in entries:
                    if missing.get(url, b"")[:1] == digit:
                        del missing[url]
        confirmed: dict[bytes, bytes] = {}
        suspects = list(missing.items())
        for start in range(0, len(suspects), LOST_A_CALL):
            some = suspects[start : start + LOST_A_CALL]
            flat = [part for pair in some for part in pair]
            arguments: tuple[Argument, ...] = (self._now, site, lane, ENDS_LOOKED_AT, *flat)
            reply = await run_script(self.redis, CHECK_URLS, self.keys.prefix, arguments)
            confirmed.update(some[int(index)] for index in reply)
        return confirmed

    async def is_nobodys(self, site: str, lane: str, owner: str) -> bool:
        """Tell whether a pending URL of a lane names *owner*, who is gone, and nobody who wants it, and no walk will drop it."""
        wanted = owner.encode()
        named: set[bytes] = set()
        async for urls in self._urls(site, lane):
            owners = (value.partition(b":")[2] for value in urls.values())
            named.update(some for some in owners if wanted in some.split(b","))
        together = [set(as_text(some).split(",")) for some in named]
        living = {
            facts.number
            for facts in await self.requests(sorted(set[str]().union(*together)))
            if facts.exists and not facts.ended
        }
        if all(owners & living for owners in together):
            return False
        return await command(self.redis, "ZSCORE", f"{self.keys.prefix}dropping", f"{site}:{lane}") is None

    async def repair_site(self, site: str, lanes: Collection[str], batches: Collection[str]) -> list[str]:
        """Make what is derived of a site agree; returns what was done."""
        return await self._repair(REPAIR_SITE, (site, len(lanes), *lanes, *batches))

    async def repair_lane(
        self, site: str, lane: LaneFacts, scan: LaneScan, lost: dict[bytes, bytes], *, is_exact: bool
    ) -> list[str]:
        """Make what is derived of a lane agree with what *scan* met; its bytes only when the scan *is_exact*."""
        said: list[str] = []
        # The newest first: each goes to the head, so that the oldest is there at last.
        pairs = sorted(lost.items(), key=lambda pair: int(pair[1][1:].partition(b":")[0]), reverse=True)
        for start in range(0, max(1, len(pairs)), PUT_BACK_A_CALL):
            arguments: list[Argument] = [
                site,
                lane.name,
                "" if scan.oldest is None else scan.oldest,
                scan.size_bytes if is_exact else "",
                lane.size_bytes,
                lane.urls,
                "" if lane.newest is None else f"{lane.newest:.0f}",
            ]
            arguments += [part for pair in pairs[start : start + PUT_BACK_A_CALL] for part in pair]
            said += await self._repair(REPAIR_LANE, arguments)
        # A long lane is mended in many calls that say the same.
        return [f"{line} ({times} times)" if times > 1 else line for line, times in Counter(said).items()]

    async def repair_requests(self, requests: Sequence[tuple[str, str]]) -> list[str]:
        """Make indexes and TTLs of *requests* (number, site) agree with their records; returns what was done."""
        said: list[str] = []
        for start in range(0, len(requests), REQUESTS_A_CALL):
            some = requests[start : start + REQUESTS_A_CALL]
            said += await self._repair(REPAIR_REQUESTS, [part for pair in some for part in pair])
        return said

    async def repair_wake(self) -> list[str]:
        """Arm a wake-up for what is due next; returns what was done."""
        return await self._repair(REPAIR_WAKE, ())

    async def _repair(self, script: Any, arguments: Sequence[Argument]) -> list[str]:
        try:
            reply = await run_script(self.redis, script, self.keys.prefix, (self._now, *arguments))
        except ResponseError as exc:
            if not str(exc).startswith("UNSUPPORTED"):
                raise
            return [f"left alone: {str(exc).removeprefix('UNSUPPORTED ')}"]
        return [as_text(line) for line in reply]

    async def _band(self, site: str, lane: str, band: int) -> AsyncIterator[list[bytes]]:
        """Yield the entries of a band, a chunk a time, from its tail to its head."""
        key = self.keys.band(int(site), lane, band)
        last = -1
        while True:
            entries: list[Any] = await command(self.redis, "LRANGE", key, last - CHUNK + 1, last)
            if entries:
                yield [_bytes(entry) for entry in entries]
            if len(entries) < CHUNK:
                return
            last -= CHUNK

    async def _urls(self, site: str, lane: str) -> AsyncIterator[dict[bytes, bytes]]:
        """Yield the pending URLs of a lane with their values, a chunk a time; some twice."""
        key = self.keys.urls(int(site), lane)
        cursor = 0
        while True:
            reply = await command(self.redis, "HSCAN", key, cursor, "COUNT", CHUNK)
            cursor = int(reply[0])
            yield {_bytes(url): _bytes(value) for url, value in reply[1].items()}
            if cursor == 0:
                return

    async def _in_chunks(self, calls: Sequence[Sequence[Argument]]) -> list[Any]:
        replies: list[Any] = []
        for start in range(0, len(calls), CHUNK):
            replies += await pipelined(self.redis, calls[start : start + CHUNK], raise_on_error=True)
        return replies


_COUNTED = 8


def _note(scan: LaneScan, marks: dict[int, int], url: bytes, value: bytes) -> None:
    """Add a pending URL to *scan*, once."""
    mark = hash(url)
    seen = marks.get(mark, 0)
    if seen & _COUNTED:
        return
    marks[mark] = seen | _COUNTED
    scan.urls += 1
    scan.size_bytes += len(url)
    head, _, owners = value.partition(b":")
    band, at = head[:1], head[1:]
    if band not in (b"0", b"1", b"2") or not at.isdigit() or not owners:
        scan.malformed.append(as_text(url))
        return
    at_ms = int(at)
    if scan.oldest is None or at_ms < scan.oldest:
        scan.oldest = at_ms
    counts = scan.owners
    for owner in as_text(owners).split(","):
        counts[owner] = counts.get(owner, 0) + 1
    if seen & (1 << int(band)):
        scan.found += 1
    else:
        scan.lost[url] = value


def _parse(reply: object) -> Any:
    return json.loads(as_text(reply))


def _array(value: Any) -> list[Any]:
    """Return a Lua array as a list: an empty one arrives as an object."""
    items: list[Any] = [] if isinstance(value, dict) else value
    return items


def _texts(value: Any) -> list[str]:
    return [str(item) for item in _array(value)]


def _text(value: object) -> str:
    return "" if value is None else as_text(value)


def _number(value: object) -> float | None:
    return None if value is None else float(as_text(value))


def _integer(value: object) -> int:
    return 0 if value is None else int(float(as_text(value)))


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _version(value: object) -> int:
    return 1 if value is None else _integer(value)


def _site_facts(site: str, raw: dict[str, Any]) -> SiteFacts:
    record = cast("dict[str, Any]", raw["site"])
    totals = {
        name: _integer(record[name])
        for name in ("accepted", "merged", "pending", "in_flight", "batches", *ENDS)
    }
    return SiteFacts(
        site=site,
        now=float(raw["now"]),
        version=_version(record["v"]),
        exists=bool(raw["exists"]),
        is_listed=bool(raw["is_listed"]),
        is_paused=record["paused"] is not None,
        is_blocked=record["blocked_code"] is not None,
        wait_until=_number(record["wait_until"]) or 0.0,
        ring=_number(raw["ring"]),
        totals=totals,
        limits=Limits(
            slots=_integer(raw["slots"]),
            batch_max_urls=_integer(raw["batch_max_urls"]),
            batch_max_bytes=_integer(raw["batch_max_bytes"]),
            batch_max_age_ms=float(raw["batch_max_age_ms"]),
            batch_quiet_ms=float(raw["batch_quiet_ms"]),
            lease_ms=float(raw["lease_ms"]),
        ),
        lanes=tuple(_lane_facts(lane) for lane in _array(raw["lanes"])),
        batches=tuple(_batch_facts(batch) for batch in _array(raw["batches"])),
        parts=tuple(_texts(raw["parts"])),
        splits=tuple(
            SplitFacts(
                root=str(split["root"]),
                live=None if split["live"] is None else _integer(split["live"]),
                held=tuple(_texts(split["held"])),
            )
            for split in _array(raw["splits"])
        ),
        bulks=tuple(
            BulkFacts(batch_id=str(bulk["id"]), packs=tuple(_texts(bulk["packs"])))
            for bulk in _array(raw["bulks"])
        ),
        visit=_number(raw["visit"]),
        agenda=_number(raw["agenda"]),
    )


def _lane_facts(raw: dict[str, Any]) -> LaneFacts:
    high, normal, low = (int(length) for length in raw["entries"])
    return LaneFacts(
        name=str(raw["name"]),
        version=_version(raw["v"]),
        due=_number(raw["due"]),
        exists=bool(raw["exists"]),
        urls=int(raw["urls"]),
        entries=(high, normal, low),
        newest=_number(raw["newest"]),
        oldest=_number(raw["oldest"]),
        floor=_number(raw["floor"]),
        size_bytes=_integer(raw["bytes"]),
        weight=_integer(raw["weight"]),
    )


def _batch_facts(raw: dict[str, Any]) -> BatchFacts:
    return BatchFacts(
        batch_id=str(raw["id"]),
        version=_version(raw["v"]),
        state=_text(raw["state"]),
        lane=_text(raw["lane"]),
        count=_integer(raw["count"]),
        root=_text(raw["root"]),
        bulk=_text(raw["bulk"]),
        lease=_number(raw["lease"]),
    )


def _batch_record(batch_id: str, reply: Sequence[Any]) -> BatchRecord:
    version, site, lane, state, count, owners, members, _attempt = reply
    counted = (pair.partition(":") for pair in _text(owners).split())
    return BatchRecord(
        batch_id=batch_id,
        version=_version(version),
        site=_text(site),
        lane=_text(lane),
        state=_text(state),
        count=_integer(count),
        owners={owner: int(urls or 0) for owner, _, urls in counted},
        members=tuple(line for line in _text(members).split("\n") if line),
    )


def _request_facts(raw: dict[str, Any]) -> RequestFacts:
    return RequestFacts(
        number=str(raw["number"]),
        version=_version(raw["v"]),
        exists=int(raw["ttl"]) != -2,
        request_id=_text(raw["id"]),
        site=_text(raw["site"]),
        lane=_text(raw["lane"]),
        sealed=None if raw["sealed"] is None else _integer(raw["sealed"]),
        ended=_text(raw["ended"]),
        is_marked_done=raw["done_at"] is not None,
        lists=_integer(raw["lists"]),
        expires_at=_number(raw["expires_at"]),
        counts={name: _integer(raw[name]) for name in COUNTS},
        chunks=int(raw["chunks"]),
        ttl=int(raw["ttl"]),
        chunks_ttl=int(raw["chunks_ttl"]),
        id_ttl=int(raw["id_ttl"]),
        open_at=_number(raw["open"]),
        expiring_at=_number(raw["expiring"]),
        leaving_at=_number(raw["leaving"]),
        listed={state: int(raw[state]) for state in REQUEST_STATES},
        points_to=_text(raw["points_to"]),
    )
