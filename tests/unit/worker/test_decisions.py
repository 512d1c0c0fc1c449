"""What follows from what ESA said: every arm of the decisions, as tables and properties."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.model import Plan
from esa_preload_worker import decisions
from esa_preload_worker.block_reasons import BLOCK_REASONS, block_reason, is_quota
from esa_preload_worker.claims import Batch, Call, Settlement
from esa_preload_worker.decisions import LIST_PLANS, REFUSAL_REASONS, Timing
from esa_preload_worker.esa import (
    BlockedError,
    EsaError,
    Job,
    JobCapError,
    NotFoundError,
    NotSentError,
    PlansCreated,
    RefusedError,
    RefusedUrl,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.ledger import CREATE_JOB, CREATE_PLANS
from esa_preload_worker.settings import Settings, load

TIMING = Timing(call_timeout_ms=10_000, list_lag_ms=5_000, quota_retry_after_ms=3_600_000)
NOW_MS = 1_800_000_000_000
URLS = tuple(f"https://www.example.com/{i}" for i in range(4))


def batch_of(urls: tuple[str, ...] = URLS, **changes: Any) -> Batch:
    """Return a batch that was just claimed."""
    facts: dict[str, Any] = {
        "batch_id": "b",
        "token": "t",
        "state": "sent",
        "site_id": 1,
        "lane": "",
        "attempt": 1,
        "now_ms": NOW_MS,
        "first_sent_ms": NOW_MS,
        "sent_ms": NOW_MS,
        "oldest_ms": NOW_MS,
        "is_part": False,
        "job": {},
        "urls": urls,
    }
    return Batch(**(facts | changes))


def job_of(count: int, submitted: int, error_info: str = "") -> Job:
    """Return a job as Create answers it."""
    return Job(
        job_id="j",
        site_id=1,
        name="n",
        url_count=count,
        url_submitted=submitted,
        task_submitted=0,
        error_info=error_info,
        failed_file_url="https://x.aliyuncs.com/f" if error_info else "",
    )


def refused(*lines: tuple[int, str]) -> tuple[RefusedUrl, ...]:
    """Return lines of the failed file, by index of the URL and reason."""
    return tuple(RefusedUrl(url=URLS[i] if i < 4 else "https://else/", reason=reason) for i, reason in lines)


def verdicts(settlement: Settlement, urls: int = 4) -> list[str]:
    """Return how each URL ends."""
    special = {e.index: e.verdict for e in settlement.exemptions}
    return [special.get(i, settlement.verdict) for i in range(urls)]


S, R, U, P = "submitted", "refused", "unknown", "pending"


@pytest.mark.parametrize(
    ("job", "lines", "expected", "outcome"),
    [
        (job_of(4, 4), None, [S, S, S, S], "submitted"),
        (job_of(4, 3, "InvalidUrl"), refused((1, "InvalidUrl")), [S, R, S, S], "partial"),
        (job_of(4, 3, "InvalidUrl"), refused((1, "")), [S, R, S, S], "partial"),
        (job_of(4, 3, "InvalidUrl"), None, [U, U, U, U], "unknown"),
        (job_of(4, 3, "InvalidUrl"), (), [U, U, U, U], "unknown"),
        (job_of(4, 2, "InvalidUrl"), refused((1, "InvalidUrl"), (9, "InvalidUrl")), [U, R, U, U], "unknown"),
        (job_of(4, 3), None, [U, U, U, U], "unknown"),
        (job_of(4, 4, "OtherErrors"), None, [S, S, S, S], "submitted"),
        (job_of(4, 0, "InvalidDomain"), None, [R, R, R, R], "refused"),
        (job_of(4, 0), None, [R, R, R, R], "refused"),
        (job_of(0, 0), None, [R, R, R, R], "refused"),
        (
            job_of(4, 2, "QuotaExcess"),
            refused((2, "QuotaExcess"), (3, "QuotaExcess")),
            [S, S, P, P],
            "partial",
        ),
        (job_of(4, 2, "QuotaExcess"), refused((2, ""), (3, "")), [S, S, P, P], "partial"),
        (
            job_of(4, 2, "InvalidUrl,QuotaExcess"),
            refused((0, "InvalidUrl"), (3, "QuotaExcess")),
            [R, S, S, P],
            "partial",
        ),
        (job_of(4, 2, "QuotaExcess"), None, [U, U, U, U], "unknown"),
        (job_of(4, 0, "QuotaExcess"), None, [P, P, P, P], "requeued"),
        (job_of(4, 0, "QuotaExcess,InvalidUrl"), refused((1, "InvalidUrl")), [P, R, P, P], "requeued"),
        (
            job_of(4, 3, "invalid domain:test.com"),
            refused((0, "invalid domain:test.com")),
            [R, S, S, S],
            "partial",
        ),
    ],
)
def test_each_url_of_a_job_ends(
    job: Job, lines: tuple[RefusedUrl, ...] | None, expected: list[str], outcome: str
) -> None:
    """The table of a 200: counts, kinds and the list decide how each URL ends."""
    settlement = decisions.judge(batch_of(), job, lines, TIMING)
    assert (verdicts(settlement), settlement.outcome) == (expected, outcome)
    assert settlement.what == "end"


@pytest.mark.parametrize("submitted", [0, 2, 4])
def test_a_quota_pauses_the_site_and_never_clears_it(submitted: int) -> None:
    """QuotaExcess: the site waits as long as the setting says, whatever else came through."""
    settlement = decisions.judge(batch_of(), job_of(4, submitted, "QuotaExcess"), None, TIMING)
    assert settlement.over_quota == (submitted == 0), (
        "only of what was refused as a whole less is sent next time"
    )
    assert settlement.site_wait is not None
    assert (settlement.site_wait.reason, settlement.site_wait.ms, settlement.site_wait.grows) == (
        "quota",
        3_600_000,
        False,
    )
    assert not settlement.site_ok


KINDS = st.sampled_from(["InvalidUrl", "InvalidDomain", "QuotaExcess", "OtherErrors", "", "what?"])


@given(st.data())
def test_every_url_gets_one_verdict_and_none_is_submitted_that_was_refused(data: st.DataObject) -> None:
    """Whatever ESA answers: one verdict a URL, only known ones, reasons of the closed set, no more submitted than it said."""
    count = data.draw(st.integers(1, 8))
    urls = tuple(f"https://www.example.com/{i}" for i in range(count))
    submitted = data.draw(st.integers(0, count))
    kinds = data.draw(st.lists(KINDS, max_size=3))
    lines = data.draw(
        st.none()
        | st.lists(
            st.builds(RefusedUrl, url=st.sampled_from([*urls, "https://else/"]), reason=KINDS), max_size=10
        ).map(tuple)
    )
    job = job_of(count, submitted, ",".join(kinds))
    lines = lines if decisions.needs_failed_file(job) else None
    settlement = decisions.judge_job(urls, job, lines, TIMING)
    indexes = [e.index for e in settlement.exemptions]
    assert indexes == sorted(set(indexes))
    assert all(0 <= i < count for i in indexes)
    ends = Counter(verdicts(settlement, count))
    assert sum(ends.values()) == count
    assert ends[S] <= submitted
    listed = {line.url for line in lines or ()}
    if submitted:
        for i, verdict in enumerate(verdicts(settlement, count)):
            assert not (urls[i] in listed and verdict == S)
    for exemption in settlement.exemptions:
        assert exemption.verdict in (R, P)
        assert exemption.verdict == P or exemption.reason in REFUSAL_REASONS


LIST = "https://b.oss-cn-hangzhou.aliyuncs.com/l.txt"
LIST_BATCH = batch_of((LIST,), lane="oss:r:")


@pytest.mark.parametrize(
    ("job", "lines", "ends", "verdict"),
    [
        (job_of(9, 9), None, {S: 9}, S),
        (job_of(9, 7, "InvalidUrl"), refused((0, "")), {S: 7, R: 2}, S),
        (job_of(9, 0, "InvalidUrl"), None, {R: 9}, R),
        (job_of(0, 0, "OtherErrors"), None, None, R),
        (job_of(9, 0, "QuotaExcess"), None, None, P),
    ],
)
def test_a_list_in_oss_ends_by_numbers(
    job: Job, lines: tuple[RefusedUrl, ...] | None, ends: dict[str, int] | None, verdict: str
) -> None:
    """We never saw its URLs: ESA's counts say how many ended how, and those of its list are kept by name."""
    settlement = decisions.judge(LIST_BATCH, job, lines, TIMING)
    assert (settlement.list_ends, settlement.verdict) == (ends, verdict)
    assert len(settlement.list_failed) == len(lines or ())


