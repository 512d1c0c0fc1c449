"""Parse what ESA answers. All of it came over the network: whatever is odd is an UncertainError, never a crash."""

from __future__ import annotations

import contextlib
import json
import re
from datetime import datetime
from typing import NoReturn, cast

from esa_preload_worker.esa.errors import UncertainError
from esa_preload_worker.esa.model import Job, JobPage, PlansCreated, PlanState, Site, SitePage
from esa_preload_worker.esa.text import loggable, one_line

UNREADABLE = "uncertain.unreadable"

INT32_MAX = 2**31 - 1
INT64_MAX = 2**63 - 1
ID_MAX_CHARS = 128
"""Ids are 24 hex digits or a UUID; they become keys and query values, so an odd one is no id."""
NAME_MAX_CHARS = 1024
ADDRESS_MAX_CHARS = 8192
MESSAGES_MAX = 10

_ID = re.compile(rf"[!-~]{{1,{ID_MAX_CHARS}}}")

Fields = dict[str, object]


def parse_object(body: bytes) -> Fields:
    """
    Read *body* as one JSON object.

    Raises:
        UncertainError: it is none, or not JSON, not UTF-8, nested too deep, or holds NaN.
    """
    try:
        value: object = json.loads(body.decode(), parse_constant=_no_constant)
    except (ValueError, RecursionError):
        # No chaining: the text of the cause quotes the reply.
        value = None
    if not isinstance(value, dict):
        _unreadable("the reply is no JSON object")
    return cast("Fields", value)  # JSON has only text for keys


def parse_job(reply: Fields) -> Job:
    """Read the reply of Create or Get, or one entry of List."""
    return Job(
        job_id=_id(reply, "Id"),
        site_id=_number(reply, "SiteId", INT64_MAX),
        name=one_line(_text(reply, "Name"), NAME_MAX_CHARS),
        url_count=_number(reply, "UrlCount"),
        url_submitted=_number(reply, "UrlSubmitted"),
        task_submitted=_number(reply, "TaskSubmitted", default=0),
        error_info=loggable(_text(reply, "ErrorInfo", default="")),
        failed_file_url=_address(reply, "FailedFileOss"),
        created_at=parse_time(reply.get("CreatedAt")),
        execution_count=_number(reply, "ExecutionCount", default=0),
        esa_request_id=request_id_of(reply),
    )


def parse_job_page(reply: Fields) -> JobPage:
    """Read one page of jobs; its TotalCount is documented as text."""
    return JobPage(
        jobs=tuple(parse_job(entry) for entry in _objects(reply, "Jobs")), total=_number(reply, "TotalCount")
    )


def parse_plans_created(reply: Fields, *, job_id: str, asked: int) -> PlansCreated:
    """
    Read the reply of Create for *asked* plans of *job_id*.

    Raises:
        UncertainError: also when the reply does not account for every plan asked for.
    """
    created = tuple(_plan(entry, job_id) for entry in _objects(reply, "SuccessExecutions", default=()))
    failed = len(_objects(reply, "FailedExecutions", default=()))
    total = _number(reply, "TotalCount", default=0)
    success = _number(reply, "SuccessCount", default=len(created))
    failed_count = max(failed, total - success)
    messages = _list(reply, "FailedMessages", default=())
    if success != len(created) or len(created) + failed_count < asked:
        _unreadable("the reply does not account for every plan")
    return PlansCreated(
        created=created,
        failed_count=failed_count,
        failed_messages=tuple(loggable(text) for text in messages[:MESSAGES_MAX] if isinstance(text, str)),
        esa_request_id=request_id_of(reply),
    )


def parse_plans(reply: Fields, *, job_id: str) -> tuple[PlanState, ...]:
    """Read all plans of *job_id*."""
    plans = tuple(_plan(entry, job_id) for entry in _objects(reply, "Executions"))
    if _number(reply, "TotalCount", default=len(plans)) > len(plans):
        _unreadable("the reply leaves plans out")
    return plans


def parse_site_page(reply: Fields) -> SitePage:
    """Read one page of sites."""
    sites = tuple(
        Site(
            site_id=_number(entry, "SiteId", INT64_MAX),
            name=one_line(_text(entry, "SiteName"), NAME_MAX_CHARS),
            status=loggable(_text(entry, "Status", default="")),
        )
        for entry in _objects(reply, "Sites")
    )
    return SitePage(sites=sites, total=_number(reply, "TotalCount"))


def parse_deleted(_reply: Fields) -> None:
    """Read the reply of a Delete, which says nothing."""


def parse_time(value: object) -> datetime | None:
    """Read ``2024-06-01T08:53:13Z`` or ``2023-06-05T10:04:20+0800``; ``None`` for anything else."""
    if not isinstance(value, str) or not 10 <= len(value) <= 40:
        return None
    with contextlib.suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(value)
        if when.tzinfo is not None:
            return when
    return None


def request_id_of(reply: Fields) -> str:
    """Return ESA's id of the call, or nothing when there is none that could be one."""
    value = reply.get("RequestId", reply.get("requestId"))
    return value if isinstance(value, str) and _ID.fullmatch(value) else ""


def _plan(entry: Fields, job_id: str) -> PlanState:
    owner = _id(entry, "JobId") if entry.get("JobId") else job_id
    return PlanState(
        plan_id=_id(entry, "Id"), job_id=owner, status=loggable(_text(entry, "Status", default="")).lower()
    )


def _number(reply: Fields, key: str, maximum: int = INT32_MAX, *, default: int | None = None) -> int:
    value = reply.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 19:
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        _unreadable(f"{key} is no number from 0 to {maximum}")
    return value


def _text(reply: Fields, key: str, *, default: str | None = None) -> str:
    value = reply.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        _unreadable(f"{key} is no text")
    return value


def _address(reply: Fields, key: str) -> str:
    """Return an address whole or not at all: a part of one would be another one."""
    value = _text(reply, key, default="")
    return value if len(value) <= ADDRESS_MAX_CHARS and value.isascii() and value.isprintable() else ""


def _id(reply: Fields, key: str) -> str:
    value = reply.get(key)
    if not isinstance(value, str) or not _ID.fullmatch(value):
        _unreadable(f"{key} is no id")
    return value


def _list(reply: Fields, key: str, *, default: tuple[object, ...] | None = None) -> list[object]:
    value = reply.get(key)
    if value is None and default is not None:
        return list(default)
    if not isinstance(value, list):
        _unreadable(f"{key} is no list")
    return cast("list[object]", value)  # narrowed one by one where it is used


def _objects(reply: Fields, key: str, *, default: tuple[object, ...] | None = None) -> list[Fields]:
    entries: list[Fields] = []
    for entry in _list(reply, key, default=default):
        if not isinstance(entry, dict):
            _unreadable(f"{key} holds something else than objects")
        entries.append(cast("Fields", entry))  # JSON has only text for keys
    return entries


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _unreadable(why: str) -> NoReturn:
    raise UncertainError(why, code=UNREADABLE)
