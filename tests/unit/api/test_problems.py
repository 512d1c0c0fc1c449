"""What an answer tells of an error, and what it keeps to itself."""

from __future__ import annotations

import pytest
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.sentinel import MasterNotFoundError
from structlog.testing import capture_logs

from esa_preload import QueueUnavailableError
from esa_preload.api.problems import problem_of
from esa_preload.outages import redis_errors


@pytest.mark.parametrize(
    ("raised", "detail"),
    [
        (
            RedisConnectionError("Error 111 connecting to redis.internal:6379. Refused."),
            "Redis cannot be reached",
        ),
        (MasterNotFoundError("No master found for 'main' : redis.internal:26379"), "Redis cannot be reached"),
        (TimeoutError("redis.internal"), "Redis cannot be reached"),
        (AuthenticationError("redis.internal: WRONGPASS"), "Redis refused the login"),
        (ResponseError("MOVED 1 redis.internal:6379"), "Redis refused the command"),
        (RedisError("redis.internal"), "Redis failed"),
    ],
)
def test_where_redis_is_stands_in_the_log_alone(raised: Exception, detail: str) -> None:
    """Whatever the server, the network or a sentinel says, callers of the API learn what to do, and no host."""
    with pytest.raises(QueueUnavailableError, match="redis\\.internal") as caught, redis_errors("r"):
        raise raised
    with capture_logs() as logs:
        document, headers = problem_of(caught.value)
    assert (document.status, document.detail, document.request_id) == (503, detail, "r")
    assert document.hint
    assert int(headers["Retry-After"]) > 0
    assert "redis.internal" not in document.json_text()
    assert [(each["event"], "redis.internal" in each["message"]) for each in logs] == [
        ("http.unavailable", True)
    ]
