"""``esa-preload-worker demo`` as an installed command: it adds up, it ends, and it leaves nothing running."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from esa_preload.lines import read_lines
from esa_preload.model import Receipt, RequestStatus
from esa_preload.urls import normalise
from esa_preload_worker.demo.scrape import Scraped, add_up
from esa_preload_worker.demo.tally import Books, Course, Tally, document, find_problems, rows
from esa_preload_worker.demo.view import Progress, View, describe, show_table
from esa_preload_worker.demo.workers import environment

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

COMMAND = Path(sys.executable).with_name("esa-preload-worker")
MARK = "DEMO_TEST_MARK"


class Started:
    """A demo that runs, and the mark by which everything that it starts is known."""

    def __init__(self, options: Sequence[str], temporary: Path) -> None:
        self.mark = uuid.uuid4().hex
        self.temporary = temporary
        environ = {**os.environ, "TMPDIR": str(temporary), MARK: self.mark}
        self.process = subprocess.Popen(
            [COMMAND, "demo", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environ,
        )

    def read_until(self, pattern: str) -> re.Match[str]:
        """Read its output up to a line that *pattern* is found in."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.search(pattern, line):
                return match
        raise AssertionError(f"{pattern} never came: {self.process.stderr and self.process.stderr.read()}")

    def end(self) -> tuple[str, str]:
        """Wait for its end; returns what was left of its output, and its errors."""
        return self.process.communicate(timeout=60)

    def orphans(self) -> list[str]:
        """
        Return the command lines of what the demo started, itself among them while it runs.

        All of them inherit the mark; Valkey writes its title over it, but stays in the demo's directory.
        """
        found: list[str] = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile, or is not ours
                environ = (process / "environ").read_bytes()
                directory = (process / "cwd").readlink()
                if f"{MARK}={self.mark}".encode() in environ or directory.is_relative_to(self.temporary):
                    found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


@contextlib.contextmanager
def started(*options: str, temporary: Path) -> Generator[Started]:
    """Start a demo; at the end it must be gone, and everything that it started too."""
    demo = Started(options, temporary)
    try:
        yield demo
        assert demo.process.returncode is not None
        assert demo.orphans() == []
    finally:
        # Only SIGTERM lets it stop what it started.
        demo.process.terminate()
        demo.end()


def write_urls(path: Path, count: int, *more: str) -> Path:
    """Write a list of *count* URLs and whatever *more*."""
    urls = [f"https://cdn.example.com/assets/{number:06d}/app.js" for number in range(count)]
    path.write_text("\n".join([*urls, *more]) + "\n")
    return path


def test_adds_up(tmp_path: Path) -> None:
    """A list with a repeat and a bad line: exit code 0, figures that agree, one JSON document, only logs left behind.

    In a directory whose path is too long for a socket.
    """
    listed = write_urls(
        tmp_path / "urls.txt", 299, "https://cdn.example.com/assets/000000/app.js", "ftp://cdn.example.com/x"
    )
    temporary = tmp_path / "long" / ("d" * 100)
    temporary.mkdir(parents=True)
    with started("--urls", str(listed), "--json", temporary=temporary) as demo:
        output, errors = demo.end()
        assert demo.process.returncode == 0, errors
    figures = json.loads(output)
    assert figures["adds_up"] is True
    assert figures["problems"] == []
    for name in ("accepted", "submitted", "metrics_submitted", "urls_in_jobs", "urls_planned"):
        assert (name, figures[name]) == (name, 299)
    for name in ("merged", "refused", "expired", "cancelled", "unknown", "urls_planned_again"):
        assert (name, figures[name]) == (name, 0)
    assert (figures["duplicates"], figures["rejected_count"]) == (1, 1)
    assert figures["rejected"][0]["url"] == "ftp://cdn.example.com/x"
    assert figures["jobs_created"] == figures["plans_created"] == 3
    assert figures["batch_fill_percent"] == pytest.approx(99.67, abs=0.01)
    assert figures["calls"] == figures["metrics_calls"] >= 6
    assert figures["elapsed_s"] > 0
    (left,) = temporary.iterdir()
    names = {"valkey.log", "worker-1.log", "worker-2.log", "worker-1.metrics", "worker-2.metrics"}
    assert {path.name for path in left.iterdir()} == names
    assert {Path(path).name for path in figures["logs"] + figures["metrics"]} == names
    for worker in ("worker-1", "worker-2"):
        assert '"worker.stopped"' in (left / f"{worker}.log").read_text()
        assert "esa_preload_build_info" in (left / f"{worker}.metrics").read_text()


