"""Where a worker can be struck: before and after each call that it makes, and at each moment at which it waits."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from esa_preload_worker import ledger
from esa_preload_worker.esa import calls
from integration.crash_points.timeline import jump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
    from types import CodeType

    import httpx
    from redis.asyncio import Redis

    from integration.worker.rig import Shelf

T = TypeVar("T")

Place = tuple["CodeType", int]
"""A line of a coroutine."""

SCRIPTS = (
    ledger.TAKE,
    ledger.GATHER,
    ledger.CREATED,
    ledger.SETTLE,
    ledger.PACE,
    ledger.RENEW,
    ledger.SWEEP,
    ledger.REPORT,
)
_NAMES = {script.sha: script.name for script in SCRIPTS}
EXCHANGE = calls._exchange  # pyright: ignore[reportPrivateUsage] # the one place where bytes leave for ESA


PAUSE_S = 2.0
"""Longer than a call may take, shorter than a lease."""


class DiedError(BaseException):
    """This worker is dead: nothing can be done in its name any more, whatever its handlers try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """
    What befalls a worker.

    Attributes:
        how: ``dies``; ``freezes``: stands still until told to go on, which is after its lease; ``pauses``: stands still for a
            moment, in which nobody takes over; ``stalls``: freezes between two instructions, where no deadline is looked at
            before the call leaves.
        at: the number of a call (``before`` it leaves, or ``after`` the other side has done it), or of a suspension.
    """

    how: Literal["dies", "freezes", "pauses", "stalls"]
    when: Literal["before", "after", "suspended"]
    at: int


