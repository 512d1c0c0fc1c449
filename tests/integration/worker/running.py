"""A worker in this process, as the daemon runs it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx

from esa_preload.cancellation import end_tasks
from esa_preload_worker.service import Service
from esa_preload_worker.supervisor import Supervisor
from integration.worker.rig import Key, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from esa_preload_worker.sandbox import Sandbox


@asynccontextmanager
async def running(redis_url: str, sandbox: Sandbox, **changes: object) -> AsyncGenerator[Service]:
    """Run a worker as the daemon does, but for signals."""
    async with Service(settings_for(redis_url, sandbox.url, **changes), credentials=Key()) as service:
        supervisor = Supervisor(service)
        tasks = [asyncio.create_task(service.run_loops()), asyncio.create_task(supervisor.run())]
        try:
            yield service
            await supervisor.drain(1)
        finally:
            await end_tasks(*tasks)


async def get(url: str) -> tuple[int, str]:
    """Return the status and the text of a page of the ops port."""
    async with httpx.AsyncClient(trust_env=False) as http:
        reply = await http.get(url)
        return reply.status_code, reply.text
