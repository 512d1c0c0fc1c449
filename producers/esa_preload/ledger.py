"""The producers' side of the ledger: what changes it, a script each. What reads it is in reading.py; no other module here talks to Redis."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from esa_preload.connection import SERVER_AWAY
from esa_preload.durability import Doubt, run_durably
from esa_preload.errors import (
    InvalidRequestError,
    QueueFullError,
    RequestConflictError,
)
from esa_preload.reading import LedgerView, unknown_request
from esa_preload.records import (
    moment,
)
from esa_preload.scripts import Reply, as_text, load_script, run_script

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from redis.asyncio import Redis

    from esa_preload.keys import Keys

_AUDIT = (("esa_preload", "audit"),)
ACCEPT = load_script("accept", includes=_AUDIT)
END_REQUEST = load_script("end_request", includes=_AUDIT)
SWITCH_SITE = load_script("switch_site", includes=_AUDIT)
SET_RATE = load_script("set_rate", includes=_AUDIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """
    What every chunk of a request repeats: ``lane`` and ``trace`` count only when the request is new. ``expires_in_ms`` 0: never.

    ``action`` is what the audit calls it.
    """

    request_id: str
    site_id: int
    plan: str
    lane: str
    band: int
    expires_in_ms: int = 0
    source: str = ""
    action: Literal["enqueued", "requeued"] = "enqueued"
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """
    What became of one chunk.

    Attributes:
        waiting_until: when the site is known to wait.
        is_sealed: the request is whole: every chunk that it was to have is in.
        doubt: why a crash of the server may lose it, when it was to be durable.
    """

    accepted: int
    merged: int
    duplicates: int
    waiting_until: datetime | None
    is_sealed: bool = True
    doubt: Doubt | None = None


class Ledger(LedgerView):
    """
    Accept chunks, end requests, and switch sites and rates; each is one script, atomic and safe to repeat.

    Args:
        now_ms: overrides the server's clock, in tests.
        actor: who changes something, for the audit.
        patience_s: how long each step waits for a Redis that is away.
        away_hint: what to do when it does not come.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        *,
        now_ms: int | None = None,
        actor: str = "",
        patience_s: float = 0.0,
        away_hint: str = SERVER_AWAY,
    ) -> None:
        super().__init__(redis, keys, now_ms=now_ms, patience_s=patience_s, away_hint=away_hint)
        self.actor = actor

    def acting_as(self, actor: str) -> Self:
        """Return this ledger for changes by *actor*."""
        other = copy.copy(self)
        other.actor = actor
        return other

    async def accept(
        self,
        header: Header,
        urls: Sequence[str] = (),
        *,
        number: int | None = None,
        digest: str = "",
        total: int | None = None,
        weight: int = 1,
        forget: Sequence[str] = (),
        durable: bool = False,
    ) -> Accepted:
        """
        Put one chunk into its lane; with *total*, seal the request once that many chunks are in.

        Safe to repeat: a known chunk changes nothing and returns what it returned.

        Args:
            header: the same for each chunk of a request.
            urls: at most 1,000, distinct and normalised; none only together with *total*.
            number: from 0; ``None`` for no chunk.
            digest: of the chunk's content.
            total: number of chunks of the request, once it is known.
            weight: URLs that each entry stands for: 1, but for a list in OSS (0 when its producer does not know).
            forget: entries of the site's failures that the chunk takes up.
            durable: with *total*: wait until all of the request outlives a crash of the server, or tell the ``doubt``.

        Raises:
            RequestConflictError: the id is known with other content.
            QueueFullError: the site's queue or its number of lanes is at its bound; nothing of the chunk was taken.
            QueueUnavailableError: whether the chunk was taken is not known; repeat it.
        """
        arguments = (
            self._now,
            header.request_id,
            header.site_id,
            header.plan,
            header.lane,
            header.band,
            header.expires_in_ms or "",
            header.source,
            "" if number is None else number,
            digest,
            "" if total is None else total,
            weight,
            header.action,
            self.actor,
            header.trace,
            " ".join(forget),
            *urls,
        )

        async def act() -> tuple[Reply, Doubt | None]:
            if durable:
                return await run_durably(self.redis, ACCEPT, self.keys.prefix, arguments)
            return await run_script(self.redis, ACCEPT, self.keys.prefix, arguments), None

        reply, doubt = await self._ask(act, header.request_id)
        return _accepted(header, reply, doubt)

    async def end_request(self, request_id: str, how: Literal["cancelled", "expired"]) -> tuple[int, int]:
        """
        End what the request still has pending.

        Returns:
            URLs ended now, and URLs in flight, which go on.

        Raises:
            UnknownRequestError: no such request.
        """
        arguments = (self._now, request_id, "", how, self.actor)
        reply = await self._ask(
            lambda: run_script(self.redis, END_REQUEST, self.keys.prefix, arguments), request_id
        )
        if as_text(reply[0]) == "unknown":
            raise unknown_request(request_id)
        return int(reply[1]), int(reply[2])

    async def switch_site(
        self, site_id: int | None, what: Literal["pause", "resume"], reason: str = ""
    ) -> tuple[bool, bool]:
        """
        Pause a site, or let it go on whatever held it; ``None``: resume the account.

        Returns:
            whether that changed anything, and whether the account is blocked.

        Raises:
            UnknownSiteError: the site has never been seen.
        """
        arguments = (self._now, "" if site_id is None else site_id, what, reason, self.actor)
        reply = await self._ask(lambda: run_script(self.redis, SWITCH_SITE, self.keys.prefix, arguments))
        if as_text(reply[0]) == "unknown":
            raise self.unknown_site(site_id)
        return int(reply[1]) == 1, int(reply[2]) == 1

    async def set_rates(self, changes: Iterable[tuple[str, float | None]]) -> None:
        """
        Let operations be called so many times a second whatever was learnt; ``None``: learn it anew. In order, all or nothing.

        Raises:
            InvalidRequestError: the workers' settings do not allow one of the rates.
        """
        pairs = [("" if value is None else value) for change in changes for value in change]
        arguments = (self._now, self.actor, *pairs)
        reply = await self._ask(lambda: run_script(self.redis, SET_RATE, self.keys.prefix, arguments))
        if as_text(reply[0]) == "bounds":
            rate, least, most = (float(as_text(value)) for value in reply[1:])
            raise InvalidRequestError(
                f"{rate:g} calls/s is not within RATE_MIN and RATE_MAX of the workers, {least:g} to {most:g}"
            )


