"""Every setting of the worker in one table: name, type, default, range and help."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from esa_preload.addresses import is_loopback
from esa_preload.api.settings import Settings as ApiSettings
from esa_preload.connection import embedded_directory
from esa_preload.settings import (
    PREFIX,
    EnvironmentSettings,
    LoadedSettings,
    Seconds,
    SettingRow,
    read,
    table_of,
    variables,
)
from esa_preload_worker.esa.endpoint import Endpoint
from esa_preload_worker.oss_endpoint import OssEndpoint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

REGIONS = ("cn-hangzhou", "ap-southeast-1")
"""The regions in which ESA has an endpoint."""


_BUCKET = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")


def _as_url(endpoint: str) -> str:
    return endpoint if "://" in endpoint else f"https://{endpoint}"


class Settings(EnvironmentSettings):
    """The worker's settings, read from ``ESA_PRELOAD_*``."""

    oss_max_bytes: ClassVar[int] = 10_000_000
    """Bytes of a list, at most: ESA documents 10 MB for uploaded lists."""

    region: str = Field(
        "cn-hangzhou", pattern=r"^[a-z0-9-]{1,64}$", description="ESA region: cn-hangzhou or ap-southeast-1."
    )
    endpoint: str = Field(
        "", description="ESA endpoint, a host or an https:// URL; empty for the region's public one."
    )
    allow_insecure_endpoint: bool = Field(
        False,
        validate_default=True,
        description="Allow an http:// endpoint that is not on loopback, and failed-file lists from anywhere. Warns at each start.",
    )
    batch_max_urls: int = Field(100, ge=1, le=1_000, description="URLs a batch, at most.")
    batch_max_bytes: int = Field(
        65_536, ge=1_024, le=1_048_576, description="Bytes a batch, at most, of the form-encoded list."
    )
    batch_max_age: Seconds = Field(
        60, description="Seconds that a URL waits, at most, for its batch to fill."
    )
    batch_quiet: Seconds = Field(
        5, description="Seconds without a new URL after which a lane is submitted as it is."
    )
    url_max_chars: int = Field(
        2_048, ge=16, le=8_192, description="Characters of a URL, at most, in its normal form."
    )
    site_concurrency: int = Field(
        4, ge=1, le=1_000, description="Batches of one site in flight at once, at most, over all workers."
    )
    max_jobs: int = Field(16, ge=1, le=1_000, description="Batches in flight in one worker process, at most.")
    rate_initial: float = Field(5, gt=0, le=10_000, description="Calls/s per operation to begin with.")
    rate_min: float = Field(0.1, gt=0, le=10_000, description="Calls/s per operation, never less.")
    rate_max: float = Field(
        100, gt=0, le=10_000, validate_default=True, description="Calls/s per operation, never more."
    )
    job_name_prefix: str = Field(
        "preload",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_]{0,31}$",
        description="First part of the ESA jobs' names.",
    )
    plan: bool = Field(
        True, description="Create the plan that makes ESA fetch; off only when something else plans the jobs."
    )
    plan_interval: int = Field(
        30, ge=1, le=86_400, description="Seconds between two slices of the default plan."
    )
    plan_slice: int = Field(100, ge=1, le=100_000, description="URLs a slice of the default plan.")
    job_retention: Seconds = Field(
        3_600, description="Seconds for which a finished job is kept before it may be deleted."
    )
    lease: float = Field(
        10, ge=1, le=600, description="Seconds after which a worker that does not renew loses its batches."
    )
    call_timeout: float = Field(10, ge=0.5, le=300, description="Seconds for one call to ESA, in all.")
    wait_aof: bool = Field(
        True,
        description="Submit a batch only once Redis has its claim in the append-only file (WAITAOF), where the server can tell.",
    )
    list_lag: Seconds = Field(5, description="Seconds after which ESA surely lists a job that it created.")
    quota_retry_after: Seconds = Field(
        3_600, description="Seconds that a site waits when its quota is used up."
    )
    max_pending_per_site: int = Field(
        1_000_000,
        ge=1_000,
        le=1_000_000_000,
        description="URLs pending per site, at most; 1,000 come at once.",
    )
    request_ttl: float = Field(
        7 * 86_400, ge=1, le=366 * 86_400, description="Seconds for which a request is kept after its end."
    )
    shutdown_grace: float = Field(
        25, ge=0, le=3_600, description="Seconds to finish or hand back what is in flight at SIGTERM."
    )
    oss_bucket: str = Field(
        "",
        description="Bucket through which large backlogs are submitted as lists (extra `oss`); empty: batches only.",
    )
    oss_endpoint: str = Field(
        "",
        description="OSS endpoint: the region's public or internal one, or the bucket's own domain; empty for the public one of REGION.",
    )
    oss_prefix: str = Field(
        "esa-preload/",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,199}$",
        description="First part of the objects' names.",
    )
    oss_min_urls: int = Field(
        1_000, ge=1, le=1_000_000, description="URLs of a lane from which a list is made of them."
    )
    oss_max_urls: int = Field(
        100_000,
        ge=1,
        le=1_000_000,
        validate_default=True,
        description="URLs of a list, at most; it ends at 10 MB, too.",
    )
    oss_link: Literal["signed", "plain"] = Field(
        "signed",
        description="How ESA reads a list: by a pre-signed link, or by a plain one that a bucket policy must allow.",
    )
    ops_host: str = Field("127.0.0.1", min_length=1, description="Address of /metrics, /livez and /readyz.")
    ops_port: int = Field(
        9_464, ge=0, le=65_535, description="Port of these; 0 for a free one, which is logged."
    )
    metrics_max_sites: int = Field(
        200, ge=1, le=100_000, description="Sites with a label of their own; the rest count as `other`."
    )

    @field_validator("oss_link", mode="before")
    @classmethod
    def _lower_link(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    # Each looks back at fields declared before its own, so that all that is wrong is named at once.

    @field_validator("endpoint")
    @classmethod
    def _endpoint(cls, value: str) -> str:
        return Endpoint.parse(_as_url(value), allow_insecure=True).url if value else ""

    @field_validator("allow_insecure_endpoint")
    @classmethod
    def _is_secure(cls, value: bool, info: ValidationInfo) -> bool:  # noqa: FBT001 - as pydantic calls it
        url = urlsplit(str(info.data.get("endpoint", "")))
        if url.scheme == "http" and not value and not is_loopback(url.hostname or ""):
            raise ValueError(
                f"the http:// {PREFIX}ENDPOINT is not loopback: make it https://, or turn this on"
            )
        return value

    @field_validator("rate_max")
    @classmethod
    def _are_in_order(cls, value: float, info: ValidationInfo) -> float:
        least, first = info.data.get("rate_min"), info.data.get("rate_initial")
        if least is not None and first is not None and not least <= first <= value:
            raise ValueError("RATE_MIN <= RATE_INITIAL <= RATE_MAX must hold")
        return value

    @field_validator("oss_bucket")
    @classmethod
    def _oss_bucket(cls, value: str) -> str:
        if value and not _BUCKET.fullmatch(value):
            raise ValueError("a bucket's name is 3 to 63 of a-z, 0-9 and -, with no - at an end")
        if value and importlib.util.find_spec("alibabacloud_oss_v2") is None:
            raise ValueError("needs the extra oss: pip install 'esa-preload[worker,oss]'")
        return value

    @field_validator("oss_endpoint")
    @classmethod
    def _oss_endpoint(cls, value: str, info: ValidationInfo) -> str:
        if not value:
            return ""
        region, is_insecure = (info.data.get(name) for name in ("region", "allow_insecure_endpoint"))
        return OssEndpoint.parse(_as_url(value), region=region or "", allow_insecure=bool(is_insecure)).url

    @field_validator("oss_max_urls")
    @classmethod
    def _is_not_below_least(cls, value: int, info: ValidationInfo) -> int:
        if value < int(info.data.get("oss_min_urls", 0)):
            raise ValueError("OSS_MIN_URLS <= OSS_MAX_URLS must hold")
        return value

    @property
    def oss_endpoint_url(self) -> str:
        """The endpoint of OSS as a URL."""
        return self.oss_endpoint or f"https://oss-{self.region}.aliyuncs.com"

    @property
    def endpoint_url(self) -> str:
        """The endpoint as a URL."""
        return self.endpoint or f"https://esa.{self.region}.aliyuncs.com"

    @property
    def embedded_directory(self) -> Path | None:
        """The directory of the embedded Valkey, if this worker is to run one."""
        return embedded_directory(self.redis_url.get_secret_value())

    @property
    def bulk_min_urls(self) -> int:
        """So many URLs of a lane go as a list; 0: there is no bucket to put one into."""
        return self.oss_min_urls if self.oss_bucket else 0

    def published(self) -> dict[str, float | int]:
        """Return what the scripts and the producers read from the ledger: ms, bytes and counts."""
        return {
            "batch_max_urls": self.batch_max_urls,
            "batch_max_bytes": self.batch_max_bytes,
            "batch_max_age_ms": round(self.batch_max_age * 1000),
            "batch_quiet_ms": round(self.batch_quiet * 1000),
            "url_max_chars": self.url_max_chars,
            "site_concurrency": self.site_concurrency,
            "rate_initial": self.rate_initial,
            "rate_min": self.rate_min,
            "rate_max": self.rate_max,
            "lease_ms": round(self.lease * 1000),
            "call_timeout_ms": round(self.call_timeout * 1000),
            "list_lag_ms": round(self.list_lag * 1000),
            "max_pending_per_site": self.max_pending_per_site,
            "request_ttl_ms": round(self.request_ttl * 1000),
            "bulk_min_urls": self.bulk_min_urls,
        }


Loaded = LoadedSettings[Settings]


def load(environ: Mapping[str, str] | None = None) -> Loaded:
    """
    Read the settings; a variable that is empty counts as not set.

    Raises:
        SettingsError: names every variable that is missing or out of range, at once.
    """
    hint = "`esa-preload-worker settings` lists them all"
    loaded = read(Settings, environ, others=variables(ApiSettings), hint=hint)
    return replace(loaded, warnings=(*loaded.warnings, *_risks(loaded.settings)))


def _risks(settings: Settings) -> list[str]:
    found: list[str] = []
    if settings.allow_insecure_endpoint:
        found.append(f"{PREFIX}ALLOW_INSECURE_ENDPOINT is on: calls to ESA may travel unencrypted")
    if settings.region not in REGIONS and not settings.endpoint:
        found.append(
            f"{PREFIX}REGION {settings.region} has no documented ESA endpoint; known are {', '.join(REGIONS)}"
        )
    return found


def table() -> list[SettingRow]:
    """Return every setting, in order."""
    return table_of(Settings)