@dataclass(slots=True, kw_only=True)
class Fate:
    """One worker's calls and suspensions, counted, and what befalls it at one of them."""

    strike: Strike | None = None
    meanwhile: Callable[[str], Awaitable[None]] | None = None
    calls: list[str] = field(default_factory=list[str])
    suspensions: int = 0
    places: set[Place] = field(default_factory=set[Place])
    is_dead: bool = False
    struck: asyncio.Event = field(default_factory=asyncio.Event)
    goes_on: asyncio.Event = field(default_factory=asyncio.Event)
    left: list[Coroutine[Any, Any, Any]] = field(default_factory=list["Coroutine[Any, Any, Any]"])

    async def call(self, name: str, send: Callable[[], Awaitable[T]]) -> T:
        """Make a call, if the worker lives to make it."""
        self._must_live()
        self.calls.append(name)
        number = len(self.calls)
        if self._meets("before", number):
            await self._stop()
        try:
            return await send()
        finally:
            self._must_live()
            if self.meanwhile is not None:
                await self.meanwhile(name)
            if self._meets("after", number):
                await self._stop()

    def _must_live(self) -> None:
        if self.is_dead:
            raise DiedError

    def _meets(self, when: str, number: int) -> bool:
        return self.strike is not None and (self.strike.when, self.strike.at) == (when, number)

    async def _stop(self) -> None:
        self.struck.set()
        match self.strike:
            case Strike(how="dies"):
                self.is_dead = True
                raise DiedError
            case Strike(how="pauses"):
                jump(PAUSE_S)
                self.goes_on.set()
            case _:
                pass
        await _Standstill(self)

    async def drive(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run *coroutine* step by step; stop driving it where it is struck."""
        return cast("T", await _Driven(coroutine, self))

    def bury(self) -> None:
        """Let go of what was stopped for good: its handlers run, and can do nothing."""
        self.is_dead = True
        for coroutine in self.left:
            for _ in range(50):
                try:
                    coroutine.close()
                except DiedError:
                    break
                except RuntimeError:  # it awaits something in a handler
                    continue
                break


class _Standstill:
    """Until told to go on; a cancellation that comes meanwhile is met on waking up, as a stopped process meets it."""

    def __init__(self, fate: Fate) -> None:
        self._fate = fate

    def __await__(self) -> Generator[Any, Any, None]:
        cancelled: BaseException | None = None
        while not self._fate.goes_on.is_set():
            try:
                yield from self._fate.goes_on.wait().__await__()
            except asyncio.CancelledError as exc:
                cancelled = exc
        for _ in range(2):  # timers that ran out while it stood still are seen before anything else is done
            try:
                yield
            except asyncio.CancelledError as exc:
                cancelled = exc
        strike = self._fate.strike
        if cancelled is not None and not (strike and strike.how == "stalls"):
            raise cancelled


class _Driven:
    def __init__(self, coroutine: Coroutine[Any, Any, Any], fate: Fate) -> None:
        self._coroutine = coroutine
        self._fate = fate

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, fate = self._coroutine, self._fate
        error: BaseException | None = None
        while True:
            try:
                waits_for = coroutine.send(None) if error is None else coroutine.throw(error)
            except StopIteration as end:
                return end.value
            error = None
            fate.suspensions += 1
            fate.places.update(_places(coroutine))
            if fate._meets("suspended", fate.suspensions):  # pyright: ignore[reportPrivateUsage]
                fate.left.append(coroutine)
                try:
                    yield from fate._stop().__await__()  # pyright: ignore[reportPrivateUsage]
                except asyncio.CancelledError as exc:
                    error = exc
                    if waits_for is not None:
                        waits_for.cancel()
                    continue
                fate.left.remove(coroutine)
            try:
                yield waits_for
            except GeneratorExit:
                raise
            except BaseException as exc:  # noqa: BLE001 - handed on as it is
                error = exc


def _places(coroutine: Any) -> set[Place]:
    """Return where each coroutine of the chain stands."""
    places: set[Place] = set()
    while coroutine is not None and hasattr(coroutine, "cr_frame"):
        if coroutine.cr_frame is not None:
            places.add((coroutine.cr_code, coroutine.cr_frame.f_lineno))
        coroutine = coroutine.cr_await
    return places


FATE: ContextVar[Fate] = ContextVar("FATE")
"""Of the worker in whose name the running task acts."""


async def exchange(transport: Any, request: httpx.Request, max_bytes: int) -> Any:
    """Take the place of the ESA client's own exchange: one request and its whole reply."""
    name = request.headers.get("x-acs-action", "FailedFile")
    return await FATE.get().call(name, lambda: EXCHANGE(transport, request, max_bytes))


class StruckRedis:
    """A Redis client whose every command and pipeline is a call of one worker."""

    def __init__(self, redis: Redis, fate: Fate) -> None:
        self._redis = cast("Any", redis)
        self._fate = fate

    async def execute_command(self, *arguments: Any) -> Any:
        """Run one command."""
        return await self._fate.call(_name(arguments), lambda: self._redis.execute_command(*arguments))

    def pipeline(self, *, transaction: bool) -> StruckPipeline:
        """Begin a pipeline."""
        return StruckPipeline(self._redis.pipeline(transaction=transaction), self._fate)


class StruckPipeline:
    """Several commands that are one call."""

    def __init__(self, pipeline: Any, fate: Fate) -> None:
        self._pipeline = pipeline
        self._fate = fate
        self._names: list[str] = []

    def execute_command(self, *arguments: Any) -> None:
        """Add a command."""
        self._names.append(_name(arguments))
        self._pipeline.execute_command(*arguments)

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        """Send them."""
        send = self._pipeline.execute
        return await self._fate.call("+".join(self._names), lambda: send(raise_on_error=raise_on_error))


def _name(arguments: Sequence[Any]) -> str:
    return _NAMES.get(str(arguments[1]), "?") if arguments[0] == "EVALSHA" else str(arguments[0])


class StruckShelf:
    """A bucket whose every call is one of the worker that is driven."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def put(self, name: str, lines: bytes) -> None:
        """Store."""
        await FATE.get().call("PutObject", lambda: _later(lambda: self._shelf.put(name, lines)))

    async def link(self, name: str) -> str:
        """Sign."""
        return await FATE.get().call("link", lambda: _later(lambda: self._shelf.link(name)))

    async def delete(self, name: str) -> None:
        """Delete."""
        await FATE.get().call("DeleteObject", lambda: _later(lambda: self._shelf.delete(name)))


async def _later(call: Callable[[], Awaitable[T]]) -> T:
    await asyncio.sleep(0)
    return await call()
