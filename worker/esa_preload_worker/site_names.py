"""Keep the names of the account's sites in the ledger: producers, who hold no credentials, name a site by them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from esa_preload.logs import get_logger
from esa_preload.site_names import normal_name
from esa_preload_worker.esa import PASSING_ERRORS, EsaError, ThrottledError
from esa_preload_worker.ledger import LIST_SITES
from esa_preload_worker.turns import NotYet, Turns

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from contextlib import AbstractAsyncContextManager
    from typing import Protocol

    from esa_preload_worker.esa import Site
    from esa_preload_worker.ledger import WorkerLedger
    from esa_preload_worker.metrics import Metrics

    class Esa(Protocol):
        """What this needs of ESA."""

        async def list_sites(
            self, *, turn: Callable[[], AbstractAsyncContextManager[None]]
        ) -> tuple[Site, ...]: ...


log = get_logger()


class SiteNames:
    """
    List the sites of the account when this worker is told to, at the pace that all workers share.

    Nothing else depends on it: where ListSites is denied, that is said once, and sites are known by their ids only.
    """

    def __init__(
        self,
        *,
        ledger: WorkerLedger,
        esa: Esa,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._esa = esa
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._is_due = False
        self._has_told = False

    def ask(self) -> None:
        """Have the sites listed by the next :meth:`step`."""
        self._is_due = True

    async def step(self) -> None:
        """List the sites if that was asked for; asked again when its turn does not come soon."""
        if not self._is_due:
            return
        turns = Turns(self._ledger, clock=self._clock, sleep=self._sleep)
        try:
            sites = await self._esa.list_sites(turn=turns.each(LIST_SITES))
        except (NotYet, EsaError) as exc:
            await self._report(turns)
            self._is_due = isinstance(exc, NotYet | ThrottledError)
            self._tell_trouble(exc)
            return
        await self._report(turns)
        self._is_due = self._has_told = False
        await self._ledger.keep_site_names(ids_by_name(sites))

    async def _report(self, turns: Turns) -> None:
        calls = turns.drain()
        for call in calls:
            if call.outcome == "throttled":
                self._metrics.throttled.labels(call.operation).inc()
        if calls:
            await self._ledger.report(calls)

    def _tell_trouble(self, error: NotYet | EsaError) -> None:
        """Say that the sites cannot be listed, once until they can."""
        if self._has_told or isinstance(error, (NotYet, *PASSING_ERRORS)):
            return
        self._has_told = True
        log.warning(
            "worker.warning",
            message="the account's sites cannot be listed: they are known by id only",
            code=error.code,
            hint=error.hint,
        )


def ids_by_name(sites: Iterable[Site]) -> dict[str, int]:
    """Return the id of each name that is one; of two sites of a name the one that is active, else the first."""
    found: dict[str, int] = {}
    for site in sorted(sites, key=lambda site: site.status != "active"):
        if name := normal_name(site.name):
            found.setdefault(name, site.site_id)
    return found
