"""Start the installed commands as processes of their own, and end them by their own ids."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

BIN = Path(sys.executable).parent


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Parse standard output as one JSON document."""
        return json.loads(self.out)


@dataclass(slots=True)
class Running:
    """A command that runs; ``lines`` holds what it wrote to standard error."""

    process: asyncio.subprocess.Process
    lines: list[str] = field(default_factory=list[str])

    async def ended(self, *, timeout_s: float = 90) -> int:
        """Return the exit code of the process once it has ended; fails when it does not."""
        async with asyncio.timeout(timeout_s):
            return await self.process.wait()

    def events(self, name: str | None = None) -> list[dict[str, Any]]:
        """Return the log lines that are JSON objects, those of event *name* only when given."""
        found = [cast("dict[str, Any]", json.loads(line)) for line in self.lines if line.startswith("{")]
        return [event for event in found if name in (None, event.get("event"))]


def environment(**variables: str) -> dict[str, str]:
    """Return an environment without settings or credentials of the caller's, but with *variables*."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ESA_PRELOAD_", "ALIBABA_CLOUD_", "OTEL_"))
        and name.lower() not in ("http_proxy", "https_proxy")
    }
    return {**kept, "ALIBABA_CLOUD_ECS_METADATA_DISABLED": "true", **variables}


def worker_environment(redis_url: str, endpoint: str, **variables: str) -> dict[str, str]:
    """Return the environment of a worker for a sandbox at *endpoint*."""
    return environment(
        ESA_PRELOAD_REDIS_URL=redis_url,
        ESA_PRELOAD_ENDPOINT=endpoint,
        ESA_PRELOAD_OPS_PORT="0",
        ESA_PRELOAD_LOG_FORMAT="json",
        ALIBABA_CLOUD_ACCESS_KEY_ID="sandbox",
        ALIBABA_CLOUD_ACCESS_KEY_SECRET="sandbox-secret",
        **variables,
    )


def api_environment(redis_url: str, **variables: str) -> dict[str, str]:
    """Return the environment of the HTTP API on free ports."""
    return environment(
        ESA_PRELOAD_REDIS_URL=redis_url,
        ESA_PRELOAD_HTTP_PORT="0",
        ESA_PRELOAD_OPS_PORT="0",
        ESA_PRELOAD_LOG_FORMAT="json",
        **variables,
    )


async def finish(
    command: str, *arguments: str, env: Mapping[str, str], stdin: bytes = b"", timeout_s: float = 60
) -> Finished:
    """Run an installed command to its end."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / command),
        *arguments,
        env=env,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate(stdin)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Finished(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def started(command: str, *arguments: str, env: Mapping[str, str]) -> AsyncGenerator[Running]:
    """Run an installed command while inside; what is left of it at the end is killed."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / command),
        *arguments,
        env=env,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    running = Running(process)
    reader = asyncio.create_task(_read(running))
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await reader


async def _read(running: Running) -> None:
    stream = running.process.stderr
    assert stream is not None
    async for line in stream:
        running.lines.append(line.decode(errors="replace").rstrip("\n"))
