"""What Redis raises, as what the caller can do about it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MasterDownError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from esa_preload.connection import SERVER_AWAY
from esa_preload.errors import QueueUnavailableError, UnsupportedRecordError

if TYPE_CHECKING:
    from collections.abc import Generator

STEP_S = 15.0
"""More than a connection and a reply may take: callers that share a pool connect one after the other, each with its own time-out."""


_LOGIN = (AuthenticationError, AuthorizationError)
_OUTAGES = (ReadOnlyError, MasterDownError, TryAgainError)
_OUTAGE_WORDS = ("NOREPLICAS", "BUSY ", "UNBLOCKED")
"""A failover, or a script that holds the server up. Memory (OOM) and disk (MISCONF) are not among them: they need somebody."""


@contextlib.contextmanager
def redis_errors(request_id: str | None = None, *, away_hint: str = SERVER_AWAY) -> Generator[None]:
    """Map what Redis raises to what the caller can do about it; *away_hint*: when nobody answers."""
    try:
        yield
    except (RedisConnectionError, RedisTimeoutError, OSError) as exc:
        # redis-py wraps what it meets while it connects.
        is_login = isinstance(exc, _LOGIN) or isinstance(exc.__cause__, _LOGIN)
        raise QueueUnavailableError(
            "Redis refused the login" if is_login else "Redis cannot be reached",
            said=str(exc) or f"no reply within {STEP_S:g} s",
            request_id=request_id,
            hint=away_hint,
            is_outage=not is_login,
        ) from exc
    except ResponseError as exc:
        message = str(exc)
        if message.startswith("UNSUPPORTED"):
            raise UnsupportedRecordError(message, hint="upgrade esa-preload in this process") from exc
        raise QueueUnavailableError(
            "Redis refused the command",
            said=message,
            request_id=request_id,
            hint="see the server's memory, role and access rights",
            is_outage=isinstance(exc, _OUTAGES) or message.startswith(_OUTAGE_WORDS),
        ) from exc
    except RedisError as exc:
        raise QueueUnavailableError(
            "Redis failed", said=str(exc), request_id=request_id, hint=away_hint
        ) from exc
