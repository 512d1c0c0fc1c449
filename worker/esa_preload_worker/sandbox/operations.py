"""The API's operations: parse the parameters of a call, ask the account, shape the documented reply."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, cast

from esa_preload_worker.sandbox.plans import Order, Plan
from esa_preload_worker.sandbox.replies import ApiError, Body, invalid, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from esa_preload_worker.sandbox.state import Account, Job

API_VERSION = "2024-09-10"

_OBJECT_ID = re.compile(r"[0-9a-f]{24}")
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_BEIJING = timezone(timedelta(hours=8))
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1
_PAGE_SIZE = 20
_MAX_PAGE_SIZE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    One call, parsed as far as HTTP goes.

    Attributes:
        base_url: where the caller reached the sandbox, without a slash at the end.
        most_plans: so many plans can be made; ``None``: as many as the job may have.
        read_list: returns what ESA finds behind an ``OssUrl``; ``None``: nothing that it may read.
    """

    query: Mapping[str, str]
    form: Mapping[str, str]
    base_url: str
    most_plans: int | None = None
    read_list: Callable[[str], bytes | None] = lambda _: None


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation with its HTTP method; ``run`` returns the reply without its ``RequestId``."""

    method: str
    run: Callable[[Account, Call], Body]


# -- operations ---------------------------------------------------------------------------------------------------------


def _create_job(account: Account, call: Call) -> Body:
    form = call.form
    site_id = _site_id(form)
    name = _required(form, "Name")
    insert_way = _required(form, "InsertWay")
    if insert_way == "textBox":
        text = _url_list(account, form)
    elif insert_way == "oss":
        text = _oss_list(account, call)
    else:
        raise invalid("InsertWay", "it is neither textBox nor oss")
    job = account.create_job(site_id=site_id, name=name, insert_way=insert_way, url_text=text)
    return _job_body(account, call, job, created_at=_beijing_time(job.created_s), error_info=_kinds(job))


def _get_job(account: Account, call: Call) -> Body:
    job = account.listed_job(_object_id(call.query))
    return _job_body(account, call, job, created_at=_beijing_time(job.created_s), error_info=_free_text(job))


def _list_jobs(account: Account, call: Call) -> Body:
    query = call.query
    jobs = account.jobs_of_site(
        _site_id(query),
        start_ms=_integer(query, "StartTime", 0, _INT64_MAX),
        end_ms=_integer(query, "EndTime", 0, _INT64_MAX),
    )
    page, size = _paging(query)
    return {
        # A string here, and a number in the list of plans: so documented.
        "TotalCount": str(len(jobs)),
        "Jobs": [
            _job_body(account, call, job, created_at=_utc_time(job.created_s), error_info=_free_text(job))
            | {"ExecutionCount": len(job.plans)}
            for job in jobs[(page - 1) * size : page * size]
        ],
    }


def _delete_job(account: Account, call: Call) -> Body:
    account.delete_job(_object_id(call.query))
    return {}


def _create_plans(account: Account, call: Call) -> Body:
    job_id = _object_id(call.query)
    orders = _orders(_required(call.form, "Executions"))
    made, failed = account.create_plans(job_id, orders, most=call.most_plans)
    return {
        "TotalCount": len(orders),
        "SuccessCount": len(made),
        "SuccessExecutions": [_plan_body(account, plan) for plan in made],
        "FailedExecutions": [_order_body(account, job_id, order) | {"Status": "failed"} for order in failed],
        "FailedMessages": ["The number of executions of the job has reached the limit."] * len(failed),
    }


def _list_plans(account: Account, call: Call) -> Body:
    plans = account.plans_of_job(_object_id(call.query))
    return {"TotalCount": len(plans), "Executions": [_plan_body(account, plan) for plan in plans]}


def _start_plan(account: Account, call: Call) -> Body:
    plan = account.plan(_object_id(call.query))
    plan.start(account.now_s())
    return _plan_body(account, plan)


def _stop_plan(account: Account, call: Call) -> Body:
    plan = account.plan(_object_id(call.query))
    plan.stop(account.now_s())
    return _plan_body(account, plan)


def _delete_plan(account: Account, call: Call) -> Body:
    account.delete_plan(_object_id(call.query))
    return {}


def _list_sites(account: Account, call: Call) -> Body:
    query = call.query
    page, size = _paging(query, default_size=_MAX_PAGE_SIZE)
    has_name = _name_filter(query.get("SiteName", ""), query.get("SiteSearchType", "exact"))
    named = [
        (site_id, domains[0] if domains else f"site-{site_id}.example")
        for site_id, domains in account.sites().items()
    ]
    found = [(site_id, name) for site_id, name in named if has_name(name)]
    return {
        "PageNumber": page,
        "PageSize": size,
        "TotalCount": len(found),
        "Sites": [_site_body(site_id, name) for site_id, name in found[(page - 1) * size : page * size]],
    }


def _list_quotas(account: Account, call: Call) -> Body:
    query = call.query
    if not query.get("SiteId") and not query.get("InstanceId"):
        raise missing("SiteId")
    names = _required(query, "QuotaNames").split(",")
    if query.get("SiteId"):
        account.require_site(_site_id(query))
    quota = account.config.url_quota_per_site
    quotas: list[Body] = []
    if "preload" in names and quota is not None:
        quotas.append({"QuotaName": "preload", "QuotaValue": str(quota), "QuotaValueType": "num"})
    return {"InstanceId": query.get("InstanceId") or "sandbox-instance", "Status": "online", "Quotas": quotas}


OPERATIONS: Mapping[str, Operation] = {
    "CreateScheduledPreloadJob": Operation("POST", _create_job),
    "GetScheduledPreloadJob": Operation("GET", _get_job),
    "ListScheduledPreloadJobs": Operation("GET", _list_jobs),
    "DeleteScheduledPreloadJob": Operation("POST", _delete_job),
    "CreateScheduledPreloadExecutions": Operation("POST", _create_plans),
    "ListScheduledPreloadExecutions": Operation("GET", _list_plans),
    "StartScheduledPreloadExecution": Operation("POST", _start_plan),
    "StopScheduledPreloadExecution": Operation("POST", _stop_plan),
    "DeleteScheduledPreloadExecution": Operation("POST", _delete_plan),
    "ListSites": Operation("GET", _list_sites),
    "ListInstanceQuotas": Operation("GET", _list_quotas),
}


def operation_of(action: str, *, version: str, method: str) -> Operation:
    """Return the operation of that name, or raise the gateway's refusal."""
    operation = OPERATIONS.get(action)
    if operation is None:
        raise ApiError(
            404, "InvalidAction.NotFound", "Specified api is not found, please check your url and method."
        )
    if version != API_VERSION:
        raise ApiError(400, "InvalidVersion", "Specified parameter Version is not valid.")
    if method != operation.method:
        raise ApiError(405, "UnsupportedHTTPMethod", f"{action} is called with {operation.method}.")
    return operation


