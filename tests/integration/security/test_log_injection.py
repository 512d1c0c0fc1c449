"""Whatever ESA answers, each event of a worker's log stays one line, as JSON and on a terminal."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.client import PreloadClient
from fuzz.hostile_json import INJECTION
from integration.esa.loopback import JOB, PLAN, RecordingServer, Reply, recording_server
from processes import started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from processes import Running

SITE = 190007158391808
A_LINE = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z \[(debug|info|warning|error) *\] \S.*")
SAID = {
    "RequestId": INJECTION,
    "Message": INJECTION,
    "HostId": INJECTION,
    "AccessDeniedDetail": {"x": INJECTION},
}


class HostileEsa(RecordingServer):
    """Answers each operation with what it is told to, text of its own in every field that may hold some."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Reply] = {}

    async def handle(self, request: Any) -> Any:
        """Answer by operation."""
        self.answer(self.answers.get(request.headers["x-acs-action"], refusal("InvalidParameter")))
        return await super().handle(request)


def hostile(**fields: object) -> Reply:
    """Make a success with hostile texts in it."""
    return Reply({**SAID, **fields})


def refusal(code: str, status: int = 400) -> Reply:
    """Make a refusal with hostile texts in it."""
    return Reply({**SAID, "Code": code}, status=status)


CREATE, PLANS = "CreateScheduledPreloadJob", "CreateScheduledPreloadExecutions"
LIST, LIST_PLANS = "ListScheduledPreloadJobs", "ListScheduledPreloadExecutions"
DELETE = "DeleteScheduledPreloadJob"
SUCCESS = hostile(**JOB, ErrorInfo=INJECTION, FailedFileOss=f"http://127.0.0.1/{INJECTION}")
OUTCOMES: dict[str, dict[str, Reply]] = {
    "batch.submitted": {
        CREATE: SUCCESS,
        PLANS: hostile(SuccessExecutions=[PLAN | {"Status": INJECTION}]),
    },
    "batch.refused": {
        CREATE: SUCCESS,
        PLANS: hostile(FailedExecutions=[{INJECTION: 1}], FailedMessages=[INJECTION] * 99, TotalCount=1),
        DELETE: Reply({}),
    },
    "batch.uncertain": {CREATE: refusal(INJECTION), LIST: refusal(INJECTION)},
    "site.blocked": {CREATE: refusal("Forbidden.RAM", 403)},
    "batch.throttled": {CREATE: refusal("Throttling.User", 429)},
}
"""The event that a new URL leads to, and the answers that do it."""


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_no_reply_writes_a_line_of_its_own(redis: Redis, redis_url: str, log_format: str) -> None:
    """Line breaks, escape sequences and half characters in every text of every reply, through a whole worker."""
    esa = HostileEsa()
    async with recording_server(esa), PreloadClient(redis_url) as client:
        env = worker_environment(redis_url, esa.url, ESA_PRELOAD_BATCH_QUIET="0.1", ESA_PRELOAD_LEASE="2")
        env |= {"ESA_PRELOAD_LOG_FORMAT": log_format, "ESA_PRELOAD_LOG_LEVEL": "debug"}
        async with started("esa-preload-worker", "run", env=env) as worker:
            for number, (event, answers) in enumerate(OUTCOMES.items()):
                lists = {LIST: hostile(Jobs=[], TotalCount=0), LIST_PLANS: hostile(Executions=[])}
                esa.answers = lists | answers
                await client.enqueue(SITE + number, ["https://www.example.com/a?canary"])
                await wait_until(partial(has, worker, log_format, event))
                await client.resume(None)
            worker.process.terminate()
            assert await worker.ended() == 0
    for line in worker.lines:
        assert line.isprintable(), line
        assert "canary" not in line, line
        assert "\x1b" not in line
    assert redis is not None


def has(worker: Running, log_format: str, event: str) -> bool:
    """Tell whether the log has *event*."""
    return event in events(worker, log_format)


def events(worker: Running, log_format: str) -> list[str]:
    """Return the event of each line; a line that is no event of ours is a failure."""
    if log_format == "json":
        return [str(json.loads(line)["event"]) for line in worker.lines]
    assert all(A_LINE.fullmatch(line) for line in worker.lines), worker.lines
    return [line.partition("] ")[2].split()[0] for line in worker.lines]
