"""How a run is laid out: its size, its seed, the settings of its workers and the faults of its sandbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

SITES = tuple(range(101, 107))
OWNED_DOMAIN = "owned.example"
FOREIGN_DOMAIN = "foreign.example"
"""Of URLs that ESA refuses, with a list of them that cannot always be read."""

LEASE_S = 2.0
LIST_LAG_S = 0.3
CALL_TIMEOUT_S = 1.0

WORKER_SETTINGS = {
    "LEASE": str(LEASE_S),
    "CALL_TIMEOUT": str(CALL_TIMEOUT_S),
    "LIST_LAG": str(LIST_LAG_S),
    "BATCH_MAX_URLS": "20",
    "BATCH_QUIET": "0.2",
    "BATCH_MAX_AGE": "1",
    "RATE_INITIAL": "60",
    "RATE_MAX": "120",
    "SHUTDOWN_GRACE": "2",
    "LOG_LEVEL": "debug",
}
"""Short times, so that everything that takes a lease or a lag happens often."""


BULK_SETTINGS = {"OSS_BUCKET": "chaos", "OSS_MIN_URLS": "30"}
"""Of workers with a bucket in the sandbox: lists are small, so that they are many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """
    One run.

    Attributes:
        urls: enqueued in all.
        seconds: for which producers and troubles are spread out; the drain follows.
        seed: of everything that is drawn; what processes do in between is theirs.
        workers: processes; so are ``producers``.
        trouble_every_s: a process is killed, frozen or restarted about so often.
        kill_valkey: Valkey is killed too, and has ``appendfsync always``; else it is only restarted and frozen, with everysec.
        fault_rate: share of the calls that go wrong, about.
        bulk: the workers have a bucket, and carry what is worth it as lists.
        drain_s: longest time from the end of the troubles until nothing is left.
    """

    urls: int = 3_000
    seconds: float = 15.0
    seed: int = 0
    workers: int = 3
    producers: int = 2
    trouble_every_s: float = 1.2
    kill_valkey: bool = True
    fault_rate: float = 0.2
    bulk: bool = False
    drain_s: float = 120.0


# Shares of ``fault_rate``, drawn for every call of every operation.
_EVERYWHERE: tuple[tuple[float, dict[str, Any]], ...] = (
    (1, {"kind": "lost_before"}),
    (3, {"kind": "lost_after"}),
    (1, {"kind": "reset_before"}),
    (3, {"kind": "reset_after"}),
    (1, {"kind": "error_before"}),
    (2, {"kind": "error_after", "code": "InternalError", "status": 500}),
    (1, {"kind": "html_before", "status": 503}),
    (1, {"kind": "html_after"}),
    # As late as ESA is assumed to commit: before the caller's time is up.
    (1, {"kind": "slow_before", "delay_s": 0.7 * CALL_TIMEOUT_S}),
    (2, {"kind": "slow_after", "delay_s": 1.5 * CALL_TIMEOUT_S}),
    (1, {"kind": "drip", "delay_s": 0.02}),
    (1, {"kind": "half"}),
    (1, {"kind": "garbage"}),
    (0.3, {"kind": "refuse", "code": "Site.ServiceBusy"}),
    (0.3, {"kind": "refuse", "code": "LockFailed"}),
    (1, {"kind": "file_elsewhere"}),
)
_PLANS = "CreateScheduledPreloadExecutions"
_JOBS = "CreateScheduledPreloadJob"
_OF_ONE_OPERATION: tuple[tuple[float, dict[str, Any]], ...] = (
    (0.02, {"kind": "plan_failed", "operation": _PLANS}),
    (0.02, {"kind": "refuse", "operation": _PLANS, "code": "InvalidEndTime.Mismatch"}),
    (0.02, {"kind": "refuse", "operation": _PLANS, "code": "InvalidJob.NotFound", "status": 404}),
    (0.01, {"kind": "refuse", "operation": _JOBS, "code": "InvalidParameter.MadeUp"}),
    (0.1, {"kind": "error_before", "operation": "FailedFile", "status": 404}),
    (0.1, {"kind": "lost_before", "operation": "FailedFile"}),
    (0.05, {"kind": "slow_before", "operation": "FailedFile", "delay_s": 1.5 * CALL_TIMEOUT_S}),
)


def faults_of(options: Options) -> list[dict[str, Any]]:
    """Return the sandbox's faults, as its control route takes them; those of one operation first."""
    if not options.fault_rate:
        return []
    per_share = options.fault_rate / sum(share for share, _ in _EVERYWHERE)
    own = [fault | {"probability": probability} for probability, fault in _OF_ONE_OPERATION]
    # Batches are half as large for an hour after each: about one a run, or the run is one of single URLs.
    too_long = {
        "kind": "refuse",
        "operation": _JOBS,
        "code": "UrlList.TooLong",
        "probability": 5 / options.urls,
    }
    return [too_long, *own] + [fault | {"probability": share * per_share} for share, fault in _EVERYWHERE]


def sandbox_config(options: Options) -> dict[str, Any]:
    """Return how the sandbox begins: it owns one domain, lists late, and limits."""
    return {
        "sites": {str(site_id): [OWNED_DOMAIN] for site_id in SITES},
        "limits": {"*": {"rate_per_s": 100, "burst": 20}},
        "latency_s": 0.005,
        "jitter_s": 0.02,
        "list_lag_s": 0.8 * LIST_LAG_S,
        "faults": faults_of(options),
    }
