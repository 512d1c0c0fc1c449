"""A server of each test's own, and ESA."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from integration.outages.plant import SITE
from integration.outages.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with one site, which owns example.com."""
    async with Sandbox(SandboxConfig(sites={SITE: ("example.com",)})) as running:
        yield running


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server that runs."""
    built = Server(tmp_path / "server")
    try:
        await built.start()
        yield built
    finally:
        built.kill()
