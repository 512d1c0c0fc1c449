"""A sandbox of each test's own, and the official SDK as its client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from integration.sandbox.official import Esa, client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - used by pytest
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A sandbox with the defaults, on a free port."""
    async with Sandbox(SandboxConfig()) as running:
        yield running


@pytest.fixture
def esa(sandbox: Sandbox) -> Esa:
    """The official SDK, talking to the sandbox."""
    return Esa(client(sandbox.endpoint))
