"""What a call to ESA can come to other than success: a class per thing that the caller does next."""

from __future__ import annotations

from typing import Literal


class EsaError(Exception):
    """
    A call that did not succeed.

    Attributes:
        code: ESA's error code, or one of ours in lower case with dots (``not_sent.dns``, ``uncertain.timeout``).
        http_status: 0 when there was no reply.
        esa_request_id: ESA's id of the call, when it gave one.
        hint: what an operator can do about it, in a sentence, or empty.
    """

    def __init__(
        self, message: str, *, code: str, http_status: int = 0, esa_request_id: str = "", hint: str = ""
    ) -> None:
        super().__init__(message)
        self.code = code
        self.http_status = http_status
        self.esa_request_id = esa_request_id
        self.hint = hint


class ThrottledError(EsaError):
    """Nothing was done: everybody waits, ``retry_after_s`` when ESA said how long (``None`` when not)."""

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        code: str,
        http_status: int = 0,
        esa_request_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(
            message, code=code, http_status=http_status, esa_request_id=esa_request_id, hint=hint
        )
        self.retry_after_s = retry_after_s


class SiteBusyError(EsaError):
    """Nothing was done: this site alone backs off."""


class NotSentError(EsaError):
    """Surely not sent (refused, DNS, TLS, connect timeout): safe to call again after a wait."""


class UncertainError(EsaError):
    """The outcome is unknown (timeout, reset, half a body, 5xx, unreadable reply): look before calling again."""


PASSING_ERRORS = (ThrottledError, SiteBusyError, NotSentError, UncertainError)
"""What ends by itself, and is seen in the metrics of the calls."""


class JobCapError(EsaError):
    """The site holds as many jobs as it may: delete finished ones of ours, or wait."""


class NotFoundError(EsaError):
    """No such job or plan; a delete may take it as done."""


class SizeError(EsaError):
    """The list was too large: send fewer URLs a call."""


class BlockedError(EsaError):
    """A person must act: ``scope`` says whether for this site or for the whole account."""

    def __init__(
        self,
        message: str,
        *,
        scope: Literal["site", "account"],
        code: str,
        http_status: int = 0,
        esa_request_id: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(
            message, code=code, http_status=http_status, esa_request_id=esa_request_id, hint=hint
        )
        self.scope: Literal["site", "account"] = scope


class RefusedError(EsaError):
    """Any other 4xx: it will be the same next time."""


class FailedFileError(Exception):
    """The list of refused URLs cannot be read: not allowed from there, away, too large or not text."""
