"""What lua/explain.lua reads of the ledger; moments in ms, rounded so that at ``at`` it is so and a millisecond before not yet."""

from __future__ import annotations

import json
from typing import TypedDict, cast


class GateFacts(TypedDict):
    """Whether an operation may be called: ``at`` and ``why`` are ``None`` while it may. ``fixed``: calls/s that were set, or 0."""

    operation: str
    at: int | None
    why: str | None
    rate: float
    fixed: float


class AccountFacts(TypedDict):
    """A block of the whole account; tried again at ``at``."""

    code: str
    hint: str
    at: float | None


class SiteFacts(TypedDict):
    """A site's record, and its turn by the rules that arm it."""

    id: str
    paused: str | None
    waits: int | None
    wait_reason: str | None
    blocked_code: str | None
    blocked_hint: str | None
    batches: int
    pending: int
    in_flight: int
    at: int | None
    why: str
    ahead: int


class LaneFacts(TypedDict):
    """A lane, its turn, and why then; ``full`` URLs are a batch, but ``is_bulk`` goes as a list in OSS."""

    name: str
    at: int | None
    why: str
    count: int
    full: int
    is_newer: bool
    ahead: int
    oldest: float | None
    weight: int
    is_bulk: bool


class PendingFacts(TypedDict):
    """What is asked about, among what is pending."""

    band: int
    at: float
    owners: int
    is_wanted: bool
    ahead: int


class BatchFacts(TypedDict):
    """The batch that has it; ``is_held`` by a worker. ``gates``: those closed of the operations that it needs next."""

    id: str
    state: str
    attempt: int
    sent_at: float | None
    is_held: bool
    lane: str
    count: int
    is_newer: bool
    lease: int | None
    gates: list[GateFacts] | None


class FailureFacts(TypedDict):
    """How a URL ended that is in the failures."""

    state: str
    reason: str
    code: str
    at: float


class RequestFacts(TypedDict):
    """A request and its counts."""

    id: str
    lane: str
    band: int
    created_at: float
    expires_at: float | None
    ended: str | None
    accepted: int
    pending: int
    in_flight: int
    submitted: int
    refused: int
    expired: int
    cancelled: int
    unknown: int
    lists: int


class NextFacts(TypedDict):
    """What take would say were the site the first of the ring."""

    at: int | None
    why: str | None


class Facts(TypedDict):
    """What lua/explain.lua reads; moments in ms. ``packs``: as many were searched for the URL, and more are left."""

    now: int
    workers: int
    seen: float | None
    gate: GateFacts
    account: AccountFacts | None
    request: RequestFacts | None
    pending: PendingFacts | None
    batch: BatchFacts | None
    failure: FailureFacts | None
    lane: LaneFacts | None
    site: SiteFacts
    packs: int | None
    next: NextFacts


def parse_facts(text: str) -> Facts:
    """Read what the script wrote."""
    return cast("Facts", json.loads(text))
