"""The invariants as tables: facts that agree, and each way in which they do not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload_worker.check.keyspace import Found, needs_ttl
from esa_preload_worker.check.rules import (
    COUNTS,
    BatchFacts,
    BatchRecord,
    LaneFacts,
    Limits,
    RequestFacts,
    SiteFacts,
    SplitFacts,
    WakeFacts,
    Work,
    judge_batch,
    judge_owner,
    judge_request,
    judge_site,
    judge_wake,
    lane_due,
)

if TYPE_CHECKING:
    from esa_preload_worker.check.model import Violation

NOW = 1_800_000_000_000.0
P = "esa-preload:t:"
LIMITS = Limits(
    slots=4,
    batch_max_urls=100,
    batch_max_bytes=65_536,
    batch_max_age_ms=60_000,
    batch_quiet_ms=5_000,
    lease_ms=10_000,
)


def lane(**changes: Any) -> LaneFacts:
    """Return a lane of 3 URLs that falls due in 4 s, but for *changes*."""
    facts = LaneFacts(
        name="",
        version=1,
        due=NOW + 4_000,
        exists=True,
        urls=3,
        entries=(0, 3, 0),
        newest=NOW - 1_000,
        oldest=NOW - 1_000,
        floor=None,
        size_bytes=90,
        weight=0,
    )
    return replace(facts, **changes)


def batch(**changes: Any) -> BatchFacts:
    """Return a batch of 5 URLs that is being sent, but for *changes*."""
    facts = BatchFacts(batch_id="b", version=1, state="sent", lane="", count=5, root="", lease=NOW + 9_000)
    return replace(facts, **changes)


def site(**changes: Any) -> SiteFacts:
    """Return a site with that lane and that batch, but for *changes*; those of ``totals`` go on top."""
    totals = {
        "accepted": 20, "merged": 2, "pending": 3, "in_flight": 5, "batches": 1, "submitted": 6, "refused": 1,
        "expired": 1, "cancelled": 1, "unknown": 1,
    }  # fmt: skip
    facts = SiteFacts(
        site="1",
        now=NOW,
        version=1,
        exists=True,
        is_listed=True,
        is_paused=False,
        is_blocked=False,
        wait_until=0,
        ring=NOW + 4_000,
        totals=totals | changes.pop("totals", {}),
        limits=LIMITS,
        lanes=(lane(),),
        batches=(batch(),),
        parts=(),
        splits=(),
        visit=None,
        agenda=None,
    )
    return replace(facts, **changes)


def request(**changes: Any) -> RequestFacts:
    """Return a sealed request with 3 URLs pending and 2 submitted, but for *changes*; those of ``counts`` go on top."""
    counts = dict.fromkeys(COUNTS, 0) | {"accepted": 5, "pending": 3, "submitted": 2}
    facts = RequestFacts(
        number="7",
        version=1,
        exists=True,
        request_id="r",
        site="1",
        lane="",
        sealed=1,
        ended="",
        is_marked_done=False,
        lists=0,
        expires_at=None,
        counts=counts | changes.pop("counts", {}),
        chunks=1,
        ttl=-1,
        chunks_ttl=-1,
        id_ttl=-1,
        open_at=None,
        expiring_at=None,
        leaving_at=None,
        listed={"active": 2, "done": 0},
        points_to="7",
    )
    return replace(facts, **changes)


def names(violations: list[Violation]) -> set[str]:
    """Return the names of *violations*."""
    return {violation.name for violation in violations}


EMPTY = {"urls": 0, "due": None, "exists": False, "entries": (0, 0, 0)}
PART = {"state": "ready", "root": "r", "lease": None}
HELD = {"state": "held", "root": "r", "lease": None}
NOTHING_IN_FLIGHT = {"batches": 0, "in_flight": 0, "submitted": 11}


@pytest.mark.parametrize(
    "facts",
    [
        site(),
        site(is_paused=True, ring=None),
        site(is_blocked=True, ring=None),
        site(is_blocked=True, batches=(), totals=NOTHING_IN_FLIGHT),
        site(limits=replace(LIMITS, slots=1), ring=None),
        site(wait_until=NOW + 3_600_000, ring=NOW + 3_600_000),
        site(lanes=(lane(**EMPTY),), totals={"pending": 0, "expired": 4}, ring=None),
        site(lanes=(lane(due=NOW - 50_000),), ring=NOW - 1_000),
        site(lanes=(lane(due=NOW + 10_500, urls=100),), totals={"pending": 100, "accepted": 117}, ring=NOW + 10_500),
        site(lanes=(lane(name="oss:r:", urls=1, weight=500, due=NOW),), ring=NOW, totals={"pending": 500, "accepted": 517}),
        site(parts=("p",), batches=(batch(batch_id="p", state="ready", lease=None),), totals={"batches": 0}, ring=NOW),
        site(
            batches=(batch(batch_id="p", **PART), batch(batch_id="h", **HELD)),
            parts=("p",),
            splits=(SplitFacts(root="r", live=1, held=("h",)),),
            totals={"batches": 0, "in_flight": 10, "accepted": 25},
            ring=NOW,
        ),
    ],
)  # fmt: skip
def test_a_site_that_agrees_is_left_alone(facts: SiteFacts) -> None:
    """Paused, blocked, full, waiting, empty, overdue, put off by a worker that can't read it, lists, parts: all well."""
    assert judge_site(P, facts) == []


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (site(totals={"pending": 4}), "site.pending"),
        (site(totals={"in_flight": 4}), "site.in_flight"),
        (site(totals={"batches": 2}), "site.batches"),
        (site(totals={"accepted": 21}), "site.balance"),
        (site(is_listed=False), "site.unlisted"),
        (site(lanes=(lane(due=None), lane(name="x", **EMPTY)), ring=None), "lane.unlisted"),
        (site(lanes=(lane(), lane(name="x", **EMPTY | {"due": NOW + 9_000}))), "lane.empty"),
        (site(lanes=(lane(), lane(name="x", **EMPTY | {"exists": True}))), "lane.leftover"),
        (site(lanes=(lane(), lane(name="x", **EMPTY | {"entries": (0, 0, 2)}))), "lane.leftover"),
        (site(lanes=(lane(due=NOW + 20_000),), ring=NOW + 20_000), "lane.late"),
        (site(ring=None), "ring.missing"),
        (site(is_paused=True), "ring.extra"),
        (site(ring=NOW + 60_000), "ring.late"),
        (site(ring=NOW), "ring.early"),
        (site(batches=(batch(lease=None),)), "lease.missing"),
        (site(batches=(batch(), batch(batch_id="p", state="ready", count=0)), parts=("p",), ring=NOW), "lease.extra"),
        (site(batches=(batch(), batch(batch_id="p", state="ready", count=0, lease=None))), "part.missing"),
        (site(parts=("gone",), ring=NOW), "part.stale"),
        (site(version=2), "version"),
        (site(lanes=(lane(version=2),), totals={"pending": 9}), "version"),
        (site(batches=(batch(version=2),)), "version"),
    ],
)  # fmt: skip
def test_what_does_not_agree_in_a_site_is_named(facts: SiteFacts, found: str) -> None:
    """One thing is wrong, one name comes out, with the key and what is expected."""
    violations = judge_site(P, facts)
    assert names(violations) == {found}
    assert all(v.key.startswith(P) and v.expected and v.found for v in violations)


