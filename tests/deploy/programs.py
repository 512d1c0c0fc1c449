"""Programs that a bare machine lacks: a test that needs one skips without it, but never in CI."""

from __future__ import annotations

import os
import shutil

import pytest

PROMETHEUS = ("prometheus",)
PROMTOOL = ("promtool",)
ALERTMANAGER = ("prometheus-alertmanager", "alertmanager")
"""As Debian calls it, and as its makers do."""
AMTOOL = ("amtool",)


def program(names: tuple[str, ...]) -> str:
    """Return where the first of *names* is that is installed."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None and not os.environ.get("CI"):
        pytest.skip(f"{names[0]} is not installed")
    assert found, f"CI must have {names[0]}"
    return found