def test_the_failed_lines_kept_of_a_list_are_bounded() -> None:
    """A list may hold millions: a thousand of its refused URLs are kept by name."""
    lines = tuple(RefusedUrl(url=f"https://e/{i}", reason="") for i in range(5_000))
    settlement = decisions.judge_list(job_of(9_000, 4_000, "InvalidUrl"), lines, TIMING)
    assert (len(settlement.list_failed), settlement.list_ends) == (1_000, {S: 4_000, R: 5_000})


PART = batch_of(is_part=True)
TWO = batch_of(URLS[:2])
ONE = batch_of(URLS[:1])
ONE_PART = batch_of(URLS[:1], is_part=True)
ONE_LIST = batch_of((LIST,), lane="oss:r:")


@pytest.mark.parametrize(
    ("batch", "error", "what", "outcome"),
    [
        (batch_of(), ThrottledError("", code="Throttling"), "end", "throttled"),
        (PART, ThrottledError("", code="Throttling"), "defer", "throttled"),
        (batch_of(), NotSentError("", code="not_sent.dns"), "end", "not_sent"),
        (PART, NotSentError("", code="not_sent.dns"), "defer", "not_sent"),
        (batch_of(), UncertainError("", code="uncertain.reset"), "defer", "uncertain"),
        (PART, UncertainError("", code="uncertain.reset"), "defer", "uncertain"),
        (batch_of(), SiteBusyError("", code="LockFailed"), "end", "busy"),
        (PART, SiteBusyError("", code="LockFailed"), "defer", "busy"),
        (batch_of(), JobCapError("", code="InvalidJob.JobCountOfSiteFull"), "end", "job_cap"),
        (batch_of(), BlockedError("", scope="account", code="Forbidden"), "end", "blocked"),
        (PART, BlockedError("", scope="site", code="SiteNotFound"), "defer", "blocked"),
        (batch_of(), SizeError("", code="TooLarge"), "end", "too_large"),
        (PART, SizeError("", code="TooLarge"), "split", "split"),
        (TWO, SizeError("", code="TooLarge"), "split", "split"),
        (ONE, SizeError("", code="TooLarge"), "end", "blocked"),
        (ONE_PART, SizeError("", code="TooLarge"), "hold", "held"),
        (ONE_LIST, SizeError("", code="TooLarge"), "end", "refused"),
        (ONE_LIST, RefusedError("", code="Odd"), "end", "blocked"),
        (batch_of(), BlockedError("", scope="site", code="QuotaExceeded.Preload"), "end", "requeued"),
        (PART, BlockedError("", scope="site", code="QuotaExcess"), "split", "split"),
        (ONE_PART, BlockedError("", scope="site", code="QuotaExcess"), "defer", "requeued"),
        (batch_of(), RefusedError("", code="Odd"), "split", "split"),
        (PART, RefusedError("", code="Odd"), "split", "split"),
        (ONE, RefusedError("", code="Odd"), "end", "blocked"),
        (ONE_PART, RefusedError("", code="Odd"), "hold", "held"),
        (batch_of(), NotFoundError("", code="InvalidJob.NotFound"), "split", "split"),
    ],
)
def test_a_create_that_failed(batch: Batch, error: EsaError, what: str, outcome: str) -> None:
    """The outcome table: what happens to the batch, and that nothing is dropped for it."""
    settlement = decisions.after_create_error(batch, error, timing=TIMING)
    assert (settlement.what, settlement.outcome) == (what, outcome)
    if what == "end" and outcome != "refused":
        assert settlement.verdict == "pending"
    if what == "defer":
        assert settlement.state == ("uncertain" if outcome == "uncertain" else "ready")
    assert (settlement.block is not None) == (outcome == "blocked")
    assert settlement.lone == (batch in (ONE, ONE_LIST) and outcome == "blocked")
    if settlement.lone:
        reason = "too_large" if isinstance(error, SizeError) else "refused"
        assert (settlement.reason, settlement.code) == (reason, error.code)
    assert (settlement.size_limit == 2) == (isinstance(error, SizeError) and len(batch.urls) > 2)
    waits = settlement.site_wait
    assert settlement.over_quota == ("Quota" in error.code)
    if "Quota" in error.code:
        assert waits is not None
        assert (waits.reason, waits.ms, waits.grows) == ("quota", TIMING.quota_retry_after_ms, False)


