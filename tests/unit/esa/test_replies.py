"""Whatever arrives is a value of the right type or an UncertainError."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.esa import replies
from esa_preload_worker.esa.classify import error_of
from esa_preload_worker.esa.errors import EsaError, UncertainError
from esa_preload_worker.esa.model import Job, Site
from esa_preload_worker.esa.text import MESSAGE_MAX_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable

SEED = {
    "RequestId": "15C66C7B-671A-4297-9187-2C4477247B78",
    "AliUid": "15685865xxx14622",
    "CreatedAt": "2023-06-05T10:04:20+0800",
    "Domains": "testurl.com",
    "ErrorInfo": "InvalidDomain",
    "FailedFileOss": "https://xxxobject.oss-cn-reginon.aliyuncs.com/9d91",
    "FileId": "665d3b48621bccf3fe29e1a7",
    "Id": "665d3af3621bccf3fe29e1a4",
    "InsertWay": "oss",
    "Name": "example",
    "SiteId": 190007158391808,
    "TaskSubmitted": 1,
    "TaskType": "preload",
    "UrlCount": 2,
    "UrlSubmitted": 1,
}
PARSERS: dict[str, Callable[[replies.Fields], object]] = {
    "job": replies.parse_job,
    "job_page": replies.parse_job_page,
    "plans_created": lambda reply: replies.parse_plans_created(reply, job_id="j", asked=1),
    "plans": lambda reply: replies.parse_plans(reply, job_id="j"),
    "site_page": replies.parse_site_page,
}
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.sampled_from(["665d3af3621bccf3fe29e1a4", "5", 1, -1, 2**31, 2**63, "9" * 30]),
)
keys = st.sampled_from(
    [
        *SEED,
        *("Jobs", "TotalCount", "Executions", "Sites", "SiteName", "Status", "JobId", "ExecutionCount"),
        *("SuccessExecutions", "FailedExecutions", "FailedMessages", "SuccessCount"),
        *("Code", "Message", "AccessDeniedDetail"),
    ]
)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=8),
    max_leaves=30,
)


def test_the_documented_reply() -> None:
    """The example of the operation's page is read, its time with the zone written ``+0800``."""
    assert replies.parse_job(replies.parse_object(json.dumps(SEED).encode())) == Job(
        job_id="665d3af3621bccf3fe29e1a4",
        site_id=190007158391808,
        name="example",
        url_count=2,
        url_submitted=1,
        task_submitted=1,
        error_info="InvalidDomain",
        failed_file_url="https://xxxobject.oss-cn-reginon.aliyuncs.com/9d91",
        created_at=datetime(2023, 6, 5, 10, 4, 20, tzinfo=timezone(timedelta(hours=8))),
        esa_request_id="15C66C7B-671A-4297-9187-2C4477247B78",
    )


@pytest.mark.parametrize("total", [1, "1"])
def test_the_total_is_text_or_a_number(total: object) -> None:
    """Both of the documented types of TotalCount are read."""
    page = replies.parse_job_page({"Jobs": [{**SEED, "ExecutionCount": 3}], "TotalCount": total})
    assert (page.total, page.jobs[0].execution_count) == (1, 3)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-06-01T08:53:13Z", datetime(2024, 6, 1, 8, 53, 13, tzinfo=UTC)),
        ("2023-06-05T10:04:20+0800", datetime(2023, 6, 5, 2, 4, 20, tzinfo=UTC)),
        ("2024-05-31T17:10:48.849+08:00", datetime(2024, 5, 31, 9, 10, 48, 849_000, tzinfo=UTC)),
        ("2024-01-01T00:00:00+Z", None),
        ("2024-06-01T08:53:13", None),
        ("yesterday", None),
        ("9" * 10_000, None),
        (17, None),
        (None, None),
    ],
)
def test_times(text: object, expected: datetime | None) -> None:
    """Both documented forms are read; what is none, or has no zone, is no time and no error."""
    assert replies.parse_time(text) == expected


