"""A whole plant on loopback: a sandbox, two workers, the HTTP API, a real Prometheus and Alertmanager with the shipped rules, and who is called."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import httpx
from aiohttp import web

from deploy.programs import ALERTMANAGER, PROMETHEUS, program
from deploy.quickened import write_alertmanager, write_prometheus, write_targets
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import started, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from processes import Running

SITE = 190007158391808
QUICK = {"ESA_PRELOAD_BATCH_QUIET": "0.1", "ESA_PRELOAD_RATE_INITIAL": "50"}
WORKER_JOB, API_JOB = "esa-preload-worker", "esa-preload-api"
START_S = 30
FIRE_S = 120
"""An alert takes twenty seconds to fire, on a machine that has time; a site that was full looks once a minute whether it still is."""

_LISTENS = re.compile(r'msg="Listening on".* address=(\S+)')


@dataclass(slots=True, kw_only=True)
class Plant:
    """What runs, and what somebody was told."""

    sandbox: Sandbox
    env: dict[str, str]
    directory: Path
    stack: contextlib.AsyncExitStack
    prometheus: str = ""
    api: str = ""
    workers: list[Running] = field(default_factory=list["Running"])
    messages: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def start_workers(self, count: int) -> None:
        """Start workers beside those that run, and have them scraped."""
        fresh = [await self.stack.enter_async_context(_worker(self.env)) for _ in range(count)]
        self.workers += fresh
        await wait_until(lambda: all(worker.events("worker.started") for worker in fresh), timeout_s=START_S)
        write_targets(self.directory, WORKER_JOB, self.ops_urls())

    async def kill_workers(self) -> None:
        """End every worker by SIGKILL."""
        for worker in self.workers:
            worker.process.kill()
            await worker.ended()
        self.workers.clear()

    def ops_urls(self) -> list[str]:
        """Return where the workers serve their metrics."""
        return [worker.events("worker.started")[0]["ops_url"] for worker in self.workers]

    async def ask(self, path: str, **parameters: str) -> Any:
        """Ask Prometheus's API; returns ``data``."""
        async with httpx.AsyncClient(trust_env=False, timeout=30) as http:
            reply = await http.get(f"{self.prometheus}/api/v1/{path}", params=parameters)
        assert reply.status_code == 200, reply.text
        return reply.json()["data"]

    async def is_firing(self, alert: str) -> bool:
        """Tell whether Prometheus has *alert* firing now."""
        found = (await self.ask("alerts"))["alerts"]
        return any(one["labels"]["alertname"] == alert and one["state"] == "firing" for one in found)

    async def told(self, alert: str, status: str) -> dict[str, Any]:
        """Wait until somebody was told that *alert* is ``firing`` or ``resolved``; returns the last such message."""

        def look() -> list[dict[str, Any]]:
            found = [m for m in self.messages if m["labels"]["alertname"] == alert]
            return [m for m in found[-1:] if m["status"] == status]

        return (await wait_until(look, timeout_s=FIRE_S))[0]

    async def until_scraped(self, count: int) -> None:
        """Wait until Prometheus has what *count* workers say."""

        async def look() -> bool:
            found = (await self.ask("query", query="count(esa_preload_in_flight_batches)"))["result"]
            return bool(found) and found[0]["value"][1] == str(count)

        await wait_until_async(look, timeout_s=START_S, every_s=0.2)

    async def start_api(self) -> None:
        """Start the HTTP API, and have it scraped."""
        api = await self.stack.enter_async_context(started("esa-preload", "serve", env=self.env))
        (event,) = await wait_until(lambda: api.events("http.started"), timeout_s=START_S)
        self.api = event["url"]
        write_targets(self.directory, API_JOB, [event["ops_url"]])


@contextlib.asynccontextmanager
async def plant(redis_url: str, directory: Path, *, config: SandboxConfig) -> AsyncGenerator[Plant]:
    """Run two workers for *config*'s sandbox, and those who watch them, while inside."""
    prometheus, alertmanager = program(PROMETHEUS), program(ALERTMANAGER)
    async with contextlib.AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(config))
        env = worker_environment(redis_url, sandbox.url, ESA_PRELOAD_HTTP_PORT="0", **QUICK)
        running = Plant(sandbox=sandbox, env=env, directory=directory, stack=stack)
        receiver = await stack.enter_async_context(_receiver(running.messages))
        await running.start_workers(2)
        await running.start_api()
        manager_config = write_alertmanager(directory, receiver=receiver)
        manager = await _listening(
            stack,
            env,
            alertmanager,
            f"--config.file={manager_config}",
            f"--storage.path={directory / 'alertmanager'}",
            "--cluster.listen-address=",
        )
        config_file = write_prometheus(directory, alertmanager=manager)
        address = await _listening(
            stack,
            env,
            prometheus,
            f"--config.file={config_file}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
        )
        running.prometheus = f"http://{address}"
        await running.until_scraped(2)
        yield running


@contextlib.asynccontextmanager
async def _worker(env: dict[str, str]) -> AsyncGenerator[Running]:
    async with started("esa-preload-worker", "run", env=env) as worker:
        yield worker


async def _listening(stack: contextlib.AsyncExitStack, env: dict[str, str], path: str, *options: str) -> str:
    """Start a program on a free port, and wait until it is ready, since it listens before; returns host and port."""
    server = await stack.enter_async_context(
        started(path, *options, "--web.listen-address=127.0.0.1:0", env=env)
    )

    def look() -> list[str]:
        return [found[1] for line in server.lines if (found := _LISTENS.search(line))]

    address = (await wait_until(look, timeout_s=START_S))[0]
    async with httpx.AsyncClient(trust_env=False, timeout=30) as http:

        async def is_ready() -> bool:
            return (await http.get(f"http://{address}/-/ready")).is_success

        await wait_until_async(is_ready, timeout_s=START_S, every_s=0.1)
    return address


@contextlib.asynccontextmanager
async def _receiver(messages: list[dict[str, Any]]) -> AsyncGenerator[str]:
    """Be who is called: keep every alert of every message, with the path it came to; yields host and port."""

    async def take(request: web.Request) -> web.Response:
        body = cast("dict[str, Any]", await request.json())
        messages.extend(alert | {"path": request.path} for alert in body["alerts"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/{who}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()