def test_sample(tmp_path: Path) -> None:
    """Without a list the bundled one runs, and a table at the end says that it adds up; a busy machine is too slow to be throttled."""
    with started(temporary=tmp_path) as demo:
        output, errors = demo.end()
        assert demo.process.returncode == 0, errors
    assert re.search(r"URLs submitted +2,000 ", output)
    assert re.search(r"URLs planned more than once +0 ", output)
    assert re.search(r"  throttled +\d", output)
    assert "Everything adds up" in output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(tmp_path: Path, number: signal.Signals) -> None:
    """A signal in the middle of the work: exit code 128 + n, and no process is left."""
    listed = write_urls(tmp_path / "urls.txt", 20_000)
    with started("--urls", str(listed), temporary=tmp_path) as demo:
        demo.read_until(r"[1-9][0-9,]* of [0-9,]+ URLs submitted")
        assert len(demo.orphans()) == 4
        demo.process.send_signal(number)
        _, errors = demo.end()
        assert demo.process.returncode == 128 + number
    assert "everything is stopped; the log files are in" in errors


def test_worker_dies(tmp_path: Path) -> None:
    """A worker that is killed ends the demo: exit code 1, who it was, and the last lines of its log."""
    listed = write_urls(tmp_path / "urls.txt", 20_000)
    with started("--urls", str(listed), temporary=tmp_path) as demo:
        pid = int(demo.read_until(r"worker-2: pid (\d+)")[1])
        os.kill(pid, signal.SIGKILL)
        _, errors = demo.end()
        assert demo.process.returncode == 1
    assert f"worker-2 (pid {pid}) ended by SIGKILL" in errors
    assert '"worker.started"' in errors
    assert "Traceback" not in errors


def test_lists_that_cannot_be_used(tmp_path: Path) -> None:
    """No such file, an empty one, a directory, damaged gzip: one sentence and exit code 2, before anything starts."""
    (tmp_path / "empty.txt").write_text("\n# nothing\n")
    (tmp_path / "damaged.gz").write_bytes(b"\x1f\x8b\x08damaged")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    complaints = {
        "missing.txt": "cannot be read: No such file or directory",
        "empty.txt": "is empty: there is no URL in it",
        ".": "cannot be read: Is a directory",
        "damaged.gz": "damaged or cut short",
    }
    for name, complaint in complaints.items():
        with started("--urls", str(tmp_path / name), "--json", temporary=temporary) as demo:
            output, errors = demo.end()
            assert demo.process.returncode == 2
        assert output == ""
        assert complaint in errors
        assert len(errors.splitlines()) == 1
    assert list(temporary.iterdir()) == []


def test_sample_list() -> None:
    """The bundled list holds 2,000 distinct URLs, each in its normal form."""
    urls = list(read_lines((files("esa_preload_worker.demo") / "sample-urls.txt").read_bytes()))
    assert len(urls) == len(set(urls)) == 2_000
    assert all(normalise(url) == url for url in urls)


GOOD = Tally(
    receipt=Receipt(request_id="r", site_id=1, accepted=10, duplicates=1),
    status=RequestStatus(request_id="r", site_id=1, state="done", accepted=10, submitted=8, refused=2),
    books=Books(
        jobs_created=2,
        plans_created=2,
        jobs_planned_again=0,
        urls_in_jobs=10,
        urls_refused=2,
        urls_planned=8,
        urls_planned_again=0,
        calls=5,
        throttled_calls=1,
    ),
    scraped=Scraped(urls_submitted=8, urls_refused=2, calls=5, throttled_calls=1),
    course=Course(elapsed_s=2.0, peak_calls_per_s=1.0),
    batch_max_urls=10,
    worker_exit_codes=(0, 0),
)


