"""``esa-preload-worker sandbox`` as an installed command: what it prints, whom it serves, how it ends."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.demo.commands import sandbox
from esa_preload_worker.demo.sandbox import parse_config
from esa_preload_worker.esa import EsaClient, ThrottledError, credentials_from_env
from esa_preload_worker.oss import list_store
from esa_preload_worker.settings import load

if TYPE_CHECKING:
    from collections.abc import Generator

COMMAND = Path(sys.executable).with_name("esa-preload-worker")
SITE = 190007158391808


@contextmanager
def running(*options: str) -> Generator[tuple[subprocess.Popen[str], str]]:
    """Run a sandbox on a free port; yields its process and the line that it prints."""
    with subprocess.Popen(
        [COMMAND, "sandbox", "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def run(*options: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [COMMAND, "sandbox", *options], capture_output=True, text=True, timeout=20, check=False
    )


def environment_of(line: str) -> dict[str, str]:
    """Return the variables that the sandbox's line names, as a shell would set them."""
    return dict(re.findall(r"([A-Z_]+)=(\S+)", line))


async def test_points_a_worker_at_itself() -> None:
    """The printed variables are all that the worker's client needs to create a job; SIGTERM ends the command with 0."""
    with running() as (process, line):
        environ = environment_of(line)
        client = EsaClient(
            environ["ESA_PRELOAD_ENDPOINT"], credentials_from_env(environ), 5, environ={"NO_PROXY": "*"}
        )
        async with client:
            job = await client.create_job(site_id=SITE, name="preload-1", urls=["https://example.com/a.js"])
        assert (job.url_count, job.url_submitted) == (1, 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


async def test_offers_a_bucket_for_lists() -> None:
    """The second line's variables, with the first's, are all that the store of lists needs."""
    with running() as (process, line):
        assert process.stdout is not None
        environ = environment_of(line) | environment_of(process.stdout.readline())
        settings = load(environ | {"ESA_PRELOAD_REDIS_URL": "redis://h"}).settings
        store = list_store(settings, credentials_from_env(environ), {})
        assert store is not None
        async with store:
            await store.put("a.txt", b"https://example.com/a.js")
            assert await store.get("a.txt") == b"https://example.com/a.js"


async def test_does_what_its_options_say() -> None:
    """Rate, site and job options reach the simulated account; SIGINT ends the command with 0 as well."""
    options = (
        "--rate",
        "0.1",
        "--burst",
        "2",
        "--no-hint",
        "--job-cap",
        "5",
        "--site",
        f"{SITE}=example.com",
    )
    with running(*options, "--latency", "0.01", "--jitter", "0.01", "--quota", "10") as (process, line):
        environ = environment_of(line)
        client = EsaClient(
            environ["ESA_PRELOAD_ENDPOINT"], credentials_from_env(environ), 5, environ={"NO_PROXY": "*"}
        )
        urls = ["https://cdn.example.com/a.js", "https://elsewhere.example.net/b.js"]
        async with client:
            job = await client.create_job(site_id=SITE, name="preload-1", urls=urls)
            await client.create_job(site_id=SITE, name="preload-2", urls=urls)
            with pytest.raises(ThrottledError) as throttled:
                await client.create_job(site_id=SITE, name="preload-3", urls=urls)
        assert (job.url_count, job.url_submitted) == (2, 1)
        assert throttled.value.retry_after_s is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_warns_beyond_loopback() -> None:
    """On an address that others can reach it warns, and names the variable that a worker then needs."""
    with running("--host", "0.0.0.0") as (process, line):
        assert environment_of(line)["ESA_PRELOAD_ALLOW_INSECURE_ENDPOINT"] == "1"
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=10)
        assert errors.startswith("Warning: 0.0.0.0 can be reached from other machines")
        assert process.returncode == 0


def test_port_taken() -> None:
    """A port in use is one clear sentence and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("--port", str(port))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}: {os.strerror(errno.EADDRINUSE)}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rate", "5", "--window", "200/60"], "--window excludes --rate"),
        (["--burst", "5"], "--burst needs --rate"),
        (["--rate", "nan"], "--rate must be a positive number"),
        (["--rate", "5", "--burst", "0"], "burst must be 1 or more"),
        (["--window", "200"], "--window must be calls/seconds"),
        (["--window", "0/60"], "calls must be 1 or more"),
        (["--site", "x=example.com"], "--site must be ID=DOMAIN"),
        (["--site", "1="], "--site must be ID=DOMAIN"),
        (["--quota", "-1"], "url_quota_per_site must be 0 or more"),
        (["--latency", "inf"], "latency_s must be 0 or more"),
    ],
)
def test_refuses_odd_options(options: list[str], complaint: str) -> None:
    """Options that exclude each other, or are out of range, are a usage error: one sentence and exit code 2."""
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(*options)


def test_usage_error_is_exit_code_2() -> None:
    """What the options' check says reaches the shell as a usage error."""
    done = run("--rate", "5", "--window", "200/60")
    assert done.returncode == 2
    assert "--window excludes --rate and --burst" in done.stderr


def parse(*options: str) -> None:
    """Parse the options as the command does, without serving."""
    context = sandbox.make_context("sandbox", list(options))
    values = {name: value for name, value in context.params.items() if name not in {"host", "port"}}
    parse_config(**values)
