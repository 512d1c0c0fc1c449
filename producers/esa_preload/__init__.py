"""What a service that publishes content uses to have its URLs preloaded by ESA."""

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
from esa_preload.interface import Preloads
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

    def __getattr__(name: str) -> object:
        """Load the client when it is first asked for, and with it the library for Redis, which takes most of the time."""
        if name != "PreloadClient":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from esa_preload.client import PreloadClient  # noqa: PLC0415 - as said

        globals()[name] = PreloadClient
        return PreloadClient

    def __dir__() -> list[str]:
        return __all__
