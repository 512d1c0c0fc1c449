"""What a service that publishes content uses to have its URLs preloaded by ESA."""

from esa_preload.client import PreloadClient
from esa_preload.errors import (
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
    Failure,
    OperationLimit,
    Plan,
    Priority,
    Receipt,
    Rejection,
    RequestStatus,
    SiteStatus,
)

__all__ = [
    "EsaPreloadError",
    "Explanation",
    "Failure",
    "IncompleteError",
    "InvalidRequestError",
    "NotDurableError",
    "OperationLimit",
    "Plan",
    "PreloadClient",
    "Priority",
    "QueueFullError",
    "QueueUnavailableError",
    "Reason",
    "Receipt",
    "Rejection",
    "RequestConflictError",
    "RequestStatus",
    "SettingsError",
    "SiteStatus",
    "UnknownRequestError",
    "UnknownSiteError",
    "UnsupportedRecordError",
    "WaitTimeoutError",
]