@pytest.mark.parametrize(("hint_s", "ms"), [(None, 0), (0.0001, 1), (1.5, 1_500)])
def test_a_hint_is_obeyed_to_the_millisecond(hint_s: float | None, ms: int) -> None:
    """The hint reaches the ledger, rounded up: never shorter than what ESA asked for."""
    error = ThrottledError("", retry_after_s=hint_s, code="Throttling")
    call = decisions.call_of(CREATE_JOB, 5, error)
    assert call == Call(operation=CREATE_JOB, sent_ms=5, outcome="throttled", hint_ms=ms)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "ok"),
        (RefusedError("", code="Odd"), "ok"),
        (SizeError("", code="TooLarge"), "ok"),
        (NotFoundError("", code="InvalidJob.NotFound"), "ok"),
        (JobCapError("", code="InvalidJob.JobCountOfSiteFull"), "ok"),
        (NotSentError("", code="not_sent.dns"), "not_sent"),
        (UncertainError("", code="uncertain.reset"), "unknown"),
        (SiteBusyError("", code="SystemBusy"), "answered"),
        (BlockedError("", scope="account", code="Forbidden"), "answered"),
    ],
)
def test_what_a_call_tells_about_the_rate(error: EsaError | None, outcome: str) -> None:
    """What ESA refuses for itself counts as a call that the limit let through; what never came so far does not."""
    assert decisions.call_of(CREATE_JOB, 5, error).outcome == outcome


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (ThrottledError("", code="Throttling"), "throttled"),
        (NotSentError("", code="not_sent.dns"), "not_sent"),
        (SiteBusyError("", code="SystemBusy"), "busy"),
        (BlockedError("", scope="account", code="Forbidden"), "blocked"),
        (UncertainError("", code="uncertain.reset"), "uncertain"),
        (NotFoundError("", code="InvalidJob.NotFound"), "uncertain"),
        (RefusedError("", code="Odd"), "blocked"),
        (SizeError("", code="TooLarge"), "blocked"),
        (BlockedError("", scope="site", code="QuotaExcess"), "deferred"),
    ],
)
def test_a_look_up_that_failed_leaves_the_batch_uncertain(error: EsaError, outcome: str) -> None:
    """What Create did is still not known, whatever the look-up came to; what it tells about more than the batch is heeded."""
    settlement = decisions.after_look_up_error(batch_of(), error, timing=TIMING)
    assert (settlement.what, settlement.state, settlement.outcome) == ("defer", "uncertain", outcome)
    assert settlement.delay_ms > 0


