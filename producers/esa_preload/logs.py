"""Logging of the daemons: structlog, one JSON object a line, or coloured lines on a terminal; other libraries' warnings the same way."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Literal, TextIO, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger, Processor

_TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
"""Without the variables of each frame, which is what both renderers would show: credentials are among them."""


_FACTS: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.processors.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
"""What each line says beside its event, whoever wrote it."""


def configure_logs(
    *,
    level: str = "info",
    log_format: Literal["auto", "json", "console"] = "auto",
    stream: TextIO | None = None,
) -> None:
    """Send all logging of the process to *stream* (standard error)."""
    target = stream or sys.stderr
    is_console = log_format == "console" or (log_format == "auto" and target.isatty())
    renderers = _for_people(target) if is_console else _for_programs()
    _send_own_events(target, level, renderers)
    _send_libraries_warnings(target, renderers)


def _for_people(target: TextIO) -> list[Processor]:
    lines = structlog.dev.ConsoleRenderer(colors=target.isatty(), exception_formatter=_printable_traceback)
    return [_printable, lines]


def _for_programs() -> list[Processor]:
    return [_TRACEBACKS, structlog.processors.JSONRenderer(ensure_ascii=True)]


def _send_own_events(target: TextIO, level: str, renderers: list[Processor]) -> None:
    structlog.configure(
        processors=[*_FACTS, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # Text and newline in one write: processes that append to one file do not join lines.
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )


def _send_libraries_warnings(target: TextIO, renderers: list[Processor]) -> None:
    without_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_FACTS, processors=[_as_library_event, without_meta, *renderers]
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    # Its own command gave it a handler and a level of its own.
    arq = logging.getLogger("arq")
    arq.handlers.clear()
    arq.setLevel(logging.NOTSET)


def _printable(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escape what would steer a terminal or break the line: the console form shows a text without blanks as it is."""
    del logger, name
    return {key: _escape(value) if isinstance(value, str) else value for key, value in event.items()}


def _printable_traceback(sio: TextIO, exc_info: structlog.typing.ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    sio.write("\n".join(map(_escape, text.getvalue().split("\n"))))


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _as_library_event(
    logger: object, name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    del logger, name
    record = event.get("_record")
    event["message"] = event.pop("event", "")
    event["event"] = "library"
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event


def get_logger() -> FilteringBoundLogger:
    """Return the logger of our own events."""
    return cast("FilteringBoundLogger", structlog.get_logger())