@pytest.mark.parametrize(
    ("split", "parts", "found"),
    [
        (SplitFacts(root="r", live=2, held=("h",)), ("p",), {"split.live"}),
        (SplitFacts(root="r", live=None, held=("h",)), ("p",), {"split.live"}),
        (SplitFacts(root="r", live=1, held=()), ("p",), {"held.missing"}),
        (SplitFacts(root="r", live=1, held=("h", "gone")), ("p",), {"held.stale"}),
        (SplitFacts(root="r", live=1, held=("h", "h")), ("p",), {"held.stale"}),
    ],
)
def test_a_split_knows_its_parts(split: SplitFacts, parts: tuple[str, ...], found: set[str]) -> None:
    """The parts that are left and those that are held are what the batches' states say."""
    facts = site(
        batches=(batch(batch_id="p", **PART), batch(batch_id="h", **HELD)),
        parts=parts,
        splits=(split,),
        totals={"batches": 0, "in_flight": 10, "accepted": 25},
        ring=NOW,
    )
    assert names(judge_site(P, facts)) == found


@pytest.mark.parametrize(
    ("facts", "due"),
    [
        (lane(), NOW + 4_000),
        (lane(urls=100), NOW),
        (lane(size_bytes=65_536), NOW),
        (lane(name="oss:x:", urls=1), NOW),
        (lane(oldest=NOW - 58_000), NOW + 2_000),
        (lane(floor=NOW - 59_000), NOW + 1_000),
        (lane(newest=None, oldest=NOW - 2_000), NOW + 3_000),
    ],
)
def test_a_lane_falls_due_as_the_scripts_decide(facts: LaneFacts, due: float) -> None:
    """Full, a list, old by its head or its floor, quiet: the first of these."""
    assert lane_due(LIMITS, NOW, facts) == due


