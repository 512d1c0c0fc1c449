"""For each alert the series by which it fires, and others, much like them, by which it does not."""

from __future__ import annotations

from dataclasses import dataclass

JOB = "esa-preload-worker"
CREATE = "CreateScheduledPreloadJob"

Series = dict[str, str]
"""A series → its values, one a minute, in the notation of promtool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """
    An alert, and when it fires.

    Attributes:
        at: when to look; ``labels``: with which labels it fires then, beside those of every alert of a worker.
        quiet: series by which it does not fire at that time.
    """

    alert: str
    at: str
    fires: Series
    quiet: tuple[Series, ...]
    labels: dict[str, str]


def on_one(name: str, values: str, **labels: str) -> Series:
    """Return the series of one worker."""
    return _on("a", name, values, labels)


def on_all(name: str, values: str, **labels: str) -> Series:
    """Return the same series of two workers."""
    return _on("a", name, values, labels) | _on("b", name, values, labels)


def _on(worker: str, name: str, values: str, labels: dict[str, str]) -> Series:
    named = {"instance": worker, "job": JOB, **labels}
    selector = ",".join(f'{label}="{value}"' for label, value in named.items())
    return {f"esa_preload_{name}{{{selector}}}": values}


def case(alert: str, *, at: str, fires: Series, quiet: Series | tuple[Series, ...], **labels: str) -> Case:
    """Return a case of an alert that a worker's series fire."""
    quiets = quiet if isinstance(quiet, tuple) else (quiet,)
    return Case(alert=alert, at=at, fires=fires, quiet=quiets, labels={"job": JOB, **labels})


def waits(reason: str, values: str = "1x2000") -> Series:
    """Return a site that waits."""
    return on_all("site_waiting", values, site="1", reason=reason)


def ended(*, submitted: str, refused: str = "0x200", unknown: str = "0x200") -> Series:
    """Return a site's URLs by their end."""
    return (
        on_all("urls_submitted_total", submitted, site="1")
        | on_all("urls_refused_total", refused, site="1", reason="invalid_domain")
        | on_all("urls_unknown_total", unknown, site="1")
    )


def latency(*, quick: int) -> Series:
    """Return batches of which so many in a thousand are submitted within five minutes."""
    bucket = on_all("submit_latency_seconds_bucket", f"0+{quick}x300", le="300.0")
    return bucket | on_all("submit_latency_seconds_count", "0+1000x300")


def calls(*, throttled: int) -> Series:
    """Return calls of which so many in a hundred are throttled."""
    return (
        on_all("throttled_total", f"0+{throttled}x60", operation=CREATE)
        | on_all("api_requests_total", f"0+{throttled}x60", operation=CREATE, code="Throttling")
        | on_all("api_requests_total", f"0+{100 - throttled}x60", operation=CREATE, code="ok")
    )


def answers(*, failed: int) -> Series:
    """Return requests to the HTTP API of which so many in a hundred fail."""
    name = 'esa_preload_http_requests_total{instance="a",job="esa-preload-api",method="POST",route="/v1/preloads",'
    return {
        f'{name}status="503"}}': f"0+{failed}x20",
        f'{name}status="202"}}': f"0+{100 - failed}x20",
    }


STALLED = (
    on_all("pending_urls", "5x60", site="1")
    | on_one("batches_total", "7x14 0x45", outcome="submitted")  # a restart is no progress
    | on_one("batches_total", "0+1x60", outcome="throttled")
)
OLD = on_all("oldest_pending_seconds", "901+60x30", site="1")