def _accepted(header: Header, reply: Reply, doubt: Doubt | None) -> Accepted:
    """Return what the script says became of a chunk, or raise what that is to the caller."""
    kind, *rest = reply
    match as_text(kind):
        case "ok":
            accepted, merged, dropped, waits, sealed = (int(float(value)) for value in rest)
            return Accepted(
                accepted=accepted,
                merged=merged,
                duplicates=dropped,
                waiting_until=moment(waits) if waits else None,
                is_sealed=sealed == 1,
                doubt=doubt,
            )
        case "conflict":
            what = as_text(rest[0])
            differs = "other URLs" if "chunk" in what else f"another {what}"
            raise RequestConflictError(
                f"request {header.request_id} is known with {differs}",
                hint="choose another request_id, or repeat the first call exactly",
            )
        case "full":
            raise QueueFullError(
                f"site {header.site_id} has {int(rest[0])} URLs pending; more than {int(rest[1])} are not taken",
                hint="wait until some are submitted, then repeat the call with the same request_id",
            )
        case "lanes":
            raise QueueFullError(
                f"site {header.site_id} already has {int(rest[0])} lanes: plans in use at once",
                hint="use fewer different plans at a time",
            )
        case "owners":
            raise QueueFullError(
                f"{int(rest[0])} requests already wait for a URL of this chunk",
                hint=f"it is submitted for all of them: see why site {header.site_id} waits, then repeat the call with the same request_id",
            )
        case _:
            raise RequestConflictError(
                f"request {header.request_id} has {as_text(rest[0])} and takes no more URLs"
            )
