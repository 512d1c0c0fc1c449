"""Real workers, each a process, at a limit that falls and rises again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.limits import FAST, SLOW, staged

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
async def test_workers_follow_a_limit_down_and_up_and_new_ones_know_it(tmp_path: Path) -> None:
    """
    Four workers find 20 calls/s, follow it down to 8 and up again; four others go on at what those had learnt.

    The bands are wide: each phase is short, and learning is in it. `python -m benchmarks limits` measures longer ones.
    """
    async with staged(tmp_path) as stage:
        await stage.start_workers()
        await stage.enqueue(2_400)
        learning = await stage.phase("nothing known", FAST, 15)
        await stage.limit(SLOW)
        slow = await stage.phase("after the fall", SLOW, 10)
        await stage.limit(FAST)
        await stage.phase("after the rise", FAST, 15)
        before = await stage.learnt()
        await stage.restart_workers()
        assert await stage.learnt() > 0.9 * before, "a new worker forgot what was learnt"
        new = await stage.phase("new workers", FAST, 10)
    print(learning, slow, before, new)
    assert learning.used >= 0.5
    assert slow.used >= 0.8
    assert new.accepted >= 0.8 * before * new.seconds, "they go on at what was learnt"
    for phase in (learning, new):
        assert phase.refused <= 4 + 0.15 * phase.accepted, phase
    assert slow.refused <= FAST + 0.05 * slow.accepted, (
        "the fall cost more calls than one second of the old pace"
    )
