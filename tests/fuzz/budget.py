"""How much the fuzz may cost: little with every change, as much as you like by a variable."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("ESA_PRELOAD_FUZZ_EXAMPLES", "300"))
"""Examples a test; ``ESA_PRELOAD_FUZZ_EXAMPLES=100000`` is some minutes."""


def bounded(part: float = 1.0) -> settings:
    """Return the settings of a test that tries *part* of the examples."""
    return settings(
        max_examples=max(1, round(EXAMPLES * part)),
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
