"""The audit finds what it is there to find: what is lost, planned twice, or does not add up; and no more."""

from __future__ import annotations

from typing import Any

import pytest

from chaos.books import Accepted, Verdict, audit
from esa_preload import RequestStatus

URLS = ("https://a.example/1", "https://a.example/2", "https://a.example/3")
STATS = {"jobs_forgotten": 0}


def job(*urls: str, plans: int = 1, refused: tuple[str, ...] = (), deleted: bool = False) -> dict[str, Any]:
    return {
        "id": "j" + str(len(urls)),
        "name": "preload-default-b",
        "urls": list(urls),
        "refused": [{"url": url} for url in refused],
        "plans_made": plans,
        "is_foreign": False,
        "is_deleted": deleted,
    }


def judged(
    jobs: list[dict[str, Any]],
    *,
    named: dict[str, str] | None = None,
    stats: dict[str, Any] | None = None,
    accepted: int = 3,
    sites: tuple[int, int] | None = None,
    ends: dict[str, int] | None = None,
) -> Verdict:
    status = RequestStatus(request_id="r", site_id=1, state="done", accepted=3, **(ends or {"submitted": 3}))
    request = Accepted(request_id="r", site_id=1, urls=URLS, accepted=accepted, status=status)
    return audit(
        [request],
        jobs=jobs,
        stats=stats or STATS,
        ended_otherwise=named or {},
        sites={1: sites or (status.submitted, status.refused)},
    )


@pytest.mark.parametrize(
    ("jobs", "named", "ends"),
    [
        ([job(*URLS)], {}, {"submitted": 3}),
        ([job(*URLS[:2]), job(URLS[2])], {}, {"submitted": 3}),
        ([job(*URLS), job(*URLS, plans=0, deleted=True), job(*URLS, plans=0)], {}, {"submitted": 3}),
        ([job(*URLS, refused=URLS[2:])], {URLS[2]: "refused"}, {"submitted": 2, "refused": 1}),
        ([job(*URLS, refused=URLS[2:])], dict.fromkeys(URLS, "unknown"), {"unknown": 3}),
        ([job(*URLS[:2])], {}, {"submitted": 2, "expired": 1}),
        ([job(*URLS[:2])], {URLS[2]: "expired"}, {"submitted": 2, "expired": 1}),
        ([job(URLS[1])], {}, {"submitted": 1, "cancelled": 2}),
    ],
)
def test_what_is_right(jobs: list[dict[str, Any]], named: dict[str, str], ends: dict[str, int]) -> None:
    """Each URL in one planned job, or ended otherwise and counted so; jobs without a plan do not matter."""
    assert judged(jobs, named=named, ends=ends).is_clean


def test_lost() -> None:
    """A URL in no planned job that ended no other way is lost, whatever the queue says of it."""
    verdict = judged([job(*URLS[:2])])
    assert verdict.lost == [URLS[2]]
    assert judged([job(*URLS, plans=0)]).lost == list(URLS)
    assert judged([job(URLS[0])], ends={"submitted": 2, "expired": 1}).lost == [URLS[2]]
    named = {URLS[1]: "expired"}
    assert judged([job(URLS[0])], named=named, ends={"submitted": 2, "expired": 1}).lost == [URLS[2]]


def test_what_is_pending_is_not_lost() -> None:
    """A run that was judged too early says so, and does not take for lost what is still to come."""
    verdict = judged([job(URLS[0])], ends={"submitted": 1, "pending": 1, "in_flight": 1})
    assert not verdict.lost
    assert "not done" in verdict.odd[0]


def test_deleted_with_its_plan() -> None:
    """A plan that went with its job fetches nothing: its URLs are lost, and the job is named."""
    verdict = judged([job(*URLS, deleted=True)])
    assert verdict.lost == list(URLS)
    assert "deleted with its plan" in verdict.odd[0]


def test_planned_twice() -> None:
    """Two plans of one job, or two planned jobs."""
    assert judged([job(*URLS, plans=2)]).planned_twice == list(URLS)
    assert judged([job(*URLS), job(URLS[0])]).planned_twice == [URLS[0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ends": {"submitted": 2}}, "do not add up"),
        ({"ends": {"submitted": 2, "pending": 1}}, "not done"),
        ({"ends": {"submitted": 2, "refused": 1}}, "0 by name"),
        (
            {"ends": {"submitted": 2, "refused": 1}, "named": {URLS[0]: "refused"}},
            "refused URLs were planned",
        ),
        ({"ends": {"submitted": 2, "expired": 1}}, "only 0 were not planned"),
        (
            {"ends": {"submitted": 2, "expired": 1}, "named": {URLS[0]: "expired"}},
            "expired URLs were planned",
        ),
        ({"named": {URLS[0]: "expired"}}, "0 expired, but 1 by name"),
        ({"accepted": 2}, "2 accepted"),
        ({"sites": (4, 0)}, "site 1"),
        ({"stats": {"jobs_forgotten": 1}}, "forgot"),
    ],
)
def test_what_does_not_add_up(changes: dict[str, Any], message: str) -> None:
    """Each count is held against every other that it must agree with."""
    verdict = judged([job(*URLS)], **changes)
    assert any(message in line for line in verdict.odd), verdict.odd
    assert not verdict.is_clean


def test_strangers() -> None:
    """A planned URL that nobody enqueued is a fault too."""
    assert "nobody's" in judged([job(*URLS), job("https://a.example/9")]).odd[0]
