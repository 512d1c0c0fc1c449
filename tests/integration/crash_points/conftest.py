"""The seams at which workers are struck, for every test of this folder."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import httpx
import pytest
from structlog.testing import capture_logs

from esa_preload_worker.esa import calls
from integration.crash_points import timeline
from integration.crash_points.seams import exchange

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _seams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Each exchange with ESA is a call that can be struck, and its client's clock is the one that jumps."""
    context = httpx.create_ssl_context()  # costs more than a point, and nothing here is encrypted

    def the_same(**_: object) -> ssl.SSLContext:
        return context

    monkeypatch.setattr(httpx, "create_ssl_context", the_same)
    monkeypatch.setattr(calls, "_exchange", exchange)
    clocks = SimpleNamespace(monotonic=timeline.monotonic, perf_counter=time.perf_counter)
    monkeypatch.setattr(calls, "time", clocks)
    with capture_logs():
        yield
