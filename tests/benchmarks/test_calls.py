"""The benchmark of calls in its shortest form: what a worker asks of ESA changes, and the ESA that takes no time must know it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.calls import Variant, quick_esa, run_once
from benchmarks.quick_esa import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.esa import EsaClient, PlanOrder
from integration.worker.rig import Key


async def test_nothing_that_a_worker_asks_is_refused() -> None:
    """Sites, a job and its plan are answered as ESA would; only the latter two are counted."""
    with TemporaryDirectory(prefix="esap-calls-") as directory:
        async with quick_esa(Path(directory)) as esa:
            async with EsaClient(esa.url, Key(), 5, environ={}) as client:
                assert await client.list_sites() == ()
                job = await client.create_job(site_id=101, name="n", urls=["https://a.example/1"])
                order = PlanOrder(start=datetime.now(UTC), end=None, interval_s=30, slice_len=10)
                assert (await client.create_plans(job.job_id, [order])).created
            assert (await esa.counts())["calls"] == {CREATE_JOB.decode(): 1, CREATE_PLANS.decode(): 1}


async def test_a_worker_is_measured() -> None:
    """Some full batches go through, and take time."""
    flow = await run_once(Variant(what="a worker", by="worker"), 40)
    assert (flow.fill, flow.calls_s > 0, len(flow.cpu_ms)) == (1.0, True, 2)