def test_a_look_up_that_goes_on_failing_is_made_rarely() -> None:
    """Every second at first, since an outage may be short; at most once a minute in the end, and never less often."""
    error = UncertainError("", code="uncertain.http_5xx")

    def delay_ms(attempt: int) -> int:
        batch = batch_of(attempt=attempt, state="uncertain")
        looked = decisions.after_look_up_error(batch, error, timing=TIMING)
        listed = decisions.after_plan_error(
            batch, error, judged=JUDGED, operation=LIST_PLANS, sent_ms=NOW_MS, timing=TIMING
        )
        assert looked.delay_ms == listed.delay_ms
        return looked.delay_ms

    assert [delay_ms(attempt) for attempt in (1, 20, 21, 22, 10**6)] == [1_000, 1_000, 2_000, 4_000, 60_000]


JUDGED = decisions.judge(
    batch_of(), job_of(4, 2, "InvalidUrl,QuotaExcess"), refused((0, "InvalidUrl"), (3, "QuotaExcess")), TIMING
)


@pytest.mark.parametrize("operation", [LIST_PLANS, CREATE_PLANS])
@pytest.mark.parametrize(
    ("error", "late_ms", "what", "expected"),
    [
        (ThrottledError("", code="Throttling"), 0, "defer", None),
        (NotSentError("", code="not_sent.dns"), 0, "defer", None),
        (SiteBusyError("", code="LockFailed"), 0, "defer", None),
        (BlockedError("", scope="account", code="Forbidden"), 0, "defer", None),
        (BlockedError("", scope="site", code="QuotaExcess"), 0, "defer", None),
        (UncertainError("", code="uncertain.reset"), 0, "defer", None),
        (NotFoundError("", code="InvalidJob.NotFound"), 14_999, "defer", None),
        (
            NotFoundError("", code="InvalidJob.NotFound"),
            15_000 + decisions.NOTE_HOLDS_MS,
            "end",
            [R, P, P, P],
        ),
        (RefusedError("", code="InvalidEndTime.Mismatch"), 0, "end", [R, R, R, P]),
    ],
)
def test_a_plan_that_failed(
    error: EsaError, late_ms: int, what: str, expected: list[str] | None, operation: str
) -> None:
    """The job exists: only the plan is tried again; a permanent failure ends what ESA had taken, and nothing else."""
    settlement = decisions.after_plan_error(
        batch_of(), error, judged=JUDGED, operation=operation, sent_ms=NOW_MS + late_ms, timing=TIMING
    )
    if operation == LIST_PLANS and isinstance(error, RefusedError):
        # The list says nothing about the plan, which may exist: nothing is refused for it.
        assert (settlement.what, settlement.outcome, settlement.state) == ("defer", "blocked", "created")
        return
    assert settlement.what == what
    if expected is None:
        assert settlement.state == "created"
        assert settlement.delay_ms > 0
        return
    assert verdicts(settlement) == expected
    assert (settlement.site_ok, settlement.planned) == (False, False)
    assert settlement.site_wait == JUDGED.site_wait, "the quota is used up all the same"


