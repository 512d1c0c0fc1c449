"""Why something is not submitted yet: the ledger's facts in, an ordered list of reasons out. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast

from esa_preload.explanation import Explanation, Reason, ReasonCode

if TYPE_CHECKING:
    from esa_preload.facts import BatchFacts, Facts, RequestFacts

_ENDS = ("submitted", "refused", "expired", "cancelled", "unknown")
_NO_TURN = {"in_flight", "ended", "failed", "unwanted", "not_pending"}
_BANDS = ("high", "normal", "low")

_WAITS: dict[str, tuple[ReasonCode, str, str]] = {
    "quota": (
        "quota",
        "the site's prefetch quota is used up",
        "raise it, or wait; `esa-preload resume {site}` tries at once",
    ),
    "job_cap": (
        "job_cap",
        "the site holds as many jobs as ESA allows",
        "ours are deleted by themselves, JOB_RETENTION after their plans; or delete others in ESA's console, then `esa-preload resume {site}`",
    ),
    "busy": ("site_busy", "ESA is busy with this site", ""),
}

_GATES: dict[str, tuple[ReasonCode, str, str]] = {
    "endpoint": (
        "endpoint",
        "ESA's endpoint cannot be reached",
        "check the workers' network, DNS and proxy: `esa-preload-worker check`",
    ),
    "cooldown": ("cooldown", "ESA throttles: nobody calls it before", ""),
    "probe": (
        "probe",
        "one call finds out whether ESA still throttles; its answer is waited for, at most",
        "",
    ),
    "pace": ("pace", "the pace of the calls allows the next one soon", "`esa-preload limits` shows it"),
}

_BATCHES: dict[str, str] = {
    "sent": "its job is being created",
    "uncertain": "a reply of ESA was lost: its job is looked up by name before anything is sent again",
    "created": "its job exists, and its plan is being made",
    "held": "ESA refused it alone; it is judged when the other parts of its batch have ended",
}


def explain(facts: Facts, *, url: str | None = None) -> Explanation:
    """Order what keeps it from being submitted: what needs somebody or something else first, then by how long it lasts."""
    request, site = facts["request"], facts["site"]
    state, reasons = _explain(facts, url)
    return Explanation(
        site_id=int(site["id"]),
        request_id=request["id"] if request else None,
        url=url,
        state=state,
        reasons=tuple(reasons),
        next_at=None if reasons[0].code in _NO_TURN else _next_at(facts, reasons),
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
        beside = [_flying(facts, batch)] if batch and batch["state"] != "ready" else []
        return "pending", _waiting(facts) + beside
    if batch and batch["state"] == "ready":
        return "in_flight", _waiting(facts)
    if batch:
        return "in_flight", [*_no_worker(facts), _flying(facts, batch)]
    if request:
        return _of_request(request)
    if url is not None:
        return _of_url(facts)
    if facts["lane"] or site["why"] != "empty":
        return "pending", _waiting(facts)
    if site["in_flight"]:
        text = f"nothing is pending; {site['in_flight']} URLs are in flight in {site['batches']} batches"
        return "in_flight", [*_no_worker(facts), Reason(code="in_flight", text=text)]
    return "idle", [Reason(code="not_pending", text="nothing of the site is pending or in flight")]


def _of_request(
    request: RequestFacts,
) -> tuple[Literal["in_flight", "ended", "idle"], list[Reason]]:
    counts = {name: count for name in _ENDS if (count := int(cast("dict[str, int]", request)[name]))}
    if request["in_flight"] or request["lists"]:
        return "in_flight", [Reason(code="in_flight", text=f"{request['in_flight']} URLs are in flight")]
    if not counts:
        return "idle", [Reason(code="not_pending", text="none of its URLs has been accepted yet")]
    how = ", ".join(f"{count} {name}" for name, count in counts.items())
    hint = "see `esa-preload failures`" if set(counts) - {"submitted", "cancelled"} else ""
    return "ended", [Reason(code="ended", text=f"nothing of it is pending: {how}", hint=hint)]


def _of_url(facts: Facts) -> tuple[Literal["ended", "idle"], list[Reason]]:
    if failure := facts["failure"]:
        why = " ".join(filter(None, (failure["reason"], failure["code"] and f"({failure['code']})")))
        text = f"it ended as {failure['state']} at {_shown(_moment(failure['at']))}: {why}"
        return "ended", [
            Reason(
                code="failed",
                text=text,
                hint=f"`esa-preload requeue --site {facts['site']['id']}` enqueues it anew",
            )
        ]
    text = "it is not pending: never accepted for this site, or submitted already"
    return "idle", [Reason(code="not_pending", text=text, hint="`esa-preload status` of its request tells")]


def _flying(facts: Facts, batch: BatchFacts) -> Reason:
    text = f"in flight now, in batch {batch['id']} of {batch['count']} URLs: {_BATCHES.get(batch['state'], batch['state'])}"
    text += f" (state {batch['state']}, attempt {batch['attempt']})"
    until = None
    if batch["lease"] is not None and not batch["is_held"] and batch["lease"] > facts["now"]:
        until = _moment(batch["lease"])
        text += f"; it is looked at again at {_shown(until)}"
    if batch["is_newer"]:
        return Reason(
            code="newer_release", text=f"batch {batch['id']} was written by a newer release", hint=_UPGRADE
        )
    return Reason(code="in_flight", text=text, until=until)


_UPGRADE = "upgrade the workers: those that run cannot read it"


def _no_worker(facts: Facts) -> list[Reason]:
    if facts["workers"]:
        return []
    seen = facts["seen"]
    when = (
        f"the last one was seen {(facts['now'] - seen) / 1000:.0f} s ago"
        if seen
        else "none was seen in the last minute"
    )
    hint = "start `esa-preload-worker run` for this namespace and this Redis"
    return [Reason(code="no_worker", text=f"no worker is alive: {when}", hint=hint)]


def _waiting(facts: Facts) -> list[Reason]:
    now = facts["now"]
    timed = [*_site_waits(facts), *_gate(facts), *_lane_turn(facts)]
    timed.sort(key=lambda reason: -(reason.until or _moment(now)).timestamp())
    pace = [reason for reason in timed if reason.code == "pace"]
    timed = [reason for reason in timed if reason.code != "pace"]
    found = [*_no_worker(facts), *_needs_somebody(facts), *timed, *_queue(facts), *pace]
    return found or [Reason(code="due", text="nothing holds it: a worker takes it with its next look")]


def _needs_somebody(facts: Facts) -> list[Reason]:
    site, account, lane, found = facts["site"], facts["account"], facts["lane"], list[Reason]()
    number = site["id"]
    if facts["gate"]["why"] == "unsupported" or (lane and lane["is_newer"]):
        what = f"lane {lane['name']!r}" if lane and lane["is_newer"] else "the pace of the calls"
        found.append(
            Reason(code="newer_release", text=f"{what} was written by a newer release", hint=_UPGRADE)
        )
    if site["paused"] is not None:
        text = f"the site is paused: {site['paused'] or 'no reason given'}"
        found.append(Reason(code="paused", text=text, hint=f"`esa-preload resume {number}`"))
    if account:
        found.append(
            Reason(
                code="account_blocked",
                text=f"the account is blocked with {account['code']}; one batch a minute finds out whether it still is",
                hint="; ".join(
                    filter(None, (account["hint"], "`esa-preload resume --account` tries at once"))
                ),
                until=_after(account["at"], facts["now"]),
            )
        )
    if site["blocked_code"] is not None:
        found.append(
            Reason(
                code="site_blocked",
                text=f"the site is blocked with {site['blocked_code']}; one batch a minute finds out whether it still is",
                hint="; ".join(
                    filter(None, (site["blocked_hint"], f"`esa-preload resume {number}` tries at once"))
                ),
                until=_after(site["waits"], facts["now"]),
            )
        )
    at_work = f"the site has {site['batches']} batches in flight, as many as"
    if site["why"] == "busy":
        text = f"{at_work} it may have: the next one goes when one ends"
        found.append(Reason(code="concurrency", text=text))
    elif site["why"] == "job_cap":
        code, _, hint = _WAITS["job_cap"]
        text = f"{at_work} ESA has room for jobs of it: the next one goes when one ends, or a job is deleted"
        found.append(Reason(code=code, text=text, hint=hint.format(site=number)))
    return found


def _site_waits(facts: Facts) -> list[Reason]:
    site = facts["site"]
    until = _after(site["waits"], facts["now"])
    if until is None or site["blocked_code"] is not None:
        return []
    reason = site["wait_reason"] or ""
    code, text, hint = _WAITS.get(reason, ("site_waits", f"the site waits ({reason})", ""))
    return [
        Reason(
            code=code,
            text=f"{text}: tried again at {_shown(until)}",
            hint=hint.format(site=site["id"]),
            until=until,
        )
    ]


def _gate(facts: Facts) -> list[Reason]:
    gate = facts["gate"]
    known = _GATES.get(gate["why"] or "")
    if known is None or gate["at"] is None:
        return []
    code, text, hint = known
    until = _moment(gate["at"])
    rate = f" ({gate['rate']:.3g} calls/s)" if code == "pace" else ""
    return [Reason(code=code, text=f"{text}{rate}, until {_shown(until)}", hint=hint, until=until)]


def _lane_turn(facts: Facts) -> list[Reason]:
    lane = facts["lane"]
    until = _after(lane["at"], facts["now"]) if lane else None
    if lane is None or until is None:
        return []
    more = f"{lane['count']} of {lane['full']} URLs of a full batch are there"
    if lane["why"] == "quiet":
        text = f"its lane waits for more URLs ({more}): it goes at {_shown(until)} unless more come (BATCH_QUIET)"
        return [Reason(code="quiet", text=text, until=until)]
    text = f"its lane waits for more URLs ({more}): it goes at {_shown(until)} at the latest (BATCH_MAX_AGE)"
    if lane["why"] == "short":
        text += ", for the site holds most of the jobs that it may"
    return [Reason(code="age", text=text, until=until)]


def _queue(facts: Facts) -> list[Reason]:
    lane, pending, site, found = facts["lane"], facts["pending"], facts["site"], list[Reason]()
    if lane and lane["ahead"]:
        found.append(
            Reason(
                code="behind_lanes",
                text=f"{lane['ahead']} lanes of the site (other plans) are due before its own",
            )
        )
    if lane and pending and pending["ahead"] >= lane["full"]:
        batches = -(-(pending["ahead"] + 1) // lane["full"])
        text = f"about {pending['ahead']} URLs of its lane go before it (priority {_BANDS[pending['band']]}): batch {batches} from now"
        found.append(Reason(code="behind_urls", text=text))
    if site["ahead"]:
        found.append(Reason(code="behind_sites", text=f"{site['ahead']} sites have their turn before"))
    return found


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
    return _moment(max(at))


def _after(at_ms: float | None, now_ms: float) -> datetime | None:
    return _moment(at_ms) if at_ms is not None and at_ms > now_ms else None


def _moment(at_ms: float) -> datetime:
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def _shown(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
