"""Create a job of a batch and its plan, again and again, by the official SDK or by our client alone: what a worker is measured beside."""

from __future__ import annotations

import argparse
import asyncio
import itertools
import secrets
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from benchmarks.measures import urls_of
from esa_preload.stopping import loop_factory
from esa_preload_worker.esa import EsaClient, PlanOrder
from esa_preload_worker.esa.credentials import KEY_ID, KEY_SECRET, StaticCredentials
from esa_preload_worker.sandbox import DEFAULT_ACCESS_KEY_ID, DEFAULT_ACCESS_KEY_SECRET
from integration.sandbox import official

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    Submit = Callable[[Sequence[str]], Awaitable[None]]

BATCH = 100
IN_FLIGHT = 16
SITE = 101
CALL_TIMEOUT_S = 10.0


def sdk_submit(endpoint: str) -> Submit:
    """Return what submits a batch by the official asynchronous SDK, as its examples call it."""
    sdk = official.Esa(official.client(endpoint.removeprefix("http://")))

    async def submit(urls: Sequence[str]) -> None:
        job = await sdk.create(*urls, name=f"preload-bench-{secrets.token_hex(12)}", site_id=SITE)
        now = datetime.now(UTC)
        times = {"start_time": now, "end_time": now + timedelta(hours=1)}
        await sdk.plan(job.id, **{name: when.strftime("%Y-%m-%dT%H:%M:%SZ") for name, when in times.items()})

    return submit


def client_submit(client: EsaClient) -> Submit:
    """Return what submits a batch by our client."""

    async def submit(urls: Sequence[str]) -> None:
        job = await client.create_job(site_id=SITE, name=f"preload-bench-{secrets.token_hex(12)}", urls=urls)
        now = datetime.now(UTC)
        await client.create_plans(
            job.job_id, [PlanOrder(start=now, end=now + timedelta(hours=1), interval_s=30, slice_len=10)]
        )

    return submit


async def run(submit: Submit, batches: int) -> None:
    """Submit so many batches, ``IN_FLIGHT`` at once."""
    urls = urls_of(20 * BATCH)
    lots = [urls[start : start + BATCH] for start in range(0, len(urls), BATCH)]
    todo = iter(range(batches))

    async def one_by_one() -> None:
        for number in todo:
            await submit(lots[number % len(lots)])

    await asyncio.gather(*itertools.starmap(one_by_one, [()] * IN_FLIGHT))


async def _main(endpoint: str, by: str, batches: int) -> None:
    if by == "sdk":
        await run(sdk_submit(endpoint), batches)
        return
    keys: dict[str, Any] = {KEY_ID: DEFAULT_ACCESS_KEY_ID, KEY_SECRET: DEFAULT_ACCESS_KEY_SECRET}
    async with EsaClient(endpoint, StaticCredentials(keys), CALL_TIMEOUT_S) as client:
        await run(client_submit(client), batches)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("endpoint")
    parser.add_argument("--by", choices=["sdk", "client"], required=True)
    parser.add_argument("--batches", type=int, required=True)
    parser.add_argument("--uvloop", action="store_true")
    arguments = parser.parse_args()
    with asyncio.Runner(loop_factory=loop_factory() if arguments.uvloop else None) as runner:
        runner.run(_main(arguments.endpoint, arguments.by, arguments.batches))


if __name__ == "__main__":
    main()
