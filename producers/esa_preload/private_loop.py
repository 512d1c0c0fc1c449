"""An event loop for those who have none: coroutines run in the thread of whoever calls, one call at a time."""

from __future__ import annotations

import asyncio
import contextvars
import os
import selectors
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from esa_preload.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from esa_preload.interface import Preloads

P = ParamSpec("P")
T = TypeVar("T")


class PrivateLoop:
    """
    Run the coroutines of a client that *make* makes, in an event loop that nobody else sees.

    Threads take turns. After a fork the child has a loop and a client of its own, and leaves those of its parent alone.
    """

    def __init__(self, make: Callable[[], Preloads]) -> None:
        self._make = make
        self._is_closed = False
        self._own = _OfOneProcess(client=make())
        _LOOPS.add(self)

    def __repr__(self) -> str:
        return repr(self._own.client)

    def run(self, act: Callable[[Preloads], Coroutine[Any, Any, T]]) -> T:
        """
        Return what the coroutine that *act* makes returns.

        Raises:
            InvalidRequestError: an event loop runs in this thread, a call of the same thread is under way, or the client is closed.
        """
        self._require_no_loop()
        with self._own.lock:
            if self._is_closed:
                raise InvalidRequestError("the client is closed", hint="open another one")
            self._own.caller = threading.get_ident()
            try:
                return self._run(act)
            finally:
                self._own.caller = None

    def close(self) -> None:
        """Close the client, then the loop, when the call that is under way has ended; a second time does nothing."""
        self._require_no_loop()
        with self._own.lock:
            if self._is_closed:
                return
            try:
                self._run(lambda client: client.aclose())
            finally:
                self._is_closed = True
                if self._own.runner is not None:
                    self._own.runner.close()

    def _run(self, act: Callable[[Preloads], Coroutine[Any, Any, T]]) -> T:
        own = self._own
        own.client = own.client or self._make()
        own.runner = own.runner or asyncio.Runner(loop_factory=_new_loop)
        # What the caller has set, such as its trace, is seen inside.
        return own.runner.run(act(own.client), context=contextvars.copy_context())

    def _require_no_loop(self) -> None:
        if self._own.caller == threading.get_ident():
            raise InvalidRequestError(
                "this client is at work in this thread: it cannot be called from its own urls or progress"
            )
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return
        raise InvalidRequestError(
            "an event loop runs in this thread, and would stand still",
            hint="use the client with async and await: esa_preload.PreloadClient, or esa_preload.http.PreloadClient",
        )

    def after_fork(self) -> None:
        """Begin anew; to close what is inherited would close it for the parent."""
        _INHERITED.append(self._own)
        self._own = _OfOneProcess()


@dataclass(slots=True)
class _OfOneProcess:
    client: Preloads | None = None
    runner: asyncio.Runner | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    caller: int | None = None
    """The thread whose turn it is."""


_LOOPS: weakref.WeakSet[PrivateLoop] = weakref.WeakSet()
_INHERITED: list[object] = []


def _begin_anew() -> None:
    for loop in _LOOPS:
        loop.after_fork()


os.register_at_fork(after_in_child=_begin_anew)


def _new_loop() -> asyncio.AbstractEventLoop:
    # What poll() watches is known to the process alone; an epoll would be the parent's and the child's together.
    return asyncio.SelectorEventLoop(selectors.PollSelector())


def outside(act: Callable[P, T]) -> Callable[P, T]:
    """Have *act* called as if no event loop ran: Django's database refuses, or leaves its transaction, where one does."""

    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        loop = asyncio._get_running_loop()  # noqa: SLF001 - what runs loops is told by these two
        asyncio._set_running_loop(None)  # noqa: SLF001
        try:
            return act(*args, **kwargs)
        finally:
            asyncio._set_running_loop(loop)  # noqa: SLF001

    return call


def iterated_outside(urls: object) -> Iterable[str]:
    """Return *urls* so that each step is taken :func:`outside`; what can be iterated over again still can."""
    if isinstance(urls, (str, bytes)) or not isinstance(urls, Iterable):
        return cast("Iterable[str]", urls)  # the client refuses it
    found = cast("Iterable[str]", urls)
    return _steps(found) if isinstance(found, Iterator) else _Outside(found)


class _Outside(Iterable[str]):
    def __init__(self, urls: Iterable[str]) -> None:
        self._urls = urls

    def __iter__(self) -> Iterator[str]:
        return _steps(self._urls)


def _steps(urls: Iterable[str]) -> Iterator[str]:
    iterator, step = outside(iter)(urls), outside(next)
    while True:
        try:
            url = step(iterator)
        except StopIteration:
            return
        yield url
