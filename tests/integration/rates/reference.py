"""
The learning pace of one operation as a specification that can be run: lua/rate.lua does the same, decision by decision.

``ask`` before each call; then exactly one of ``ok``, ``throttled`` or ``other`` for it, or none when its worker died. Times are ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

CUT = 0.035
TARGET = 0.025
EARLY = 0.1
CUT_MOST = 0.4
GROW_MOST = 0.25
FAR = 0.22
AFTER_CALLS, AFTER_S = 120, 12
PAY_MOST_S = 35
SAMPLE, SHARE = 12, 0.7
SHARE_LEAST = 0.2
SHORT = 3
COOLDOWN_MOST_MS = 60_000
PROBE_TIMEOUT_MS = 10_000
CREDIT_LEAST_MS, CREDIT_MOST_MS = 50, 250
BUSY = 0.75
WINDOW_MS, WINDOW_CALLS = 2_000, 5
WINDOW_OVER = 1.1
WINDOW_PAY = 4
NEAR = 0.2
MATCH = 0.2
SLUMP, BRISK = 1, 2
SLUMP_CALLS, SLUMP_MS = 4, 600_000
DUE = -1.0


@dataclass(slots=True)
class State:
    """What lua/rate.lua keeps in ``rate:<op>``; what each means is said there."""

    rate: float
    next: float
    opened: float
    cooldown: float = 0
    probe: float = 0
    cut: float = 0
    strikes: float = 0
    began: float = 0
    refused: float = 0
    why: float = 0
    ceiling: float = 0
    since: float = 0
    span: float = 1 / TARGET
    early: float = 0
    passed: float = 0
    failed: float = 0
    good: float = 0
    reset: float = 0
    length: float = 0
    held: float = 0
    busy: float = 1
    brisk: float = 0


@dataclass(slots=True)
class Controller:
    """One operation's pace, begun at ``now``; ``least`` and ``most`` bound it."""

    now: float = 0
    initial: float = 5
    least: float = 0.1
    most: float = 100
    s: State = field(init=False)

    def __post_init__(self) -> None:
        self.s = State(rate=self.initial, next=self.now - CREDIT_MOST_MS, opened=self.now, cut=self.now - 1)

    @property
    def rate(self) -> float:
        """Calls/s now allowed."""
        return self.s.rate

    def gate(self, now: float) -> float:
        """Return when the next call may be made."""
        s = self.s
        if s.cooldown > now:
            return s.cooldown
        if s.probe == 0:
            return s.next
        if s.probe > 0 and now - s.probe < PROBE_TIMEOUT_MS:
            return s.probe + PROBE_TIMEOUT_MS  # or when its outcome is told
        return now

    def ask(self, now: float) -> float:
        """Return 0 and count the call as sent now, or the ms to wait."""
        s = self.s
        at = self.gate(now)
        if at > now:
            s.held = 1
            return at - now
        spacing = 1000 / s.rate
        if s.probe != 0:
            s.probe, s.next = now, now + spacing
            return 0
        credit = min(CREDIT_MOST_MS, max(CREDIT_LEAST_MS, spacing))
        if not s.held:
            s.opened += max(0, now - s.next - credit)  # nobody wanted to call
        s.busy += (s.held - s.busy) / 16
        s.held = 0
        s.next = max(s.next, now - credit) + spacing
        return 0

    def ok(self, now: float, sent: float) -> None:
        """The call was accepted."""
        s = self.s
        s.good += 1
        if sent <= s.cut:
            if s.strikes > 0:
                s.passed += 1
            return
        probed = s.probe != 0
        if s.probe > 0 and sent >= s.probe:
            s.probe = 0
            s.next = max(s.next, now + 1000 / s.rate)
        if s.strikes > 0:
            self._recovered(now, sent, probed=probed)
        elif s.busy >= BUSY:
            self._grow(now)

    def _grow(self, now: float) -> None:
        s = self.s
        s.since += 1
        rate = s.rate
        if s.ceiling == 0 or rate < s.ceiling * (1 - FAR):
            rate += GROW_MOST
        elif s.ceiling < SLUMP and now - s.brisk < SLUMP_MS and s.since > SLUMP_CALLS:
            rate += min(rate / 4, GROW_MOST)
            s.opened, s.good, s.reset, s.length = now, 0, 0, 0
        else:
            times = 1 + max(0, s.since - s.span) / max(AFTER_CALLS, AFTER_S * rate)
            rate += min(rate * CUT / s.span * times * times, GROW_MOST)
        s.rate = min(rate, self.most)

    def _recovered(self, now: float, sent: float, *, probed: bool) -> None:
        s = self.s
        # When did it open again? A hint says, or half-way between the last refusal and this call.
        opened = min(sent, s.cooldown) if s.why > 0 else (s.refused + sent) / 2
        shut = s.cooldown - s.cut if s.why > 0 else s.refused - s.began
        is_window = shut > max(WINDOW_MS, WINDOW_CALLS * 1000 / s.rate) and (s.why > 0 or s.strikes > 2)
        says_rate = s.reset > 0 or s.good > SAMPLE
        if s.strikes > 1 or s.why > 0:
            self._learn_length(opened, is_window=is_window)
        if is_window:
            if says_rate:
                seen = s.good * 1000 / max(opened - s.opened, 1)
                s.rate = max(self.least, min(s.rate, seen * WINDOW_OVER))
                s.ceiling = s.rate
            s.opened, s.good = opened, 1
            s.span = min(s.span, WINDOW_PAY / TARGET)
        else:
            known = s.passed + s.failed
            if known >= SAMPLE and s.passed < SHARE * known:
                s.rate = max(self.least, min(s.rate, s.ceiling * max(SHARE_LEAST, s.passed / known)))
                s.ceiling = s.rate / (1 - CUT)
                s.cut = now
                s.early = 0
            if probed:
                s.span += min(now - s.began, 2_000) / 1000 * s.rate / TARGET
            s.span = min(s.span, max(2 / TARGET, PAY_MOST_S * s.rate))
        if probed:
            s.next = now + 1000 / s.rate
        s.probe = s.strikes = 0

    def _learn_length(self, opened: float, *, is_window: bool) -> None:
        s = self.s
        passed = opened - s.reset
        times = math.floor(passed / s.length + 0.5) if s.length > 0 else 0
        if times >= 1 and abs(passed - times * s.length) < MATCH * s.length:
            if s.why != 2 or s.strikes > 1:
                s.length += (passed / times - s.length) / 2
                s.reset = opened
        elif is_window:
            if s.reset > 0:
                s.length = passed
            s.reset = opened

    def throttled(self, now: float, sent: float, hint: float = 0) -> None:
        """The call was refused; *hint*: for how many ms nobody shall call, 0 when that was not said."""
        s = self.s
        is_late = sent <= s.cut
        if is_late or s.strikes > 0:
            s.span = min(s.span + 1 / TARGET, max(2 / TARGET, PAY_MOST_S * s.rate))
        if is_late:
            self._throttled_late(now, hint)
            return
        if s.probe > 0 and sent >= s.probe:
            s.probe = 0
        is_first = s.ceiling == 0
        s.strikes += 1
        if s.strikes == 1:
            self._cut(sent)
        s.cut, s.refused = now, sent
        spacing = 1000 / s.rate
        wait = self._cooldown(now, spacing, hint)
        s.cooldown = max(s.cooldown, now + wait)
        s.next = max(s.next, s.cooldown)
        if s.strikes > 1 or wait > SHORT * spacing or is_first:
            s.probe = DUE

    def _throttled_late(self, now: float, hint: float) -> None:
        s = self.s
        if s.strikes > 0:
            s.failed += 1
        if hint > 0:
            s.cooldown = max(s.cooldown, now + hint)
            s.next = max(s.next, s.cooldown)
            if hint > SHORT * 1000 / s.rate:
                s.probe = DUE

    def _cut(self, sent: float) -> None:
        s = self.s
        if s.ceiling == 0:
            s.early = 9
        else:
            s.early = min(s.early + 1, 9) if s.since < s.span * EARLY else 0
        if (s.early == 0 or (s.ceiling == 0 and s.good > AFTER_CALLS)) and s.rate > BRISK:
            s.brisk = sent
        s.ceiling = s.rate
        s.rate = max(self.least, s.rate * (1 - min(CUT_MOST, CUT * 2**s.early)))
        s.began, s.since, s.span, s.passed, s.failed, s.why = sent, 0, 1 / TARGET, 0, 1, 0

    def _cooldown(self, now: float, spacing: float, hint: float) -> float:
        s = self.s
        if hint > 0:
            s.why = 1
            return hint
        if s.why in (2, -1):
            s.why = -1
            return min(COOLDOWN_MOST_MS, spacing * 2 ** min(s.strikes - 2, 20))
        wait = min(COOLDOWN_MOST_MS, spacing * 2 ** min(s.strikes - 1, 20))
        s.why = 0
        expected = self._to_reset(now)
        if expected < NEAR * s.length:
            s.why = 2
            return max(wait, expected)
        return wait

    def _to_reset(self, now: float) -> float:
        s = self.s
        if s.length <= 0:
            return math.inf
        return s.reset - math.floor((s.reset - now) / s.length) * s.length - now

    def other(self, sent: float) -> None:
        """It failed in another way: that says nothing about the rate, but a probe must not be waited for."""
        s = self.s
        if s.probe > 0 and sent >= s.probe:
            s.probe = DUE
