"""What a batch may meet on its way, and how its URLs end then: the same wherever a worker is stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from esa_preload_worker.sandbox.faults import Fault
from integration.crash_points.timeline import jump

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from integration.crash_points.point import Point, Worker

CREATE = "CreateScheduledPreloadJob"
PLAN = "CreateScheduledPreloadExecutions"
PLAN_LISTS = "ListScheduledPreloadExecutions"
DELETE = "DeleteScheduledPreloadJob"

OSS_LIST = "https://bucket.oss-cn-hangzhou.aliyuncs.com/list.txt"
GOOD = tuple(f"https://www.example.com/{i}.js" for i in range(4))
STRANGE = ("https://www.example.net/a.js", "https://www.example.net/b.js")
"""Not of the account: ESA takes the job and refuses them."""
POISON = "https://www.example.com/poison.js"
"""ESA refuses each list that holds it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How many URLs of the request ended how."""

    submitted: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """
    One way of a request.

    Attributes:
        ends: how its URLs end when no worker is struck.
        or_ends: the other end that is as right when one is, and ``why``.
        reasons: with which those that are refused are.
        refused_urls: those that are among the failures.
        sandbox: what its configuration has.
        settings: of the workers.
        expires_in_s: of the request.
        plan_ends_in_s: of the request's plan, rounded up to the minute.
        meanwhile: what else happens, right after the other side did what a call asks.
        each_round: what else happens between two looks of the worker.
        is_stopping: whether the first worker is being shut down.
        creates_twice: a Create whose reply is lost makes two jobs of the name.
        may_leave_a_job: one without a plan, which fetches nothing, when nobody is left who knows of it.
        is_bulk: the workers have a bucket, and packs are of two URLs.
        is_begun: somebody gathered a pack, and died.
        plans_cool_s: nobody creates a plan for so long, since another was throttled.
    """

    ends: Ends
    or_ends: Ends | None = None
    why: str = ""
    urls: tuple[str, ...] = GOOD
    reasons: frozenset[str] = frozenset()
    refused_urls: tuple[str, ...] = ()
    sandbox: Mapping[str, Any] = field(default_factory=dict[str, Any])
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    expires_in_s: int | None = None
    plan_ends_in_s: int | None = None
    meanwhile: Callable[[Point, Worker, str], Awaitable[None]] | None = None
    each_round: Callable[[Point], Awaitable[None]] | None = None
    is_stopping: bool = False
    creates_twice: bool = False
    may_leave_a_job: bool = False
    is_bulk: bool = False
    is_begun: bool = False
    plans_cool_s: float = 0


def _faults(*faults: Fault) -> dict[str, Any]:
    return {"faults": faults}


def _first(kind: Any, operation: str, **how: Any) -> dict[str, Any]:
    """Strike the first call of *operation*, whoever makes it."""
    return _faults(Fault(kind=kind, operation=operation, calls=(1,), **how))


async def _cancel(point: Point, _: Worker, call: str) -> None:
    if call == CREATE and point.once("cancelled"):
        await point.cancel()


async def _expire(point: Point, _: Worker, call: str) -> None:
    if call == CREATE and point.once("expired"):
        jump(6)


async def _let_the_window_pass(point: Point, _: Worker, call: str) -> None:
    if call == PLAN_LISTS and point.once("passed"):
        jump(WINDOW_S + 60)


def _shut_down_in(operation: str) -> Callable[[Point, Worker, str], Awaitable[None]]:
    async def shut_down(_: Point, worker: Worker, call: str) -> None:
        if call == operation and worker.is_first:
            await worker.shut_down()

    return shut_down


async def _reset_quota(point: Point) -> None:
    status = await point.status()
    if status.submitted and not status.in_flight:
        point.sandbox.reconfigure(url_quota_per_site=None)


WINDOW_S = 90
THROTTLED = _first("refuse", CREATE, status=429, code="Throttling.User")
GOES_ON = "nobody knows that the call was refused: what is in flight goes on, as a request in flight does"

BULK = {"oss_min_urls": "4", "batch_max_urls": "3"}

SCENARIOS: dict[str, Scenario] = {
    "two batches": Scenario(ends=Ends(submitted=4), settings={"batch_max_urls": "2"}),
    "partly refused": Scenario(
        urls=(*GOOD, *STRANGE),
        ends=Ends(submitted=4, refused=2),
        reasons=frozenset({"invalid_domain"}),
        refused_urls=STRANGE,
    ),
    "refused whole": Scenario(
        urls=STRANGE, ends=Ends(refused=2), reasons=frozenset({"invalid_domain"}), refused_urls=STRANGE
    ),
    "throttled": Scenario(ends=Ends(submitted=4), sandbox=THROTTLED),
    "plan throttled": Scenario(
        ends=Ends(submitted=4), sandbox=_first("refuse", PLAN, status=429, code="Throttling.User")
    ),
    "split": Scenario(
        urls=(*GOOD[:3], POISON),
        ends=Ends(submitted=3, refused=1),
        reasons=frozenset({"refused"}),
        refused_urls=(POISON,),
    ),
    "Create lost after": Scenario(ends=Ends(submitted=4), sandbox=_first("lost_after", CREATE)),
    "Create lost before": Scenario(
        ends=Ends(submitted=4), sandbox=_first("lost_before", CREATE), settings={"rate_initial": "0.8"}
    ),
    "Create made twice": Scenario(
        ends=Ends(submitted=4),
        sandbox=_first("lost_after", CREATE),
        creates_twice=True,
        may_leave_a_job=True,
    ),
    "plans cool down": Scenario(ends=Ends(submitted=4), plans_cool_s=3),
    "plan failed for now": Scenario(ends=Ends(submitted=4), sandbox=_first("error_before", PLAN)),
    "plan lost after": Scenario(ends=Ends(submitted=4), sandbox=_first("lost_after", PLAN)),
    "plan not made": Scenario(
        ends=Ends(refused=4),
        reasons=frozenset({"plan_failed"}),
        refused_urls=GOOD,
        sandbox=_faults(Fault(kind="plan_failed", operation=PLAN, probability=1)),
    ),
    "plan refused": Scenario(
        ends=Ends(refused=4),
        reasons=frozenset({"plan_failed"}),
        refused_urls=GOOD,
        sandbox=_faults(Fault(kind="refuse", operation=PLAN, code="InvalidEndTime.Mismatch", probability=1)),
    ),
    "list in OSS": Scenario(
        ends=Ends(submitted=4, refused=2),
        urls=(),
        reasons=frozenset({"invalid_domain"}),
        refused_urls=STRANGE,
        sandbox={"oss_objects": {OSS_LIST: "\n".join((*GOOD, *STRANGE))}},
    ),
    "bulk": Scenario(ends=Ends(submitted=4), is_bulk=True, settings=BULK),
    "bulk begun by another": Scenario(ends=Ends(submitted=4), is_bulk=True, is_begun=True, settings=BULK),
    "bulk partly refused": Scenario(
        urls=(*GOOD, *STRANGE),
        ends=Ends(submitted=4, refused=2),
        reasons=frozenset({"invalid_domain"}),
        refused_urls=STRANGE,
        is_bulk=True,
        settings=BULK,
    ),
    "bulk put back": Scenario(
        ends=Ends(submitted=4),
        is_bulk=True,
        settings=BULK,
        sandbox=_first("refuse", CREATE, status=400, code="InvalidParameter.OssUrl"),
    ),
    "bulk lost after": Scenario(
        ends=Ends(submitted=4), is_bulk=True, settings=BULK, sandbox=_first("lost_after", CREATE)
    ),
    "bulk lost before": Scenario(
        ends=Ends(submitted=4), is_bulk=True, settings=BULK, sandbox=_first("lost_before", CREATE)
    ),
    "quota": Scenario(
        ends=Ends(submitted=4),
        sandbox={"url_quota_per_site": 3},
        settings={"quota_retry_after": "60"},
        each_round=_reset_quota,
    ),
    "cancelled in flight": Scenario(ends=Ends(submitted=4), meanwhile=_cancel),
    "cancelled and throttled": Scenario(
        ends=Ends(cancelled=4),
        or_ends=Ends(submitted=4),
        why=GOES_ON,
        sandbox=THROTTLED,
        meanwhile=_cancel,
    ),
    "expired in flight": Scenario(ends=Ends(submitted=4), expires_in_s=5, meanwhile=_expire),
    "expired and throttled": Scenario(
        ends=Ends(expired=4),
        or_ends=Ends(submitted=4),
        why=GOES_ON,
        expires_in_s=5,
        sandbox=THROTTLED,
        meanwhile=_expire,
    ),
    "its window passes": Scenario(
        ends=Ends(expired=4),
        sandbox=_first("error_before", PLAN),
        plan_ends_in_s=WINDOW_S,
        meanwhile=_let_the_window_pass,
    ),
    "handed back": Scenario(ends=Ends(submitted=4), is_stopping=True),
    "handed over in Create": Scenario(ends=Ends(submitted=4), meanwhile=_shut_down_in(CREATE)),
    "handed over in the plan": Scenario(ends=Ends(submitted=4), meanwhile=_shut_down_in(PLAN)),
}
