"""A browser at a console that `esa-preload serve` serves, over a real queue, a worker and the sandbox."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from acceptance.console.chromium import AXE, ROOT, Browser, chromium, require_chromium
from acceptance.console.plant import Plant, plant

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from redis.asyncio import Redis
    from selenium.webdriver import Chrome


@pytest.fixture(scope="session")
def assets() -> None:
    """What `make assets` fetches, fetched if nobody has yet."""
    require_chromium()
    if not AXE.exists():
        subprocess.run(["make", "assets"], cwd=ROOT, check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="session")
def driver(assets: None) -> Iterator[Chrome]:
    """One Chromium for all tests of this process: it takes seconds to start."""
    del assets
    with chromium() as running:
        yield running


@pytest.fixture
async def console(driver: Chrome, redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Plant]:
    """A console, its queue and its worker."""
    del driver, redis  # an empty Valkey, and no plant without a browser
    async with plant(redis_url, tmp_path) as running:
        yield running


@pytest.fixture
def browser(driver: Chrome, console: Plant) -> Iterator[Browser]:
    """The browser, which has forgotten whoever used it before."""
    driver.delete_all_cookies()
    browser = Browser(driver, console.address)
    browser.look(width_px=1_280, scheme="light")
    yield browser
    driver.get("about:blank")
    browser.complaints()
