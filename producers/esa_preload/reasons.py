"""Each reason as a sentence: the ledger's facts in, what of one kind holds something back out. No I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from esa_preload.explanation import Reason, ReasonCode

if TYPE_CHECKING:
    from esa_preload.facts import BatchFacts, Facts, GateFacts

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
        "ESA's endpoint cannot be reached: one call tries it again by {until} at the latest",
        "check the workers' network, DNS and proxy: `esa-preload-worker check`",
    ),
    "cooldown": ("cooldown", "ESA throttles: nobody calls {operation} until {until}", ""),
    "probe": (
        "probe",
        "one call of {operation} finds out whether ESA still throttles: its answer is waited for until {until} at most",
        "",
    ),
    "pace": (
        "pace",
        "the pace allows the next call of {operation} at {until} ({rate:.3g} calls/s)",
        "`esa-preload limits` shows it",
    ),
}

_BATCHES: dict[str, str] = {
    "sent": "its job is being created",
    "uncertain": "a reply of ESA was lost: its job is looked up by name before anything is sent again",
    "created": "its job exists, and its plan is being made",
    "gathering": "it is gathered into a list, from which ESA will read it",
    "returning": "the list did not get through: it goes back to its lane",
    "held": "ESA refused it alone; it is judged when the other parts of its batch have ended",
}

_UPGRADE = "upgrade the workers: those that run cannot read it"


def _after(at_ms: float | None, now_ms: float) -> datetime | None:
    return moment(at_ms) if at_ms is not None and at_ms > now_ms else None


def counted(count: int, what: str) -> str:
    """Return *count* with its noun, in the singular for one."""
    plural = f"{what}es" if what.endswith("ch") else f"{what}s"
    return f"{count} {what if count == 1 else plural}"


def moment(at_ms: float) -> datetime:
    """Return a moment of the ledger."""
    return datetime.fromtimestamp(at_ms / 1000, UTC)


def shown(when: datetime) -> str:
    """Return a moment as the sentences have it."""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def no_worker(facts: Facts) -> list[Reason]:
    """Nobody is there to take it."""
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


def blocks(facts: Facts) -> list[Reason]:
    """Codes of ESA that a person must act on: of the account, of the site."""
    site, account, found = facts["site"], facts["account"], list[Reason]()
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
                    filter(None, (site["blocked_hint"], f"`esa-preload resume {site['id']}` tries at once"))
                ),
                until=_after(site["waits"], facts["now"]),
            )
        )
    return found


def needs_somebody(facts: Facts) -> list[Reason]:
    """What a person must see to, and what the end of a batch does."""
    site, lane, found = facts["site"], facts["lane"], list[Reason]()
    number = site["id"]
    if lane and lane["is_newer"]:
        found.append(_newer(f"lane {lane['name']!r}"))
    if site["paused"] is not None:
        text = f"the site is paused: {site['paused'] or 'no reason given'}"
        found.append(Reason(code="paused", text=text, hint=f"`esa-preload resume {number}`"))
    found += blocks(facts)
    at_work = f"the site has {counted(site['batches'], 'batch')} in flight, as many as"
    if site["why"] == "busy":
        text = f"{at_work} it may have: the next one goes when one ends"
        found.append(Reason(code="concurrency", text=text))
    elif site["why"] == "job_cap":
        code, _, hint = _WAITS["job_cap"]
        text = f"{at_work} ESA has room for jobs of it: the next one goes when one ends, or a job is deleted"
        found.append(Reason(code=code, text=text, hint=hint.format(site=number)))
    return found


def site_waits(facts: Facts) -> list[Reason]:
    """What the site waits for."""
    site = facts["site"]
    until = _after(site["waits"], facts["now"])
    if until is None or site["blocked_code"] is not None:
        return []
    reason = site["wait_reason"] or ""
    code, text, hint = _WAITS.get(reason, ("site_waits", f"the site waits ({reason})", ""))
    return [
        Reason(
            code=code,
            text=f"{text}: tried again at {shown(until)}",
            hint=hint.format(site=site["id"]),
            until=until,
        )
    ]


def gate(gate: GateFacts) -> list[Reason]:
    """Why an operation may not be called."""
    if gate["why"] == "unsupported":
        return [_newer(f"the pace of {gate['operation']}")]
    known = _GATES.get(gate["why"] or "")
    if known is None or gate["at"] is None:
        return []
    code, text, hint = known
    until = moment(gate["at"])
    text = text.format(operation=gate["operation"], until=shown(until), rate=gate["rate"])
    if gate["rate"] < gate["fixed"] and code != "endpoint":
        hint = f"ESA throttles at the {gate['fixed']:g} calls/s that were set: see `esa-preload limits`"
    return [Reason(code=code, text=text, hint=hint, until=until)]


def lane_turn(facts: Facts) -> list[Reason]:
    """What the lane waits for."""
    lane = facts["lane"]
    until = _after(lane["at"], facts["now"]) if lane else None
    if lane is None or until is None:
        return []
    more = f"it has {lane['count']} of the {lane['full']} of a full batch"
    if lane["why"] == "quiet":
        text = (
            f"its lane waits for more URLs ({more}): it goes at {shown(until)} unless more come (BATCH_QUIET)"
        )
        return [Reason(code="quiet", text=text, until=until)]
    text = f"its lane waits for more URLs ({more}): it goes at {shown(until)} at the latest (BATCH_MAX_AGE)"
    if lane["why"] == "short":
        text += ", for the site holds most of the jobs that it may"
    return [Reason(code="age", text=text, until=until)]


def queue(facts: Facts) -> list[Reason]:
    """Who goes before."""
    lane, pending, site, found = facts["lane"], facts["pending"], facts["site"], list[Reason]()
    if lane and lane["ahead"]:
        goes = "goes" if lane["ahead"] == 1 else "go"
        text = f"{counted(lane['ahead'], 'other lane')} of the site (another plan each) {goes} before its own"
        found.append(Reason(code="behind_lanes", text=text))
    if lane and pending and pending["ahead"] >= lane["full"]:
        batches = -(-(pending["ahead"] + 1) // lane["full"])
        goes = "goes" if pending["ahead"] == 1 else "go"
        how = "as lists of many URLs" if lane["is_bulk"] else f"batch {batches} from now"
        text = f"about {counted(pending['ahead'], 'URL')} of its lane {goes} before it (priority {_BANDS[pending['band']]}): {how}"
        found.append(Reason(code="behind_urls", text=text))
    if site["ahead"]:
        has = "has its" if site["ahead"] == 1 else "have their"
        text = f"{counted(site['ahead'], 'other site')} {has} turn before"
        found.append(Reason(code="behind_sites", text=text))
    return found


def _newer(what: str) -> Reason:
    return Reason(code="newer_release", text=f"{what} was written by a newer release", hint=_UPGRADE)


def flying(facts: Facts, batch: BatchFacts) -> Reason:
    """Tell which batch has it, and how far that is."""
    text = f"in flight now, in batch {batch['id']} of {counted(batch['count'], 'URL')}: {_BATCHES.get(batch['state'], batch['state'])}"
    text += f" (state {batch['state']}, attempt {batch['attempt']})"
    until = None
    if batch["lease"] is not None and not batch["is_held"] and batch["lease"] > facts["now"]:
        until = moment(batch["lease"])
        text += f"; it is looked at again at {shown(until)}"
    if batch["is_newer"]:
        return _newer(f"batch {batch['id']}")
    return Reason(code="in_flight", text=text, until=until)
