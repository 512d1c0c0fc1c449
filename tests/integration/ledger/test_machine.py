"""The ledger against a model of it, over random histories."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from integration.ledger.bulk_machine import BulkMachine

EXAMPLES = int(os.environ.get("ESA_PRELOAD_TEST_EXAMPLES", "200"))
"""How many histories the long run tries."""


def walk(redis_url: str, *, examples: int, steps: int) -> None:
    """Try *examples* histories of up to *steps* steps."""
    machine = type("BulkMachine", (BulkMachine,), {"redis_url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[
                HealthCheck.too_slow,
                HealthCheck.data_too_large,
                HealthCheck.filter_too_much,
            ],
        ),
    )


def test_the_ledger_keeps_its_promises(redis_url: str) -> None:
    """Whatever happens in whatever order, no URL is lost, doubled or miscounted, and nothing due is left asleep."""
    walk(redis_url, examples=60, steps=40)


@pytest.mark.slow
def test_the_ledger_keeps_its_promises_for_long(redis_url: str) -> None:
    """The same over hundreds of histories, twice as long; ``ESA_PRELOAD_TEST_EXAMPLES`` for thousands."""
    walk(redis_url, examples=EXAMPLES, steps=80)
