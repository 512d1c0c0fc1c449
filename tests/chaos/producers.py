"""What is enqueued, and the process that does it: it never gives up, and one that was killed is followed by another."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chaos.options import FOREIGN_DOMAIN, OWNED_DOMAIN, SITES
from esa_preload import Plan, PreloadClient, QueueUnavailableError, Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random

    from esa_preload.model import Priority

_PLANS: tuple[tuple[int, int | None] | None, ...] = (None, None, None, None, (10, 20), (60, None))
_PRIORITIES: tuple[Priority, ...] = ("normal", "normal", "normal", "high", "low")
_RETRY_S = 0.2
_PATIENCE_S = 120.0
"""A producer that cannot reach the queue for so long has found a fault of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """
    One request.

    Attributes:
        urls: no URL is in two requests, so that each must be planned exactly once.
        plan: seconds between slices, and URLs a slice.
        expires_in: seconds, or ``None``.
        is_cancelled: it is cancelled once it is in.
        breaks_off: its first call is abandoned on the way.
    """

    request_id: str
    site_id: int
    urls: list[str]
    priority: Priority
    plan: tuple[int, int | None] | None
    expires_in: float | None
    is_cancelled: bool
    breaks_off: bool
    starts_at_s: float


def requests_of(dice: Random, *, urls: int, seconds: float, longest: int) -> list[Request]:
    """Lay out requests of *urls* URLs in all, *longest* at most each and most of them short, over *seconds*."""
    requests: list[Request] = []
    made = 0
    while made < urls:
        most = longest if dice.random() < 0.2 else max(1, longest // 8)
        count = min(urls - made, dice.randint(1, most))
        number = len(requests)
        is_special = dice.random()
        requests.append(
            Request(
                request_id=f"r{number}",
                site_id=dice.choice(SITES),
                urls=[_url(dice, number, i) for i in range(count)],
                priority=dice.choice(_PRIORITIES),
                plan=dice.choice(_PLANS),
                expires_in=dice.uniform(0.3, 3) if is_special < 0.05 else None,
                is_cancelled=0.05 < is_special < 0.1,
                breaks_off=0.1 < is_special < 0.25,
                starts_at_s=dice.uniform(0, seconds),
            )
        )
        made += count
    return sorted(requests, key=lambda request: request.starts_at_s)


class Record:
    """
    What producers were told, in a file that outlives them: a line a call, and a line a request that is in.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, request_id: str, accepted: int | None = None) -> None:
        """Note a call that is made, or the number of URLs *accepted* by one."""
        # It begins a line of its own: one before it may be torn.
        with self.path.open("ab", buffering=0) as file:
            file.write(f"\n{json.dumps([request_id, accepted])}\n".encode())

    def read(self) -> tuple[Counter[str], dict[str, int]]:
        """Return the calls made by request, and the URLs accepted of those that are in."""
        calls: Counter[str] = Counter()
        accepted: dict[str, int] = {}
        lines = self.path.read_text().split("\n") if self.path.exists() else []
        for line in lines:
            if line.startswith("[") and line.endswith("]"):
                request_id, count = cast("tuple[str, int | None]", json.loads(line))
                calls[request_id] += count is None
                if count is not None:
                    accepted[request_id] = count
        return calls, accepted


def write_order(path: Path, *, redis_url: str, begun: float, requests: Iterable[Request]) -> None:
    """Write what a producer is to do; *begun* is the moment (UNIX seconds) from which it counts."""
    path.write_text(
        json.dumps(
            {"redis_url": redis_url, "begun": begun, "requests": [asdict(request) for request in requests]}
        )
    )


async def produce(order: dict[str, Any], record: Record) -> None:
    """Enqueue each request when its time has come, but for those that are in."""
    _, done = record.read()
    requests = [Request(**fields) for fields in order["requests"]]

    def clock() -> float:
        return time.time() - float(order["begun"])

    async with PreloadClient(order["redis_url"]) as client, asyncio.TaskGroup() as group:
        for request in requests:
            if request.request_id not in done:
                group.create_task(_enqueue(client, request, record, clock))


async def _enqueue(
    client: PreloadClient, request: Request, record: Record, clock: Callable[[], float]
) -> None:
    await asyncio.sleep(max(0.0, request.starts_at_s - clock()))
    async with asyncio.timeout(_PATIENCE_S):
        if request.breaks_off:
            # As if the producer had been killed on the way: the repetition finds what came in.
            task = asyncio.create_task(_call(client, request, record))
            await asyncio.sleep(0.003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        receipt: Receipt | None = None
        while receipt is None:
            try:
                receipt = await _call(client, request, record)
            except QueueUnavailableError:
                await asyncio.sleep(_RETRY_S)
        while request.is_cancelled:
            try:
                await client.cancel(request.request_id)
            except QueueUnavailableError:
                await asyncio.sleep(_RETRY_S)
            else:
                break
        record.write(request.request_id, receipt.accepted)


async def _call(client: PreloadClient, request: Request, record: Record) -> Receipt:
    record.write(request.request_id)
    interval_s, slice_len = request.plan or (None, None)
    return await client.enqueue(
        request.site_id,
        request.urls,
        plan=Plan(interval_s=interval_s, slice_len=slice_len) if request.plan else None,
        priority=request.priority,
        expires_in=request.expires_in,
        request_id=request.request_id,
    )


def _url(dice: Random, request: int, number: int) -> str:
    domain = FOREIGN_DOMAIN if dice.random() < 0.005 else OWNED_DOMAIN
    return f"https://{domain}/r{request}/{number}.js"


if __name__ == "__main__":
    asyncio.run(produce(json.loads(Path(sys.argv[1]).read_text()), Record(Path(sys.argv[2]))))
