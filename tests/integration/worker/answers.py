"""Have ESA answer in a certain way, and read what a worker says and shows of it."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from esa_preload_worker.ledger import CREATE_JOB
from esa_preload_worker.sandbox import Fault
from integration.worker.rig import SITE

if TYPE_CHECKING:
    from integration.worker.rig import Rig

Logged = list[MutableMapping[str, Any]]

ALWAYS = 10**6


def names(logged: Logged, prefix: str = "site.") -> list[str]:
    """Return the names of the log lines that begin with *prefix*."""
    return [str(entry["event"]) for entry in logged if str(entry["event"]).startswith(prefix)]


def refusing(code: str, *, first: int = 1, operation: str = CREATE_JOB, status: int = 400) -> tuple[Fault]:
    """Return a fault that refuses the first calls of an operation."""
    return (Fault(kind="refuse", operation=operation, first=first, code=code, status=status),)


async def state_of(worker: Rig, site_id: int = SITE) -> tuple[str, str]:
    """Return the state of a site, and why."""
    return next((s.state, s.reason) for s in await worker.client.sites() if s.site_id == site_id)
