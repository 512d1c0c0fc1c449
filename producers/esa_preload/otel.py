"""Send the spans of a process of ours away, by OpenTelemetry's own settings (extra ``otel``)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from esa_preload.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from opentelemetry.sdk.trace import TracerProvider

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_SHUTDOWN_S = 3.0
"""A collector that is away does not hold up the end of a process for longer."""


def wants_traces(environ: Mapping[str, str]) -> bool:
    """Tell whether the environment says where spans go."""
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environ.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    return exporter == "otlp" or (not exporter and any(environ.get(name, "").strip() for name in _ENDPOINTS))


def start_tracing(service_name: str, environ: Mapping[str, str]) -> Callable[[], None]:
    """
    Send what this process traces where the ``OTEL_*`` variables say, if they do.

    Returns:
        what ends it: sends what is left, for a bounded time.

    Raises:
        SettingsError: they do, and the extra is not installed.
    """
    if not wants_traces(environ):
        return lambda: None
    try:
        provider = _provider(service_name, environ)
    except ModuleNotFoundError as exc:
        raise SettingsError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed",
            hint="pip install 'esa-preload[otel]', or set OTEL_SDK_DISABLED=true",
        ) from exc
    return lambda: _shut_down(provider)


def _provider(service_name: str, environ: Mapping[str, str]) -> TracerProvider:
    from opentelemetry import trace  # noqa: PLC0415 - an extra
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    name = environ.get("OTEL_SERVICE_NAME", "").strip() or service_name
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


def _shut_down(provider: TracerProvider) -> None:
    """Send what is left; in a thread that the end of the process does not wait for."""
    thread = threading.Thread(target=provider.shutdown, name="end of tracing", daemon=True)
    thread.start()
    thread.join(_SHUTDOWN_S)
