"""Read the producers' side of the ledger: requests, sites, failures, limits, the audit, traffic. Changes nothing."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from esa_preload.connection import SERVER_AWAY
from esa_preload.errors import (
    UnknownRequestError,
    UnknownSiteError,
    UnsupportedRecordError,
)
from esa_preload.facts import Facts, parse_facts
from esa_preload.model import (
    PACED_OPERATIONS,
    AuditEntry,
    Failure,
    OperationLimit,
    Page,
    RequestInfo,
    RequestState,
    RequestStatus,
    RequestUrl,
    SiteStatus,
    TrafficPoint,
    UrlState,
)
from esa_preload.outages import STEP_S, redis_errors
from esa_preload.patience import patiently
from esa_preload.records import (
    audit_entry,
    can_expire,
    check_version,
    ended_url,
    failure,
    has_expired,
    moment,
    request_info,
    request_status,
    site_status,
)
from esa_preload.scripts import as_text, command, commands, load_script, run_script
from esa_preload.site_names import KnownNames, unknown_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from redis.asyncio import Redis

    from esa_preload.keys import Keys

SITES = load_script("sites")
FIND_SITE = load_script("find_site")
TRAFFIC = load_script("traffic")
PENDING = load_script("pending")
EXPLAIN = load_script("explain", includes=(("esa_preload", "gate"),))

RATE_VERSION = 2
BUCKETS_A_MINUTE = 6
AUDIT_A_CALL = 1_000
"""Where only some of the entries are wanted."""
SITES_A_CALL = 50
"""With a hundred lanes each they take some milliseconds."""
SCANS_A_PAGE = 50
"""Each looks at a thousand URLs of a lane, of which a request may own few."""
FAILURES_A_CALL = 1_000
T = TypeVar("T")


class LedgerView:
    """
    Tell the state of requests and sites.

    Args:
        now_ms: overrides the server's clock, in tests.
        patience_s: how long each step waits for a Redis that is away.
        away_hint: what to do when it does not come.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        now_ms: int | None = None,
        patience_s: float = 0.0,
        away_hint: str = SERVER_AWAY,
    ) -> None:
        self.redis = redis
        self.keys = keys
        self.now_ms = now_ms
        self._patience_s = patience_s
        self._away_hint = away_hint

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.keys.namespace}>"

    @property
    def _now(self) -> str:
        return "" if self.now_ms is None else str(self.now_ms)

    async def _ask(self, act: Callable[[], Awaitable[T]], request_id: str | None = None) -> T:
        """Await *act*, which is safe to repeat, with our errors and our patience."""

        async def once() -> T:
            with redis_errors(request_id, away_hint=self._away_hint):
                async with asyncio.timeout(STEP_S):
                    return await act()

        return await patiently(once, patience_s=self._patience_s)

    async def url_max_chars(self) -> int | None:
        """Return the longest URL that the workers take, or ``None`` when none has said so yet."""
        value = await self._ask(lambda: command(self.redis, "HGET", self.keys.settings, "url_max_chars"))
        return None if value is None else int(value)

    async def explain(
        self, request_id: str | None = None, *, site_id: int | None = None, url: str | None = None
    ) -> Facts:
        """
        Read why a request, a site, or a URL of a site (in its normal form) is not submitted yet.

        Raises:
            UnknownRequestError: no such request.
            UnknownSiteError: the site has never been seen.
        """
        packs: int | None = 0
        while True:
            arguments = (
                self._now,
                request_id or "",
                "" if site_id is None else site_id,
                url or "",
                packs or 0,
            )
            reply = await self._ask(partial(run_script, self.redis, EXPLAIN, self.keys.prefix, arguments))
            if as_text(reply[0]) == "unknown":
                raise self.unknown_site(site_id) if request_id is None else unknown_request(request_id)
            facts = parse_facts(as_text(reply[1]))
            if (packs := facts["packs"]) is None:
                return facts

    async def limits(self) -> list[OperationLimit]:
        """Return the pace of each operation that was called, or set, since its limit was last reset."""
        fields = ("v", "rate", "fixed", "ceiling", "cooldown", "length")
        asked = [("HMGET", self.keys.rate(operation), *fields) for operation in PACED_OPERATIONS]
        (seconds, micros), *replies = await self._ask(lambda: commands(self.redis, [("TIME",), *asked]))
        now_ms = self.now_ms or int(seconds) * 1000 + int(micros) // 1000
        found: list[OperationLimit] = []
        for operation, (version, *values) in zip(PACED_OPERATIONS, replies, strict=True):
            if version is None:
                continue
            if int(version) > RATE_VERSION:
                raise UnsupportedRecordError(
                    f"rate {operation} has version {int(version)}, this release reads {RATE_VERSION}",
                    hint="upgrade esa-preload in this process",
                )
            rate, fixed, ceiling, cooldown, length = (float(value or 0) for value in values)
            found.append(
                OperationLimit(
                    operation=operation,
                    rate=rate,
                    is_fixed=fixed > 0,
                    set_rate=fixed or None,
                    ceiling=ceiling or None,
                    cooldown_s=max(0.0, cooldown - now_ms) / 1000,
                    window_s=length / 1000 or None,
                )
            )
        return found

    async def audit(self, site_id: int | None, *, limit: int, before: str | None) -> Page[AuditEntry]:
        """Return who did what, to one site or to any, from the newest entry, or the one next to *before*, on."""
        found: list[AuditEntry] = []
        count = limit + 1 if site_id is None else AUDIT_A_CALL
        end, is_over = f"({before}" if before else "+", False
        while len(found) <= limit and not is_over:
            entries = await self._ask(
                partial(command, self.redis, "XREVRANGE", self.keys.audit, end, "-", "COUNT", count)
            )
            read = [audit_entry(as_text(entry_id), _text_hash(fields)) for entry_id, fields in entries]
            found += [entry for entry in read if site_id in (None, entry.site_id)]
            is_over = len(read) < count
            end = f"({read[-1].id}" if read else end
        items = tuple(found[:limit])
        return Page(items=items, cursor=items[-1].id if len(found) > limit else None)

    async def traffic(self, *, minutes: int) -> list[TrafficPoint]:
        """Return the calls of all workers, the oldest first."""
        arguments = (self._now, minutes * BUCKETS_A_MINUTE)
        reply = await self._ask(lambda: run_script(self.redis, TRAFFIC, self.keys.prefix, arguments))
        first_ms, bucket_ms, *counts = map(int, reply)
        return [
            TrafficPoint(
                at=moment(first_ms + number * bucket_ms),
                seconds=bucket_ms // 1000,
                calls=passed + throttled,
                throttled=throttled,
                urls_submitted=urls,
            )
            for number, (passed, throttled, urls) in enumerate(
                zip(counts[0::3], counts[1::3], counts[2::3], strict=True)
            )
        ]

    async def find_site(self, name: str) -> int:
        """
        Return the id of the site of the account with this *name*; when there is none the workers are asked to look.

        Raises:
            UnknownSiteError: no such name is on record.
        """
        kind, *rest = await self._ask(
            lambda: run_script(self.redis, FIND_SITE, self.keys.prefix, (self._now, name))
        )
        if as_text(kind) == "ok":
            return int(rest[0])
        age_ms, workers, names = rest
        raise unknown_name(
            name,
            KnownNames(
                names=tuple(map(as_text, names[0::2])),
                age_s=None if age_ms < 0 else age_ms / 1000,
                workers=workers,
            ),
        )

    async def status(self, request_id: str) -> RequestStatus:
        """
        Return the counts of a request.

        Raises:
            UnknownRequestError: no such request, or it ended longer ago than ``REQUEST_TTL``.
        """
        return request_status(*await self._record_of(request_id))

    async def request(self, request_id: str) -> RequestInfo:
        """Return a request as a list of them has it; raises as :meth:`status`."""
        return request_info(*await self._record_of(request_id))

    async def _record_of(self, request_id: str) -> tuple[dict[str, str], int]:
        """Return the record of a request, and the moment to read it at, where that matters."""
        _, record = await self._request(request_id)
        return record, await self._now_ms(request_id) if can_expire(record) else 0

    async def _request(self, request_id: str) -> tuple[str, dict[str, str]]:
        """Return number and record of a request."""
        number_key = self.keys.request_number(request_id)
        number = await self._ask(lambda: command(self.redis, "GET", number_key), request_id)
        if number is None:
            raise unknown_request(request_id)
        record = await self._ask(lambda: self._hash(self.keys.request(as_text(number))), request_id)
        if not record:
            raise unknown_request(request_id)
        check_version(record, f"request {request_id}")
        return as_text(number), record

    async def requests(
        self, site_id: int | None, *, state: RequestState | None, limit: int, below: str | None
    ) -> tuple[list[RequestInfo], str | None]:
        """
        Return requests, the newest first, and the number below which the next ones are, or ``None`` when there are none.

        They are *limit* at most; those whose record has just gone, or that are in no such *state* any more, are left out.
        """
        # One that is done between two looks is met by the second: active ones come first.
        indexes = {"active": self.keys.active(site_id), "done": self.keys.done(site_id)}
        top = "+inf" if below is None else f"({below}"
        asked = [
            ("ZRANGE", key, top, "-inf", "BYSCORE", "REV", "LIMIT", 0, limit)
            for key in ([indexes[state]] if state else indexes.values())
        ]
        replies = await self._ask(lambda: commands(self.redis, asked))
        numbers = sorted({int(number) for reply in replies for number in reply}, reverse=True)[:limit]
        reads = [("HGETALL", self.keys.request(str(number))) for number in numbers]
        (seconds, micros), *records = await self._ask(lambda: commands(self.redis, [("TIME",), *reads]))
        now_ms = self.now_ms or int(seconds) * 1000 + int(micros) // 1000
        found = [request_info(_known(_text_hash(record)), now_ms) for record in records if record]
        is_full = len(numbers) == limit
        return (
            [info for info in found if state in (None, info.status.state)],
            str(numbers[-1]) if is_full else None,
        )

    async def pending_urls(
        self, request_id: str, *, limit: int, cursor: str
    ) -> tuple[list[RequestUrl], str | None]:
        """
        Return about *limit* URLs that are pending for a request, from a part of its lane, and where to go on, or ``None`` at its end.

        Raises:
            UnknownRequestError: no such request.
        """
        number, record = await self._request(request_id)
        if int(record.get("pending", 0)) == 0 or has_expired(record, await self._now_ms(request_id)):
            return [], None
        found: dict[str, RequestUrl] = {}
        for _ in range(SCANS_A_PAGE):
            arguments = (self._now, number, record["site"], record["lane"], cursor, limit - len(found))
            reply = await self._ask(partial(run_script, self.redis, PENDING, self.keys.prefix, arguments))
            cursor, *pairs = (as_text(value) for value in reply)
            for url, at in zip(pairs[::2], pairs[1::2], strict=True):
                found[url] = RequestUrl(url=url, state="pending", at=moment(float(at)))
            if cursor == "0" or len(found) >= limit:
                break
        return list(found.values()), None if cursor == "0" else cursor

    async def ended_urls(
        self, request_id: str, state: UrlState, *, limit: int, before: str | None
    ) -> tuple[list[RequestUrl], str | None]:
        """
        Return *limit* URLs at most that ended in *state* for a request, the newest first, and before which entry the next ones are.

        Raises:
            UnknownRequestError: no such request.
        """
        number, record = await self._request(request_id)
        found: list[tuple[str, RequestUrl]] = []
        async for entry_id, fields in self._failures_before(int(record["site"]), before):
            if float(fields["at"]) < float(record["created_at"]):
                break
            if url := ended_url(fields, number, state):
                found.append((entry_id, url))
            if len(found) > limit:
                break
        return _cut(found, limit)

    async def failure_page(
        self, site_id: int, *, reason: str | None, limit: int, before: str | None
    ) -> tuple[list[Failure], str | None]:
        """Return *limit* failures of a site at most, the newest first, and before which entry the next ones are."""
        found: list[tuple[str, Failure]] = []
        async for entry_id, fields in self._failures_before(site_id, before):
            if reason in (None, fields["reason"]):
                found.append((entry_id, failure(site_id, entry_id, fields)))
            if len(found) > limit:
                break
        return _cut(found, limit)

    async def _failures_before(
        self, site_id: int, before: str | None
    ) -> AsyncIterator[tuple[str, dict[str, str]]]:
        """Yield the entries of a site's failures, the newest first, read in pages."""
        key = self.keys.failures(site_id)
        top = "+" if before is None else f"({before}"
        while True:
            asked = ("XREVRANGE", key, top, "-", "COUNT", FAILURES_A_CALL)
            entries = await self._ask(partial(command, self.redis, *asked))
            for entry_id, fields in entries:
                yield as_text(entry_id), _text_hash(fields)
            if len(entries) < FAILURES_A_CALL:
                return
            top = f"({as_text(entries[-1][0])}"

    async def site_ids(self) -> list[int]:
        """Return every site ever seen, the first seen first."""
        members = await self._ask(lambda: command(self.redis, "ZRANGE", self.keys.sites, 0, -1))
        return [int(member) for member in members]

    async def site_statuses(self) -> list[SiteStatus]:
        """Return the totals and state of every site."""
        return [site_status(*record) for record in await self.site_records()]

    async def site(self, site_id: int) -> SiteStatus:
        """
        Return the totals and state of one site.

        Raises:
            UnknownSiteError: the site has never been seen.
        """
        records = await self._ask(partial(self._read_sites, 0, site_id))
        if not records:
            raise self.unknown_site(site_id)
        return site_status(*records[0])

    async def site_records(self) -> list[tuple[int, dict[str, str], int | None, int]]:
        """
        Return of every site: id, record (what of it is shown; and in it ``jobs``, how many of ours ESA holds, ``in_lanes``, URLs, and its ``name``, if known), ms since when its oldest URL waits (``None``: nothing does), and now in ms.

        While the account is blocked, so is every site.
        """
        found: list[tuple[int, dict[str, str], int | None, int]] = []
        while True:
            some = await self._ask(partial(self._read_sites, len(found)))
            found += some
            if len(some) < SITES_A_CALL:
                return found

    async def _read_sites(self, first: int, *only: int) -> list[tuple[int, dict[str, str], int | None, int]]:
        arguments: tuple[str | int, ...] = (self._now, first, SITES_A_CALL, *only)
        reply: Any = await run_script(self.redis, SITES, self.keys.prefix, arguments)
        page = json.loads(as_text(reply))
        return [
            (
                int(site_id),
                record | page["account"] | {"jobs": str(jobs)},
                oldest_ms,
                page["now"],
            )
            for site_id, jobs, oldest_ms, record in page["sites"]
        ]

    async def failure_entries(
        self, site_id: int, *, ids: Sequence[str] | None = None, limit: int
    ) -> list[tuple[str, dict[str, str]]]:
        """Return entries of a site's failures, oldest first, id and fields: all, or those of *ids* that are there."""
        key = self.keys.failures(site_id)
        if ids is None:
            asked: list[tuple[str | int, ...]] = [("XRANGE", key, "-", "+", "COUNT", limit)]
        else:
            wanted = sorted(set(ids), key=lambda entry_id: [int(part) for part in entry_id.split("-")])
            asked = [("XRANGE", key, entry_id, entry_id) for entry_id in wanted]
        replies = await self._ask(lambda: commands(self.redis, asked))
        entries = [entry for reply in replies for entry in reply][:limit]
        return [(as_text(entry_id), _text_hash(fields)) for entry_id, fields in entries]

    async def failures(self, site_id: int | None = None, *, limit: int = 10_000) -> list[Failure]:
        """Return the URLs that ended as refused, expired or unknown, newest last, at most *limit* a site."""
        found: list[Failure] = []
        for one in [site_id] if site_id is not None else await self.site_ids():
            entries = await self._newest_failures(one, limit)
            found += [
                failure(one, as_text(entry_id), _text_hash(fields)) for entry_id, fields in reversed(entries)
            ]
        return found

    async def _newest_failures(self, site_id: int, limit: int) -> list[tuple[Any, Mapping[Any, Any]]]:
        key = self.keys.failures(site_id)
        return await self._ask(lambda: command(self.redis, "XREVRANGE", key, "+", "-", "COUNT", limit))

    async def _now_ms(self, request_id: str) -> int:
        if self.now_ms is not None:
            return self.now_ms
        return await self._ask(self._server_now_ms, request_id)

    async def _server_now_ms(self) -> int:
        seconds, micros = await command(self.redis, "TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    async def _hash(self, key: str) -> dict[str, str]:
        return _text_hash(await command(self.redis, "HGETALL", key))

    def unknown_site(self, site_id: int | None) -> UnknownSiteError:
        """Return the error for a site that the ledger has never seen."""
        return UnknownSiteError(
            f"site {site_id} has never had a URL in namespace {self.keys.namespace}",
            hint="see `esa-preload sites`",
        )


def unknown_request(request_id: str) -> UnknownRequestError:
    """Return the error for an id that the ledger does not hold."""
    return UnknownRequestError(
        f"no request {request_id}",
        hint="check the id and ESA_PRELOAD_NAMESPACE; ended requests are kept for REQUEST_TTL",
    )


def _text_hash(raw: Mapping[Any, Any]) -> dict[str, str]:
    return {as_text(key): as_text(value) for key, value in raw.items()}


def _known(record: dict[str, str]) -> dict[str, str]:
    check_version(record, f"request {record['id']}")
    return record


def _cut(found: list[tuple[str, T]], limit: int) -> tuple[list[T], str | None]:
    """Return the first *limit* items, and the id of the last where there are more."""
    items = [item for _, item in found[:limit]]
    return items, found[limit - 1][0] if len(found) > limit else None
