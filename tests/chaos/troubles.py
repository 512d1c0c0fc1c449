"""What goes wrong with the processes, when: drawn before the run begins, then done one after the other."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from chaos.options import LEASE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from chaos.machines import Machine, SandboxProcess, Valkey

NO_REDIS = 3
"""Exit code of a worker that cannot start for want of Redis."""
ENDS_WELL = (0, NO_REDIS, -signal.SIGTERM)
"""Exit codes of a worker that was told to stop; the last when it was not yet ready to be told."""
_KEEP_S = 0.3

Kind = Literal[
    "kill_worker", "freeze_worker", "restart_worker", "restart_valkey", "freeze_valkey", "shift_clock"
]

_WEIGHTS: dict[Kind, int] = {
    "kill_worker": 5,
    "freeze_worker": 5,
    "restart_worker": 2,
    "restart_valkey": 3,
    "freeze_valkey": 1,
    "shift_clock": 2,
}
_CLOCK_OFFSETS_S = (0.0, 20.0, -20.0)
"""Within the slack that a look-up by name allows; no worker is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing to do; ``at_s`` after the begin, for ``lasts_s``, to worker number ``which``."""

    kind: Kind
    at_s: float
    lasts_s: float
    which: int


def troubles_of(dice: Random, *, seconds: float, workers: int, every_s: float) -> list[Trouble]:
    """Draw a trouble *every_s* seconds or so, each kind at least once where there is time for it."""
    kinds = list(_WEIGHTS)
    dice.shuffle(kinds)
    count = max(1, int(seconds / every_s))
    kinds += dice.choices(list(_WEIGHTS), list(_WEIGHTS.values()), k=max(0, count - len(kinds)))
    times = sorted(dice.uniform(0.05 * seconds, seconds) for _ in range(count))
    return [
        Trouble(kind=kind, at_s=at_s, lasts_s=_lasts_s(dice, kind), which=dice.randrange(workers))
        for kind, at_s in zip(kinds[:count], times, strict=True)
    ]


def _lasts_s(dice: Random, kind: Kind) -> float:
    match kind:
        case "freeze_worker":
            return LEASE_S * dice.uniform(0.5, 1.8)
        case "freeze_valkey":
            return LEASE_S * dice.uniform(0.3, 1.3)
        case _:
            return dice.uniform(0, 1.5)


class Troublemaker:
    """
    Do what was drawn; troubles that last overlap with those that follow.

    Args:
        restart: starts the worker that takes the place of number *n*.
        note: writes a line of the history.
    """

    def __init__(
        self,
        *,
        workers: list[Machine],
        restart: Callable[[int], Machine],
        valkey: Valkey,
        sandbox: SandboxProcess,
        note: Callable[[str], None],
    ) -> None:
        self._workers, self._restart = workers, restart
        self._valkey, self._sandbox = valkey, sandbox
        self._note = note
        self._offset = 0
        self._locks = [asyncio.Lock() for _ in workers]
        self._valkey_lock = asyncio.Lock()
        self.done: Counter[str] = Counter()

    async def keep(self) -> None:
        """Start anew, until cancelled, whatever ended by itself: a worker that finds no Redis at its start does, with 3."""
        while True:
            await asyncio.sleep(_KEEP_S)
            for number, lock in enumerate(self._locks):
                async with lock:
                    worker = self._workers[number]
                    if worker.exit_code is None:
                        continue
                    self._note(f"{worker.name} ended by itself with {worker.exit_code}")
                    self.done["ended_by_itself"] += 1
                    self.done["ended_badly"] += worker.exit_code != NO_REDIS
                    self._workers[number] = self._restart(number)

    async def run(self, troubles: list[Trouble], clock: Callable[[], float]) -> None:
        """Do all of *troubles*; *clock* counts seconds since the begin."""
        async with asyncio.TaskGroup() as group:
            for trouble in troubles:
                await asyncio.sleep(max(0.0, trouble.at_s - clock()))
                group.create_task(self._do(trouble))

    async def _do(self, trouble: Trouble) -> None:
        match trouble.kind:
            case "kill_worker" | "freeze_worker" | "restart_worker":
                async with self._locks[trouble.which]:
                    await self._hit_worker(trouble)
            case "restart_valkey" | "freeze_valkey":
                async with self._valkey_lock:
                    await self._hit_valkey(trouble)
            case "shift_clock":
                self._offset += 1
                offset_s = _CLOCK_OFFSETS_S[self._offset % len(_CLOCK_OFFSETS_S)]
                self._note(f"ESA's clock is {offset_s:+g} s off")
                await self._sandbox.configure(clock_offset_s=offset_s)
        self.done[trouble.kind] += 1

    async def _hit_worker(self, trouble: Trouble) -> None:
        worker = self._workers[trouble.which]
        self._note(f"{trouble.kind} {worker.name} (pid {worker.pid}) for {trouble.lasts_s:.2f} s")
        if trouble.kind == "freeze_worker":
            worker.freeze()
            await asyncio.sleep(trouble.lasts_s)
            worker.thaw()
            self._note(f"{worker.name} goes on")
            return
        if trouble.kind == "kill_worker":
            await worker.kill()
        elif (code := await worker.stop()) not in ENDS_WELL:
            self._note(f"{worker.name} ended with {code} when it was told to stop")
            self.done["ended_badly"] += 1
        await asyncio.sleep(trouble.lasts_s)
        self._workers[trouble.which] = self._restart(trouble.which)
        self._note(f"{self._workers[trouble.which].name} takes its place")

    async def _hit_valkey(self, trouble: Trouble) -> None:
        self._note(f"{trouble.kind} (pid {self._valkey.pid}) for {trouble.lasts_s:.2f} s")
        if trouble.kind == "freeze_valkey":
            self._valkey.freeze()
            await asyncio.sleep(trouble.lasts_s)
            self._valkey.thaw()
        else:
            await self._valkey.end()
            await asyncio.sleep(trouble.lasts_s)
            await self._valkey.start()
        self._note("Valkey serves again")
