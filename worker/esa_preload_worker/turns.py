"""The calls of one attempt at a batch, or of one visit to a job: each waits for its turn, is made, and is reported to the ledger once."""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from esa_preload_worker.claims import Call, LostClaim
from esa_preload_worker.decisions import call_of
from esa_preload_worker.esa import EsaError
from esa_preload_worker.leases import LostClaimError
from esa_preload_worker.ledger import CREATE_JOB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator
    from contextlib import AbstractAsyncContextManager
    from types import TracebackType

    from esa_preload_worker.claims import Batch, Turn
    from esa_preload_worker.ledger import WorkerLedger

STAY_MS = 1_000
"""Longest wait for a call's turn in an arq slot; beyond it the batch is put off."""

MORE_STAY_MS = 30_000
"""Longest wait for the turn of each further page of what was begun: put off, it would begin at the first one again."""

NOT_YET_MS = 500
"""A batch is put off for so long at least: who takes it up again has to look first how far it came, which is a call."""


class NotYet(Exception):  # noqa: N818 - a turn of events, not an error
    """The call's turn does not come soon: the batch is put off for ``delay_ms``."""

    def __init__(self, delay_ms: int) -> None:
        super().__init__(delay_ms)
        self.delay_ms = delay_ms


class Turns:
    """
    Ask for the turns of *batch*'s calls, and remember what became of each until it is reported.

    Attributes:
        kept: jobs that will never have a plan, and could not be deleted.
    """

    def __init__(
        self,
        ledger: WorkerLedger,
        batch: Batch | None = None,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._sleep = sleep
        self._spent: dict[str, int] = {}
        self._ended: list[Call] = []
        self.kept: list[str] = []
        if batch and batch.state == "sent":  # the claim came with the turn of its Create
            self._spent[CREATE_JOB] = batch.sent_ms

    async def wait(
        self, operation: str, batch: Batch | None = None, *, first_wait_ms: int = 0, stay_ms: int = STAY_MS
    ) -> None:
        """
        Wait for a call of *operation*, not longer than *stay_ms*; for Create of *batch* also note that it is being sent.

        Raises:
            NotYet: its turn comes later.
            LostClaimError: the batch is another's.
        """
        wait_ms = first_wait_ms
        until = self._clock() + stay_ms / 1000
        while True:
            if wait_ms:
                if self._clock() + wait_ms / 1000 > until:
                    raise NotYet(max(wait_ms, NOT_YET_MS))
                await self._sleep(wait_ms / 1000)
            turn = await self._ledger.pace(operation, batch, calls=self._over(operation))
            if isinstance(turn, LostClaim):
                raise LostClaimError(operation)
            if not turn.wait_ms:
                self.came(operation, turn)
                return
            wait_ms = turn.wait_ms

    def came(self, operation: str, turn: Turn) -> None:
        """Remember that the turn of a call of *operation* has come, and its token is spent."""
        self._spent[operation] = turn.sent_ms

    @contextlib.contextmanager
    def call(self, operation: str) -> Generator[None]:
        """
        Make the call of *operation* whose turn it is, inside.

        What the client repeats at once for a new token, nonce or time stamp goes out in the same turn: once a call at most,
        and only while credentials change or a clock is off.
        """
        error: EsaError | None = None
        try:
            yield
        except EsaError as exc:
            error = exc
            raise
        finally:
            sent_ms = self._spent.pop(operation)
            self._ended.append(call_of(operation, sent_ms, error))

    def each(self, operation: str) -> Callable[[], AbstractAsyncContextManager[None]]:
        """Return what waits for the turn of one of several calls of *operation*, which is made inside; raises as ``wait``."""
        stays_ms = itertools.chain((STAY_MS,), itertools.repeat(MORE_STAY_MS))
        return lambda: _OneOfSeveral(self, operation, next(stays_ms))

    def drain(self) -> tuple[Call, ...]:
        """Return what is to be reported, once; turns that were not used are over."""
        return self._over(*self._spent)

    def _over(self, *operations: str) -> tuple[Call, ...]:
        """Return the calls that have ended, and the turns of *operations*, which will not be used."""
        unused = [
            Call(operation=op, sent_ms=self._spent.pop(op), outcome="unknown")
            for op in operations
            if op in self._spent
        ]
        over = (*self._ended, *unused)
        self._ended.clear()
        return over

    def take_back(self, calls: tuple[Call, ...]) -> None:
        """Keep drained *calls* for later: nobody reported them."""
        self._ended[:0] = calls


class _OneOfSeveral:
    """A turn, and the call that is made inside. No generator: who is struck while it waits unwinds as from any coroutine."""

    def __init__(self, turns: Turns, operation: str, stay_ms: int) -> None:
        self._turns = turns
        self._operation = operation
        self._stay_ms = stay_ms
        self._call = turns.call(operation)

    async def __aenter__(self) -> None:
        await self._turns.wait(self._operation, stay_ms=self._stay_ms)
        self._call.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._call.__exit__(kind, error, trace)
