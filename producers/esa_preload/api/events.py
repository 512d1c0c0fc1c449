"""The events that the HTTP API logs: docs/reference/telemetry.md lists them; a test holds the two together."""

from __future__ import annotations

EVENTS = (
    "http.started",
    "http.stopping",
    "http.stopped",
    "http.warning",
    "http.error",
    "http.unavailable",
    "http.request",
    "console.signed_in",
    "console.refused",
    "tokens.loaded",
    "tokens.kept",
)
"""``library`` is what other libraries log, at warning and above."""
