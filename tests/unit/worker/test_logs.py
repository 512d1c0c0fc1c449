"""The log: one object a line, whatever is logged, and nothing of what must not be there."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any, Literal

import pytest
import structlog

from esa_preload.logs import configure_logs, get_logger
from esa_preload_worker.events import EVENTS

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction] - used by pytest
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def log_to(level: str = "info", log_format: Literal["auto", "json", "console"] = "json") -> io.StringIO:
    """Configure logging into a stream of the test's own."""
    stream = io.StringIO()
    configure_logs(level=level, log_format=log_format, stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Return what was logged as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


INJECTED = 'a"\n{"event": "batch.submitted"}\r\u2028\x1b[31m\x00 b'


def test_a_value_can_not_begin_a_line_of_its_own() -> None:
    """Newlines, escapes and separators in values stay within their object."""
    stream = log_to()
    get_logger().info("batch.refused", message=INJECTED, code=INJECTED)
    logging.getLogger("other").warning("%s", INJECTED)
    found = lines(stream)
    assert [entry["event"] for entry in found] == ["batch.refused", "library"]
    assert found[0]["message"] == found[1]["message"] == INJECTED
    assert stream.getvalue().isascii()


@pytest.mark.parametrize(
    "text", [INJECTED, "\x1b[31mred", "\x9b31m", "a\u2028b", "\u202egnp", "\x00", "\x07\x08", "a\vb\x85c"]
)
def test_a_terminal_shows_one_line_too(text: str) -> None:
    """The console form escapes what would break the line or steer the terminal, blanks or none, in every kind of fact."""
    stream = log_to(log_format="console")
    get_logger().info("batch.refused", message=text, ended={text: 1})
    logging.getLogger("other").warning("%s", text)
    first, second, *more = stream.getvalue().strip("\n").split("\n")
    assert not more
    assert (first + second).isprintable()


def test_a_traceback_on_a_terminal_steers_nothing() -> None:
    """The text of an exception may come from outside; its line breaks are those of the traceback alone."""
    stream = log_to(log_format="console")
    try:
        raise ValueError("\x1b[31mred\x9b")
    except ValueError:
        get_logger().exception("worker.error")
    assert all(line.isprintable() for line in stream.getvalue().split("\n"))
    assert "\\x1b[31mred" in stream.getvalue()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_the_variables_of_a_failing_function_stay_out(log_format: Literal["json", "console"]) -> None:
    """A traceback names functions and lines: the values in them may be secrets."""
    stream = log_to(log_format=log_format)

    def fail() -> None:
        access_key = "canary-" + "secret"
        raise ValueError(len(access_key))

    for logger in (get_logger(), logging.getLogger("asyncio")):
        try:
            fail()
        except ValueError:
            logger.exception("worker.error")
    text = stream.getvalue()
    assert "ValueError" in text
    assert "canary-secret" not in text
    if log_format == "json":
        assert len(lines(stream)) == 2


def test_levels_hold_and_facts_are_keys() -> None:
    """Below the level nothing is written; each line has a time in UTC, a level and its event."""
    stream = log_to(level="warning")
    get_logger().info("worker.started")
    get_logger().warning("site.waiting", site_id=1, reason="quota")
    (entry,) = lines(stream)
    assert (entry["event"], entry["level"], entry["site_id"], entry["reason"]) == (
        "site.waiting",
        "warning",
        1,
        "quota",
    )
    assert entry["timestamp"].endswith("Z")


def test_other_libraries_say_only_warnings() -> None:
    """arq logs every job at info, and its own command gives it a handler: neither reaches our log."""
    arq = logging.getLogger("arq")
    arq.addHandler(logging.StreamHandler(io.StringIO()))
    arq.setLevel(logging.INFO)
    stream = log_to()
    logging.getLogger("arq.worker").info("job started")
    logging.getLogger("arq.worker").error("odd")
    (entry,) = lines(stream)
    assert (entry["event"], entry["logger"], entry["message"]) == ("library", "arq.worker", "odd")
    assert not arq.handlers


class Writes(io.RawIOBase):
    """Keeps each write that would reach the system."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self.writes.append(bytes(data))
        return len(self.writes[-1])


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_line_is_one_write(log_format: Literal["json", "console"]) -> None:
    """Its newline goes with it, however long it is: two workers that append to one file do not join lines."""
    raw = Writes()
    stream = io.TextIOWrapper(io.BufferedWriter(raw), line_buffering=True)  # as standard error is
    configure_logs(log_format=log_format, stream=stream)
    for length in (1, 20_000):
        get_logger().warning("worker.warning", message="x" * length)
        logging.getLogger("other").warning("x" * length)
    assert [text.count(b"\n") for text in raw.writes] == [1] * 4
    assert all(text.endswith(b"\n") for text in raw.writes)


def test_events_are_named_once() -> None:
    """The list has no event twice."""
    assert len(set(EVENTS)) == len(EVENTS)
