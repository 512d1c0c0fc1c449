"""What a service that publishes content uses to have its URLs preloaded by ESA."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esa_preload.client import PreloadClient
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
    _MODULES = ("errors", "model", "explanation", "interface", "client")
    """Where the names are. Those that take long to load come last, and load those before them."""

    def __getattr__(name: str) -> object:
        """Load a name when it is first asked for: a service that starts does not wait for what it may never use."""
        if name in __all__:
            for each in _MODULES:
                module = import_module(f"{__name__}.{each}")
                if hasattr(module, name):
                    globals()[name] = getattr(module, name)
                    return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return __all__
