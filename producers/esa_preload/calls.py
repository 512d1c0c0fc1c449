"""What several clients ask for alike: the arguments of a call together, checked before anything is sent."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from esa_preload.arguments import (
    parse_expires_in,
    parse_operation,
    parse_plan,
    parse_priority,
    parse_rate,
    parse_request_id,
    parse_text,
)
from esa_preload.errors import InvalidRequestError
from esa_preload.model import Plan, Priority, Receipt, parse_site_id
from esa_preload.urls import URL_MAX_CHARS, UrlRejectedError, normalise

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from esa_preload.interface import Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """
    The arguments of an enqueue beside its URLs.

    Attributes:
        request_id: as given, or made up.
        expires_in_ms: 0: never.
        source: empty when not given.
    """

    request_id: str
    site_id: int
    plan: Plan
    priority: Priority
    expires_in_ms: int
    source: str

    def nothing(self) -> Receipt:
        """Return the receipt of a request of which nothing is known to be taken."""
        return Receipt(request_id=self.request_id, site_id=self.site_id)


def parse_call(
    site_id: int,
    *,
    plan: Plan | None = None,
    priority: Priority = "normal",
    expires_in: float | timedelta | None = None,
    request_id: str | None = None,
    source: str | None = None,
    progress: Progress | None = None,
) -> Call:
    """
    Return the arguments of an enqueue.

    Raises:
        InvalidRequestError: one of them is wrong.
    """
    if progress is not None and not callable(progress):
        raise InvalidRequestError("progress must be a function of the number of URLs handled")
    return Call(
        request_id=uuid.uuid4().hex if request_id is None else parse_request_id(request_id),
        site_id=parse_site_id(site_id),
        plan=parse_plan(plan),
        priority=parse_priority(priority),
        expires_in_ms=parse_expires_in(expires_in),
        source=parse_text("source", source),
    )


def parse_list_url(oss_url: str, *, url_max_chars: int = URL_MAX_CHARS) -> str:
    """Return the address of a list in OSS in its normal form."""
    try:
        url = normalise(oss_url, url_max_chars=url_max_chars)
    except UrlRejectedError as exc:
        raise InvalidRequestError(f"oss_url: {exc.reason}") from None
    if not url.startswith("https://"):
        raise InvalidRequestError("oss_url must start with https://")
    return url


def parse_subject(request_id: str | None, site_id: int | None, url: str | None) -> str | int:
    """Return the request (a text), or else the site (a number), that is to be explained; a URL is one of a site."""
    if (request_id is None) == (site_id is None) or (url is not None and site_id is None):
        raise InvalidRequestError("explain a request, a site, or a URL of a site")
    return parse_site_id(site_id) if request_id is None else parse_request_id(request_id)


def parse_changes(changes: Iterable[tuple[str, float | None]]) -> list[tuple[str, float | None]]:
    """Return operations with the rate that each is to have; ``None``: what is learnt."""
    return [
        (parse_operation(operation), None if rate is None else parse_rate(rate))
        for operation, rate in changes
    ]
