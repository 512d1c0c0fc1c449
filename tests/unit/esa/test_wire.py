"""What is sent for each operation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload_worker.esa import wire
from esa_preload_worker.esa.model import PlanOrder

SITE = 190007158391808


def test_create_is_the_recorded_request() -> None:
    """The body is, byte for byte, the one recorded from the official client."""
    request = wire.create_job(
        site_id=SITE, name="example", urls=["http://testurl.com/a.txt", "http://testurl.com/b.txt"]
    )
    assert (request.operation, request.method, request.query) == ("CreateScheduledPreloadJob", "POST", "")
    assert request.body == (
        b"InsertWay=textBox&Name=example&SiteId=190007158391808"
        b"&UrlList=http%3A%2F%2Ftesturl.com%2Fa.txt%0Ahttp%3A%2F%2Ftesturl.com%2Fb.txt"
    )


def test_plans_are_the_recorded_request() -> None:
    """Times are UTC, unset ones left out, numbers stay numbers: the official client's bytes."""
    east = timezone(timedelta(hours=8))
    request = wire.create_plans(
        "665d3af3621bccf3fe000002",
        [
            PlanOrder(
                start=datetime(2024, 6, 4, 0, 0, tzinfo=east),
                end=datetime(2024, 6, 4, 2, 2, 9, tzinfo=UTC),
                interval_s=30,
                slice_len=10,
            ),
            PlanOrder(start=None, end=None, interval_s=60, slice_len=5),
        ],
    )
    assert request.query == "Id=665d3af3621bccf3fe000002"
    assert request.body == (
        b"Executions=%5B%7B%22EndTime%22%3A%222024-06-04T02%3A02%3A09Z%22%2C%22Interval%22%3A30%2C%22SliceLen%22%3A10"
        b"%2C%22StartTime%22%3A%222024-06-03T16%3A00%3A00Z%22%7D%2C%7B%22Interval%22%3A60%2C%22SliceLen%22%3A5%7D%5D"
    )


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "https://a/b\nhttps://a/c",
        "https://a/b\r\nhttps://a/c",
        "https://a/b c",
        "https://a/b\tc",
        "https://a/\x00",
        "https://a/\x0b",
        "https://a/\x7f",
        "https://a/\x85",
        "https://a/\xa0",
        "https://a/\u2028",
        "https://a/\u3000",
        "https://a/\ud800",
        "\ufeffhttps://a/",
    ],
)
def test_no_url_smuggles_in_a_second_one(odd: str) -> None:
    """White space, control characters and nothing at all are refused before a request exists (invariant 7)."""
    with pytest.raises(ValueError, match="white space"):
        wire.create_job(site_id=1, name="n", urls=["https://a/1", odd])
    with pytest.raises(ValueError, match="white space"):
        wire.create_job_from_list(site_id=1, name="n", oss_url=odd)


@given(st.lists(st.text(min_size=1, max_size=30), min_size=1, max_size=5))
def test_what_is_built_holds_exactly_the_urls_given(urls: list[str]) -> None:
    """Either it is refused, or the decoded list has the same lines, and as many words."""
    try:
        request = wire.create_job(site_id=1, name="n", urls=urls)
    except ValueError:
        return
    [url_list] = parse_qs(request.body.decode())["UrlList"]
    assert url_list.split("\n") == urls
    assert url_list.split() == urls


def test_nothing_to_send_is_refused() -> None:
    """An empty list, no plan and a time without a zone are mistakes of ours."""
    with pytest.raises(ValueError, match="at least one URL"):
        wire.create_job(site_id=1, name="n", urls=[])
    with pytest.raises(ValueError, match="at least one plan"):
        wire.create_plans("id", [])
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - the point of the test
    with pytest.raises(ValueError, match="zone"):
        wire.create_plans("id", [PlanOrder(start=naive, end=None, interval_s=1, slice_len=1)])
