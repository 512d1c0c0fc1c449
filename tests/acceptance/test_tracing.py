"""Traces across processes: a producer that traces, a worker, and a collector that reads what both send."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from esa_preload.client import PreloadClient
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import started, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SITE = 190007158391808
NAMESPACE = "t"
CLIENT = 3
"""OTLP's number of that kind of span."""

PRODUCER = f"""
import asyncio, os, sys
from opentelemetry import trace
from esa_preload import PreloadClient
from esa_preload.otel import start_tracing

async def main() -> None:
    end = start_tracing("publisher", os.environ)
    with trace.get_tracer("publisher").start_as_current_span("publish"):
        async with PreloadClient(sys.argv[1], namespace="{NAMESPACE}") as client:
            await client.enqueue({SITE}, ["https://www.example.com/secret-path.js?q=secret"], request_id="traced")
    end()

asyncio.run(main())
"""


class Collector:
    """What an OTLP collector was sent: spans by name."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.raw = b""
        self.url = ""

    def named(self, name: str) -> list[Any]:
        """Return the spans of this name."""
        return [span for span in self.spans if span.name == name]

    async def receive(self, request: web.Request) -> web.Response:
        """Take one export."""
        body = await request.read()
        self.raw += body
        exported = cast("Any", trace_service_pb2).ExportTraceServiceRequest.FromString(body)
        self.spans += [
            span
            for resource in exported.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        return web.Response(
            body=cast("Any", trace_service_pb2).ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


@asynccontextmanager
async def collector() -> AsyncGenerator[Collector]:
    """Serve a collector on a free port."""
    found = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", found.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        await runner.cleanup()


def attributes(span: Any) -> dict[str, Any]:
    """Return a span's attributes as plain values."""
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in span.attributes}


@pytest.fixture
def otel() -> dict[str, str]:
    """Spans leave at once."""
    return {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@pytest.mark.usefixtures("redis")
async def test_a_batch_is_linked_to_the_trace_of_who_asked_for_its_urls(
    redis_url: str, otel: dict[str, str]
) -> None:
    """Publish → enqueue is one trace; the batch's span links to it, the calls of ESA are inside, and no URL is shown."""
    async with collector() as collected, Sandbox(SandboxConfig()) as sandbox:
        env = worker_environment(
            redis_url,
            sandbox.url,
            ESA_PRELOAD_NAMESPACE=NAMESPACE,
            ESA_PRELOAD_BATCH_QUIET="0.05",
            OTEL_EXPORTER_OTLP_ENDPOINT=collected.url,
            **otel,
        )
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", PRODUCER, redis_url, env=env)
        assert await process.wait() == 0
        async with started("esa-preload-worker", "run", env=env):
            await wait_until(lambda: len(collected.named("preload batch")))
            await wait_until(
                lambda: collected.named("ESA CreateScheduledPreloadExecutions"),
            )
    (publish,), (enqueue,) = collected.named("publish"), collected.named("preload enqueue")
    assert (enqueue.trace_id, enqueue.parent_span_id) == (publish.trace_id, publish.span_id)
    assert attributes(enqueue)["esa_preload.accepted"] == 1
    (batch,) = collected.named("preload batch")
    assert [(link.trace_id, link.span_id) for link in batch.links] == [(enqueue.trace_id, enqueue.span_id)]
    assert attributes(batch)["esa_preload.outcome"] == "submitted"
    for operation in ("CreateScheduledPreloadJob", "CreateScheduledPreloadExecutions"):
        (call,) = collected.named(f"ESA {operation}")
        assert (call.trace_id, call.parent_span_id, call.kind) == (batch.trace_id, batch.span_id, CLIENT)
        assert attributes(call)["esa_preload.code"] == "ok"
        assert batch.start_time_unix_nano <= call.start_time_unix_nano <= call.end_time_unix_nano
    assert b"secret" not in collected.raw


async def test_a_collector_that_is_away_holds_nothing_up(redis_url: str, redis: object) -> None:
    """Batches go through, and the worker ends in time, when nobody takes its spans."""
    del redis
    async with Sandbox(SandboxConfig()) as sandbox:
        env = worker_environment(
            redis_url,
            sandbox.url,
            ESA_PRELOAD_NAMESPACE=NAMESPACE,
            ESA_PRELOAD_BATCH_QUIET="0.05",
            OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        )
        async with PreloadClient(redis_url, namespace=NAMESPACE) as client:
            receipt = await client.enqueue(SITE, ["https://www.example.com/a.js"])
            async with started("esa-preload-worker", "run", env=env) as worker:

                async def is_done() -> bool:
                    return (await client.status(receipt.request_id)).state == "done"

                await wait_until_async(is_done)
                worker.process.terminate()
                async with asyncio.timeout(20):
                    assert await worker.ended() == 0


async def test_traces_that_are_wanted_where_nothing_can_make_them_stop_the_start() -> None:
    """A variable that asks for traces names the extra when OpenTelemetry is not installed."""
    hidden = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from esa_preload_worker.commands import main; sys.argv = ['esa-preload-worker', 'run']; main()"
    )
    env = worker_environment("redis://127.0.0.1:9", "http://127.0.0.1:9")
    env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:9"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", hidden, env=env, stderr=asyncio.subprocess.PIPE
    )
    _, err = await process.communicate()
    assert process.returncode == 2
    assert "pip install 'esa-preload[otel]'" in err.decode()
