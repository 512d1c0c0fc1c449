"""The probes' answers, and one line at each end of an outage."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from esa_preload_worker.esa import BlockedError
from esa_preload_worker.health import ALIVE_S, POLL_S, QUIET_S, Health
from unit.worker.clock import Clock


@pytest.fixture
def clock() -> Clock:
    """A clock of the test's own."""
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    """A worker that has polled."""
    health = Health(clock=clock)
    health.polled()
    return health


def test_an_outage_is_two_lines_however_many_notice_it(health: Health, clock: Clock) -> None:
    """Every task fails and every task recovers: one line each."""
    with capture_logs() as logged:
        for _ in range(5):
            health.redis_failed(ConnectionError("refused"))
        clock.now_s += 7
        assert not health.is_redis_up
        assert health.why_not_ready() == "redis unavailable: ConnectionError"
        for _ in range(5):
            health.redis_answered("queue")
        assert (health.is_redis_up, health.why_not_ready()) == (True, "")
    assert [entry["event"] for entry in logged] == ["redis.unavailable", "redis.recovered"]
    assert logged[1]["after_s"] == 7


def test_an_outage_ends_when_all_that_failed_succeeds(health: Health, clock: Clock) -> None:
    """A server that is out of memory, or a replica, answers some and refuses the rest: no end, however much is answered."""
    health.redis_failed(ConnectionError(), "sweep")
    health.redis_failed(ConnectionError(), "queue")
    clock.now_s += 60
    health.redis_answered("leases")
    health.redis_answered("queue")
    assert not health.is_redis_up
    health.redis_answered("sweep")
    assert health.is_redis_up


def test_an_outage_goes_on_while_something_fails(health: Health, clock: Clock) -> None:
    """A job that fails now and then is the same outage, though what comes round by itself succeeds in between."""
    with capture_logs() as logged:
        for _ in range(3):
            health.redis_failed(ConnectionError())
            clock.now_s += QUIET_S / 2
            health.redis_answered("queue")
        assert not health.is_redis_up
        clock.now_s += QUIET_S / 2
        health.redis_answered("queue")
    assert [entry["event"] for entry in logged] == ["redis.unavailable", "redis.recovered"]


def test_a_poll_alone_does_not_end_an_outage(health: Health, clock: Clock) -> None:
    """arq comes round without asking Redis while all its slots are busy."""
    health.redis_failed(ConnectionError())
    clock.now_s += QUIET_S
    health.polled()
    assert not health.is_redis_up


def test_alive_is_progress_not_redis(health: Health, clock: Clock) -> None:
    """An outage is no reason to restart the process; standing still is."""
    health.redis_failed(ConnectionError())
    clock.now_s += ALIVE_S
    assert health.why_not_alive() == ""
    clock.now_s += 1
    assert health.why_not_alive() == "no progress for 31 s"
    health.tick()
    assert health.why_not_alive() == ""


def test_ready_needs_polls_that_go_on(health: Health, clock: Clock) -> None:
    """A worker that looks for no work is not ready, unless nobody tells it of the polls."""
    assert Health(clock=clock).why_not_ready() == "no poll of the queue"
    clock.now_s += POLL_S + 1
    assert health.why_not_ready() == "no poll of the queue"
    health.sees_polls = False
    assert health.why_not_ready() == ""
    health.is_stopping = True
    assert health.why_not_ready() == "stopping"


def test_missing_credentials_are_said_once(health: Health) -> None:
    """They are looked at every minute; the log need not say so each time."""
    error = BlockedError("none", scope="account", code="no_credentials", hint="set them")
    with capture_logs() as logged:
        health.lacks_credentials(error)
        health.lacks_credentials(error)
        assert health.why_not_ready() == "no usable credentials"
        health.has_credentials()
        assert health.why_not_ready() == ""
        health.lacks_credentials(error)
    assert [(entry["event"], entry["hint"]) for entry in logged] == [("worker.error", "set them")] * 2
