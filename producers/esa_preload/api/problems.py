"""Every error as RFC 9457 has it: ``application/problem+json``, one kind for each thing that a caller can do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from esa_preload.api.schemas import Receipt
from esa_preload.errors import (
    EsaPreloadError,
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
    RequestConflictError,
    UnknownRequestError,
    UnknownSiteError,
    UnsupportedRecordError,
)
from esa_preload.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

log = get_logger()

MEDIA_TYPE: Final = "application/problem+json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of problem: its ``type`` is ``/docs#problem-<name>``."""

    status: int
    title: str
    retry_after_s: int | None = None


KINDS: Final[Mapping[str, Kind]] = {
    "bad-body": Kind(status=400, title="The body cannot be read to its end"),
    "unauthorized": Kind(status=401, title="No valid token"),
    "forbidden": Kind(status=403, title="The token's role does not allow this"),
    "not-found": Kind(status=404, title="No such thing, or not one of this token's sites"),
    "method-not-allowed": Kind(status=405, title="The method is not allowed here"),
    "stalled-body": Kind(status=408, title="The body stood still for too long"),
    "conflict": Kind(status=409, title="The Idempotency-Key is known with other content"),
    "too-large": Kind(status=413, title="The body is too large"),
    "unsupported-media-type": Kind(
        status=415, title="The body is of a type or encoding that is not read here"
    ),
    "invalid": Kind(status=422, title="The request is wrong"),
    "nothing-accepted": Kind(status=422, title="No URL was accepted"),
    "queue-full": Kind(status=429, title="The queue of the site is full", retry_after_s=30),
    "internal": Kind(status=500, title="An error of the server's own"),
    "busy": Kind(status=503, title="Too many bodies are being read", retry_after_s=1),
    "not-durable": Kind(
        status=503, title="All is in the queue, but a crash of Redis may lose it", retry_after_s=5
    ),
    "unavailable": Kind(status=503, title="The queue cannot be used now", retry_after_s=5),
}
"""Each with its status, title, and seconds after which the call may be repeated."""


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str = Field(description="Its name; of a body's inner field the path, with dots.")
    message: str


class Problem(BaseModel):
    """An error (RFC 9457)."""

    model_config = ConfigDict(from_attributes=True)

    type: str = Field(description="Kind of the problem: a link into these docs.")
    title: str = Field(description="The kind in words; the same for all problems of a kind.")
    status: int
    detail: str = Field(description="This problem in a sentence.")
    hint: str | None = Field(None, description="What to do about it.")
    errors: list[FieldError] | None = Field(None, description="The fields that are wrong.")
    request_id: str | None = Field(
        None, description="Of the enqueue that broke off: repeat it with this Idempotency-Key."
    )
    receipt: Receipt | None = Field(None, description="What was taken into the queue nevertheless.")

    def json_text(self) -> str:
        """Return it as it is sent: without what does not apply; a receipt is whole all the same."""
        return self.model_dump_json(exclude={name for name, value in self if value is None})


class ProblemError(EsaPreloadError):
    """What the API itself refuses; ``kind`` is one of ``KINDS``."""

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        hint: str = "",
        errors: Iterable[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, hint=hint)
        self.kind = kind
        self.errors = tuple(errors)
        self.headers = dict(headers or {})


class BodyError(InvalidRequestError):
    """A streamed body ended too early, stood still, or is too large; ``kind`` is one of ``KINDS``."""

    def __init__(self, kind: str, detail: str, *, hint: str = "") -> None:
        super().__init__(detail, hint=hint)
        self.kind = kind


def problem_of(error: EsaPreloadError) -> tuple[Problem, dict[str, str]]:
    """Return what to answer to *error*, and with which headers. Where Redis is, is for the log alone."""
    kind, detail = kind_of(error), str(error)
    if isinstance(error, QueueUnavailableError):
        log.warning("http.unavailable", message=detail, hint=error.hint)
        detail = error.summary
    receipt = getattr(error, "receipt", None)
    request_id = getattr(error, "request_id", None) or (receipt.request_id if receipt else None)
    document = problem(
        kind,
        detail,
        hint=error.hint or None,
        errors=list(getattr(error, "errors", ())) or None,
        request_id=request_id,
        receipt=None if receipt is None else Receipt.model_validate(receipt),
    )
    headers: dict[str, str] = dict(getattr(error, "headers", {}))
    if (after_s := KINDS[kind].retry_after_s) is not None:
        headers.setdefault("Retry-After", str(after_s))
    return document, headers


def problem(kind: str, detail: str, **facts: Any) -> Problem:
    """Return a problem of *kind*."""
    known = KINDS[kind]
    return Problem(
        type=f"/docs#problem-{kind}", title=known.title, status=known.status, detail=detail, **facts
    )


def kind_of(error: EsaPreloadError) -> str:
    """Return the kind of *error*."""
    match error:
        case ProblemError() | BodyError():
            return error.kind
        case IncompleteError():
            return error.__cause__.kind if isinstance(error.__cause__, BodyError) else "bad-body"
        case InvalidRequestError():
            return "invalid"
        case UnknownRequestError() | UnknownSiteError():
            return "not-found"
        case RequestConflictError():
            return "conflict"
        case QueueFullError():
            return "queue-full"
        case NotDurableError():
            return "not-durable"
        case QueueUnavailableError() | UnsupportedRecordError():
            return "unavailable"
        case _:
            return "internal"


def field_errors(error: ValidationError | Any) -> list[FieldError]:
    """Return what pydantic, or FastAPI, found wrong, without the values themselves."""
    return [
        FieldError(field=_field(each["loc"]), message=str(each["msg"]).removeprefix("Value error, "))
        for each in error.errors()
    ]


def _field(location: Iterable[object]) -> str:
    parts = [str(part) for part in location]
    if len(parts) > 1 and parts[0] in ("query", "path", "header", "body"):
        parts = parts[1:]
    return ".".join(parts)
