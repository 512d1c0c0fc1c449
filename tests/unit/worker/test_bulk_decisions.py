"""What follows for a bulk batch where it is not as for any: every arm."""

from __future__ import annotations

from dataclasses import replace

import pytest

from esa_preload_worker import bulk_decisions, decisions
from esa_preload_worker.claims import Batch, Bulk, Settlement
from esa_preload_worker.decisions import Timing
from esa_preload_worker.esa import (
    BlockedError,
    EsaError,
    Job,
    JobCapError,
    NotSentError,
    RefusedError,
    RefusedUrl,
    SiteBusyError,
    SizeError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.oss_errors import OssError
from esa_preload_worker.settings import load

TIMING = Timing(call_timeout_ms=10_000, list_lag_ms=5_000, quota_retry_after_ms=3_600_000)
BULK = Bulk(lines=4)
BATCH = Batch(
    batch_id="b",
    token="t",
    state="sent",
    site_id=1,
    lane="",
    attempt=2,
    now_ms=1,
    first_sent_ms=1,
    sent_ms=1,
    oldest_ms=1,
    is_part=False,
    job={},
    urls=(),
    bulk=BULK,
)
URLS = tuple(f"https://www.example.com/{i}" for i in range(4))


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
    )


def after(error: EsaError) -> Settlement:
    """Return what follows from an error of Create."""
    otherwise = decisions.after_create_error(BATCH, error, timing=TIMING)
    return bulk_decisions.after_create_error(BULK, error, otherwise=otherwise, timing=TIMING)


@pytest.mark.parametrize(
    "error",
    [
        ThrottledError("", code="Throttling"),
        NotSentError("", code="not_sent.dns"),
        SiteBusyError("", code="LockFailed"),
        JobCapError("", code="InvalidJob.JobCountOfSiteFull"),
        BlockedError("", scope="account", code="SignatureDoesNotMatch"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_passes_leaves_the_list_ready(error: EsaError) -> None:
    """It is surely not sent, and waits for its turn as it is: nothing is gathered or stored again."""
    settlement = after(error)
    assert (settlement.what, settlement.state, settlement.bulk_limit) == ("defer", "ready", None)


def test_an_unknown_outcome_is_looked_up() -> None:
    """As of any batch."""
    assert after(UncertainError("", code="uncertain.reset")).state == "uncertain"


@pytest.mark.parametrize(
    ("error", "most"),
    [
        (RefusedError("", code="InvalidParameter.OssUrl"), 0),
        (SizeError("", code="TooLarge"), 2),
        (BlockedError("", scope="account", code="Forbidden.RAM"), 0),
        (BlockedError("", scope="site", code="SiteNotFound"), 0),
        (BlockedError("", scope="site", code="QuotaExceeded"), 0),
    ],
    ids=lambda value: getattr(value, "code", None),
)
def test_what_may_be_about_the_list_puts_it_back(error: EsaError, most: int) -> None:
    """No URL is refused and nothing blocked for it: batches carry the URLs, for an hour, and show whether the site is blocked."""
    settlement = after(error)
    assert (settlement.what, settlement.verdict, settlement.state) == ("end", "pending", "returning")
    assert settlement.block is None
    assert settlement.bulk_limit is not None
    assert (settlement.bulk_limit.urls, settlement.bulk_limit.ms) == (most, 3_600_000)
    assert settlement.hint or isinstance(error, (SizeError, BlockedError))
    assert (settlement.site_wait is not None) == (error.code == "QuotaExceeded")


@pytest.mark.parametrize(("is_passing", "ms"), [(True, 60_000), (False, 3_600_000)])
def test_a_bucket_that_fails_is_tried_again_by_what_it_said(*, is_passing: bool, ms: int) -> None:
    """Soon where it may pass, else after an hour, with its hint in the log."""
    settlement = bulk_decisions.after_list_error(OssError("", code="X", hint="do", is_passing=is_passing))
    assert settlement.bulk_limit is not None
    assert (settlement.bulk_limit.urls, settlement.bulk_limit.ms, settlement.hint) == (0, ms, "do")


@pytest.mark.parametrize(("count", "most"), [(3, 3), (0, 0), (5, 0)])
def test_a_count_that_is_not_the_lists_is_not_planned(count: int, most: int) -> None:
    """Whatever ESA took of it goes back; a list of as many as it read may do."""
    settlement = bulk_decisions.judge(BULK, (), job_of(count, count), None, TIMING)
    assert (settlement.verdict, settlement.planned, settlement.code) == ("pending", False, "list_misread")
    assert settlement.bulk_limit is not None
    assert settlement.bulk_limit.urls == most


def test_refused_urls_are_told_by_name() -> None:
    """Indexes mean nothing across packs."""
    refused = (RefusedUrl(url=URLS[2], reason="InvalidUrl"),)
    settlement = bulk_decisions.judge(BULK, URLS, job_of(4, 3, "InvalidUrl"), refused, TIMING)
    assert (settlement.verdict, settlement.exemptions, set(settlement.by_url)) == ("submitted", (), {URLS[2]})
    (of_pack,) = bulk_decisions.exemptions_of_pack(URLS[1:], settlement.by_url)
    assert (of_pack.index, of_pack.verdict, of_pack.reason) == (1, "refused", "invalid_url")


def test_refused_urls_that_ended_before_are_reckoned_with() -> None:
    """Who goes on after a crash misses none of those whose packs have ended."""
    job = job_of(4, 2, "InvalidUrl")
    left = (RefusedUrl(url=URLS[0], reason="InvalidUrl"), RefusedUrl(url=URLS[3], reason="InvalidUrl"))
    assert bulk_decisions.judge(BULK, URLS[2:], job, left, TIMING).verdict == "unknown"
    assert bulk_decisions.judge(replace(BULK, exempted=1), URLS[2:], job, left, TIMING).verdict == "submitted"


def test_a_quota_that_takes_nothing_puts_all_back() -> None:
    """As `returning`: no job may be created from a list of which some URLs are pending again."""
    settlement = bulk_decisions.judge(BULK, (), job_of(4, 0, "QuotaExcess"), None, TIMING)
    assert (settlement.verdict, settlement.state) == ("pending", "returning")


def test_a_list_has_as_many_urls_as_was_learnt_and_is_worth_it() -> None:
    """What fits into a batch needs no bucket."""
    settings = load({"ESA_PRELOAD_REDIS_URL": "redis://localhost"}).settings
    assert bulk_decisions.most_urls(BULK, settings) == 100_000
    assert bulk_decisions.most_urls(replace(BULK, most=7), settings) == 7
    assert [bulk_decisions.is_worth_it(lines, settings) for lines in (0, 100, 101)] == [False, False, True]
