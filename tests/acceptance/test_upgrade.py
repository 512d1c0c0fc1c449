"""Two releases on one queue: an earlier commit of this repository, installed from its own wheel, beside the present one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.client import PreloadClient
from integration.outages.servers import Server
from processes import Finished, finish, started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from esa_preload_worker.sandbox import Sandbox
    from processes import Running

ROOT = Path(__file__).resolve().parents[2]
NEWCOMER = "producers/esa_preload/api/app.py"
"""What is to be upgraded from. Nothing was released yet: the last commit before this file, of the HTTP API, was there."""
SITE = 190007158391808
SHARED = [
    "accepted",
    "merged",
    "pending",
    "in_flight",
    "submitted",
    "refused",
    "expired",
    "cancelled",
    "unknown",
    "state",
]
QUICK = {
    "ESA_PRELOAD_BATCH_QUIET": "0.1",
    "ESA_PRELOAD_RATE_INITIAL": "50",
    "ESA_PRELOAD_BATCH_MAX_URLS": "10",
}
RUN = "import sys; from {package}.commands import main; sys.argv[0] = '{name}'; main()"

pytestmark = pytest.mark.slow


def git(*arguments: str) -> bytes:
    """Run git in this repository."""
    return subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True).stdout


def earlier_commit() -> str | None:
    """Return the commit to upgrade from, or ``None`` where the history does not go back so far."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        return None
    added = git("log", "--diff-filter=A", "--format=%P", "--", NEWCOMER).decode().split()
    return added[-1] if added else None


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The earlier release, from its own wheel, in a folder of its own; it runs on the dependencies that are locked now."""
    commit = earlier_commit()
    if commit is None:
        pytest.skip("no history: a checkout without it cannot build an earlier release")
    home = tmp_path_factory.mktemp("earlier")
    (home / "tree").mkdir()
    subprocess.run(["tar", "-x", "-C", str(home / "tree")], input=git("archive", commit), check=True)
    build = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(home),
        str(home / "tree"),
    ]
    subprocess.run(build, check=True, capture_output=True)
    [wheel] = home.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(home / "site"), str(wheel)], check=True)
    return home / "site"


class Release:
    """One of the two: its commands, in processes of their own."""

    def __init__(self, environment: dict[str, str], site: Path | None) -> None:
        self.environment = environment | ({"PYTHONPATH": str(site)} if site else {})

    @asynccontextmanager
    async def worker(self) -> AsyncGenerator[Running]:
        """Run a worker while inside; it is ready when this begins."""
        script = RUN.format(package="esa_preload_worker", name="esa-preload-worker")
        async with started(sys.executable, "-c", script, "run", env=self.environment | QUICK) as running:
            await wait_until(lambda: running.events("worker.started"), timeout_s=30)
            yield running

    async def command(self, *arguments: str) -> Finished:
        """Run a command of producers to its end."""
        script = RUN.format(package="esa_preload", name="esa-preload")
        return await finish(sys.executable, "-c", script, *arguments, env=self.environment)

    async def enqueue(self, request_id: str, urls: list[str], *options: str) -> Finished:
        """Enqueue, with the text of the URLs on standard input."""
        return await self.command("enqueue", "--site", str(SITE), "--request-id", request_id, *options, *urls)

    async def status(self, request_id: str) -> dict[str, Any]:
        """Return the counts that both releases know."""
        document = (await self.command("status", request_id, "--json")).json()
        return {name: document[name] for name in SHARED}


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A Valkey of the test's own."""
    found = Server(tmp_path / "redis")
    await found.start()
    yield found
    found.kill()


def urls_of(name: str) -> list[str]:
    """Return URLs of a request's own, and one that the site does not own."""
    return [
        *(f"https://www.example.com/{name}/{number}" for number in range(40)),
        f"https://{name}.example.net/",
    ]


def ended(running: Running) -> list[dict[str, Any]]:
    """Return the batches that a worker has submitted."""
    return running.events("batch.submitted")


async def test_two_releases_share_a_queue_and_either_takes_over(
    server: Server, sandbox: Sandbox, earlier: Path
) -> None:
    """Each enqueues, both submit; then the new one alone, then the old one alone: all is accounted for, and nothing is planned twice."""
    environment = worker_environment(server.url, sandbox.url)
    old, new = Release(environment, earlier), Release(environment, None)
    requests: list[str] = []

    async def enqueue(name: str, by: Release) -> None:
        requests.append(name)
        receipt = (await by.enqueue(name, urls_of(name), "--json")).json()
        assert receipt["accepted"] == 41

    async def all_done() -> None:
        async with PreloadClient(server.url) as client:
            for name in requests:
                status = await client.wait(name, timeout=60)
                assert (status.submitted, status.refused) == (40, 1)

    async with old.worker() as before:
        await enqueue("before", old)
        await all_done()
        async with new.worker() as beside:
            for number in range(2):
                await enqueue(f"old-{number}", old)
                await enqueue(f"new-{number}", new)
            await all_done()
            before.process.kill()  # the upgrade, at its worst
            await enqueue("upgraded", old)
            await all_done()
            assert ended(before)
            assert ended(beside)
    async with old.worker() as back:
        await enqueue("rolled-back", new)
        await all_done()
        assert ended(back)
    for name in ("before", "new-1", "rolled-back"):
        assert await old.status(name) == await new.status(name)
    script = RUN.format(package="esa_preload_worker", name="esa-preload-worker")
    # What the earlier release ends is in no list of requests, which it does not know: derived, and mended.
    for option, code in (("--repair", None), ("--ledger", 0)):
        checked = await finish(sys.executable, "-c", script, "check", option, env=new.environment)
        found = [line.split(":")[0].strip() for line in checked.out.splitlines() if line.startswith("  ")]
        assert {kind.partition(".")[0] for kind in found} <= {"index", "leaving"}, checked.out
        assert code is None or checked.code == code, checked.out
    stats = sandbox.stats()
    assert (stats["planned_urls"], stats["urls_planned_again"]) == (40 * len(requests), 0)


async def test_the_earlier_release_leaves_a_record_of_a_later_one_in_place(
    server: Server, sandbox: Sandbox, earlier: Path
) -> None:
    """What a later release wrote in a form of its own is refused by name, kept, and submitted once that release is back."""
    environment = worker_environment(server.url, sandbox.url)
    old, new = Release(environment, earlier), Release(environment, None)
    assert (await new.enqueue("later", urls_of("later"), "--json")).json()["accepted"] == 41
    lane = f"esa-preload:default:lane:{SITE}:"
    version = server.command("HGET", lane, "v")
    server.command("HSET", lane, "v", 99)
    async with old.worker() as running:
        await wait_until(lambda: any("99" in line for line in running.lines), timeout_s=20)
        assert not ended(running)
    refused = await old.enqueue("more", urls_of("more"))
    assert refused.code != 0
    assert "99" in refused.err
    assert server.command("HLEN", f"esa-preload:default:urls:{SITE}:") == 41
    server.command("HSET", lane, "v", version)
    async with new.worker():
        await new.enqueue("later", urls_of("later"), "--wait")
        assert (await new.status("later"))["submitted"] == 40
