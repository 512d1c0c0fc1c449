"""The real scripts on a real Valkey, driven by many simulations side by side: one pipeline asks for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import redis

from esa_preload.keys import Keys
from esa_preload.ledger import SET_RATE
from esa_preload_worker.ledger import CREATE_JOB, PACE, REPORT
from integration.rates.simulation import Outcome, Question, simulate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from esa_preload.scripts import Script
    from integration.rates.simulation import Scenario


class Scripts:
    """The pace of one operation in each of many namespaces, by a client that is not async: virtual time waits for nobody."""

    def __init__(self, redis_url: str) -> None:
        url = redis_url.replace("unix://", "unix:///") if redis_url.startswith("unix://t") else redis_url
        self.client: Any = cast("Any", redis.Redis).from_url(url, decode_responses=True)
        self.client.flushall()
        for script in (PACE, REPORT, SET_RATE):
            self.client.script_load(script.text)

    def publish(self, namespace: str, settings: Mapping[str, float]) -> None:
        """Set what the workers of a namespace publish."""
        self.client.hset(Keys(namespace).settings, mapping=dict(settings))

    def set_rate(self, namespace: str, rate: float | None, now_ms: int) -> None:
        """Set the pace of a namespace as an operator does, or have it learnt anew."""
        _eval(self.client, SET_RATE, namespace, now_ms, "tests", CREATE_JOB, "" if rate is None else rate)

    def records(self, namespaces: Sequence[str]) -> list[dict[str, float]]:
        """Read what is remembered of the operation, by namespace."""
        pipe = self.client.pipeline(transaction=False)
        for namespace in namespaces:
            pipe.hgetall(Keys(namespace).rate(CREATE_JOB))
        return [{name: float(value) for name, value in found.items()} for found in pipe.execute()]

    def answers(self, questions: Sequence[tuple[str, Question]]) -> list[float]:
        """Put each question to the pace of its namespace: ms to wait for those that ask."""
        pipe = self.client.pipeline(transaction=False)
        for namespace, q in questions:
            if q.what == "ask":
                _eval(pipe, PACE, namespace, q.now_ms, CREATE_JOB, "", "")
            else:
                _eval(pipe, REPORT, namespace, q.now_ms, CREATE_JOB, q.sent_ms, q.what, q.hint_ms)
        return [float(reply[1]) if _waits(reply) else 0.0 for reply in pipe.execute()]

    def run(self, scenarios: Sequence[Scenario]) -> list[Outcome]:
        """Run all *scenarios* to their ends."""
        running = {f"n{i}": simulate(scenario) for i, scenario in enumerate(scenarios)}
        outcomes: dict[str, Outcome] = {}
        asked = {name: next(each) for name, each in running.items()}
        while asked:
            answers = self.answers(list(asked.items()))
            for name, wait_ms in zip(list(asked), answers, strict=True):
                try:
                    asked[name] = running[name].send(wait_ms)
                except StopIteration as end:
                    outcomes[name] = end.value
                    del asked[name]
        return [outcomes[name] for name in running]

    def close(self) -> None:
        """Leave an empty server."""
        self.client.flushall()
        self.client.close()


def _eval(pipe: Any, script: Script, namespace: str, *arguments: object) -> None:
    pipe.execute_command("EVALSHA", script.sha, 1, Keys(namespace).prefix, *arguments)


def _waits(reply: object) -> bool:
    return isinstance(reply, list) and cast("list[object]", reply)[0] == "wait"
