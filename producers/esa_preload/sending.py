"""One enqueue on its way to the ledger: its chunks, several in flight, and what they have come to."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from esa_preload.cancellation import end_tasks
from esa_preload.chunks import read_chunks
from esa_preload.errors import (
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
)
from esa_preload.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from esa_preload.chunks import Chunk, Chunker
    from esa_preload.interface import Progress, Urls
    from esa_preload.ledger import Accepted, Header, Ledger

CHUNKS_IN_FLIGHT = 4

_REPEAT = "repeat the call with the same request_id"


class Sending:
    """
    Send the chunks of one request.

    Args:
        progress: called with the number of URLs handled so far.
        forget: failures, by the URL with which they go.
    """

    def __init__(
        self,
        ledger: Ledger,
        header: Header,
        chunker: Chunker,
        *,
        progress: Progress | None = None,
        forget: Mapping[str, Sequence[str]],
    ) -> None:
        self._ledger, self._header, self._chunker = ledger, header, chunker
        self._progress = progress
        self._forget = forget
        self._handled = 0
        self._sum = Receipt(request_id=header.request_id, site_id=header.site_id)

    def receipt(self) -> Receipt:
        """Return what became of the URLs so far."""
        return replace(
            self._sum,
            duplicates=self._sum.duplicates + self._chunker.duplicates,
            rejected_count=self._chunker.rejected_count,
            rejected=self._chunker.rejected,
        )

    async def send(self, urls: Urls, *, durable: bool) -> Receipt:
        """
        Send all of *urls*, and seal the request.

        Raises:
            InvalidRequestError: there is none; nothing was enqueued.
            IncompleteError, QueueFullError, QueueUnavailableError, NotDurableError: with the receipt so far.
        """
        with telling(self.receipt):
            await self._send(urls, durable=durable)
        return self.receipt()

    async def _send(self, urls: Urls, *, durable: bool) -> None:
        sent = 0
        in_flight: set[asyncio.Task[None]] = set()
        try:
            held: Chunk | None = None
            async for chunk in read_chunks(self._chunker, urls):
                if held is not None:
                    if len(in_flight) >= CHUNKS_IN_FLIGHT:
                        in_flight = await _one_of(in_flight)
                    in_flight.add(asyncio.create_task(self._accept(held)))
                    sent += 1
                held = chunk
            if not self._chunker.distinct and not self._chunker.rejected_count:
                raise InvalidRequestError("urls is empty: there is nothing to enqueue")
            while in_flight:
                in_flight = await _one_of(in_flight)
            # The last chunk seals the request: one round trip for the usual small one.
            await self._accept(held, total=sent + (held is not None), durable=durable)
        except InvalidRequestError as exc:
            if not sent:
                raise
            await _settle(in_flight)
            raise IncompleteError(str(exc), receipt=self.receipt(), hint=exc.hint) from exc
        except QueueFullError:
            await _settle(in_flight)
            raise
        finally:
            await end_tasks(*in_flight)

    async def _accept(self, chunk: Chunk | None, *, total: int | None = None, durable: bool = False) -> None:
        if chunk is None:
            accepted = await self._ledger.accept(self._header, total=total, durable=durable)
        else:
            accepted = await self._ledger.accept(
                self._header,
                chunk.urls,
                number=chunk.number,
                digest=chunk.digest,
                total=total,
                durable=durable,
                forget=[entry_id for url in chunk.urls for entry_id in self._forget.get(url, ())],
            )
        self._add(accepted, len(chunk.urls) if chunk else 0)
        if total is not None:
            require_whole(self._header.request_id, accepted)

    def _add(self, accepted: Accepted, urls: int) -> None:
        self._sum = replace(
            self._sum,
            accepted=self._sum.accepted + accepted.accepted,
            merged=self._sum.merged + accepted.merged,
            duplicates=self._sum.duplicates + accepted.duplicates,
            waiting_until=accepted.waiting_until or self._sum.waiting_until,
        )
        self._handled += urls
        if self._progress:
            self._progress(self._handled + self._chunker.duplicates + self._chunker.rejected_count)


@contextlib.contextmanager
def telling(receipt: Callable[[], Receipt]) -> Generator[None]:
    """Put the receipt so far, and with it the request id, into what is raised."""
    try:
        yield
    except (QueueFullError, QueueUnavailableError, NotDurableError) as exc:
        exc.receipt = receipt()
        if isinstance(exc, QueueUnavailableError):
            exc.request_id = exc.receipt.request_id
            if _REPEAT not in exc.hint:
                exc.hint = f"{exc.hint}; then {_REPEAT}"
        raise


def require_whole(request_id: str, accepted: Accepted) -> None:
    """Refuse the end of a request that is not whole, or not durable when it was to be."""
    if not accepted.is_sealed:
        raise QueueUnavailableError(
            f"Redis came back without a part of request {request_id}",
            hint=f"{_REPEAT}: it brings in what is missing. To lose nothing in a crash of Redis, see its append-only file",
        )
    if accepted.doubt:
        raise NotDurableError(
            f"request {request_id} is in the queue, but a crash of Redis may lose it: {accepted.doubt.why}",
            hint=accepted.doubt.hint,
        )


async def _one_of(tasks: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    """Wait for one of *tasks*, raise what it raised, and return the others."""
    done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
    return rest


async def _settle(tasks: set[asyncio.Task[None]]) -> None:
    """Let what was sent come to its end, so that the receipt counts it."""
    await asyncio.gather(*tasks, return_exceptions=True)