def test_the_failed_plan_of_a_list_names_the_list() -> None:
    """All that ESA took of it is refused, and the list itself stands among the failures."""
    judged = decisions.judge(LIST_BATCH, job_of(9, 7, "InvalidUrl"), refused((0, "")), TIMING)
    settlement = decisions.plan_failed(LIST_BATCH, judged, "Odd")
    assert settlement.list_ends == {R: 9}
    assert settlement.list_failed[-1] == (LIST, "plan_failed", "Odd")


def test_what_is_absent_is_known_only_after_timeout_and_lag() -> None:
    """A job, and a plan, may commit within CALL_TIMEOUT and be listed within LIST_LAG: until then it is looked for, in good time."""

    def of_job(now_ms: int) -> Settlement | None:
        return decisions.not_found(batch_of(), now_ms=now_ms, timing=TIMING)

    def of_plan(now_ms: int) -> Settlement | None:
        return decisions.no_plan_listed(NOW_MS, now_ms=now_ms, timing=TIMING)

    for decide in (of_job, of_plan):
        absent_ms = NOW_MS + decisions.NOTE_HOLDS_MS + 15_000
        early, late = decide(NOW_MS), decide(absent_ms - 200)
        assert early is not None
        assert late is not None
        assert (early.delay_ms, late.delay_ms) == (1_000, 200)
        assert decide(absent_ms) is None
    assert decisions.no_plan_listed(0, now_ms=NOW_MS, timing=TIMING) is None