CASES = (
    case(
        "EsaPreloadWorkersAbsent",
        at="6m",
        fires=on_all("in_flight_batches", "0x2 stale") | on_all("in_flight_batches", "0x10", job="another"),
        quiet=on_one("in_flight_batches", "0x10"),
    ),
    case(
        "EsaPreloadWorkersMissing",
        at="6m",
        fires=on_one("in_flight_batches", "0x10"),
        quiet=on_all("in_flight_batches", "0x10"),
    ),
    case(
        "EsaPreloadRedisDown",
        at="2m",
        fires=on_all("redis_up", "1x10") | on_one("redis_up", "0x10"),
        quiet=on_all("redis_up", "1x10"),
    ),
    case(
        "EsaPreloadRedisUnfit",
        at="6m",
        check="eviction",
        fires=on_all("redis_unfit", "1x10", check="eviction"),
        quiet=on_all("redis_unfit", "0x10", check="eviction"),
    ),
    case(
        "EsaPreloadLedgerBroken",
        at="3m",
        site="1",
        fires=on_all("ledger_unaccounted_urls", "3x10", site="1"),
        quiet=on_all("ledger_unaccounted_urls", "0x10", site="1"),
    ),
    Case(
        alert="EsaPreloadApiAbsent",
        at="6m",
        labels={"job": "esa-preload-api"},
        fires=on_all("http_urls_total", "0x2 stale", job="esa-preload-api", outcome="accepted"),
        quiet=(on_one("http_urls_total", "0x10", job="esa-preload-api", outcome="accepted"), {}),
    ),
    Case(
        alert="EsaPreloadApiErrors",
        at="12m",
        labels={"job": "esa-preload-api"},
        fires=answers(failed=10),
        quiet=(answers(failed=2),),
    ),
    case(
        "EsaPreloadSiteBlocked",
        at="3m",
        site="1",
        reason="signature",
        fires=on_all("site_blocked", "1x10", site="1", reason="signature"),
        quiet=on_all("site_blocked", "1 1 stale", site="1", reason="signature"),
    ),
    case(
        "EsaPreloadPendingTooOld",
        at="6m",
        site="1",
        fires=OLD,
        quiet=(OLD | waits("quota"), on_all("oldest_pending_seconds", "60+60x10", site="1")),
    ),
    case(
        "EsaPreloadJobCapNear",
        at="16m",
        site="1",
        fires=on_all("site_jobs", "9x20", site="1") | on_all("site_job_cap", "10x20", site="1"),
        quiet=(
            on_all("site_jobs", "8x20", site="1") | on_all("site_job_cap", "10x20", site="1"),
            on_all("site_jobs", "9x20", site="1"),
        ),
    ),
    case("EsaPreloadJobCapFull", at="6m", site="1", fires=waits("job_cap"), quiet=waits("busy")),
    case("EsaPreloadQuotaUsedUp", at="2m", site="1", fires=waits("quota"), quiet=waits("busy")),
    case(
        "EsaPreloadSitePausedLong",
        at="25h",
        site="1",
        fires=waits("paused"),
        quiet=(waits("busy"), waits("paused", "1x1380 stale")),
    ),
    case(
        "EsaPreloadRefusedShare",
        at="70m",
        site="1",
        fires=ended(submitted="0+90x200", refused="0+10x200"),
        quiet=(
            ended(submitted="0+99x200", refused="0+1x200"),
            ended(submitted="0x200", refused="0x60 3x100"),
        ),
    ),
    case(
        "EsaPreloadUnknownShare",
        at="70m",
        site="1",
        fires=ended(submitted="0+90x200", unknown="0+2x200"),
        quiet=ended(submitted="0+1000x200", unknown="0+2x200"),
    ),
    case(
        "EsaPreloadNoProgress",
        at="20m",
        fires=STALLED,
        quiet=(
            STALLED | on_one("batches_total", "0+1x60", outcome="submitted"),
            STALLED | on_one("batches_total", "7x13 0 1x45", outcome="submitted"),
            STALLED | waits("job_cap"),
            STALLED | on_all("pending_urls", "0x60", site="1"),
        ),
    ),
    case(
        "EsaPreloadThrottledShare",
        at="35m",
        operation=CREATE,
        fires=calls(throttled=20),
        quiet=calls(throttled=3),
    ),
    case(
        "EsaPreloadCooldownStuck",
        at="16m",
        operation=CREATE,
        fires=on_all("cooldown_seconds", "5x30", operation=CREATE),
        quiet=on_all("cooldown_seconds", "5x10 0 5x20", operation=CREATE),
    ),
    case(
        "EsaPreloadPlansFailed",
        at="61m",
        fires=on_one("plans_ended_total", "0+1x70", outcome="failed"),
        quiet=on_one("plans_ended_total", "0+1x70", outcome="finished"),
    ),
    case(
        "EsaPreloadSubmitLatencyBurnsFast",
        at="70m",
        fires=latency(quick=800),
        quiet=latency(quick=950),
    ),
    case(
        "EsaPreloadSubmitLatencyBurnsSlowly",
        at="3h",
        fires=latency(quick=950),
        quiet=latency(quick=995),
    ),
)
