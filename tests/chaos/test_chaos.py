"""The short form of ``make soak``: three workers, Valkey, the sandbox, producers, and everything goes wrong."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from chaos.driver import Run
from chaos.options import Options


@pytest.mark.parametrize(
    ("kill_valkey", "bulk"), [(False, False), (True, False), (True, True)], ids=["restarts", "kills", "bulk"]
)
async def test_nothing_is_lost_and_nothing_planned_twice(*, kill_valkey: bool, bulk: bool) -> None:
    """
    Every accepted URL ends exactly once, whatever is killed, frozen, restarted, late or lost; every count adds up.

    ``ESA_PRELOAD_CHAOS_SEED`` draws another run; what a seed does not settle is how the processes are scheduled.
    """
    seed = int(os.environ.get("ESA_PRELOAD_CHAOS_SEED", "1"))
    options = Options(
        urls=1_500, seconds=7, trouble_every_s=0.6, seed=seed, kill_valkey=kill_valkey, bulk=bulk, drain_s=60
    )
    # Not pytest's own: the path of a Unix socket must be short.
    with tempfile.TemporaryDirectory(prefix="esap-chaos-") as directory:
        report = await Run(options, Path(directory)).run()
    assert report.is_clean, report.full()
    assert report.accepted == options.urls
    assert report.faults
    assert report.recoveries
