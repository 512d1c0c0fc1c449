"""What arq does by itself when Redis fails under it, and what is left of that in the log."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from esa_preload_worker.health import Health
from esa_preload_worker.supervisor import PollingWorker, arq_pool, worker_options
from integration.worker.rig import settings_for
from ports import free_port

if TYPE_CHECKING:
    from esa_preload_worker.service import Service


@pytest.mark.parametrize("end", ["finish_job", "finish_failed_job"])
async def test_the_end_of_a_job_fails_without_a_word_of_its_own(end: str) -> None:
    """arq shields it: when the job is cancelled meanwhile, nobody asks for its error, and asyncio would log a traceback."""
    settings = settings_for(f"redis://127.0.0.1:{free_port()}", "http://127.0.0.1:1")
    health = Health()
    health.polled()
    pool = arq_pool(settings)
    worker = PollingWorker(
        service=cast("Service", SimpleNamespace(health=health)),
        redis_pool=pool,
        handle_signals=False,
        **worker_options(settings),
    )
    arguments: tuple[Any, ...] = ("id", None)
    if end == "finish_job":
        arguments = ("id", True, None, None, False, None, None)
    await getattr(worker, end)(*arguments)
    assert health.why_not_ready() == "redis unavailable: ConnectionError"
    await pool.aclose()
