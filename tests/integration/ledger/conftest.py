"""The ledger's driver, on the tests' server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

pytest.register_assert_rewrite("integration.ledger.machine", "integration.ledger.model")

from integration.ledger.driver import LedgerDriver  # noqa: E402 - what it imports is to be rewritten

if TYPE_CHECKING:
    from redis.asyncio import Redis


@pytest.fixture
async def ledger(redis: Redis) -> LedgerDriver:
    """Both sides of an empty ledger, with the default batches and calls as fast as one likes."""
    driver = LedgerDriver(redis)
    await driver.publish()
    return driver