def test_verdict_finds_nothing() -> None:
    """Books that agree are no problem, refused URLs or not; the figures follow from them."""
    assert find_problems(GOOD) == []
    assert document(GOOD, metrics=[], logs=[])["adds_up"] is True
    assert (GOOD.batch_fill_percent, GOOD.calls_per_s, GOOD.peak_calls_per_s) == (50.0, 2.5, 2.5)


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (replace(GOOD, status=replace(GOOD.status, submitted=7)), "URLs that ended: 9,"),
        (replace(GOOD, receipt=replace(GOOD.receipt, accepted=11)), "URLs that the queue accepted: 10,"),
        (replace(GOOD, books=replace(GOOD.books, urls_planned_again=1)), "URLs planned more than once: 1,"),
        (replace(GOOD, books=replace(GOOD.books, urls_planned=9)), "in planned jobs: 9,"),
        (replace(GOOD, books=replace(GOOD.books, urls_in_jobs=9)), "in the sandbox's jobs: 9,"),
        (replace(GOOD, books=replace(GOOD.books, jobs_planned_again=1)), "more than one plan: 1,"),
        (replace(GOOD, scraped=replace(GOOD.scraped, urls_submitted=7)), "by the workers' metrics: 7,"),
        (replace(GOOD, worker_exit_codes=(0, -9)), "worker-2 did not end by itself"),
    ],
)
def test_verdict_finds_what_is_wrong(wrong: Tally, complaint: str) -> None:
    """Each kind of disagreement is named."""
    assert any(complaint in problem for problem in find_problems(wrong))


def test_verdict_knows_late_repeats() -> None:
    """In a list longer than the window in which repeats are seen, a URL may rightly be planned again."""
    receipt, status = GOOD.receipt, GOOD.status
    long = replace(
        GOOD,
        receipt=replace(receipt, accepted=200_000),
        status=replace(status, accepted=200_000, submitted=199_998),
        books=replace(GOOD.books, urls_planned=199_998, urls_planned_again=3, urls_in_jobs=199_997),
        scraped=replace(GOOD.scraped, urls_submitted=199_998),
    )
    assert find_problems(long) == []


def test_metrics_add_up() -> None:
    """The figures of the workers' pages are added; the rate, which is the ledger's, is not."""
    page = """
esa_preload_urls_submitted_total{site="1"} 5.0
esa_preload_urls_refused_total{site="1",reason="invalid_url"} 1.0
esa_preload_api_requests_total{operation="CreateScheduledPreloadJob",code="OK"} 3.0
esa_preload_api_requests_total{operation="CreateScheduledPreloadJob",code="TooManyRequests"} 2.0
esa_preload_rate_limit{operation="CreateScheduledPreloadJob"} 12.5
esa_preload_rate_limit{operation="GetScheduledPreloadJob"} 1.5
"""
    summed = Scraped(urls_submitted=10, urls_refused=2, calls=10, throttled_calls=4, create_rate=12.5)
    assert add_up([page, page]) == summed


def test_terminal_view() -> None:
    """On a terminal there is a bar with the same line below it, and the table of the end."""
    progress = Progress(
        elapsed_s=1.5,
        accepted=2_000,
        is_enqueued=False,
        ended=1_000,
        jobs=10,
        scraped=Scraped(calls=20, create_rate=19.5),
        calls_per_s=13.3,
    )
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=150, _environ={"TERM": "xterm"})
    with View(console) as view:
        view.show(progress)
    show_table(console, GOOD)
    assert describe(progress) in output.getvalue()
    assert "━" in output.getvalue()
    assert all(what.strip() in output.getvalue() for what, _, _ in rows(GOOD))


def test_workers_environment() -> None:
    """No setting, credential or proxy of the caller's reaches the demo's workers; odd paths survive in the URL."""
    inherited = {
        "PATH": "/bin",
        "ESA_PRELOAD_BATCH_MAX_URLS": "7",
        "ALIBABA_CLOUD_SECURITY_TOKEN": "t",
        "HTTPS_PROXY": "http://proxy.example.com",
    }
    environ = environment(inherited, socket=Path("/run/a b?/s"), endpoint="http://127.0.0.1:1")
    assert environ["PATH"] == "/bin"
    assert environ["ESA_PRELOAD_REDIS_URL"] == "unix:///run/a%20b%3F/s"
    assert environ["ALIBABA_CLOUD_ACCESS_KEY_ID"] == "sandbox"
    assert not set(inherited) - {"PATH"} & set(environ)
