"""A TCP path that can be cut: it swallows what passes, delays it, or resets the connections."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

from esa_preload.cancellation import end_tasks

if TYPE_CHECKING:
    from types import TracebackType

_PIECE = 65_536


class Proxy:
    """
    Passes bytes on to a port of loopback while inside.

    Attributes:
        leads_to: the port; connections that exist stay where they are.
        swallows: what comes is read and dropped, both ways, on old connections and new; what was lost stays lost.
        delay_s: for every piece of a reply.
    """

    def __init__(self, port: int) -> None:
        self.leads_to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.swallows = False
        self.delay_s = 0.0

    @property
    def port(self) -> int:
        """Where it listens."""
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        """Its address; a connection that hears nothing for 2 s is given up."""
        return f"redis://127.0.0.1:{self.port}?socket_timeout=2"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._begin, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await end_tasks(*self._tasks)
        self.reset()

    def reset(self) -> None:
        """Reset every connection."""
        for writer in self._writers:
            writer.transport.abort()

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                upstream, to = await asyncio.open_connection("127.0.0.1", self.leads_to)
                self._writers.add(to)
                ways = [
                    asyncio.create_task(self._pass(reader, to, is_reply=False)),
                    asyncio.create_task(self._pass(upstream, writer, is_reply=True)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    await end_tasks(*ways)
                    to.transport.abort()
                    self._writers.discard(to)
        finally:
            writer.transport.abort()
            self._writers.discard(writer)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool
    ) -> None:
        while piece := await reader.read(_PIECE):
            if is_reply and self.delay_s:
                await asyncio.sleep(self.delay_s)
            if not self.swallows:
                writer.write(piece)
                await writer.drain()
