"""The scripts of the pace, on the tests' server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from integration.rates.on_valkey import Scripts

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def scripts(redis_url: str) -> Iterator[Scripts]:
    """The real scripts on an empty server."""
    found = Scripts(redis_url)
    yield found
    found.close()
