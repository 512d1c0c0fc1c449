"""Read a worker's /metrics, as Prometheus would."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from esa_preload.errors import EsaPreloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

CREATE = "CreateScheduledPreloadJob"
THROTTLED = "TooManyRequests"

_TIMEOUT = aiohttp.ClientTimeout(total=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scraped:
    """
    What the workers' metrics say, added up over the workers.

    Attributes:
        create_rate: calls/s now allowed for creating jobs; it is the ledger's, and equal on every worker.
    """

    urls_submitted: int = 0
    urls_refused: int = 0
    calls: int = 0
    throttled_calls: int = 0
    create_rate: float = 0.0


def add_up(pages: Iterable[str]) -> Scraped:
    """Return the figures of one /metrics page of every worker."""
    submitted = refused = calls = throttled = rate = 0.0
    for page in pages:
        for family in text_string_to_metric_families(page):
            for sample in family.samples:
                match sample.name:
                    case "esa_preload_urls_submitted_total":
                        submitted += sample.value
                    case "esa_preload_urls_refused_total":
                        refused += sample.value
                    case "esa_preload_api_requests_total":
                        calls += sample.value
                        throttled += sample.value if sample.labels["code"] == THROTTLED else 0
                    case "esa_preload_rate_limit" if sample.labels["operation"] == CREATE:
                        rate = sample.value
                    case _:
                        pass
    return Scraped(
        urls_submitted=int(submitted),
        urls_refused=int(refused),
        calls=int(calls),
        throttled_calls=int(throttled),
        create_rate=rate,
    )


async def fetch(urls: Iterable[str]) -> list[str]:
    """
    Return the pages at *urls*.

    Raises:
        EsaPreloadError: one of them does not answer.
    """
    pages: list[str] = []
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        for url in urls:
            try:
                async with session.get(url) as response:
                    response.raise_for_status()
                    pages.append(await response.text())
            except (aiohttp.ClientError, TimeoutError) as exc:
                raise EsaPreloadError(f"{url} does not answer: {str(exc) or type(exc).__name__}") from exc
    return pages
