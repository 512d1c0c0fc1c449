"""What ESA answers when it refuses: the documented codes with their HTTP statuses."""

from __future__ import annotations

import uuid
from typing import Any

# A reply's JSON object, as it goes out: nothing here reads one back.
Body = dict[str, Any]


class ApiError(Exception):
    """
    A refusal, as ESA would send it.

    Attributes:
        status: HTTP status; ESA throttles with 400, not 429.
        retry_after_ms: for the header ``x-acs-retry-after``; ``None``: no header.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_ms = retry_after_ms


def new_request_id() -> str:
    """Return a fresh id in ESA's form: a UUID in upper case."""
    return str(uuid.uuid4()).upper()


def missing(parameter: str) -> ApiError:
    """Return the gateway's refusal of a call without *parameter*."""
    return ApiError(400, f"Missing{parameter}", f"{parameter} is mandatory for this action.")


def invalid(parameter: str, why: str) -> ApiError:
    """Return the refusal of a *parameter* that is of the wrong type or out of range."""
    return ApiError(400, f"InvalidParameter.{parameter}", f"The parameter {parameter} is invalid: {why}")


def too_many_requests(*, retry_after_ms: int | None) -> ApiError:
    """Return the throttling reply; HTTP 400 by ESA's own error table."""
    return ApiError(
        400, "TooManyRequests", "Too many requests.Please try again later.", retry_after_ms=retry_after_ms
    )


def job_not_found() -> ApiError:
    """Return the refusal of a job id that names no job, or a deleted one."""
    return ApiError(404, "InvalidJob.NotFound", "The specified job does not exist or has been deleted.")


def plan_not_found() -> ApiError:
    """Return the refusal of a plan id that names no plan."""
    return ApiError(404, "InvalidExecution.NotFound", "The specified execution does not exist.")


def site_not_found() -> ApiError:
    """Return the refusal of a site that this account does not have."""
    return ApiError(404, "SiteNotFound", "The specified site does not exist.")


def site_full() -> ApiError:
    """Return the refusal of one job too many for its site."""
    return ApiError(
        400,
        "InvalidJob.JobCountOfSiteFull",
        "The number of jobs of the site has reached the limit. Delete some jobs and try again.",
    )
