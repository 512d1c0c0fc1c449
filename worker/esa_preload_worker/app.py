"""For those who run arq's own command: ``arq esa_preload_worker.app.WorkerSettings``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any, NoReturn, cast

from esa_preload.cancellation import end_tasks
from esa_preload.connection import connect
from esa_preload.errors import EsaPreloadError, SettingsError
from esa_preload.logs import configure_logs, get_logger
from esa_preload.outages import redis_errors
from esa_preload.scripts import command
from esa_preload.shell import exit_code
from esa_preload_worker.service import Service
from esa_preload_worker.settings import Loaded, load
from esa_preload_worker.supervisor import arq_pool, worker_options

if TYPE_CHECKING:
    from esa_preload_worker.settings import Settings

log = get_logger()


async def start(ctx: dict[Any, Any]) -> None:
    """Build what a worker needs beside arq."""
    settings = _LOADED.settings
    configure_logs(level=settings.log_level, log_format=settings.log_format)
    for warning in _LOADED.warnings:
        log.warning("worker.warning", message=warning)
    stack = contextlib.AsyncExitStack()
    try:
        service = await stack.enter_async_context(Service(settings))
    except EsaPreloadError as exc:
        log.error("worker.error", message=str(exc), hint=exc.hint)
        _end(asyncio.current_task(), exc)
    service.health.sees_polls = False
    loops = asyncio.create_task(service.run_loops())
    ctx.update(stack=stack, service=service, loops=loops, pump=service.pump, health=service.health)
    log.info(
        "worker.started",
        version=service.version,
        namespace=settings.namespace,
        ops_url=service.ops_url,
        by="arq",
    )


async def stop(ctx: dict[Any, Any]) -> None:
    """Close it; arq has ended or cancelled the jobs by then, and those handed their batches over."""
    if "stack" not in ctx:
        return
    await end_tasks(cast("asyncio.Task[None]", ctx["loops"]))
    await cast("contextlib.AsyncExitStack", ctx["stack"]).aclose()
    log.info("worker.stopped", by="arq")


def _load() -> Loaded:
    """Read the settings, and ask Redis: arq asks it before anything of ours runs, and ends with a traceback when it is away."""
    try:
        loaded = load()
        if loaded.settings.embedded_directory:
            raise SettingsError(
                "ESA_PRELOAD_REDIS_URL: arq's command runs no embedded Valkey",
                hint="use `esa-preload-worker run`, or the URL of a server that runs",
            )
        with asyncio.Runner() as runner:
            runner.run(_ask_redis(loaded.settings))
    except EsaPreloadError as exc:
        sys.stderr.write(f"Error: {exc}" + (f"\n  {exc.hint}\n" if exc.hint else "\n"))
        raise SystemExit(exit_code(exc)) from None
    return loaded


async def _ask_redis(settings: Settings) -> None:
    redis = connect(settings.redis_url.get_secret_value())
    try:
        with redis_errors():
            await command(redis, "PING")
    finally:
        await redis.aclose()


def _end(task: asyncio.Task[Any] | None, error: EsaPreloadError) -> NoReturn:
    """End the process with the documented code; asyncio would print what no one asks of a task for."""
    if task is not None:
        task.add_done_callback(lambda done: done.exception())
    raise SystemExit(exit_code(error)) from None


_LOADED = _load()


class WorkerSettings:
    """What arq's command reads."""

    on_startup = start
    on_shutdown = stop
    redis_pool = arq_pool(_LOADED.settings)


for _name, _value in worker_options(_LOADED.settings).items():
    setattr(WorkerSettings, _name, _value)
