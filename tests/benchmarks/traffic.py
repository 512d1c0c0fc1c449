"""How long a small site waits beside a large one, and how few jobs a trickle needs: real scripts, virtual time."""

from __future__ import annotations

import asyncio
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from benchmarks.page import Section
from esa_preload.connection import connect
from esa_preload_worker.embedded import embedded_valkey
from integration.ledger.traffic import CALLS_S, LATENCY_MS, small_beside_large, trickle

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from integration.ledger.traffic import Trickle

T = TypeVar("T")
LARGE, SMALL = 1_000_000, 10
HOUR_S = 3_600


def _measured(measure: Callable[[Redis], Awaitable[T]]) -> T:
    async def run(socket: Path) -> T:
        redis = connect(f"unix://{socket}")
        try:
            return await measure(redis)
        finally:
            await redis.aclose()

    with (
        tempfile.TemporaryDirectory(prefix="esap-bench-") as directory,
        embedded_valkey(Path(directory) / "v") as socket,
    ):
        return asyncio.run(run(Path(socket)))


def fairness() -> Section:
    """Measure the wait of a site with ten URLs beside a million of another's."""
    began = time.monotonic()
    waited = _measured(lambda redis: small_beside_large(redis, large=LARGE, small=SMALL, after_calls=50))
    took_s = time.monotonic() - began
    rows = [
        [f"lot {number} of {SMALL} URLs", f"{one.calls}", f"{one.seconds:.2f} s"]
        for number, one in enumerate(waited, 1)
    ]
    return Section(
        name="fairness",
        columns=("beside a site with 1,000,000 URLs", "calls of the large site first", "waited once due"),
        rows=rows,
        note=f"{CALLS_S} calls/s, {LATENCY_MS} ms each, virtual time; measuring took {took_s:.0f} s.",
        document=[asdict(one) for one in waited],
    )


def trickles() -> Section:
    """Measure jobs and ages of steady small traffic, for an hour."""
    rows: list[list[str]] = []
    document: list[dict[str, float]] = []
    for each in (1, 5):

        def measure(redis: Redis, each: int = each) -> Awaitable[Trickle]:
            return trickle(redis, seconds=HOUR_S, each=each)

        found = _measured(measure)
        share = HOUR_S * each / found.jobs
        rows.append(
            [
                f"{each} URLs/s",
                f"{found.jobs}",
                f"{share:.0f}",
                f"{found.max_age_s:.1f} s",
                f"{found.mean_age_s:.1f} s",
            ]
        )
        document.append({"each": each, **asdict(found)})
    return Section(
        name="trickle",
        columns=("for an hour", "jobs", "URLs a job", "oldest URL when sent", "mean age"),
        rows=rows,
        note="Default settings: a batch is full at 100 URLs, and due when its oldest is 60 s old; virtual time.",
        document=document,
    )