@pytest.mark.parametrize(
    ("state", "what", "becomes"),
    [("sent", "end", "ready"), ("uncertain", "defer", "uncertain"), ("created", "defer", "created")],
)
def test_a_batch_is_put_off_as_it_is(state: str, what: str, becomes: str) -> None:
    """What was not sent goes back to its lane; what may have become a job stays a batch."""
    settlement = decisions.hand_back(batch_of(state=state))
    assert (settlement.what, settlement.state) == (what, becomes)
    assert decisions.hand_over().state == "uncertain"
    assert decisions.put_off(batch_of(state="sent", is_part=True), 5).what == "defer"


def settings(**changes: str) -> Settings:
    """Return settings with *changes*."""
    environ = {
        "ESA_PRELOAD_REDIS_URL": "redis://h",
        **{f"ESA_PRELOAD_{k.upper()}": v for k, v in changes.items()},
    }
    return load(environ).settings


NOW = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_default_plan_has_room_for_every_slice() -> None:
    """It starts now and ends an hour after its last slice."""
    order = decisions.order_plan("", 250, settings(plan_interval="60", plan_slice="100"), NOW)
    assert (order.start, order.interval_s, order.slice_len) == (NOW, 60, 100)
    assert order.end == NOW + timedelta(seconds=3 * 60 + 3_600)


def test_a_plan_of_its_own_is_kept() -> None:
    """Start, end, pace are the producer's; a start that has passed becomes now."""
    plan = Plan(start=NOW + timedelta(hours=1), end=NOW + timedelta(hours=3), interval_s=5, slice_len=2)
    lane = plan.lane_key(NOW)
    order = decisions.order_plan(lane, 10, settings(), NOW)
    assert (order.start, order.end, order.interval_s, order.slice_len) == (plan.start, plan.end, 5, 2)
    late = decisions.order_plan(lane, 10, settings(), NOW + timedelta(hours=2))
    assert late.start == NOW + timedelta(hours=2)
    assert decisions.order_plan(f"oss:r:{lane}", 10, settings(), NOW) == order


@given(
    minutes=st.integers(1, 600),
    urls=st.integers(1, 1_000),
    interval_s=st.one_of(st.none(), st.integers(1, 3_600)),
    slice_len=st.one_of(st.none(), st.integers(1, 1_000)),
)
def test_a_window_has_room_for_every_slice_unless_the_request_fixed_both(
    minutes: int, urls: int, interval_s: int | None, slice_len: int | None
) -> None:
    """What the request left open is chosen so that ESA comes to the last URL in time; what it fixed stays."""
    plan = Plan(end=NOW + timedelta(minutes=minutes), interval_s=interval_s, slice_len=slice_len)
    order = decisions.order_plan(plan.lane_key(NOW), urls, settings(), NOW)
    assert order.end == plan.end
    assert order.interval_s == (interval_s or order.interval_s)
    assert order.slice_len == (slice_len or order.slice_len)
    slices = -(-urls // order.slice_len)
    has_room = (slices - 1) * order.interval_s < minutes * 60
    may_fail = slice_len is not None and (interval_s is not None or slices > minutes * 60)
    assert has_room or may_fail
    if plan.interval_s is None and plan.slice_len is None:
        usual = settings()
        assert order.interval_s == usual.plan_interval
        assert order.slice_len >= usual.plan_slice


def test_a_plan_that_has_ended_is_not_made() -> None:
    """To the millisecond: what ESA had taken expires, what it refused stays refused; without an end it is never too late."""
    lane = Plan(end=NOW).lane_key(NOW - timedelta(hours=1))
    end_ms = round(NOW.timestamp() * 1000)
    for key in (lane, f"oss:r:{lane}"):
        assert not decisions.has_window_passed(batch_of(lane=key), end_ms - 1)
        assert decisions.has_window_passed(batch_of(lane=key), end_ms)
    assert not decisions.has_window_passed(batch_of(), end_ms)
    early = decisions.too_late()
    assert (early.verdict, early.reason, early.site_ok) == ("expired", "window_passed", False)
    judged = decisions.judge(batch_of(), job_of(4, 3, "InvalidUrl"), refused((1, "InvalidUrl")), TIMING)
    late = decisions.too_late_to_plan(judged)
    assert (late.verdict, late.exemptions, late.planned) == ("expired", judged.exemptions, False)
    the_list = decisions.too_late_to_plan(decisions.judge_list(job_of(9, 7, "InvalidUrl"), (), TIMING))
    assert the_list.list_ends == {"expired": 7, "refused": 2}


@given(interval_s=st.integers(1, 2**31 - 1), slice_len=st.integers(1, 2**31 - 1), urls=st.integers(1, 10**6))
def test_no_plan_ends_beyond_what_a_date_can_hold(interval_s: int, slice_len: int, urls: int) -> None:
    """Whatever pace a producer asks for, the plan has an end after its start: a batch must not be one nobody can work on."""
    lane = Plan(interval_s=interval_s, slice_len=slice_len).lane_key(NOW)
    for now in (NOW, datetime(9999, 12, 30, tzinfo=UTC)):
        order = decisions.order_plan(lane, urls, settings(), now)
        assert order.end is not None
        assert order.start is not None
        assert order.end >= order.start


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("", ()),
        ("InvalidUrl,QuotaExcess", ("InvalidUrl", "QuotaExcess")),
        ("invalid domain:test.com", ("InvalidDomain",)),
        ("nothing known", ()),
    ],
)
def test_kinds_are_read_from_free_text(text: str, kinds: tuple[str, ...]) -> None:
    """Create writes kinds, Get and List write prose: both are understood."""
    assert decisions.error_kinds(text) == kinds


