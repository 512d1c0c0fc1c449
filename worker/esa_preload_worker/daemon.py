"""The life of a worker process, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any

from esa_preload.cancellation import end_tasks
from esa_preload.logs import get_logger
from esa_preload.notify import Notifier
from esa_preload.stopping import Stop, loop_factory
from esa_preload_worker.embedded import embedded_valkey
from esa_preload_worker.service import REDIS_FAILURES, Service
from esa_preload_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from esa_preload_worker.settings import Settings

log = get_logger()

BURST_POLL_S = 0.25


def run(settings: Settings, *, burst: bool = False, warnings: Sequence[str] = ()) -> int:
    """
    Run a worker until SIGTERM or SIGINT; with *burst* until there is nothing (more) to do.

    Returns:
        the exit code: 0, or 1 when a burst ends with URLs that only a person or a reset can get through.

    Raises:
        SettingsError, QueueUnavailableError: it can't start.
    """
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        for warning in warnings:
            log.warning("worker.warning", message=warning)
        if settings.embedded_directory:
            stack.enter_context(embedded_valkey(settings.embedded_directory))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            code = runner.run(_live(settings, stop, burst=burst))
        log.info("worker.stopped", code=code)
    return code


async def _live(settings: Settings, stop: Stop, *, burst: bool) -> int:
    stopped = asyncio.create_task(stop.wait())
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(end_tasks, stopped)
        starting = asyncio.create_task(stack.enter_async_context(Service(settings)))
        await asyncio.wait((starting, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            await end_tasks(starting)
            return 0
        return await _work(starting.result(), stopped, burst=burst)


async def _work(service: Service, stopped: asyncio.Task[None], *, burst: bool) -> int:
    settings, health, supervisor = service.settings, service.health, Supervisor(service)
    systemd = Notifier.of(os.environ)
    log.info(
        "worker.started",
        version=service.version,
        worker=service.worker_id,
        namespace=settings.namespace,
        endpoint=settings.endpoint_url,
        ops_url=service.ops_url,
    )
    ends = asyncio.create_task(_until_done(service, stopped) if burst else _until_stopped(stopped))
    tasks: tuple[asyncio.Task[Any], ...] = (
        ends,
        asyncio.create_task(service.run_loops()),
        asyncio.create_task(supervisor.run()),
        asyncio.create_task(
            systemd.report(why_not_alive=health.why_not_alive, why_not_ready=health.why_not_ready)
        ),
    )
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        health.is_stopping = True
        systemd.send("STOPPING=1")
        log.info("worker.stopping", in_flight_batches=len(service.leases), grace_s=settings.shutdown_grace)
        await supervisor.drain(settings.shutdown_grace)
    finally:
        await end_tasks(*tasks)
    for task in ended:
        task.result()  # the loops end only by an error of ours: it is raised here
    return ends.result()


async def _until_stopped(stopped: asyncio.Task[None]) -> int:
    await asyncio.wait((stopped,))
    return 0


async def _until_done(service: Service, stopped: asyncio.Task[None]) -> int:
    while not stopped.done():
        try:
            stuck = await service.stuck_sites()
        except REDIS_FAILURES as exc:
            service.health.redis_failed(exc)
            stuck = None
        if stuck is not None:
            if stuck:
                log.error("worker.error", message="only a person or a reset can get these on", sites=stuck)
            return 1 if stuck else 0
        await asyncio.sleep(BURST_POLL_S)
    return 0
