"""What a sandbox is told: who may call it, how it limits, what it refuses, how slow it is."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from esa_preload_worker.sandbox.faults import EVERY_OPERATION as EVERY_OPERATION  # noqa: PLC0414 - of limits too

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esa_preload_worker.sandbox.faults import Fault

# Not a secret: it opens a simulated endpoint, and stands in the documentation.
DEFAULT_ACCESS_KEY_ID = "sandbox"
DEFAULT_ACCESS_KEY_SECRET = "sandbox-secret"  # noqa: S105 - see above


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """
    One access key that the sandbox knows.

    Attributes:
        security_token: what an STS caller must send with the key; empty for a permanent key.
        expires_at_s: UNIX seconds from which the token is refused as expired; ``None``: never.
    """

    access_key_id: str = DEFAULT_ACCESS_KEY_ID
    access_key_secret: str = field(default=DEFAULT_ACCESS_KEY_SECRET, repr=False)
    security_token: str = field(default="", repr=False)
    expires_at_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketLimit:
    """A token bucket: ``rate_per_s`` calls a second, and ``burst`` of them at once after a rest."""

    rate_per_s: float
    burst: int

    def __post_init__(self) -> None:
        _require(0 < self.rate_per_s < math.inf, "rate_per_s must be a positive number")
        _require(self.burst >= 1, "burst must be 1 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowLimit:
    """A fixed window: ``calls`` in each ``window_s`` seconds, counted from when the limit came into force."""

    calls: int
    window_s: float

    def __post_init__(self) -> None:
        _require(self.calls >= 1, "calls must be 1 or more")
        _require(0 < self.window_s < math.inf, "window_s must be a positive number")


RateLimit = BucketLimit | WindowLimit


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignJob:
    """
    A job that somebody else made before the sandbox started.

    Attributes:
        age_s: seconds between its creation and the start of the sandbox.
        is_planned: it has one plan, which started when the job was made.
    """

    site_id: int
    name: str
    urls: tuple[str, ...] = ("https://www.example.com/",)
    age_s: float = 0.0
    is_planned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxConfig:
    """
    How a sandbox behaves. The defaults accept everything at once.

    Attributes:
        credentials: the access keys that are known.
        verify_signatures: refuse calls whose ACS3-HMAC-SHA256 signature is wrong; off: nobody is checked.
        sites: site id to the domains it owns (with their subdomains; none: every domain). Empty: every site exists.
        limits: operation to its rate limit; ``*`` for each operation that is not named; ``None``: not limited.
        send_hint: a throttled reply carries ``x-acs-retry-after`` (milliseconds).
        latency_s: seconds that every call takes; half of them pass before it is decided, half after.
        jitter_s: up to so many seconds more, evenly distributed.
        faults: what goes wrong, and when; of several that strike a call the first does.
        list_lag_s: seconds for which a new job is not found by List and Get, and a new plan is not listed.
        clock_offset_s: seconds that the account's clock is ahead: of signatures, dates and creation times.
        seed: of the jitter, of the faults and of the ids.
        max_jobs_per_site: jobs a site may hold, those of others included; ``None``: any number.
        url_quota_per_site: URLs a site may submit in one period; a new value starts a new period. ``None``: any number.
        quota_is_all_or_nothing: a list over the quota is refused whole, not only its excess.
        max_urls_per_list: lines of a ``UrlList``; more is an error.
        max_plans_per_job: more of them are returned as ``FailedExecutions``; ``None``: any number.
        max_body_bytes: of a request; more is an error.
        list_order: in which order of creation jobs are listed; ESA does not document one.
        foreign_jobs: jobs made by others before the start.
        oss_objects: ``OssUrl`` to the text behind it, one URL a line; others are looked for among what was put here.
        oss_buckets: the buckets that exist; empty: every one.
        oss_is_public: everybody may read objects that have no ACL of their own.
        oss_region: of the buckets, which every signature must name.
        max_list_bytes: of a list behind an ``OssUrl``; more is an error.
        max_object_bytes: of an object; more is an error.
        account_id: the ``AliUid`` of every reply.
        kept_url_bytes: bytes of URL text kept for the control routes; beyond it the oldest jobs lose theirs.
        kept_deleted_jobs: deleted jobs kept for the control routes; beyond it the first deleted are forgotten.
    """

    credentials: tuple[Credential, ...] = (Credential(),)
    verify_signatures: bool = True
    sites: Mapping[int, tuple[str, ...]] = field(default_factory=dict[int, tuple[str, ...]])
    limits: Mapping[str, RateLimit | None] = field(default_factory=dict[str, "RateLimit | None"])
    send_hint: bool = True
    latency_s: float = 0.0
    jitter_s: float = 0.0
    faults: tuple[Fault, ...] = ()
    list_lag_s: float = 0.0
    clock_offset_s: float = 0.0
    seed: int = 0
    max_jobs_per_site: int | None = None
    url_quota_per_site: int | None = None
    quota_is_all_or_nothing: bool = False
    max_urls_per_list: int = 10_000
    max_plans_per_job: int | None = None
    max_body_bytes: int = 1 << 20
    list_order: Literal["newest", "oldest"] = "newest"
    foreign_jobs: tuple[ForeignJob, ...] = ()
    oss_objects: Mapping[str, str] = field(default_factory=dict[str, str])
    oss_buckets: tuple[str, ...] = ()
    oss_is_public: bool = False
    oss_region: str = "cn-hangzhou"
    max_list_bytes: int = 10_000_000
    max_object_bytes: int = 64 << 20
    account_id: str = "1000000000000000"
    kept_url_bytes: int = 256 << 20
    kept_deleted_jobs: int = 100_000

    def __post_init__(self) -> None:
        _require(0 <= self.latency_s < math.inf, "latency_s must be 0 or more")
        _require(0 <= self.jitter_s < math.inf, "jitter_s must be 0 or more")
        _require(0 <= self.list_lag_s < math.inf, "list_lag_s must be 0 or more")
        _require(math.isfinite(self.clock_offset_s), "clock_offset_s must be a finite number")
        _require(_is_count(self.max_jobs_per_site), "max_jobs_per_site must be 0 or more")
        _require(_is_count(self.url_quota_per_site), "url_quota_per_site must be 0 or more")
        _require(_is_count(self.max_plans_per_job), "max_plans_per_job must be 0 or more")
        _require(self.max_urls_per_list >= 1, "max_urls_per_list must be 1 or more")
        _require(self.max_body_bytes >= 1, "max_body_bytes must be 1 or more")
        _require(self.max_list_bytes >= 1, "max_list_bytes must be 1 or more")
        _require(self.max_object_bytes >= 1, "max_object_bytes must be 1 or more")
        _require(self.list_order in {"newest", "oldest"}, "list_order must be newest or oldest")


def _is_count(value: int | None) -> bool:
    return value is None or value >= 0


def _require(condition: bool, message: str) -> None:  # noqa: FBT001 - reads as a sentence at every call
    if not condition:
        raise ValueError(message)
