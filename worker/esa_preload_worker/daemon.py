"""The life of a worker process, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from esa_preload.cancellation import end_tasks
from esa_preload_worker.embedded import embedded_valkey
from esa_preload_worker.logs import get_logger
from esa_preload_worker.service import REDIS_FAILURES, Service
from esa_preload_worker.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    for warning in warnings:
        log.warning("worker.warning", message=warning)
    with contextlib.ExitStack() as stack:
        if settings.embedded_directory:
            stack.enter_context(embedded_valkey(settings.embedded_directory))
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_live(settings, burst=burst))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _live(settings: Settings, *, burst: bool) -> int:
    stopped = asyncio.Event()
    _stop_on_signals(stopped)
    async with Service(settings) as service:
        supervisor = Supervisor(service)
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
        )
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            service.health.is_stopping = True
            log.info(
                "worker.stopping", in_flight_batches=len(service.leases), grace_s=settings.shutdown_grace
            )
            await supervisor.drain(settings.shutdown_grace)
        finally:
            await end_tasks(*tasks)
        for task in ended:
            task.result()  # the loops end only by an error of ours: it is raised here
        code = ends.result()
    log.info("worker.stopped", code=code)
    return code


async def _until_stopped(stopped: asyncio.Event) -> int:
    await stopped.wait()
    return 0


async def _until_done(service: Service, stopped: asyncio.Event) -> int:
    while not stopped.is_set():
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


def _stop_on_signals(stopped: asyncio.Event) -> None:
    """Stop at the first signal; at the second end at once, with 128 + its number."""

    def on_signal(number: signal.Signals) -> None:
        if stopped.is_set():
            sys.stderr.flush()
            os._exit(128 + number)
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
