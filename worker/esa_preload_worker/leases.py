"""The claims that this process holds, and whether they still hold."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from esa_preload_worker.claims import Batch


@dataclass(slots=True)
class _Held:
    token: str
    renewed_at: float
    claimed_at: float


class LostClaimError(Exception):
    """The batch is another worker's by now: send nothing, settle nothing."""


class Leases:
    """
    The claims held by one process.

    A process that was frozen (or cut off from Redis) for a lease must not send what it claimed before: another may have
    taken it over. The monotonic clock shows that without asking anybody.

    Args:
        lease_s: seconds for which a renewal holds.
    """

    def __init__(self, lease_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.lease_s = lease_s
        self._clock = clock
        self._held: dict[str, _Held] = {}

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, batch: Batch, *, since: float) -> None:
        """Hold *batch*, claimed not earlier than *since* (monotonic seconds, before the claim was asked for)."""
        self._held[batch.batch_id] = _Held(batch.token, since, since)

    def claimed_at(self, batch: Batch) -> float:
        """Return a moment (monotonic seconds) before the claim of *batch*, as given to :meth:`hold`."""
        held = self._held.get(batch.batch_id)
        return self._clock() if held is None else held.claimed_at

    def release(self, batch: Batch) -> None:
        """Forget *batch*."""
        held = self._held.get(batch.batch_id)
        if held and held.token == batch.token:
            del self._held[batch.batch_id]

    def check(self, batch: Batch) -> None:
        """
        Make sure that the claim of *batch* still holds.

        Raises:
            LostClaimError: it does not, or may not.
        """
        held = self._held.get(batch.batch_id)
        if held is None or held.token != batch.token or self._clock() - held.renewed_at >= self.lease_s:
            raise LostClaimError(batch.batch_id)

    def claims(self) -> dict[str, str]:
        """Return batch → token of what is held."""
        return {batch_id: held.token for batch_id, held in self._held.items()}

    def renewed(self, claims: dict[str, str], lost: set[str], *, since: float) -> None:
        """Note that *claims* were renewed, but for *lost*, by a call made at *since*."""
        for batch_id, token in claims.items():
            held = self._held.get(batch_id)
            if held is None or held.token != token:
                continue
            if batch_id in lost:
                del self._held[batch_id]
            else:
                held.renewed_at = max(held.renewed_at, since)
