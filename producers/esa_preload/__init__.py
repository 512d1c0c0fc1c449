"""What a service that publishes content uses to have its URLs preloaded by ESA."""

from importlib import import_module
from typing import TYPE_CHECKING

from esa_preload.errors import (
    AccessDeniedError,
    EsaPreloadError,
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
    RequestConflictError,
    SettingsError,
    UnknownRequestError,
    UnknownSiteError,
    UnsupportedRecordError,
    WaitTimeoutError,
)
from esa_preload.explanation import Explanation, Reason
from esa_preload.model import (
    AuditEntry,
    Failure,
    OperationLimit,
    Page,
    Plan,
    Priority,
    Receipt,
    Rejection,
    RequestInfo,
    RequestStatus,
    RequestUrl,
    SiteStatus,
    TrafficPoint,
)

if TYPE_CHECKING:
    from esa_preload.client import PreloadClient
    from esa_preload.interface import Preloads

__all__ = [
    "AccessDeniedError",
    "AuditEntry",
    "EsaPreloadError",
    "Explanation",
    "Failure",
    "IncompleteError",
    "InvalidRequestError",
    "NotDurableError",
    "OperationLimit",
    "Page",
    "Plan",
    "PreloadClient",
    "Preloads",
    "Priority",
    "QueueFullError",
    "QueueUnavailableError",
    "Reason",
    "Receipt",
    "Rejection",
    "RequestConflictError",
    "RequestInfo",
    "RequestStatus",
    "RequestUrl",
    "SettingsError",
    "SiteStatus",
    "TrafficPoint",
    "UnknownRequestError",
    "UnknownSiteError",
    "UnsupportedRecordError",
    "WaitTimeoutError",
]

if not TYPE_CHECKING:
    _LATER = {"PreloadClient": "esa_preload.client", "Preloads": "esa_preload.interface"}

    def __getattr__(name: str) -> object:
        """Load the client when it is first asked for, and with it asyncio and the library for Redis, which take most of the time."""
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(_LATER[name]), name)
        return globals()[name]

    def __dir__() -> list[str]:
        return __all__
