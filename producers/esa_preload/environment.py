"""What the producers' commands read from the environment: where the queue is, and its namespace."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from esa_preload.connection import SCHEMES
from esa_preload.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

REDIS_URL = "ESA_PRELOAD_REDIS_URL"
NAMESPACE = "ESA_PRELOAD_NAMESPACE"
API_URL = "ESA_PRELOAD_API_URL"
ALLOW_INSECURE = "ESA_PRELOAD_API_ALLOW_INSECURE"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where the queue is: in Redis, or behind the HTTP API, when ``api_url`` is not empty."""

    redis_url: str = field(repr=False)
    namespace: str
    api_url: str = ""
    allow_insecure: bool = False


def read_environment(environ: Mapping[str, str] | None = None) -> Environment:
    """
    Read ``ESA_PRELOAD_REDIS_URL`` (or the file that ``ESA_PRELOAD_REDIS_URL_FILE`` names) and ``ESA_PRELOAD_NAMESPACE``, or ``ESA_PRELOAD_API_URL``.

    Raises:
        SettingsError: neither URL is set, or both are, or a file cannot be read.
    """
    environ = os.environ if environ is None else environ
    redis_url, api_url = read_secret(REDIS_URL, environ), environ.get(API_URL, "").strip()
    if redis_url and api_url:
        raise SettingsError(f"{REDIS_URL} and {API_URL} are both set", hint="set the one that is to be used")
    if not redis_url and not api_url:
        raise SettingsError(
            f"{REDIS_URL} is not set: it says where the queue is",
            hint=f"one of {SCHEMES}; or set {API_URL} to the address of `esa-preload serve`",
        )
    return Environment(
        redis_url=redis_url,
        namespace=environ.get(NAMESPACE, "").strip() or "default",
        api_url=api_url,
        allow_insecure=environ.get(ALLOW_INSECURE, "").strip().lower() in ("1", "on", "true", "yes"),
    )


def read_secret(name: str, environ: Mapping[str, str] | None = None) -> str:
    """
    Read the variable *name*, or the file that *name* with ``_FILE`` names; empty when neither is set.

    Raises:
        SettingsError: the file cannot be read.
    """
    environ = os.environ if environ is None else environ
    value = environ.get(name, "").strip()
    if not value and f"{name}_FILE" in environ:
        try:
            value = Path(environ[f"{name}_FILE"]).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise SettingsError(f"{name}_FILE cannot be read: {exc.__class__.__name__}") from exc
    return value
