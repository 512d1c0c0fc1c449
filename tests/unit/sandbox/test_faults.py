"""Which fault strikes which call, with dice that are known; and what of a struck call is committed."""

from __future__ import annotations

import json
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload_worker.sandbox.config import SandboxConfig
from esa_preload_worker.sandbox.control import ControlError, changes_of, config_document
from esa_preload_worker.sandbox.faults import CREATE_PLANS, FAILED_FILE, KINDS, Fault, Faults
from esa_preload_worker.sandbox.plans import Order
from esa_preload_worker.sandbox.replies import ApiError
from esa_preload_worker.sandbox.state import Account

if TYPE_CHECKING:
    from collections.abc import Iterable

CREATE = "CreateScheduledPreloadJob"


def struck(faults: Iterable[Fault], operations: Iterable[str], *rolls: float) -> list[str]:
    """Return what strikes each call, or nothing; the dice show *rolls* and then 0.999."""
    dice = iter([*rolls, *repeat(0.999, 100)])
    running = Faults(tuple(faults), lambda: next(dice))
    found = [running.next(operation) for operation in operations]
    return [fault.kind if fault else "" for fault in found]


def test_by_chance() -> None:
    """A call is struck when the dice show less than the probability: never at 0, always at 1."""
    fault = Fault(kind="lost_after", probability=0.25)
    assert struck([fault], [CREATE] * 3, 0.2499, 0.25, 0.0) == ["lost_after", "", "lost_after"]
    assert struck([Fault(kind="half", probability=0)], [CREATE], 0.0) == [""]
    assert struck([Fault(kind="half", probability=1)], [CREATE], 0.999) == ["half"]


def test_by_number() -> None:
    """The n-th calls, or the next n calls, counted by operation; whatever the dice show."""
    third = Fault(kind="drip", operation=CREATE, calls=(1, 3))
    assert struck([third], [CREATE, "ListSites", CREATE, CREATE, CREATE], 0.0, 0.0) == [
        "drip",
        "",
        "",
        "drip",
        "",
    ]
    assert struck([Fault(kind="half", first=2)], [CREATE, "ListSites", CREATE]) == ["half", "half", ""]


def test_the_first_of_several_strikes_and_all_count() -> None:
    """Two faults due at once: the first in order strikes, and the second has counted the call too."""
    faults = [Fault(kind="half", calls=(1,)), Fault(kind="drip", calls=(1, 2))]
    assert struck(faults, [CREATE, CREATE, CREATE]) == ["half", "drip", ""]


def test_the_failed_file_is_not_an_operation() -> None:
    """``*`` strikes every operation, and the reading of a list of refused URLs only where that is named."""
    assert struck([Fault(kind="half", probability=1)], [FAILED_FILE, CREATE]) == ["", "half"]
    assert struck([Fault(kind="half", operation=FAILED_FILE, first=1)], [CREATE, FAILED_FILE]) == ["", "half"]


def test_a_change_keeps_the_count_of_what_stays() -> None:
    """A fault that stays in force goes on counting; a new one begins at 1."""
    stays, new = Fault(kind="half", calls=(2,)), Fault(kind="drip", calls=(1,))
    faults = Faults([stays], lambda: 0.999)
    assert faults.next(CREATE) is None
    faults.change([stays, new])
    assert faults.next(CREATE) == stays
    faults.change([new])
    assert faults.next(CREATE) is None
    faults.change([])
    assert faults.next(CREATE) is None


def test_what_is_committed() -> None:
    """Faults before the commit and refusals do nothing; all others do, the slow one in its own time."""
    operation = dict.fromkeys(KINDS, "*") | {"plan_failed": CREATE_PLANS}
    committed = {kind for kind in KINDS if Fault(kind=kind, operation=operation[kind]).commits}
    assert set(KINDS) - committed == {"lost_before", "reset_before", "error_before", "html_before", "refuse"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "flood"},
        {"kind": "half", "probability": 1.1},
        {"kind": "half", "calls": (0,)},
        {"kind": "half", "first": -1},
        {"kind": "half", "delay_s": float("inf")},
        {"kind": "half", "status": 99},
        {"kind": "plan_failed"},
    ],
)
def test_what_no_fault_is(wrong: dict[str, Any]) -> None:
    """An unknown kind, or a value out of range, is refused when the fault is made."""
    with pytest.raises(ValueError, match=r"must|from 1|only"):
        Fault(**wrong)


def test_as_documents() -> None:
    """What GET shows of the faults, PUT takes; what is wrong is named by its place."""
    faults = (
        Fault(kind="error_after", operation=CREATE, probability=0.5, status=502, code="InternalError"),
        Fault(kind="slow_before", calls=(1, 7), delay_s=0.5),
    )
    config = SandboxConfig(faults=faults, list_lag_s=2.0, clock_offset_s=-3.0)
    shown = config_document(config)
    taken = changes_of(json.dumps(shown).encode())
    assert (taken["faults"], taken["list_lag_s"], taken["clock_offset_s"]) == (faults, 2.0, -3.0)
    wrongs: tuple[tuple[Any, str], ...] = (
        ({}, "must be an array"),
        ([{}], r"faults\[0\] must have a kind"),
        ([{"kind": "half", "chance": 1}], r"faults\[0\] must have a kind"),
        ([{"kind": "half"}, {"kind": "flood"}], r"faults\[1\]: kind must be one of"),
        ([{"kind": "half", "calls": 3}], r"faults\[0\].calls must be an array"),
    )
    for wrong, message in wrongs:
        with pytest.raises(ControlError, match=message):
            changes_of(json.dumps({"faults": wrong}).encode())


def test_a_list_lags() -> None:
    """A new job is not shown by List and Get, nor its plans, until the lag is over; it can be planned at once."""
    now_s = 1_000.0
    account = Account(SandboxConfig(list_lag_s=5), lambda: now_s)
    job = account.create_job(site_id=1, name="n", insert_way="textBox", url_text="https://a.example/1")
    order = Order(start=None, end=None, start_s=None, end_s=None, interval_s=1, slice_len=1)
    account.create_plans(job.job_id, [order])
    assert account.jobs_of_site(1, start_ms=None, end_ms=None) == []
    assert account.plans_of_job(job.job_id) == []
    with pytest.raises(ApiError) as refused:
        account.listed_job(job.job_id)
    assert refused.value.code == "InvalidJob.NotFound"
    now_s += 5
    assert account.jobs_of_site(1, start_ms=None, end_ms=None) == [account.listed_job(job.job_id)]
    assert len(account.plans_of_job(job.job_id)) == 1


def test_a_clock_is_off() -> None:
    """Creation times follow the account's clock; a clock that steps does not hide what was listed."""
    account = Account(SandboxConfig(clock_offset_s=-60, list_lag_s=1), lambda: 1_000.0)
    job = account.create_job(site_id=1, name="n", insert_way="textBox", url_text="https://a.example/1")
    assert (account.now_s(), job.created_s) == (940.0, 940.0)
    account.change(SandboxConfig(clock_offset_s=-1_000))
    assert account.jobs_of_site(1, start_ms=900_000, end_ms=950_000) == [job]


def test_no_plan_can_be_made() -> None:
    """Asked for none at most, every order comes back as failed."""
    account = Account(SandboxConfig(), lambda: 1_000.0)
    job = account.create_job(site_id=1, name="n", insert_way="textBox", url_text="https://a.example/1")
    order = Order(start=None, end=None, start_s=None, end_s=None, interval_s=1, slice_len=1)
    assert account.create_plans(job.job_id, [order], most=0) == ([], [order])
