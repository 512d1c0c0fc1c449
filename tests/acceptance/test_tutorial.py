"""The tutorial, carried out from its first command to its last, on ports and in a folder of the test's own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from docs.pages import DOCS, read
from ports import free_port
from processes import BIN, environment

if TYPE_CHECKING:
    from collections.abc import Generator

PORT, FOLDER = "8787", "/tmp/esa-preload-tutorial"  # noqa: S108 - as the page has it
_STEP = re.compile(r"^<!-- ([^\n]+) -->$\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def is_open(port: int) -> bool:
    """Tell whether somebody listens there."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def stays(script: str, env: dict[str, str], cwd: Path) -> Generator[subprocess.Popen[bytes]]:
    """Run a step that does not end while inside."""
    with (cwd / "log").open("ab") as log:
        process = subprocess.Popen(
            ["sh", "-c", script.replace("esa-preload-worker", "exec esa-preload-worker")],
            env=env,
            cwd=cwd,
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(40)


def test_every_step_of_the_tutorial_does_what_it_says() -> None:
    """Two URLs are submitted, one of another domain is refused alone, and the program of Python enqueues once, though it is run twice."""
    port, said = free_port(), list[str]()
    with tempfile.TemporaryDirectory(prefix="esat-") as folder, ExitStack() as stack:
        cwd = Path(folder)
        env = environment(ESA_PRELOAD_OPS_PORT="0", PATH=f"{BIN}:{os.environ['PATH']}")
        for what, text in _STEP.findall(read(DOCS / "tutorial.md")):
            script = text.replace(PORT, str(port)).replace(FOLDER, f"{folder}/q")
            match what.partition(",")[0].split():
                case ["not", "run"]:
                    continue
                case ["file:", name]:
                    (cwd / name).write_text(text, encoding="utf-8")
                case ["stays"]:
                    stack.enter_context(stays(script, env, cwd))
                    _wait_until_ready(port if "worker sandbox" in script else None, cwd)
                case _:
                    env["ESA_PRELOAD_REDIS_URL"] = f"embedded:{folder}/q"
                    done = subprocess.run(
                        ["sh", "-ec", script],
                        env=env,
                        cwd=cwd,
                        capture_output=True,
                        text=True,
                        timeout=90,
                        check=False,
                    )
                    code = 1 if what.endswith("ends with 1") else 0
                    assert done.returncode == code, (
                        script + done.stdout + done.stderr + (cwd / "log").read_text()
                    )
                    said.append(done.stdout)
    first, asked, second, failures, third = said
    assert "submitted 2" in first
    assert "submitted 2" in asked
    assert "submitted 1, refused 1" in second
    assert "https://www.example.org/" in failures
    assert third.split() == ["1", "accepted", "1", "submitted"]


def _wait_until_ready(port: int | None, cwd: Path) -> None:
    until = time.monotonic() + 60
    while not (is_open(port) if port else (cwd / "q" / "valkey.sock").exists()):
        assert time.monotonic() < until, (cwd / "log").read_text()
        time.sleep(0.05)
