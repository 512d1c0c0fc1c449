"""What the producers' tests share: a Valkey of the test's own, to be killed, frozen and configured."""

from __future__ import annotations

import contextlib
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from conftest import NAMESPACE
from esa_preload import PreloadClient
from esa_preload_worker.embedded import ValkeyProcess
from esa_preload_worker.ledger import WorkerLedger

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Generator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis

    from esa_preload.keys import Keys


@dataclass(frozen=True, slots=True)
class OwnValkey:
    """A server of the test's own, its append-only file on."""

    process: ValkeyProcess
    url: str

    @contextlib.contextmanager
    def frozen(self) -> Generator[None]:
        """Stop it where it stands, while inside: it keeps its connections and answers nothing."""
        process = cast("Any", self.process)._process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)


@pytest.fixture
def new_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], OwnValkey]]:
    """Return a function that starts a server; all are killed at the end."""
    started: list[ValkeyProcess] = []

    def start() -> OwnValkey:
        directory: Path = tmp_path_factory.mktemp("v")
        process = ValkeyProcess(directory, socket=directory / "v.sock")
        process.start(30)
        started.append(process)
        return OwnValkey(process, f"unix://{directory / 'v.sock'}")

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def own_valkey(new_valkey: Callable[[], OwnValkey]) -> OwnValkey:
    """One server of the test's own."""
    return new_valkey()


@pytest.fixture
async def client(redis: Redis) -> AsyncIterator[PreloadClient]:
    """A client of the tests' namespace."""
    async with PreloadClient(redis, namespace=NAMESPACE) as client:
        yield client


@pytest.fixture
def worker(redis: Redis, keys: Keys) -> WorkerLedger:
    """The workers' side of the same ledger, a day later: everything is due."""
    now_ms = round((datetime.now(UTC) + timedelta(days=1)).timestamp() * 1000)
    return WorkerLedger(redis, keys, now_ms=now_ms)