# -- parameters ---------------------------------------------------------------------------------------------------------


def _required(parameters: Mapping[str, str], name: str) -> str:
    value = parameters.get(name, "")
    if not value:
        raise missing(name)
    return value


def _integer(parameters: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = parameters.get(name, "")
    if not text:
        return None
    if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
        raise invalid(name, f"it is not an integer from {least} to {most}")
    return int(text)


def _site_id(parameters: Mapping[str, str]) -> int:
    site_id = _integer(parameters, "SiteId", 1, _INT64_MAX)
    if site_id is None:
        raise missing("SiteId")
    return site_id


def _object_id(parameters: Mapping[str, str]) -> str:
    text = parameters.get("Id", "")
    if not _OBJECT_ID.fullmatch(text):
        raise ApiError(400, "InvalidParameter.ObjectId", "The specified task or execution id is invalid.")
    return text


def _paging(parameters: Mapping[str, str], *, default_size: int = _PAGE_SIZE) -> tuple[int, int]:
    page = _integer(parameters, "PageNumber", 1, _INT32_MAX) or 1
    return page, _integer(parameters, "PageSize", 1, _MAX_PAGE_SIZE) or default_size


def _url_list(account: Account, form: Mapping[str, str]) -> str:
    text = form.get("UrlList", "")
    if not text:
        raise ApiError(400, "MissingUrlList", "The UrlList parameter is empty.")
    if text.count("\n") >= account.config.max_urls_per_list:
        # ESA documents neither the limit nor its code; this one is of the shape that its neighbours use.
        raise ApiError(
            400, "UrlList.ExceedLimit", f"The UrlList has more than {account.config.max_urls_per_list} URLs."
        )
    return text


def _oss_list(account: Account, call: Call) -> str:
    url = call.form.get("OssUrl", "")
    if not url:
        raise ApiError(400, "MissingOssUrl", "The OssUrl parameter is missing.")
    content = call.read_list(url) or b""
    if len(content) > account.config.max_list_bytes:
        raise ApiError(
            400, "OssFile.ExceedLimit", f"The list is larger than {account.config.max_list_bytes} bytes."
        )
    # A text file ends in a line break.
    return content.decode(errors="replace").replace("\r\n", "\n").removesuffix("\n")


def _orders(text: str) -> list[Order]:
    try:
        value: object = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise invalid("Executions", "it is not JSON") from None
    if not isinstance(value, list) or not value:
        raise invalid("Executions", "it is not an array of executions")
    return [_order(item) for item in cast("list[object]", value)]


def _no_constant(name: str) -> object:
    raise ValueError(name)


def _order(value: object) -> Order:
    if not isinstance(value, dict):
        raise invalid("Executions", "an execution is not an object")
    item = cast("dict[str, object]", value)
    start, start_s = _time(item, "StartTime")
    end, end_s = _time(item, "EndTime")
    if start_s is not None and end_s is not None and end_s < start_s:
        raise ApiError(400, "InvalidEndTime.Mismatch", "The end time is earlier than the start time.")
    return Order(
        start=start,
        end=end,
        start_s=start_s,
        end_s=end_s,
        interval_s=_count(item, "Interval"),
        slice_len=_count(item, "SliceLen"),
    )


def _count(item: Mapping[str, object], name: str) -> int:
    value = item.get(name)
    if value is None:
        raise missing(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= _INT32_MAX:
        raise invalid(name, f"it is not an integer from 1 to {_INT32_MAX}")
    return value


def _time(item: Mapping[str, object], name: str) -> tuple[str | None, float | None]:
    text = item.get(name)
    if text is None or text == "":
        return None, None
    if not isinstance(text, str) or not text.isascii():
        raise invalid(name, "it is not an ISO 8601 time")
    try:
        # The documentation prints the odd `2024-01-01T00:00:00+Z` too.
        moment = datetime.fromisoformat(text.replace("+Z", "Z"))
    except ValueError:
        raise invalid(name, "it is not an ISO 8601 time") from None
    if moment.tzinfo is None:
        raise invalid(name, "it says no zone")
    return text, moment.timestamp()


def _name_filter(wanted: str, how: str) -> Callable[[str], bool]:
    if not wanted:
        return lambda _: True
    filters: dict[str, Callable[[str], bool]] = {
        "exact": lambda name: name == wanted,
        "prefix": lambda name: name.startswith(wanted),
        "suffix": lambda name: name.endswith(wanted),
        "fuzzy": lambda name: wanted in name,
    }
    if how not in filters:
        raise invalid("SiteSearchType", f"it is none of {', '.join(filters)}")
    return filters[how]


# -- replies ------------------------------------------------------------------------------------------------------------


def failed_file_path(job_id: str) -> str:
    """Return the path under which the sandbox serves the refused URLs of a job."""
    return f"/failed/{job_id}.txt"


def failed_file_text(job: Job) -> str:
    """Return the refused URLs of a job: one a line, a tab, and the kind of its refusal."""
    return "".join(f"{refusal.url}\t{refusal.kind}\n" for refusal in job.refused)


def _job_body(account: Account, call: Call, job: Job, *, created_at: str, error_info: str) -> Body:
    return {
        "Id": job.job_id,
        "AliUid": account.config.account_id,
        "SiteId": job.site_id,
        "Name": job.name,
        "InsertWay": job.insert_way,
        "TaskType": "preload",
        "CreatedAt": created_at,
        "Domains": ",".join(job.domains),
        "UrlCount": job.url_count,
        "UrlSubmitted": job.url_submitted,
        "TaskSubmitted": job.tasks(account.now_s()),
        "ErrorInfo": error_info,
        "FailedFileOss": call.base_url + failed_file_path(job.job_id) if job.refused else "",
        "FileId": job.job_id,
    }


def _kinds(job: Job) -> str:
    if job.insert_way == "oss" and not job.url_count:
        return "OtherErrors"
    return ",".join(dict.fromkeys(refusal.kind for refusal in job.refused))


def _free_text(job: Job) -> str:
    """Say it as the examples of Get, List and Reset do: ``invalid domain:test.com`` rather than the kind."""
    for refusal in job.refused:
        if refusal.kind == "InvalidDomain":
            host = re.split(r"[/:?#]", refusal.url.partition("//")[2], maxsplit=1)[0]
            return _kinds(job).replace("InvalidDomain", f"invalid domain:{host}")
    return _kinds(job)


def _plan_body(account: Account, plan: Plan) -> Body:
    return _order_body(account, plan.job_id, plan.order) | {
        "Id": plan.plan_id,
        "StartTime": plan.order.start or _utc_time(plan.first_slice_s),
        "Status": plan.status(account.now_s()),
    }


def _order_body(account: Account, job_id: str, order: Order) -> Body:
    times = {"StartTime": order.start, "EndTime": order.end}
    return {
        "JobId": job_id,
        "AliUid": account.config.account_id,
        "Interval": order.interval_s,
        "SliceLen": order.slice_len,
    } | {name: text for name, text in times.items() if text is not None}


def _site_body(site_id: int, name: str) -> Body:
    return {
        "SiteId": site_id,
        "SiteName": name,
        "Status": "active",
        "InstanceId": "sandbox-instance",
        "PlanName": "enterprise",
        "AccessType": "NS",
        "Coverage": "global",
    }


def _utc_time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _beijing_time(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, _BEIJING).strftime("%Y-%m-%dT%H:%M:%S%z")


def decode_parameters(pairs: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return parameters by name, or raise the refusal of text that is not UTF-8, or of a name given twice."""
    try:
        decoded = {name.decode(): value.decode() for name, value in pairs}
    except UnicodeDecodeError:
        raise ApiError(400, "InvalidParameter", "A parameter is not UTF-8.") from None
    if len(decoded) != len(pairs):
        raise ApiError(400, "InvalidParameter", "A parameter is given more than once.")
    return decoded
