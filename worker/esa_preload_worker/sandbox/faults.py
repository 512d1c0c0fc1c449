"""Which fault strikes a call: by chance, or by its number. Decides only; the server does what was decided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

from esa_preload_worker.sandbox.bucket import OSS_OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FaultKind = Literal[
    "lost_before",
    "lost_after",
    "reset_before",
    "reset_after",
    "error_before",
    "error_after",
    "slow_before",
    "slow_after",
    "html_before",
    "html_after",
    "drip",
    "half",
    "garbage",
    "refuse",
    "plan_failed",
    "file_elsewhere",
]
"""
What goes wrong with a call.

====================  ===================================================================================================
``lost_…``            the connection is closed without a reply
``reset_…``           the connection is reset
``error_…``           a 5xx, or another ``status``, with ``code``
``html_…``            the page of a proxy, with 200 or another ``status``
``…_before``          nothing is committed
``…_after``           the call is committed first
``slow_before``       ``delay_s`` pass, then the call is committed, whether or not the caller still waits
``slow_after``        the call is committed, then ``delay_s`` pass before the reply
``drip``              committed; the reply comes a byte at a time, ``delay_s`` apart
``half``              committed; the connection is closed after half of the reply's body
``garbage``           committed; the reply is bytes that mean nothing
``refuse``            nothing is committed; 400, or another ``status``, with ``code``
``plan_failed``       200, but every plan asked for is among ``FailedExecutions``
``file_elsewhere``    committed; ``FailedFileOss`` names a host from which nobody should read
====================  ===================================================================================================
"""

KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

EVERY_OPERATION = "*"
FAILED_FILE = "FailedFile"
"""The name under which reading a list of refused URLs is struck."""

READ_LIST = "ReadList"
"""
ESA's reading of the list behind an ``OssUrl``: ``half`` leaves it half of the lines, any other kind none.
"""
BESIDE_THE_API = frozenset({FAILED_FILE, READ_LIST, *OSS_OPERATIONS.values()})
"""What ``*`` does not strike."""

CREATE_PLANS = "CreateScheduledPreloadExecutions"

_STATUS: dict[str, int] = {"error": 503, "html": 200, "refuse": 400}
_CODES: dict[str, str] = {"error": "ServiceUnavailable", "refuse": "Site.ServiceBusy"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """
    One thing that goes wrong, and when.

    Calls are counted from when the fault comes into force, those of ``operation`` only. It strikes by number where
    ``calls`` or ``first`` is given, and otherwise by ``probability``.

    Attributes:
        operation: of the API; ``*`` for every one; ``FailedFile`` for the reading of a list of refused URLs; ``ReadList`` for
            ESA's reading of a list; ``PutObject``, ``GetObject``, ``HeadObject`` or ``DeleteObject`` of OSS.
        probability: 0 to 1.
        calls: numbers of the calls that are struck, from 1.
        first: so many calls are struck, beginning with the next.
        delay_s: seconds; see ``slow_…`` and ``drip``.
        status: of the reply; 0 for what is usual for the kind.
        code: of an error reply; empty for what is usual for the kind.
    """

    kind: FaultKind
    operation: str = EVERY_OPERATION
    probability: float = 0.0
    calls: tuple[int, ...] = ()
    first: int = 0
    delay_s: float = 0.0
    status: int = 0
    code: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}")
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be from 0 to 1")
        if self.first < 0 or any(number < 1 for number in self.calls):
            raise ValueError("calls are counted from 1")
        if not 0 <= self.delay_s < math.inf:
            raise ValueError("delay_s must be 0 or more")
        if self.status and not 200 <= self.status <= 599:
            raise ValueError("status must be from 200 to 599")
        if self.kind == "plan_failed" and self.operation != CREATE_PLANS:
            raise ValueError(f"plan_failed strikes {CREATE_PLANS} only")

    @property
    def commits(self) -> bool:
        """Whether the call is committed all the same."""
        return self.kind != "refuse" and (self.kind == "slow_before" or not self.kind.endswith("_before"))

    @property
    def http_status(self) -> int:
        """Status of the reply that takes the place of ESA's."""
        return self.status or _STATUS.get(self._family, 200)

    @property
    def error_code(self) -> str:
        """Code of the error reply that takes the place of ESA's."""
        return self.code or _CODES.get(self._family, "")

    @property
    def _family(self) -> str:
        return self.kind.partition("_")[0]

    def concerns(self, operation: str) -> bool:
        """Tell whether calls of *operation* are counted, and may be struck."""
        return self.operation == operation or (
            self.operation == EVERY_OPERATION and operation not in BESIDE_THE_API
        )

    def strikes(self, number: int, roll: float) -> bool:
        """Tell whether the *number*-th call is struck; *roll* is evenly distributed from 0 to below 1."""
        if self.calls or self.first:
            return number in self.calls or number <= self.first
        return roll < self.probability


class Faults:
    """
    The faults in force, each with its count of calls.

    Args:
        roll: returns the next number from 0 to below 1.
    """

    __slots__ = ("_counted", "_roll")

    def __init__(self, faults: Sequence[Fault], roll: Callable[[], float]) -> None:
        self._roll = roll
        self._counted = dict.fromkeys(faults, 0)

    def change(self, faults: Sequence[Fault]) -> None:
        """Put *faults* into force; one that was in force before keeps its count."""
        self._counted = {fault: self._counted.get(fault, 0) for fault in faults}

    def next(self, operation: str) -> Fault | None:
        """Count a call of *operation* and return what strikes it: the first fault that does, in their order."""
        struck: Fault | None = None
        for fault in self._counted:
            if fault.concerns(operation):
                self._counted[fault] += 1
                if struck is None and fault.strikes(self._counted[fault], self._roll()):
                    struck = fault
        return struck
