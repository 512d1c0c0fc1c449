"""Enqueue by streaq, in an environment of its own: a job a URL, by its own pipelines. Prints jobs/s."""

from __future__ import annotations

import asyncio
import sys
import time
from importlib import import_module
from typing import Any

MANY = 5_000
"""Of 100, 1,000 (one or four at once) and 5,000 a call these were the fastest."""


async def enqueue(worker: Any, task: Any, urls: list[str]) -> float:
    """Return the jobs a second."""
    async with worker:
        await worker.enqueue_many([task.enqueue("connects")])
        begun = time.perf_counter()
        for start in range(0, len(urls), MANY):
            await worker.enqueue_many([task.enqueue(url) for url in urls[start : start + MANY]])
        return len(urls) / (time.perf_counter() - begun)


async def preload(url: str) -> str:
    """Stand for the work, which is never done."""
    return url


def main() -> None:
    """Enqueue what stands on standard input."""
    streaq: Any = import_module("streaq")
    worker = streaq.Worker(redis_url=sys.argv[1])
    print(asyncio.run(enqueue(worker, worker.task()(preload), sys.stdin.read().split())))


if __name__ == "__main__":
    main()
