"""Every metric of the HTTP API, declared once. docs/reference/telemetry.md lists them; a test holds the two together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

if TYPE_CHECKING:
    from esa_preload.model import Receipt

disable_created_metrics()  # type: ignore[no-untyped-call] # it would be a second series for each

SECONDS_BUCKETS: Final = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
OTHER: Final = "other"
"""Label of a method that is none of these, and of a path that is no route."""

OUTCOMES: Final = ("accepted", "merged", "duplicate", "rejected")


class Metrics:
    """
    The metrics of one API process.

    Args:
        version: of the package, for ``build_info``.
    """

    def __init__(self, *, version: str) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self.requests = Counter(
            "esa_preload_http_requests", "Requests answered.", ["route", "method", "status"], registry=r
        )
        self.request_seconds = Histogram(
            "esa_preload_http_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["route"],
            buckets=SECONDS_BUCKETS,
            registry=r,
        )
        self.urls = Counter("esa_preload_http_urls", "URLs that came in by HTTP.", ["outcome"], registry=r)
        for outcome in OUTCOMES:
            self.urls.labels(
                outcome
            )  # from 0: the first ones have an increase, and a server without any is seen
        self.redis_up = Gauge("esa_preload_redis_up", "1 while Redis answers.", registry=r)
        build = Gauge("esa_preload_build_info", "1, with the version as label.", ["version"], registry=r)
        build.labels(version).set(1)

    def count(self, receipt: Receipt) -> None:
        """Count the URLs of one enqueue."""
        figures = (receipt.accepted, receipt.merged, receipt.duplicates, receipt.rejected_count)
        for outcome, urls in zip(OUTCOMES, figures, strict=True):
            self.urls.labels(outcome).inc(urls)

    def observe(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request."""
        known = method if method in METHODS else OTHER
        self.requests.labels(route, known, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)
