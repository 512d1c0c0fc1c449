"""Do what goes wrong with the processes, and put another in the place of each that ended."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from chaos.machines import Machine, SandboxProcess, Valkey
    from chaos.troubles import Trouble

NO_REDIS = 3
"""Exit code of a worker that cannot start for want of Redis."""
ENDS_WELL = (0, NO_REDIS, -signal.SIGTERM)
"""Exit codes of a worker that was told to stop; the last when it was not yet ready to be told."""
_KEEP_S = 0.3
_CLOCK_OFFSETS_S = (0.0, 20.0, -20.0)
"""Within the slack that a look-up by name allows; no worker is told."""


@dataclass(slots=True)
class Crew:
    """
    Processes of one sort, each in its place.

    Attributes:
        start: starts the one that takes place number *n*.
        may_end_with: exit codes of one that nobody ended; after 0 nobody takes its place.
    """

    start: Callable[[int], Machine]
    size: int
    may_end_with: tuple[int, ...]
    members: list[Machine] = field(default_factory=list["Machine"])
    locks: list[asyncio.Lock] = field(default_factory=list[asyncio.Lock])

    def __post_init__(self) -> None:
        self.members.extend(self.start(number) for number in range(self.size))
        self.locks.extend(asyncio.Lock() for _ in range(self.size))


class Troublemaker:
    """
    Do what was drawn; troubles that last overlap with those that follow.

    Args:
        note: writes a line of the history.
    """

    def __init__(
        self,
        *,
        workers: Crew,
        producers: Crew,
        valkey: Valkey,
        sandbox: SandboxProcess,
        note: Callable[[str], None],
    ) -> None:
        self._workers, self._producers = workers, producers
        self._valkey, self._sandbox = valkey, sandbox
        self._note = note
        self._offset = 0
        self._valkey_lock, self._sandbox_lock = asyncio.Lock(), asyncio.Lock()
        self.done: Counter[str] = Counter()

    async def keep(self) -> None:
        """Start anew, until cancelled, what ended by itself: a worker that finds no Redis at its start does, with 3."""
        while True:
            await asyncio.sleep(_KEEP_S)
            for crew in (self._workers, self._producers):
                for number, lock in enumerate(crew.locks):
                    async with lock:
                        self._keep_one(crew, number)
            async with self._sandbox_lock:
                if self._sandbox.exit_code is not None:
                    self._note(f"the sandbox ended by itself with {self._sandbox.exit_code}")
                    self.done["ended_badly"] += 1
                    await self._sandbox.start()

    def _keep_one(self, crew: Crew, number: int) -> None:
        machine = crew.members[number]
        code = machine.exit_code
        if code is None or (code == 0 and 0 in crew.may_end_with):
            return
        self._note(f"{machine.name} ended by itself with {code}")
        self.done["ended_by_itself"] += 1
        self.done["ended_badly"] += code not in crew.may_end_with
        crew.members[number] = crew.start(number)

    async def run(self, troubles: list[Trouble], clock: Callable[[], float]) -> None:
        """Do all of *troubles*; *clock* counts seconds since the begin."""
        async with asyncio.TaskGroup() as group:
            for trouble in troubles:
                await asyncio.sleep(max(0.0, trouble.at_s - clock()))
                group.create_task(self._do(trouble))

    def everybody(self) -> list[Machine]:
        """Return the workers and producers in place."""
        return [*self._workers.members, *self._producers.members]

    async def calm(self) -> None:
        """End the faults of the sandbox."""
        async with self._sandbox_lock:
            await self._sandbox.configure(faults=[])

    async def _do(self, trouble: Trouble) -> None:
        match trouble.kind:
            case "kill_worker" | "freeze_worker" | "restart_worker":
                await self._hit_one(self._workers, trouble)
            case "kill_producer" | "freeze_producer" | "restart_producer":
                await self._hit_one(self._producers, trouble)
            case "kill_valkey" | "freeze_valkey" | "restart_valkey":
                async with self._valkey_lock:
                    await self._hit_valkey(trouble)
            case "kill_esa" | "freeze_esa" | "restart_esa" | "hang_esa":
                async with self._sandbox_lock:
                    await self._hit_sandbox(trouble)
            case "shift_clock":
                async with self._sandbox_lock:
                    self._offset += 1
                    offset_s = _CLOCK_OFFSETS_S[self._offset % len(_CLOCK_OFFSETS_S)]
                    self._note(f"ESA's clock is {offset_s:+g} s off")
                    await self._sandbox.configure(clock_offset_s=offset_s)
                self.done[trouble.kind] += 1

    async def _hit_one(self, crew: Crew, trouble: Trouble) -> None:
        number = trouble.which % crew.size
        async with crew.locks[number]:
            machine = crew.members[number]
            if machine.exit_code is not None:
                return  # a producer that has done all its work, or a worker whose place is about to be taken
            self.done[trouble.kind] += 1
            self._note(f"{trouble.kind} {machine.name} (pid {machine.pid}) for {trouble.lasts_s:.2f} s")
            if trouble.kind in ("freeze_worker", "freeze_producer"):
                machine.freeze()
                await asyncio.sleep(trouble.lasts_s)
                machine.thaw()
                self._note(f"{machine.name} goes on")
                return
            if trouble.kind in ("kill_worker", "kill_producer"):
                await machine.kill()
            elif (code := await machine.stop()) not in ENDS_WELL:
                self._note(f"{machine.name} ended with {code} when it was told to stop")
                self.done["ended_badly"] += 1
            await asyncio.sleep(trouble.lasts_s)
            crew.members[number] = crew.start(number)
            self._note(f"{crew.members[number].name} takes its place")

    async def _hit_valkey(self, trouble: Trouble) -> None:
        self.done[trouble.kind] += 1
        self._note(f"{trouble.kind} (pid {self._valkey.pid}) for {trouble.lasts_s:.2f} s")
        if trouble.kind == "freeze_valkey":
            self._valkey.freeze()
            await asyncio.sleep(trouble.lasts_s)
            self._valkey.thaw()
        else:
            await self._valkey.end(at_once=trouble.kind == "kill_valkey")
            await asyncio.sleep(trouble.lasts_s)
            await self._valkey.start()
        self._note("Valkey serves again")

    async def _hit_sandbox(self, trouble: Trouble) -> None:
        self.done[trouble.kind] += 1
        sandbox = self._sandbox
        self._note(f"{trouble.kind} (pid {sandbox.pid}) for {trouble.lasts_s:.2f} s")
        if trouble.kind in ("freeze_esa", "hang_esa"):
            await sandbox.freeze(forever=trouble.kind == "hang_esa")
            await asyncio.sleep(trouble.lasts_s)
        match trouble.kind:
            case "freeze_esa":
                sandbox.thaw()
            case "hang_esa":
                await sandbox.kill()
                await sandbox.start()
            case _:
                await sandbox.end(at_once=trouble.kind == "kill_esa")
                await asyncio.sleep(trouble.lasts_s)
                await sandbox.start()
        self._note("the sandbox serves again")
