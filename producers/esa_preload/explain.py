"""Why something is not submitted yet: the ledger's facts in, an ordered list of reasons out. No I/O."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, cast

from esa_preload import reasons as why
from esa_preload.explanation import Explanation, Reason

if TYPE_CHECKING:
    from datetime import datetime

    from esa_preload.facts import BatchFacts, Facts, RequestFacts

_ENDS = ("submitted", "refused", "expired", "cancelled", "unknown")
_NO_TURN = {"ended", "failed", "unwanted", "not_pending"}


def explain(facts: Facts, *, url: str | None = None) -> Explanation:
    """Order what keeps it from being submitted: what needs somebody or something else first, then by how long it lasts."""
    request, site = facts["request"], facts["site"]
    state, reasons = _explain(facts, url)
    batch = facts["batch"]
    is_taken = state == "in_flight" and not (batch and batch["state"] == "ready")
    return Explanation(
        site_id=int(site["id"]),
        request_id=request["id"] if request else None,
        url=url,
        state=state,
        reasons=tuple(reasons),
        next_at=None if is_taken or reasons[0].code in _NO_TURN else _next_at(facts, reasons),
    )


def _explain(
    facts: Facts, url: str | None
) -> tuple[Literal["pending", "in_flight", "ended", "idle"], list[Reason]]:
    request, batch, pending, site = facts["request"], facts["batch"], facts["pending"], facts["site"]
    if pending and not pending["is_wanted"] and not batch:
        return "ended", [
            Reason(
                code="unwanted",
                text="every request that asked for it was cancelled or has expired, or its plan has ended; it is dropped soon",
            )
        ]
    if pending and pending["is_wanted"]:
        beside = [why.flying(facts, batch)] if batch and batch["state"] != "ready" else []
        return "pending", _waiting(facts) + beside
    if batch and batch["state"] == "ready":
        return "in_flight", _waiting(facts)
    if batch:
        return "in_flight", _flying(facts, batch)
    if request:
        return _of_request(request)
    if url is not None:
        return _of_url(facts)
    if facts["lane"] or site["why"] != "empty":
        return "pending", _waiting(facts)
    if site["in_flight"]:
        text = f"nothing is pending; {why.counted(site['in_flight'], 'URL')} in flight, in {why.counted(site['batches'], 'batch')}"
        return "in_flight", [
            *why.no_worker(facts),
            *why.blocks(facts),
            Reason(code="in_flight", text=text),
        ]
    return "idle", [Reason(code="not_pending", text="nothing of the site is pending or in flight")]


def _of_request(
    request: RequestFacts,
) -> tuple[Literal["in_flight", "ended", "idle"], list[Reason]]:
    counts = {name: count for name in _ENDS if (count := int(cast("dict[str, int]", request)[name]))}
    if request["in_flight"] or request["lists"]:
        return "in_flight", [
            Reason(code="in_flight", text=f"{why.counted(request['in_flight'], 'URL')} in flight")
        ]
    if not counts:
        return "idle", [Reason(code="not_pending", text="none of its URLs has been accepted yet")]
    how = ", ".join(f"{count} {name}" for name, count in counts.items())
    hint = "see `esa-preload failures`" if set(counts) - {"submitted", "cancelled"} else ""
    return "ended", [Reason(code="ended", text=f"nothing of it is pending: {how}", hint=hint)]


def _of_url(facts: Facts) -> tuple[Literal["ended", "idle"], list[Reason]]:
    if failure := facts["failure"]:
        reason = " ".join(filter(None, (failure["reason"], failure["code"] and f"({failure['code']})")))
        text = f"it ended as {failure['state']} at {why.shown(why.moment(failure['at']))}: {reason}"
        return "ended", [
            Reason(
                code="failed",
                text=text,
                hint=f"`esa-preload requeue --site {facts['site']['id']}` enqueues it anew",
            )
        ]
    text = "it is not pending: never accepted for this site, or submitted already"
    return "idle", [Reason(code="not_pending", text=text, hint="`esa-preload status` of its request tells")]


def _waiting(facts: Facts) -> list[Reason]:
    waits = [*why.site_waits(facts), *why.gate(facts["gate"]), *why.lane_turn(facts)]
    timed, pace = _by_length(waits)
    found = [*why.no_worker(facts), *why.needs_somebody(facts), *timed, *why.queue(facts), *pace]
    return found or [Reason(code="due", text="nothing holds it: a worker takes it with its next look")]


def _flying(facts: Facts, batch: BatchFacts) -> list[Reason]:
    blocks = why.blocks(facts) if batch["state"] != "sent" else []
    closed = [reason for gate in batch["gates"] or () for reason in why.gate(gate)]
    timed, pace = _by_length(list({reason.text: reason for reason in closed}.values()))
    return [*why.no_worker(facts), *blocks, *timed, why.flying(facts, batch), *pace]


def _by_length(found: list[Reason]) -> tuple[list[Reason], list[Reason]]:
    """Return what lasts, the longest first, and the pace, which is over soon."""
    found.sort(key=lambda reason: reason.until.timestamp() if reason.until else math.inf, reverse=True)
    return [each for each in found if each.code != "pace"], [each for each in found if each.code == "pace"]


def _next_at(facts: Facts, reasons: list[Reason]) -> datetime | None:
    """Return when take, asked in time, gives out the lane or the part, if its site is the first of the ring by then."""
    never = {
        "no_worker",
        "newer_release",
        "paused",
        "concurrency",
        "behind_lanes",
        "behind_urls",
        "behind_sites",
    }
    if facts["site"]["at"] is None or never & {reason.code for reason in reasons}:
        return None
    lane = facts["lane"]
    at = [facts["now"], facts["next"]["at"] or 0, (lane and lane["at"]) or 0]
    return why.moment(max(at))
