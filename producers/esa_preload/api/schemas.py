"""The documents of the API: what each route takes and answers. Times are ISO 8601 with ``Z``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from esa_preload.model import SITE_ID_MAX

SiteId = Annotated[int, Field(ge=1, le=SITE_ID_MAX, description="The ESA site's id, an int64.")]


class Document(BaseModel):
    """What the API answers with: made from the values of :mod:`esa_preload.model`."""

    model_config = ConfigDict(from_attributes=True)


class Rejection(Document):
    """A URL that was never accepted, and why."""

    url: str
    reason: str


class Receipt(Document):
    """What became of one enqueue."""

    request_id: str
    site_id: int
    accepted: int = Field(description="URLs now in the queue for this request, merged ones among them.")
    merged: int = Field(description="Of these, URLs that were already pending for somebody else.")
    duplicates: int = Field(description="Repeats within this call.")
    rejected_count: int = Field(description="URLs that break a rule.")
    rejected: list[Rejection] = Field(description="The first 1,000 of them, with reasons.")
    waiting_until: datetime | None = Field(
        description="When the site will be submitted again, if it is known to wait."
    )


class Site(Document):
    """A site, its state and its totals."""

    site_id: int
    state: Literal["active", "waiting", "paused", "blocked"]
    reason: str
    pending: int
    in_flight: int
    submitted: int
    refused: int
    oldest_pending_s: float
    waiting_until: datetime | None
    jobs: int = Field(description="Jobs of ours that ESA holds.")
    job_cap: int | None = Field(description="As many as it allows us, once that is known.")


class Sites(Document):
    """All sites that the token may see, the first seen first."""

    items: list[Site]
