"""Every setting of the HTTP API in one table: name, type, default, range and help."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, SecretStr, ValidationInfo, field_validator

from esa_preload.addresses import is_loopback
from esa_preload.settings import (
    EnvironmentSettings,
    LoadedSettings,
    Seconds,
    SettingRow,
    read,
    table_of,
    variable_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

SESSION_KEY_MIN_CHARS = 32

WORKER_SETTINGS = (
    "region",
    "endpoint",
    "allow_insecure_endpoint",
    "batch_max_urls",
    "batch_max_bytes",
    "batch_max_age",
    "batch_quiet",
    "url_max_chars",
    "site_concurrency",
    "max_jobs",
    "rate_initial",
    "rate_min",
    "rate_max",
    "job_name_prefix",
    "plan",
    "plan_interval",
    "plan_slice",
    "job_retention",
    "lease",
    "call_timeout",
    "wait_aof",
    "list_lag",
    "quota_retry_after",
    "max_pending_per_site",
    "request_ttl",
    "oss_bucket",
    "oss_endpoint",
    "oss_prefix",
    "oss_min_urls",
    "oss_max_urls",
    "oss_link",
    "metrics_max_sites",
)
"""The worker's own, by name: its package is not installed wherever this one is. A test holds them to the worker's."""


class Settings(EnvironmentSettings):
    """The settings of ``esa-preload serve``, read from ``ESA_PRELOAD_*``."""

    secrets: ClassVar[Collection[str]] = ("redis_url", "http_session_key")

    http_host: str = Field(
        "127.0.0.1",
        min_length=1,
        description="Address of the API and its console; others than loopback need TOKENS_FILE.",
    )
    http_port: int = Field(
        8_080, ge=0, le=65_535, description="Port of these; 0 for a free one, which is logged."
    )
    tokens_file: str = Field(
        "",
        validate_default=True,
        description="File of the tokens' hashes, made by `esa-preload token new`; read again when it changes.",
    )
    http_trusted_proxies: str = Field(
        "",
        description="Addresses and networks, with commas between them, whose X-Forwarded-For and X-Forwarded-Proto are believed.",
    )
    http_session_key: SecretStr = Field(
        SecretStr(""),
        description="Signs the console's sessions, 32 characters or more; made up at each start when empty, which ends all sessions.",
    )
    http_max_body_bytes: int = Field(
        1_073_741_824,
        ge=1_024,
        le=2**40,
        description="Bytes of a list of URLs in a request, unpacked, at most.",
    )
    http_max_streams: int = Field(
        100,
        ge=1,
        le=10_000,
        description="Larger bodies that are read at once, at most; half of them for one token.",
    )
    http_body_timeout: Seconds = Field(
        30, description="Seconds that a body may stand still before it ends with 408."
    )
    shutdown_grace: float = Field(
        25, ge=0, le=3_600, description="Seconds to finish the requests in flight at SIGTERM."
    )
    ops_host: str = Field("127.0.0.1", min_length=1, description="Address of /metrics, /livez and /readyz.")
    ops_port: int = Field(
        9_465, ge=0, le=65_535, description="Port of these; 0 for a free one, which is logged."
    )

    @field_validator("tokens_file")
    @classmethod
    def _are_there_tokens(cls, value: str, info: ValidationInfo) -> str:
        host = info.data.get("http_host")
        if not value and host and not is_loopback(host):
            raise ValueError(
                f"without tokens only loopback is served, not {host}: make one with `esa-preload token new`"
            )
        return value

    @field_validator("http_trusted_proxies")
    @classmethod
    def _proxies(cls, value: str) -> str:
        found = [part.strip() for part in value.split(",") if part.strip()]
        for part in found:
            try:
                ipaddress.ip_network(part)
            except ValueError:
                raise ValueError(f"{part!r:.64} is no address and no network") from None
        return ",".join(found)

    @field_validator("http_session_key")
    @classmethod
    def _session_key(cls, value: SecretStr) -> SecretStr:
        if 0 < len(value.get_secret_value()) < SESSION_KEY_MIN_CHARS:
            raise ValueError(f"a key has {SESSION_KEY_MIN_CHARS} characters or more")
        return value

    @property
    def tokens_path(self) -> Path | None:
        """The file of the tokens; without one only loopback is served."""
        return Path(self.tokens_file) if self.tokens_file else None


def load(environ: Mapping[str, str] | None = None) -> LoadedSettings[Settings]:
    """
    Read the settings; a variable that is empty counts as not set.

    Raises:
        SettingsError: names every variable that is missing or out of range, at once.
    """
    return read(
        Settings,
        environ,
        others=[variable_of(name) for name in WORKER_SETTINGS],
        hint="`esa-preload serve --settings` lists them all",
    )


def table() -> list[SettingRow]:
    """Return every setting, in order."""
    return table_of(Settings)
