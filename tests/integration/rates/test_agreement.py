"""The script does what the specification says, decision by decision."""

from __future__ import annotations

import math
import random
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from integration.rates.limits import Bucket
from integration.rates.reference import SLUMP, Controller
from integration.rates.simulation import START_MS, Question, Scenario, answer, simulate

if TYPE_CHECKING:
    from integration.rates.on_valkey import Scripts

POLL_MS = 100
HISTORIES = 60
STEPS = 300
SPACINGS_MS = (1, 10, 100, 1_000, 5_000, 20_000)


@dataclass(slots=True)
class History:
    """One random life of a pace: calls out at any time, answered late, out of order, or never; or long windows."""

    dice: random.Random
    pace: Controller
    now: int = START_MS
    under_way: list[int] = field(default_factory=list[int])

    def question(self) -> Question:
        """Let time pass, and return what happens next."""
        dice = self.dice
        self.now += int(dice.choice(SPACINGS_MS) * dice.random() ** 2)
        if not self.under_way or dice.random() < 0.55:
            return Question("ask", self.now)
        sent = self.under_way.pop(dice.randrange(len(self.under_way)))
        if dice.random() < 0.02:
            return Question("ask", self.now)  # its outcome is never told
        # Episodes, not single refusals: for some seconds nearly everything is refused.
        is_shut = (self.now // 20_000) % 3 == 1
        if dice.random() < (0.85 if is_shut else 0.04):
            return Question("throttled", self.now, sent, dice.choice((0, 0, 40, 1_000, 7_000)))
        return Question("ok", self.now, sent)

    def expected(self, question: Question) -> float:
        """Let the specification answer, as the script would."""
        pace = self.pace
        if question.what != "ask":
            if question.what == "ok":
                pace.ok(self.now, question.sent_ms)
            else:
                pace.throttled(self.now, question.sent_ms, question.hint_ms)
            return 0
        is_probed = pace.s.probe != 0 and pace.s.cooldown <= self.now
        wait = pace.ask(self.now)
        if not wait:
            self.under_way.append(self.now)
            return 0
        ms = max(1, math.ceil(wait))
        return min(ms, POLL_MS) if is_probed else ms


def test_the_script_and_the_specification_agree(scripts: Scripts) -> None:
    """After each step of random histories both have said the same and remember the same, to the last bit."""
    histories: dict[str, History] = {}
    for seed in range(HISTORIES):
        dice = random.Random(seed)
        initial, least, most = dice.choice(((5, 0.1, 100), (50, 1, 60), (0.5, 0.1, 20)))
        scripts.publish(f"h{seed}", {"rate_initial": initial, "rate_min": least, "rate_max": most})
        pace = Controller(now=START_MS, initial=initial, least=least, most=most)
        if seed % 3 == 0:  # an operator has set it
            scripts.set_rate(f"h{seed}", most / 3, START_MS)
            pace = Controller(now=START_MS, initial=most / 3, least=least, most=most / 3)
            pace.s.next = START_MS
        histories[f"h{seed}"] = History(dice, pace)
    first = {name: Question("ask", START_MS) for name in histories}
    seen: set[str] = set()
    for step in range(STEPS):
        asked = {name: history.question() for name, history in histories.items()} if step else first
        expected = {name: histories[name].expected(asked[name]) for name in histories}
        answers = scripts.answers(list(asked.items()))
        records = scripts.records(list(histories))
        for name, said, record in zip(histories, answers, records, strict=True):
            assert said == expected[name], (name, step, asked[name])
            state = asdict(histories[name].pace.s)
            remembered = {field: value for field, value in record.items() if field in state}
            assert remembered == state, (name, step, asked[name])
            seen |= {f for f in ("length", "reset", "early", "why", "probe", "failed") if state[f]}
    assert seen == {"length", "reset", "early", "why", "probe", "failed"}, "the histories met everything"


def test_they_agree_when_a_limit_slumps_and_comes_back(scripts: Scripts) -> None:
    """The same where the limit falls to a trickle for a while, which no random history does."""
    scripts.publish("slump", {"rate_initial": 5, "rate_min": 0.1, "rate_max": 100})
    pace, slumped = Controller(now=START_MS), 0
    limit = Bucket(4, 4, ((60, 0.1), (120, 4)))
    running = simulate(Scenario(limit=limit, workers=1, duration_s=200))
    question = next(running)
    try:
        while True:
            expected = answer(pace, question)
            said = scripts.answers([("slump", question)])[0]
            assert bool(said) == bool(expected), question
            [record] = scripts.records(["slump"])
            state = asdict(pace.s)
            assert {field: value for field, value in record.items() if field in state} == state, question
            slumped += state["ceiling"] < SLUMP and state["rate"] > 2 * SLUMP
            question = running.send(said)
    except StopIteration:
        assert slumped, "the way back up was met"
