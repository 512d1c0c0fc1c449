"""One tree: a class per thing that a caller can do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esa_preload.model import Receipt


class EsaPreloadError(Exception):
    """Whatever this package raises on purpose; ``hint`` says what to do about it, or is empty."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InvalidRequestError(EsaPreloadError, ValueError):
    """The call itself is wrong: nothing was enqueued; correct it and call again."""


class SettingsError(EsaPreloadError):
    """A setting is missing or out of range; the message names every one that is."""


class RequestConflictError(EsaPreloadError):
    """The request id is known with other content: choose another id, or repeat the call exactly."""


class UnknownRequestError(EsaPreloadError, LookupError):
    """No such request: the id is wrong, or it ended longer ago than ``REQUEST_TTL``."""


class AccessDeniedError(EsaPreloadError):
    """The service does not know the token, or the token's role or sites do not allow this: have another one made."""


class QueueFullError(EsaPreloadError):
    """
    The site's queue, or its number of lanes, is at its bound; ``receipt`` says how far this request came.

    Attributes:
        retry_after_s: when to call again, if the service said so.
    """

    def __init__(
        self,
        message: str,
        *,
        receipt: Receipt | None = None,
        hint: str = "",
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.receipt = receipt
        self.retry_after_s = retry_after_s


class QueueUnavailableError(EsaPreloadError):
    """
    Redis, or the service before it, cannot be used now: repeat the call with the same ``request_id``, which resumes where it stopped.

    Attributes:
        summary: the message without what the server or the network said, which may name hosts.
        request_id: of the call that broke off.
        receipt: what an enqueue had put in the queue for certain; the chunks on their way may be there as well.
        is_outage: it may pass by itself. If not, somebody must act: memory, rights, a password.
        retry_after_s: when to call again, if the service said so.
    """

    def __init__(
        self,
        summary: str,
        *,
        said: str = "",
        request_id: str | None = None,
        hint: str = "",
        is_outage: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(f"{summary}: {said}" if said else summary, hint=hint)
        self.summary = summary
        self.request_id = request_id
        self.receipt: Receipt | None = None
        self.is_outage = is_outage
        self.retry_after_s = retry_after_s


class NotDurableError(EsaPreloadError):
    """
    The URLs are in the queue and will be submitted, but a crash of the server may lose them; ``receipt`` has the counts.

    Put right what ``hint`` says and repeat the call with the same ``request_id``: it takes nothing twice, and waits again.
    """

    def __init__(self, message: str, *, receipt: Receipt | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.receipt = receipt


class WaitTimeoutError(EsaPreloadError, TimeoutError):
    """The request was not done in the time given; it goes on, and ``status`` follows it."""


class UnknownSiteError(EsaPreloadError, LookupError):
    """No such site in this namespace: the id is wrong, or it has never had a URL."""


class IncompleteError(EsaPreloadError):
    """The URLs could not be read to their end: ``receipt`` says how far; repeat with its ``request_id`` and the whole list."""

    def __init__(self, message: str, *, receipt: Receipt, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.receipt = receipt


class UnsupportedRecordError(EsaPreloadError):
    """A stored record has a higher version than this release reads; it is left in place. Upgrade this process."""