DONE = {
    "counts": {"pending": 0, "submitted": 5},
    "is_marked_done": True,
    "ttl": 9,
    "chunks_ttl": 9,
    "id_ttl": 9,
    "listed": {"active": 0, "done": 2},
    "leaving_at": NOW,
}


@pytest.mark.parametrize(
    "facts",
    [
        request(),
        request(**DONE),
        request(**DONE | {"chunks_ttl": -2, "chunks": 0, "sealed": 0}),
        request(exists=False, ttl=-2),
        request(sealed=None, open_at=NOW),
        request(expires_at=NOW + 5, expiring_at=NOW + 5),
        request(ended="cancelled", counts={"pending": 0, "in_flight": 1, "cancelled": 2}, expires_at=NOW + 5),
        request(counts={"accepted": 0, "pending": 0, "submitted": 0}, lists=1),
    ],
)
def test_a_request_that_agrees_is_left_alone(facts: RequestFacts) -> None:
    """Active, done, gone, open, expiring, cancelled, a list without a count: all well."""
    assert judge_request(P, facts) == []


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        (request(counts={"accepted": 6}), {"request.balance"}),
        (request(counts={"refused": -1, "submitted": 3}), {"request.negative"}),
        (request(counts={"warming": 1, "finished": 2}), {"request.plans"}),
        (request(ended="expired"), {"request.ended"}),
        (request(chunks=2), {"request.chunks"}),
        (request(ttl=5), {"request.ttl"}),
        (request(**DONE | {"id_ttl": -1}), {"request.ttl"}),
        (request(**DONE | {"is_marked_done": False}), {"request.done"}),
        (request(points_to="", id_ttl=-2), {"request.id"}),
        (request(points_to="8", id_ttl=5), {"request.id"}),
        (request(sealed=None), {"open.missing"}),
        (request(open_at=NOW), {"open.stale"}),
        (request(exists=False, ttl=-2, open_at=NOW, expiring_at=NOW), {"open.stale", "expiring.stale"}),
        (request(listed={"active": 1, "done": 0}), {"index.missing"}),
        (request(listed={"active": 2, "done": 1}), {"index.extra"}),
        (request(leaving_at=NOW), {"leaving.extra"}),
        (request(**DONE | {"leaving_at": None}), {"leaving.missing"}),
        (request(**DONE | {"listed": {"active": 2, "done": 1}}), {"index.missing", "index.extra"}),
        (request(expires_at=NOW), {"expiring.missing"}),
        (request(expires_at=NOW, expiring_at=NOW + 1), {"expiring.missing"}),
        (request(expiring_at=NOW), {"expiring.stale"}),
        (request(version=2, counts={"accepted": 99}), {"version"}),
    ],
)
def test_what_does_not_agree_in_a_request_is_named(facts: RequestFacts, found: set[str]) -> None:
    """One thing is wrong, its name comes out."""
    assert names(judge_request(P, facts)) == found


