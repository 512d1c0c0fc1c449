"""Run one point: strike a worker there, have another end what is left, and look at what came of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from integration.crash_points import timeline
from integration.crash_points.point import Point, Worker, point_of

if TYPE_CHECKING:
    from integration.crash_points.seams import Strike


def strike_at(name: str, redis_url: str, strike: Strike | None, *, second_plans: int = 0) -> Worker:
    """
    Run the scenario *name* with a first worker that *strike* befalls, and hold its end to what was promised.

    Returns:
        the first worker; whether it came as far as to be struck, its ``fate`` tells.
    """
    firsts: list[Worker] = []

    async def run() -> None:
        async with point_of(name, redis_url) as point:
            firsts.append(await _run(point, strike, second_plans))

    timeline.run(run())
    return firsts[0]


async def _run(point: Point, strike: Strike | None, second_plans: int) -> Worker:
    first = await point.worker(strike, is_first=True)
    working = asyncio.create_task(first.drain())
    struck = asyncio.create_task(first.fate.struck.wait())
    await asyncio.wait({working, struck}, return_when=asyncio.FIRST_COMPLETED)
    struck.cancel()
    second = await point.worker()
    if strike is None or strike.how in {"dies", "pauses"}:
        await asyncio.wait({working})
        await point.audit()
        await asyncio.create_task(second.drain())
    else:
        await asyncio.create_task(second.drain())
        before = await point.outcome()
        first.fate.goes_on.set()
        await asyncio.wait({working})
        if strike.how == "freezes":
            assert await point.outcome() == before, "it went on with what another had ended"
    if not working.cancelled():  # by its own shutdown, in which it died
        working.result()
    missed = first.fate.calls[strike.at - 1 : strike.at] if strike and strike.how == "pauses" else []
    await point.check(missed_deadline_of="".join(missed), second_plans=second_plans)
    return first
