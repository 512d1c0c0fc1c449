"""Slows down who guesses at tokens. Those cannot be guessed, so this keeps the log readable rather than the door shut."""

from __future__ import annotations

import math
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT: Final = 10
WINDOW_S: Final = 60.0
ADDRESSES_MAX: Final = 1_000


class Attempts:
    """Wrong tokens by address: ``LIMIT`` in ``WINDOW_S``, then a wait."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._wrong: OrderedDict[str, deque[float]] = OrderedDict()

    def __len__(self) -> int:
        """Return how many addresses are remembered."""
        return len(self._wrong)

    def wait_s(self, address: str) -> int:
        """Return for how many seconds no wrong token is answered for *address*; 0: the next one is."""
        wrong = self._wrong.get(address, deque[float]())
        if len(wrong) < LIMIT:
            return 0
        return max(0, math.ceil(wrong[0] + WINDOW_S - self._clock()))

    def note_wrong(self, address: str) -> None:
        """Count a wrong token; of more than ``ADDRESSES_MAX`` addresses the one that was quiet longest is forgotten."""
        self._wrong.setdefault(address, deque(maxlen=LIMIT)).append(self._clock())
        self._wrong.move_to_end(address)
        if len(self._wrong) > ADDRESSES_MAX:
            self._wrong.popitem(last=False)
