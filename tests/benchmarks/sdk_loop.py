"""The bare official SDK as a loop: create a job, create its plan, both as often a second as it was told ESA allows."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from benchmarks.measures import urls_of
from integration.sandbox.official import Esa, client, exceptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

IN_FLIGHT = 16
DONE = "done "


class Pace:
    """Evenly spaced calls: as good as a loop can do that shares nothing with others."""

    def __init__(self, rate: float) -> None:
        self._interval_s = 1 / rate
        self._next_s = 0.0
        self.throttled = 0

    async def call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Make a call in its turn, and in a later one when it was refused for the rate."""
        while True:
            now_s = time.monotonic()
            turn_s = max(now_s, self._next_s)
            self._next_s = turn_s + self._interval_s
            await asyncio.sleep(turn_s - now_s)
            try:
                return await call()
            except exceptions.ClientException as exc:
                if exc.code not in {"TooManyRequests", "Throttling"}:
                    raise
                self.throttled += 1


async def submit_all(endpoint: str, *, site: int, urls: int, batch: int, rate: float) -> dict[str, float]:
    """Submit *urls* in jobs of *batch*; prints how many are submitted as it goes on."""
    esa = Esa(client(endpoint))
    creates, plans = Pace(rate), Pace(rate)
    places = asyncio.Semaphore(IN_FLIGHT)
    submitted = 0

    async def submit(number: int, some: list[str]) -> None:
        nonlocal submitted
        job = await creates.call(lambda: esa.create(*some, name=f"loop-{number}", site_id=site))
        await plans.call(lambda: esa.plan(job.id))
        submitted += job.url_submitted
        print(submitted, flush=True)
        places.release()

    began_s = time.monotonic()
    everything = urls_of(urls)
    async with asyncio.TaskGroup() as group:
        for number, start in enumerate(range(0, urls, batch)):
            await places.acquire()
            group.create_task(submit(number, everything[start : start + batch]))
    assert submitted == urls
    return {"seconds": time.monotonic() - began_s, "throttled": creates.throttled + plans.throttled}


def main() -> None:
    """Run the loop, and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True)
    for name in ("site", "urls", "batch"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    given = parser.parse_args()
    found = asyncio.run(
        submit_all(given.endpoint, site=given.site, urls=given.urls, batch=given.batch, rate=given.rate)
    )
    print(DONE + json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
