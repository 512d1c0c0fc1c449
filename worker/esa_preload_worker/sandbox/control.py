"""The control documents: what tests and the demo read of a sandbox, and what they may change while it runs."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from esa_preload_worker.sandbox.config import BucketLimit, ForeignJob, RateLimit, SandboxConfig, WindowLimit
from esa_preload_worker.sandbox.faults import Fault

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping

    from esa_preload_worker.sandbox.replies import Body
    from esa_preload_worker.sandbox.state import Account, Job

_MOST_LISTED = 1000


class ControlError(Exception):
    """A control document that cannot be followed; nothing was changed. The message says what is wrong with it."""


def jobs_document(account: Account) -> list[Body]:
    """Return every job in order of creation, deleted ones included, with its URLs and plans."""
    return [_job_document(account, job) for job in account.all_jobs()]


def stats_document(account: Account, calls: Mapping[str, Counter[str]], faults: Mapping[str, int]) -> Body:
    """
    Return the counts of a sandbox: calls by operation and code (``OK`` for a success), faults by kind, jobs, planned URLs.

    A call counts by how it was committed, whatever became of its reply, and not at all when a fault kept it from that.

    A URL counts as planned once for every plan ever made for it; at most 1,000 of those planned more than once are
    listed. Cost: linear in the URLs kept.
    """
    jobs = list(account.all_jobs())
    planned = account.planned_urls()
    repeated = {key: count for key, count in planned.items() if count > 1}
    return {
        "calls": {operation: dict(codes) for operation, codes in calls.items()},
        "faults": dict(faults),
        "jobs": sum(not job.is_deleted for job in jobs),
        "jobs_created": account.jobs_created,
        "jobs_deleted": account.jobs_deleted,
        "jobs_forgotten": account.jobs_forgotten,
        "foreign_jobs_deleted": sum(job.is_foreign and job.is_deleted for job in jobs),
        "jobs_of_one_name": _jobs_of_one_name(jobs),
        "planned_urls": len(planned),
        "urls_planned_again": len(repeated),
        "urls_planned_more_than_once": [
            {"site_id": site_id, "url": url, "times": count}
            for (site_id, url), count in list(repeated.items())[:_MOST_LISTED]
        ],
    }


def config_document(config: SandboxConfig) -> Body:
    """Return what ``PUT /_sandbox/config`` can change, as it is now."""
    return {
        "limits": {operation: _limit_document(limit) for operation, limit in config.limits.items()},
        "send_hint": config.send_hint,
        "latency_s": config.latency_s,
        "jitter_s": config.jitter_s,
        "faults": [asdict(fault) for fault in config.faults],
        "list_lag_s": config.list_lag_s,
        "clock_offset_s": config.clock_offset_s,
        "max_jobs_per_site": config.max_jobs_per_site,
        "max_plans_per_job": config.max_plans_per_job,
        "max_urls_per_list": config.max_urls_per_list,
        "url_quota_per_site": config.url_quota_per_site,
        "quota_is_all_or_nothing": config.quota_is_all_or_nothing,
        "sites": {str(site_id): list(domains) for site_id, domains in config.sites.items()},
        "oss_objects": dict(config.oss_objects),
        "oss_buckets": list(config.oss_buckets),
        "max_list_bytes": config.max_list_bytes,
    }


def changes_of(raw: bytes) -> dict[str, Any]:
    """
    Parse changes of a configuration, in the form of :func:`config_document`; fields that are not given stay.

    Raises:
        ControlError: a field is unknown or its value is of the wrong type.
    """
    given = _object(_parse(raw), "the configuration")
    unknown = given.keys() - _FIELDS.keys()
    if unknown:
        raise ControlError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(_FIELDS)}")
    return {name: _FIELDS[name](value, name) for name, value in given.items()}


def foreign_job_of(raw: bytes) -> ForeignJob:
    """
    Parse a job to seed: ``site_id``, ``name`` and, if wanted, ``urls``, ``age_s``, ``is_planned``.

    Raises:
        ControlError: a field is missing, unknown or of the wrong type.
    """
    given = _object(_parse(raw), "the job")
    unknown = given.keys() - {"site_id", "name", "urls", "age_s", "is_planned"}
    if unknown:
        raise ControlError(f"unknown: {', '.join(sorted(unknown))}")
    return ForeignJob(
        site_id=_whole(given.get("site_id"), "site_id"),
        name=_text(given.get("name"), "name"),
        urls=_texts(given.get("urls", ["https://www.example.com/"]), "urls"),
        age_s=_number(given.get("age_s", 0), "age_s"),
        is_planned=_boolean(given.get("is_planned", False), "is_planned"),
    )


def _job_document(account: Account, job: Job) -> Body:
    now_s = account.now_s()
    return {
        "id": job.job_id,
        "site_id": job.site_id,
        "name": job.name,
        "insert_way": job.insert_way,
        "created_at_s": job.created_s,
        "urls": job.url_text.split("\n") if job.url_text else [],
        "url_count": job.url_count,
        "url_submitted": job.url_submitted,
        "task_submitted": job.tasks(now_s),
        "refused": [{"url": refusal.url, "kind": refusal.kind} for refusal in job.refused],
        "plans": [
            {
                "id": plan.plan_id,
                "status": plan.status(now_s),
                "start": plan.order.start,
                "end": plan.order.end,
                "interval_s": plan.order.interval_s,
                "slice_len": plan.order.slice_len,
                "task_submitted": plan.tasks(now_s),
            }
            for plan in job.plans.values()
        ],
        "plans_made": job.plans_made,
        "is_foreign": job.is_foreign,
        "is_deleted": job.is_deleted,
        "is_forgotten": job.is_forgotten,
    }


def _jobs_of_one_name(jobs: list[Job]) -> dict[str, int]:
    """Name to the number of our jobs that have it, where that is more than one: a Create that was repeated."""
    names: dict[str, int] = {}
    for job in jobs:
        if not job.is_foreign:
            names[job.name] = names.get(job.name, 0) + 1
    repeated = ((name, count) for name, count in names.items() if count > 1)
    return dict(sorted(repeated)[:_MOST_LISTED])


def _limit_document(limit: RateLimit | None) -> Body | None:
    if limit is None:
        return None
    if isinstance(limit, BucketLimit):
        return {"rate_per_s": limit.rate_per_s, "burst": limit.burst}
    return {"calls": limit.calls, "window_s": limit.window_s}


# -- parsing ------------------------------------------------------------------------------------------------------------


def _parse(raw: bytes) -> object:
    try:
        value: object = json.loads(raw)
    except (ValueError, RecursionError):
        raise ControlError("it is not JSON") from None
    return value


def _object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ControlError(f"{name} must be an object")
    return cast("dict[str, object]", value)


def _number(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ControlError(f"{name} must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ControlError(f"{name} must be a finite number")
    return number


def _whole(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ControlError(f"{name} must be a whole number")
    return value


def _whole_or_none(value: object, name: str) -> int | None:
    return None if value is None else _whole(value, name)


def _boolean(value: object, name: str) -> bool:
    if not isinstance(value, bool):
        raise ControlError(f"{name} must be true or false")
    return value


def _text(value: object, name: str) -> str:
    if not isinstance(value, str):
        raise ControlError(f"{name} must be a text")
    return value


def _texts(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ControlError(f"{name} must be an array of texts")
    return tuple(_text(item, name) for item in cast("list[object]", value))


def _sites(value: object, name: str) -> dict[int, tuple[str, ...]]:
    sites: dict[int, tuple[str, ...]] = {}
    for site_id, domains in _object(value, name).items():
        if not (site_id.isascii() and site_id.isdigit() and len(site_id) <= 19):
            raise ControlError(f"{name} must be an object from site id to an array of domains")
        sites[int(site_id)] = _texts(domains, name)
    return sites


def _oss_objects(value: object, name: str) -> dict[str, str]:
    return {url: _text(text, name) for url, text in _object(value, name).items()}


def _limits(value: object, name: str) -> dict[str, RateLimit | None]:
    return {
        operation: _limit(limit, f"{name}.{operation}") for operation, limit in _object(value, name).items()
    }


def _limit(value: object, name: str) -> RateLimit | None:
    if value is None:
        return None
    given = _object(value, name)
    try:
        if given.keys() == {"rate_per_s", "burst"}:
            return BucketLimit(
                rate_per_s=_number(given["rate_per_s"], name), burst=_whole(given["burst"], name)
            )
        if given.keys() == {"calls", "window_s"}:
            return WindowLimit(calls=_whole(given["calls"], name), window_s=_number(given["window_s"], name))
    except ValueError as error:
        raise ControlError(f"{name}: {error}") from error
    raise ControlError(f"{name} must have rate_per_s and burst, or calls and window_s, or be null")


def _faults(value: object, name: str) -> tuple[Fault, ...]:
    if not isinstance(value, list):
        raise ControlError(f"{name} must be an array of faults")
    return tuple(_fault(item, f"{name}[{i}]") for i, item in enumerate(cast("list[object]", value)))


def _fault(value: object, name: str) -> Fault:
    given = _object(value, name)
    unknown = given.keys() - _FAULT_FIELDS.keys()
    if unknown or "kind" not in given:
        raise ControlError(f"{name} must have a kind, and may have {', '.join(_FAULT_FIELDS)}")
    fields: dict[str, Any] = {
        field: _FAULT_FIELDS[field](item, f"{name}.{field}") for field, item in given.items()
    }
    try:
        return Fault(**fields)
    except ValueError as error:
        raise ControlError(f"{name}: {error}") from error


def _wholes(value: object, name: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ControlError(f"{name} must be an array of whole numbers")
    return tuple(_whole(item, name) for item in cast("list[object]", value))


_FAULT_FIELDS: Mapping[str, Callable[[object, str], object]] = {
    "kind": _text,
    "operation": _text,
    "probability": _number,
    "calls": _wholes,
    "first": _whole,
    "delay_s": _number,
    "status": _whole,
    "code": _text,
}

_FIELDS: Mapping[str, Callable[[object, str], object]] = {
    "limits": _limits,
    "send_hint": _boolean,
    "latency_s": _number,
    "jitter_s": _number,
    "faults": _faults,
    "list_lag_s": _number,
    "clock_offset_s": _number,
    "max_jobs_per_site": _whole_or_none,
    "max_plans_per_job": _whole_or_none,
    "max_urls_per_list": _whole,
    "url_quota_per_site": _whole_or_none,
    "quota_is_all_or_nothing": _boolean,
    "sites": _sites,
    "oss_objects": _oss_objects,
    "oss_buckets": _texts,
    "max_list_bytes": _whole,
}
