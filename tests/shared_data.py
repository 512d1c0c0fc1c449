"""Where the large list of realistic URLs is, for the tests that use it: beside the checkout, not in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ASSET_URLS = Path(__file__).resolve().parents[2] / "shared" / "data" / "asset-urls.txt.gz"


def asset_urls() -> Path:
    """Return the list of 50,000 URLs; skips the test where it is absent, but never in CI."""
    if not ASSET_URLS.exists() and not os.environ.get("CI"):
        pytest.skip("the list of 50,000 URLs is not beside this checkout")
    return ASSET_URLS
