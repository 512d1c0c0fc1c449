"""What a run came to, and how it is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.books import Verdict

if TYPE_CHECKING:
    from chaos.options import Options


@dataclass(slots=True, kw_only=True)
class Report:
    """
    What a run came to.

    Attributes:
        seconds: from the begin to the judgement; ``drain_s`` of them after the troubles.
        troubles: by kind.
        faults: of the sandbox, by kind.
        recoveries: batches submitted otherwise than at their first claim; ``slowest_recovery_s`` from claim to end.
        adopted: jobs found by their name.
        created_again: Creates of batches whose name was not found, but for those of processes killed soon after.
        second_jobs: jobs of a name that had one, none of which may be planned.
        errors: log lines that a run should not have, and processes that failed in a way of their own.
        noise: log lines of other libraries, and the first of them.
        history: one line each for what the driver did.
        problems: log lines about the batches concerned.
    """

    options: Options
    verdict: Verdict = field(default_factory=Verdict)
    accepted: int = 0
    ends: Counter[str] = field(default_factory=Counter[str])
    seconds: float = 0.0
    drain_s: float = 0.0
    troubles: Counter[str] = field(default_factory=Counter[str])
    faults: dict[str, int] = field(default_factory=dict[str, int])
    calls: int = 0
    recoveries: int = 0
    adopted: int = 0
    created_again: int = 0
    second_jobs: int = 0
    jobs: int = 0
    slowest_recovery_s: float = 0.0
    retried_requests: int = 0
    errors: list[str] = field(default_factory=list[str])
    noise: list[str] = field(default_factory=list[str])
    history: list[str] = field(default_factory=list[str])
    problems: list[str] = field(default_factory=list[str])

    @property
    def is_clean(self) -> bool:
        """Whether the promise was kept, every end is counted, and no process failed in a way of its own."""
        adds_up = self.ends.total() == self.accepted
        return self.verdict.is_clean and adds_up and not self.errors and not self.troubles["ended_badly"]

    def lines(self) -> list[str]:
        """Return the figures, a line each."""
        troubles = dict(sorted(self.troubles.items()))
        return [
            f"seed {self.options.seed}: {self.accepted} URLs accepted in {self.seconds:.0f} s,"
            f" the last {self.drain_s:.1f} s of them without trouble",
            f"lost {len(self.verdict.lost)}, planned twice {len(self.verdict.planned_twice)},"
            f" counts that do not add up {len(self.verdict.odd)}, other errors {len(self.errors)}",
            f"ended: {', '.join(f'{count} {end}' for end, count in self.ends.items())};"
            f" in all {self.ends.total()} of {self.accepted}",
            f"jobs {self.jobs}, recoveries {self.recoveries}, adopted {self.adopted},"
            f" created again {self.created_again}, second jobs of a name {self.second_jobs},"
            f" slowest recovery {self.slowest_recovery_s:.1f} s",
            f"troubles: {troubles}; requests tried again {self.retried_requests}",
            f"log lines of other libraries {len(self.noise)}",
            f"faults: {sum(self.faults.values())} of {self.calls} calls: {dict(sorted(self.faults.items()))}",
        ]

    def full(self) -> str:
        """Return everything that helps to find out why."""
        verdict = self.verdict
        parts = [
            *self.lines(),
            *(f"lost: {url}" for url in verdict.lost[:20]),
            *(f"planned twice: {url}" for url in verdict.planned_twice[:20]),
            *(f"odd: {line}" for line in verdict.odd[:20]),
            *(f"error: {line}" for line in self.errors[:20]),
            *(f"noise: {line}" for line in self.noise[:5]),
            "history:",
            *self.history,
            "of the batches concerned:",
            *self.problems[:400],
        ]
        return "\n".join(parts)
