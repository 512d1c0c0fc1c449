"""The loop of one arq job: take, submit, settle and take again, for a bounded time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from esa_preload.errors import QueueUnavailableError, UnsupportedRecordError
from esa_preload.logs import get_logger
from esa_preload_worker import decisions
from esa_preload_worker.claims import Batch, Settled, Wait
from esa_preload_worker.ids import new_id
from esa_preload_worker.leases import LostClaimError
from esa_preload_worker.report import report, report_lost
from esa_preload_worker.submit import Submission

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from esa_preload_worker.leases import Leases
    from esa_preload_worker.ledger import WorkerLedger
    from esa_preload_worker.metrics import Metrics
    from esa_preload_worker.submit import Submits

log = get_logger()

PUMP_S = 15.0
"""An arq job ends after about this long: short of any time-out of arq, long enough that its own cost does not count."""

OWN_ERROR_MS = 60_000
"""A batch at which this program itself fails is looked at as rarely: it fails again, and each time it may cost calls."""

HAND_OVER_S = 2.0
"""A shutdown waits this long for Redis; beyond it the lease runs out by itself."""


class Pump:
    """Run batches through one worker process; any number of :meth:`run` at once."""

    def __init__(
        self,
        *,
        ledger: WorkerLedger,
        submitter: Submits,
        leases: Leases,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ledger = ledger
        self._submitter = submitter
        self._leases = leases
        self._metrics = metrics
        self._clock = clock
        self._sleep = sleep
        self._running = 0
        self.is_stopping = False

    @property
    def is_at_work(self) -> bool:
        """Whether a :meth:`run` is under way: it may be taking or submitting a batch."""
        return self._running > 0

    async def run(self) -> int:
        """Take and submit until nothing is due, for about ``PUMP_S``; returns how many batches were settled."""
        self._running += 1
        try:
            return await self._run()
        finally:
            self._running -= 1

    async def _run(self) -> int:
        ends_at = self._clock() + PUMP_S
        pump_id = secrets.token_hex(6)
        settled = 0
        taken = await self._take(pump_id)
        while taken is not None:
            if isinstance(taken, Wait):
                if not taken.stay or self.is_stopping:
                    break
                await self._sleep(taken.ms / 1000)
                taken = await self._take(pump_id)
                continue
            taken = await self._work(taken, pump_id, ends_at)
            settled += 1
        return settled

    async def _work(self, batch: Batch, pump_id: str, ends_at: float) -> Batch | Wait | None:
        """Submit *batch* and settle it; until *ends_at* take the next one in the same round trip."""
        begun = self._clock()
        try:
            submission = await self._submission(batch)
        except LostClaimError:
            self._leases.release(batch)
            report_lost(self._metrics, batch)
            return await self._take(pump_id) if self._goes_on(ends_at) else None
        except asyncio.CancelledError:
            # The call may be on its way: whoever takes the batch next looks first, and need not wait for the lease.
            await self._hand_over(batch)
            raise
        except (RedisError, OSError, QueueUnavailableError, UnsupportedRecordError):
            self._leases.release(batch)  # whoever looks finds it when the lease has run out
            raise
        except Exception:  # an error of our own: said, and tried again, but not at every lease's end
            log.exception(
                "worker.error",
                message="a batch could not be worked on",
                site_id=batch.site_id,
                batch_id=batch.batch_id,
            )
            submission = Submission(settlement=decisions.look_again(OWN_ERROR_MS))
        except BaseException:
            self._leases.release(batch)
            raise
        return await self._settle(batch, submission, pump_id, begun, ends_at)

    async def _settle(
        self, batch: Batch, submission: Submission, pump_id: str, begun: float, ends_at: float
    ) -> Batch | Wait | None:
        taken: Batch | Wait | None = None
        children = (new_id(), new_id()) if submission.settlement.what == "split" else ()
        roll = random.random()  # noqa: S311 - jitter
        asked_at = self._clock()
        try:
            if self._goes_on(ends_at):
                settled, taken = await self._ledger.settle_and_take(
                    batch,
                    submission.settlement,
                    children=children,
                    roll=roll,
                    token=secrets.token_hex(8),
                    pump=pump_id,
                    new_batch_id=new_id(),
                )
            else:
                settled = await self._ledger.settle(
                    batch, submission.settlement, children=children, roll=roll
                )
        finally:
            self._leases.release(batch)
        if isinstance(taken, Batch):
            self._leases.hold(taken, since=asked_at)
        self._report(batch, submission, settled, asked_at - begun)
        return taken

    async def _hand_over(self, batch: Batch) -> None:
        self._leases.release(batch)
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(HAND_OVER_S):
                await self._ledger.settle(batch, decisions.hand_over(), children=(), roll=0.5)

    def _goes_on(self, ends_at: float) -> bool:
        return not self.is_stopping and self._clock() < ends_at

    async def _submission(self, batch: Batch) -> Submission:
        if self.is_stopping:
            return Submission(settlement=decisions.hand_back(batch))
        return await self._submitter.submit(batch)

    async def _take(self, pump_id: str) -> Batch | Wait | None:
        """Take the next batch, if there is one, and hold it: from before it was asked for, since the reply may be late."""
        asked_at = self._clock()
        taken = await self._ledger.take(token=secrets.token_hex(8), pump=pump_id, new_batch_id=new_id())
        if isinstance(taken, Batch):
            self._leases.hold(taken, since=asked_at)
        return taken

    def _report(self, batch: Batch, submission: Submission, settled: Settled, duration_s: float) -> None:
        if settled.lost:
            report_lost(self._metrics, batch)
            return
        ended_ms = batch.now_ms + round(duration_s * 1000)
        report(self._metrics, batch, submission, settled, ended_ms=ended_ms, duration_s=duration_s)
