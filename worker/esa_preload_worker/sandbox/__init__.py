"""A simulated ESA endpoint: the official SDK, and this project's client, talk to it unchanged."""

from __future__ import annotations

from esa_preload_worker.sandbox.config import (
    DEFAULT_ACCESS_KEY_ID,
    DEFAULT_ACCESS_KEY_SECRET,
    BucketLimit,
    Credential,
    ForeignJob,
    SandboxConfig,
    WindowLimit,
)
from esa_preload_worker.sandbox.faults import Fault
from esa_preload_worker.sandbox.server import Sandbox, serve

__all__ = [
    "DEFAULT_ACCESS_KEY_ID",
    "DEFAULT_ACCESS_KEY_SECRET",
    "BucketLimit",
    "Credential",
    "Fault",
    "ForeignJob",
    "Sandbox",
    "SandboxConfig",
    "WindowLimit",
    "serve",
]