def test_the_list_is_read_only_when_it_is_needed() -> None:
    """No list without an address, and none when all went."""
    assert decisions.needs_failed_file(job_of(4, 3, "InvalidUrl"))
    assert not decisions.needs_failed_file(job_of(4, 3))
    assert not decisions.needs_failed_file(replace(job_of(4, 4), failed_file_url="https://x.aliyuncs.com/"))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("no_credentials", "credentials"),
        ("InvalidAccessKeyId.NotFound", "credentials"),
        ("InvalidSecurityToken.Expired", "credentials"),
        ("SecurityTokenExpired", "credentials"),
        ("SignatureDoesNotMatch", "signature"),
        ("InvalidTimeStamp.Expired", "signature"),
        ("IllegalTimestamp", "signature"),
        ("Forbidden.RAM", "permission"),
        ("AccessDenied", "permission"),
        ("InvalidUid.PermissionDenied", "permission"),
        ("SiteNotFound", "unknown_site"),
        ("InvalidSiteId", "unknown_site"),
        ("InvalidAccount.NotFound", "account"),
        ("OutOfDebt", "account"),
        ("InvalidEndpoint.Whatever", "request"),
    ],
)
def test_block_reasons_are_a_closed_set(code: str, reason: str) -> None:
    """What ESA sends must not grow a label."""
    assert block_reason(code) == reason
    assert reason in BLOCK_REASONS


def test_a_quota_is_no_reason_to_block() -> None:
    """A used-up quota comes back by itself, whatever its code is called; a plain limit does not count as one."""
    assert all(map(is_quota, ("QuotaExcess", "Preload.QuotaExceeded", "QuotaExceeded")))
    assert not any(map(is_quota, ("UrlList.ExceedLimit", "InvalidUrl", "")))


def test_a_failed_plan_has_a_code_and_what_esa_said_is_for_the_log() -> None:
    """What ESA writes freely never becomes a code; it is bounded."""
    made = PlansCreated(
        created=(), failed_count=1, failed_messages=("limit reached", "x" * 999), esa_request_id="r"
    )
    refusal = decisions.refused_plan(made)
    assert refusal.code == "FailedExecutions"
    assert "limit reached" in str(refusal)
    assert len(str(refusal)) < 300
