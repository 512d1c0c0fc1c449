"""Values as JSON documents, and as lines for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from esa_preload.explanation import Explanation
    from esa_preload.model import Failure, Receipt, RequestInfo, RequestStatus, SiteStatus


def site_document(site: SiteStatus) -> dict[str, Any]:
    """Return what `sites --json` prints of one."""
    return asdict(site) | {"waiting_until": site.waiting_until and site.waiting_until.isoformat()}


def failure_document(failure: Failure) -> dict[str, Any]:
    """Return what `failures --json` prints of one."""
    return asdict(failure) | {"at": failure.at.isoformat()}


def request_document(info: RequestInfo) -> dict[str, Any]:
    """Return what `requests --json` prints of one: its status, and what was asked for."""
    document = asdict(info)
    status, plan = document.pop("status"), document.pop("plan")
    times = {name: value and value.isoformat() for name, value in plan.items() if name in ("start", "end")}
    return {
        **status,
        **document,
        "created_at": info.created_at.isoformat(),
        "expires_at": info.expires_at and info.expires_at.isoformat(),
        "plan": plan | times,
    }


def has_failed(status: RequestStatus) -> bool:
    """Tell whether some URLs ended otherwise than somebody wanted."""
    return bool(status.refused or status.unknown or status.expired)


def receipt_document(receipt: Receipt) -> dict[str, Any]:
    """Return what `enqueue --json` prints."""
    document = asdict(receipt)
    document["rejected"] = [asdict(rejection) for rejection in receipt.rejected]
    document["waiting_until"] = receipt.waiting_until.isoformat() if receipt.waiting_until else None
    return document


def explanation_document(found: Explanation) -> dict[str, Any]:
    """Return what `explain --json` prints: the first reason's fields stand for the whole."""
    first, *_ = reasons = [
        {
            "reason": each.code,
            "text": each.text,
            "until": each.until and each.until.isoformat(),
            "hint": each.hint,
        }
        for each in found.reasons
    ]
    about = {"request_id": found.request_id, "site_id": found.site_id, "url": found.url}
    return {
        **{name: value for name, value in about.items() if value is not None},
        "state": found.state,
        **first,
        "next_at": found.next_at and found.next_at.isoformat(),
        "reasons": reasons,
    }


def print_explanation(found: Explanation) -> None:
    """Print the reasons, the one that decides first."""
    for index, reason in enumerate(found.reasons):
        click.echo(("  also: " if index else "") + reason.text)
        if reason.hint:
            click.echo(("    " if index else "  ") + f"what to do: {reason.hint}")
    about = (found.request_id and f"request {found.request_id}", f"site {found.site_id}", found.url)
    click.echo(f"{', '.join(filter(None, about))}: {found.state}")


def print_receipt(receipt: Receipt) -> None:
    """Print what was taken, and each rejected URL on standard error."""
    click.echo(f"request {receipt.request_id}, site {receipt.site_id}")
    click.echo(
        f"accepted {receipt.accepted} (merged {receipt.merged}), duplicates {receipt.duplicates}, rejected {receipt.rejected_count}"
    )
    if receipt.waiting_until:
        click.echo(f"the site waits until {receipt.waiting_until.isoformat(timespec='seconds')}")
    for rejection in receipt.rejected:
        click.echo(f"rejected {rejection.url}: {rejection.reason}", err=True)


def print_status(status: RequestStatus) -> None:
    """Print the counts of a request."""
    click.echo(f"request {status.request_id}, site {status.site_id}: {status.state}")
    from esa_preload.model import PLAN_COUNTS, REQUEST_COUNTS  # noqa: PLC0415 - keeps --help quick

    for names, start in ((REQUEST_COUNTS, ""), (PLAN_COUNTS, "of the submitted: ")):
        click.echo(start + ", ".join(f"{name} {getattr(status, name)}" for name in names))


def print_request(info: RequestInfo) -> None:
    """Print the counts of a request, and who made it, when and how."""
    from esa_preload.urls import printable  # noqa: PLC0415 - keeps --help quick

    print_status(info.status)
    document = request_document(info)
    plan = [f"{name} {value}" for name, value in document["plan"].items() if value is not None]
    facts = (
        f"made {document['created_at']}" + (f" by {info.actor}" if info.actor else ""),
        info.source and f"source {info.source}",
        f"priority {info.priority}",
        f"expires {document['expires_at']}" if info.expires_at else "",
        f"plan: {', '.join(plan) or 'at once'}",
    )
    # It may come from whoever can write to Redis.
    click.echo(printable(", ".join(filter(None, facts))))
