"""What the arguments of the verbs may be, the same for every client: each is returned as it counts, or refused in a sentence."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

from esa_preload.errors import InvalidRequestError, SettingsError
from esa_preload.model import (
    INT32_MAX,
    PACED_OPERATIONS,
    PRIORITIES,
    REQUEST_STATES,
    URL_STATES,
    Plan,
    Priority,
    RequestState,
    UrlState,
)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:~-]{1,128}")
_ENTRY_ID = re.compile(r"[0-9]{1,20}-[0-9]{1,20}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_UINT64_MAX = 2**64 - 1
"""Of each part of an entry's id, and of a cursor: Redis takes more for an error of its own, as it does an entry before 0-0."""
TEXT_MAX_CHARS = 128
EXPIRES_MAX_S = 366 * 86_400
MINUTES_MOST = 120
PAGE_MOST = 10_000


def parse_request_id(value: object) -> str:
    """Return an id that a request may have."""
    if not isinstance(value, str) or not _REQUEST_ID.fullmatch(value):
        raise InvalidRequestError("request_id must be 1 to 128 letters, digits or any of . _ : ~ -")
    return value


def parse_priority(value: object) -> Priority:
    """Return a priority."""
    if value not in PRIORITIES:
        raise InvalidRequestError(f"priority must be one of {', '.join(PRIORITIES)}, not {value!r}")
    return value


def parse_plan(value: object) -> Plan:
    """Return a plan that has not ended yet; ``None`` is the plan that starts now."""
    if value is not None and not isinstance(value, Plan):
        raise InvalidRequestError(f"plan must be a Plan, not {type(value).__name__}")
    plan = value or Plan()
    if plan.end and plan.end <= datetime.now(UTC):
        raise InvalidRequestError("plan end has passed already")
    return plan


def parse_expires_in(value: object) -> int:
    """Return seconds, or a timedelta, in ms; 0 for ``None``."""
    if value is None:
        return 0
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= EXPIRES_MAX_S:
        raise InvalidRequestError(
            f"expires_in must be seconds, more than 0 and at most {EXPIRES_MAX_S}, not {value!r}"
        )
    return max(1, round(seconds * 1000))


def parse_text(name: str, value: object) -> str:
    """Return a short printable text; the empty one for ``None``."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > TEXT_MAX_CHARS or not value.isprintable():
        raise InvalidRequestError(f"{name} must be at most {TEXT_MAX_CHARS} printable characters")
    return value


def parse_list_count(value: object) -> int:
    """Return how many URLs a list in OSS holds; 0 for ``None``, which says that its producer does not know."""
    if value is None:
        return 0
    if type(value) is not int or not 1 <= value <= INT32_MAX:
        raise InvalidRequestError(f"count must be a whole number from 1 to {INT32_MAX}, not {value!r}")
    return value


def parse_limit(value: object, *, most: float = math.inf) -> int:
    """Return how many entries of a list are wanted, 1 to *most*."""
    if type(value) is not int or not 1 <= value <= most:
        bound = "of at least 1" if most == math.inf else f"from 1 to {most}"
        raise InvalidRequestError(f"limit must be a whole number {bound}, not {value!r}")
    return value


def parse_entry_id(name: str, value: object) -> str:
    """Return the id of an entry of a list, which is also the cursor of what follows it."""
    if isinstance(value, str) and _ENTRY_ID.fullmatch(value):
        parts = [int(part) for part in value.split("-")]
        if max(parts) <= _UINT64_MAX and any(parts):
            return value
    raise InvalidRequestError(f"{name} must be as a page gave it, not {value!r}")


def parse_minutes(value: object) -> int:
    """Return of how many minutes the traffic is wanted: it is kept for two hours."""
    if type(value) is not int or not 1 <= value <= MINUTES_MOST:
        raise InvalidRequestError(f"minutes must be a whole number from 1 to {MINUTES_MOST}, not {value!r}")
    return value


def parse_state(value: object) -> RequestState | None:
    """Return the state of requests that are wanted, or ``None`` for all."""
    if value is not None and value not in REQUEST_STATES:
        raise InvalidRequestError(f"state must be one of {', '.join(REQUEST_STATES)}, not {value!r}")
    return value


def parse_url_state(value: object) -> UrlState:
    """Return a state in which URLs are known by name."""
    if value not in URL_STATES:
        raise InvalidRequestError(
            f"state must be one of {', '.join(URL_STATES)}, not {value!r}",
            hint="URLs in another state are counted, and not kept by name: see `status`",
        )
    return value


def parse_number_cursor(value: object) -> str | None:
    """Return the cursor of a list that goes by numbers; ``None`` at its begin."""
    if value is None or (isinstance(value, str) and _NUMBER.fullmatch(value) and int(value) <= _UINT64_MAX):
        return value
    raise InvalidRequestError(f"cursor must be as a page gave it, not {value!r}")


def parse_entry_cursor(value: object) -> str | None:
    """Return the cursor of a list that goes by entries; ``None`` at its begin."""
    return None if value is None else parse_entry_id("cursor", value)


def parse_entry_ids(value: object) -> list[str] | None:
    """Return the ids of failures, or ``None`` for all."""
    if value is None:
        return None
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise InvalidRequestError("ids must be a list of the ids of failures")
    return [parse_entry_id("an id", each) for each in cast("Sequence[object]", value)]


def parse_timeout(value: object) -> float:
    """Return the longest wait in seconds; infinity for ``None``."""
    if value is None:
        return math.inf
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InvalidRequestError(f"timeout must be seconds, 0 or more, not {value!r}")
    return value


def parse_interval(value: object) -> float:
    """Return how many seconds lie between two looks."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.05 <= value <= 3600:
        raise InvalidRequestError(f"interval_s must be seconds, 0.05 to 3600, not {value!r}")
    return value


def parse_patience(name: str, value: object) -> float:
    """Return how many seconds a client waits for what is away; a timedelta will do."""
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < math.inf:
        raise SettingsError(f"{name} must be seconds, 0 or more, not {value!r}")
    return seconds


def parse_operation(operation: str) -> str:
    """Return an operation of ESA that has a pace."""
    if operation not in PACED_OPERATIONS:
        raise InvalidRequestError(
            f"{operation!r} is no operation with a pace", hint=f"one of {', '.join(PACED_OPERATIONS)}"
        )
    return operation


def parse_rate(value: object) -> float:
    """Return a number of calls a second."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise InvalidRequestError(f"a rate is a number of calls/s above 0, not {value!r}")
    return value