def test_a_request_is_compared_with_what_its_urls_say() -> None:
    """Pending, in flight and lists, each by itself; an ended one has nothing pending whatever its URLs still say."""
    assert judge_owner(P, request(), Work(pending=3)) == []
    assert names(judge_owner(P, request(), Work(pending=2))) == {"owner.pending"}
    assert names(judge_owner(P, request(), Work(pending=3, in_flight=1))) == {"owner.in_flight"}
    assert names(judge_owner(P, request(), Work(pending=3, lists=1))) == {"owner.lists"}
    ended = request(ended="cancelled", counts={"pending": 0, "cancelled": 3})
    assert judge_owner(P, ended, Work(pending=3)) == []
    assert judge_owner(P, request(version=2), Work()) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ""),
        ({"count": 3}, "batch.count"),
        ({"owners": {"1": 1, "2": 1}}, "batch.owners"),
        ({"state": ""}, "batch.broken"),
        ({"version": 2, "count": 9}, "version"),
        ({"lane": "oss:x:", "count": 500, "members": ("u 15:1",), "owners": {"1": 500}}, ""),
        ({"lane": "oss:x:", "count": 500, "members": ("u 15:1",), "owners": {"1": 1}}, "batch.owners"),
    ],
)
def test_a_batch_agrees_with_its_members(changes: dict[str, Any], found: str) -> None:
    """Its count and its owners are those of its members; a list stands for as many URLs as it counts."""
    record = BatchRecord(
        batch_id="b",
        version=1,
        site="1",
        lane="",
        state="sent",
        count=2,
        owners={"1": 2, "2": 1},
        members=("u 15:1,2", "w 05:1"),
    )
    assert names(judge_batch(P, replace(record, **changes))) == set(found.split())


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, ""),
        ({"due": None, "armed": None}, ""),
        ({"armed": None}, "wake.missing"),
        ({"armed": None, "begun": 1}, ""),
        ({"armed": None, "waiters": 1}, ""),
        ({"armed": NOW + 1_500}, ""),
        ({"armed": NOW + 60_000}, "wake.missing"),
        ({"due": NOW + 60_000, "armed": NOW + 61_000}, ""),
        ({"strays": ("b",)}, "lease.stray"),
    ],
)
def test_what_is_due_has_somebody_to_wake_up(changes: dict[str, Any], found: str) -> None:
    """A wake-up in time, one that has begun, or a loop that waits; else it is missing."""
    facts = WakeFacts(now=NOW, due=NOW, armed=NOW, begun=0, waiters=0, strays=())
    assert names(judge_wake(P, replace(facts, **changes))) == set(found.split())


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("meta", False),
        ("site:1", False),
        ("rate:CreateScheduledPreloadJob", False),
        ("urls:1:1800000000000,,60,", False),
        ("band:1::0", False),
        ("request-id:a:b", False),
        ("parts:1", False),
        ("split:0a", False),
        ("failures:1", True),
        ("sweeper", True),
        ("queue:health-check", True),
        ("note", True),
        ("site:x", True),
    ],
)
def test_a_key_needs_a_ttl_unless_it_is_documented(name: str, needs: bool) -> None:
    """Permanent ones and those that go with their work are the exception."""
    assert needs_ttl(name) is needs


def test_names_of_keys_tell_what_there_is() -> None:
    """Sites, lanes with any name, batches, requests and chunks are found by their keys; others are ignored."""
    found = Found()
    for name in (
        "site:1", "lanes:2", "lane:3:", "urls:3:a,b", "band:3:oss:r:x:1", "batch:b", "held:r", "request:7", "chunks:8",
        "request-id:9", "meta", "band:odd", "request:x",
    ):  # fmt: skip
        found.note(name)
    assert found.lanes == {"1": set(), "2": set(), "3": {"", "a,b", "oss:r:x"}}
    assert (found.batches, found.roots, found.requests, found.chunks) == ({"b"}, {"r"}, {7}, {8})
