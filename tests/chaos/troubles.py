"""What goes wrong with the processes, when: drawn before the run begins, and what it takes to do it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from chaos.options import CALL_TIMEOUT_S, LEASE_S

if TYPE_CHECKING:
    from random import Random

Kind = Literal[
    "kill_worker",
    "freeze_worker",
    "restart_worker",
    "kill_valkey",
    "freeze_valkey",
    "restart_valkey",
    "kill_producer",
    "freeze_producer",
    "restart_producer",
    "kill_esa",
    "freeze_esa",
    "restart_esa",
    "hang_esa",
    "shift_clock",
]
"""
``hang_esa``: frozen for longer than anybody waits, then killed: nothing that was sent to it meanwhile is ever committed.
``shift_clock``: ESA's.
"""
KINDS: tuple[Kind, ...] = get_args(Kind)

_WEIGHTS: dict[Kind, int] = {
    "kill_worker": 6,
    "freeze_worker": 6,
    "restart_worker": 2,
    "kill_valkey": 2,
    "freeze_valkey": 1,
    "restart_valkey": 2,
    "kill_producer": 3,
    "freeze_producer": 1,
    "restart_producer": 1,
    "kill_esa": 2,
    "freeze_esa": 2,
    "restart_esa": 2,
    "hang_esa": 1,
    "shift_clock": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One thing to do; ``at_s`` after the begin, for ``lasts_s``, to process number ``which`` of its sort."""

    kind: Kind
    at_s: float
    lasts_s: float
    which: int


def troubles_of(
    dice: Random, *, seconds: float, most: int, every_s: float, but: frozenset[Kind] = frozenset()
) -> list[Trouble]:
    """
    Draw a trouble *every_s* seconds or so, each kind at least once where there is time for it.

    Args:
        most: numbers of processes are below it; they count round.
        but: kinds that are left out.
    """
    drawn: list[Kind] = [kind for kind in _WEIGHTS if kind not in but]
    kinds = drawn.copy()
    dice.shuffle(kinds)
    count = max(1, int(seconds / every_s))
    kinds += dice.choices(drawn, [_WEIGHTS[kind] for kind in drawn], k=max(0, count - len(kinds)))
    times = sorted(dice.uniform(0.05 * seconds, seconds) for _ in range(count))
    return [
        Trouble(kind=kind, at_s=at_s, lasts_s=_lasts_s(dice, kind), which=dice.randrange(most))
        for kind, at_s in zip(kinds[:count], times, strict=True)
    ]


def _lasts_s(dice: Random, kind: Kind) -> float:
    match kind:
        case "freeze_worker":
            return LEASE_S * dice.uniform(0.5, 1.8)
        case "freeze_valkey":
            return LEASE_S * dice.uniform(0.3, 1.3)
        case "freeze_esa":
            # What was sent to it is committed afterwards: with the slowest of its faults still in time, as ESA is assumed to.
            return CALL_TIMEOUT_S * dice.uniform(0.05, 0.25)
        case "hang_esa":
            return CALL_TIMEOUT_S * dice.uniform(1, 2.5)
        case "kill_esa" | "restart_esa":
            return dice.uniform(0, 0.7)  # and about a second until it serves again
        case _:
            return dice.uniform(0, 1.5)
