"""The ledger's records as values: no I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from esa_preload.actor import printable
from esa_preload.errors import UnsupportedRecordError
from esa_preload.model import (
    PLAN_COUNTS,
    PRIORITIES,
    REQUEST_COUNTS,
    AuditEntry,
    Failure,
    Plan,
    RequestInfo,
    RequestStatus,
    RequestUrl,
    SiteStatus,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esa_preload.model import AuditAction, UrlState

RECORD_VERSION = 1


def moment(at_ms: float) -> datetime:
    """Return a time of the ledger."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def check_version(record: Mapping[str, str], what: str) -> None:
    """
    Read on only what this release understands.

    Raises:
        UnsupportedRecordError: a later release wrote it.
    """
    version = int(record.get("v", RECORD_VERSION))
    if version > RECORD_VERSION:
        raise UnsupportedRecordError(
            f"{what} has version {version}, this release reads {RECORD_VERSION}",
            hint="upgrade esa-preload in this process",
        )


def can_expire(record: Mapping[str, str]) -> bool:
    """Tell whether what a request has pending may be over by now, though no script has written that down."""
    return "ended" not in record and "done_at" not in record and "expires_at" in record


def has_expired(record: Mapping[str, str], now_ms: int) -> bool:
    """Tell whether that is so: no claim takes its URLs any more, and whichever script meets the request next says so."""
    return can_expire(record) and float(record["expires_at"]) <= now_ms


def request_status(record: Mapping[str, str], now_ms: int) -> RequestStatus:
    """Return the counts of a request, and whether anything of it is left to do."""
    counts = {name: int(record.get(name, 0)) for name in (*REQUEST_COUNTS, *PLAN_COUNTS)}
    is_whole = "sealed" in record
    if has_expired(record, now_ms):
        counts["expired"], counts["pending"], is_whole = counts["expired"] + counts["pending"], 0, True
    is_done = is_whole and counts["pending"] == counts["in_flight"] == int(record.get("lists", 0)) == 0
    return RequestStatus(
        request_id=record["id"],
        site_id=int(record["site"]),
        state="done" if is_done else "active",
        **counts,
    )


def request_info(record: Mapping[str, str], now_ms: int) -> RequestInfo:
    """Return who made a request, what was asked for, and its status."""
    return RequestInfo(
        status=request_status(record, now_ms),
        created_at=moment(float(record["created_at"])),
        source=record.get("source", ""),
        actor=record.get("actor", ""),
        priority=PRIORITIES[int(record["band"])],
        plan=Plan.from_lane_key(record["plan"]),
        expires_at=moment(float(record["expires_at"])) if "expires_at" in record else None,
    )


def failure(site_id: int, entry_id: str, fields: Mapping[str, str]) -> Failure:
    """Return a URL that did not get through."""
    return Failure(
        id=entry_id,
        url=fields["url"],
        site_id=site_id,
        reason=fields["reason"],
        # What expired was in no batch.
        code=fields.get("code", ""),
        at=moment(float(fields["at"])),
        batch_id=fields.get("batch", ""),
    )


def ended_url(fields: Mapping[str, str], number: str, state: UrlState) -> RequestUrl | None:
    """Return the URL of a site's failure, when it ended in *state* for the request of that number."""
    # Records of older releases do not say whose the URL was.
    if fields["state"] != state or number not in fields.get("owners", "").split(","):
        return None
    at = moment(float(fields["at"]))
    return RequestUrl(
        url=fields["url"], state=state, reason=fields["reason"], code=fields.get("code", ""), at=at
    )


def site_status(site_id: int, record: Mapping[str, str], oldest_ms: int | None, now_ms: int) -> SiteStatus:
    """Read a site's totals and state; *oldest_ms*: since when its oldest URL waits."""
    state, reason = site_state(record, now_ms)
    return SiteStatus(
        site_id=site_id,
        name=record.get("name", ""),
        state=state,
        reason=reason,
        pending=int(record.get("pending", 0)),
        in_flight=int(record.get("in_flight", 0)),
        submitted=int(record.get("submitted", 0)),
        refused=int(record.get("refused", 0)),
        oldest_pending_s=0.0 if oldest_ms is None else max(0, now_ms - oldest_ms) / 1000,
        waiting_until=moment(float(record["wait_until"])) if state == "waiting" else None,
        jobs=int(record.get("jobs", 0)),
        job_cap=job_cap_of(record, now_ms),
    )


def audit_entry(entry_id: str, fields: Mapping[str, str]) -> AuditEntry:
    """Read an entry of the audit."""
    # Another program may have written it: nothing in it is to format a terminal.
    said = {name: printable(fields.get(name, "")) for name in ("actor", "source", "detail")}
    return AuditEntry(
        id=entry_id,
        at=moment(float(fields["at"])),
        action=cast("AuditAction", fields["action"]),
        site_id=int(fields["site"]) if fields.get("site") else None,
        request_id=fields.get("request") or None,
        **said,
    )


def job_cap_of(record: Mapping[str, str], now_ms: int) -> int | None:
    """Return how many jobs of ours ESA allows on a site, by its record; ``None``: not known."""
    is_known = "job_cap" in record and float(record["job_cap_until"]) > now_ms
    return int(record["job_cap"]) if is_known else None


def site_state(
    record: Mapping[str, str], now_ms: int
) -> tuple[Literal["active", "waiting", "paused", "blocked"], str]:
    """Tell a site's state and why from its record."""
    if "paused" in record:
        return "paused", record["paused"]
    if "blocked_code" in record:
        return "blocked", ("account: " if "blocked_until" in record else "") + record["blocked_code"]
    if float(record.get("wait_until", 0)) > now_ms:
        return "waiting", record.get("wait_reason", "")
    return "active", ""
