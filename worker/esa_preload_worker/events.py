"""The events that the worker logs: docs/reference/telemetry.md lists them; a test holds the two together."""

from __future__ import annotations

EVENTS = (
    "worker.started",
    "worker.stopping",
    "worker.stopped",
    "worker.warning",
    "worker.error",
    "batch.submitted",
    "batch.refused",
    "batch.throttled",
    "batch.uncertain",
    "batch.adopted",
    "batch.requeued",
    "batch.gathered",
    "bulk.put_back",
    "list.kept",
    "site.waiting",
    "site.blocked",
    "site.resumed",
    "job.deleted",
    "job.kept",
    "plan.failed",
    "redis.unavailable",
    "redis.recovered",
    "redis.restarted",
)
"""Every event of our own; ``library`` is what other libraries log, at warning and above."""