@pytest.mark.parametrize("key", ["Id", "SiteId", "Name", "UrlCount", "UrlSubmitted"])
@pytest.mark.parametrize("odd", [None, True, -1, 1.5, [], {}, 2**63, "\ud800\n", ""])
def test_a_job_without_what_decides_is_unreadable(key: str, odd: object) -> None:
    """A wrong or missing field is never taken for a default that would end URLs (no count becomes 0)."""
    if key == "Name" and isinstance(odd, str):
        return
    with pytest.raises(UncertainError) as caught:
        replies.parse_job({**SEED, key: odd})
    assert caught.value.code == "uncertain.unreadable"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'"text"',
        b"<html>",
        b'{"a":',
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"a": "\xff"}',
        b'{"a":' * 100_000,
        b"[" * 1_000_000,
        b'{"a":' + b"9" * 100_000 + b"}",
    ],
)
def test_what_is_no_object_is_unreadable(body: bytes) -> None:
    """Nothing, HTML, other encodings, NaN, deep nesting and numbers too long to read all end the same."""
    with pytest.raises(UncertainError) as caught:
        replies.parse_object(body)
    assert caught.value.code == "uncertain.unreadable"
    assert caught.value.__cause__ is None


def test_half_characters_do_not_get_in() -> None:
    """A lone surrogate in a name or message becomes something that Redis and logs can store."""
    job = replies.parse_job({**SEED, "ErrorInfo": "\ud800x" * 5000})
    job.error_info.encode()
    assert len(job.error_info) <= MESSAGE_MAX_CHARS


def test_plans_are_accounted_for() -> None:
    """Failed plans are counted by whichever field says more, and one that is not accounted for is unreadable."""
    plan = {"Id": "p1", "JobId": "j", "Status": "Waiting"}
    made = replies.parse_plans_created(
        {"TotalCount": 2, "SuccessCount": 1, "SuccessExecutions": [plan], "FailedMessages": ["too late"]},
        job_id="j",
        asked=2,
    )
    assert (made.created[0].status, made.failed_count, made.failed_messages) == ("waiting", 1, ("too late",))
    none = replies.parse_plans_created({"FailedExecutions": [{}]}, job_id="j", asked=1)
    assert (none.created, none.failed_count) == ((), 1)
    for reply in ({}, {"SuccessCount": 1}, {"SuccessExecutions": [plan], "SuccessCount": 2}):
        with pytest.raises(UncertainError):
            replies.parse_plans_created(dict(reply), job_id="j", asked=1)
    with pytest.raises(UncertainError):
        replies.parse_plans({"Executions": [plan], "TotalCount": 2}, job_id="j")


def test_a_plan_without_its_job_belongs_to_the_one_asked_for() -> None:
    """JobId may be left out of an entry."""
    [plan] = replies.parse_plans({"Executions": [{"Id": "p1", "Status": "running"}]}, job_id="j")
    assert plan.job_id == "j"


def test_sites() -> None:
    """A site's name, id and status are read."""
    page = replies.parse_site_page(
        {"TotalCount": 1, "Sites": [{"SiteId": 7, "SiteName": "a.com", "Status": "active"}]}
    )
    assert page.sites == (Site(site_id=7, name="a.com", status="active"),)


@given(body=st.one_of(st.binary(max_size=300), documents.map(lambda value: json.dumps(value).encode())))
def test_no_reply_raises_anything_else(body: bytes) -> None:
    """Arbitrary bytes and JSON through every parser and the classifier: a value, or an EsaError."""
    for parse in PARSERS.values():
        with contextlib.suppress(UncertainError):
            parse(replies.parse_object(body))
    for status in (200, 302, 400, 403, 429, 500):
        error = error_of(status=status, body=body, headers={}, now=datetime(2026, 1, 1, tzinfo=UTC))
        assert isinstance(error, EsaError)
        str(error).encode()
