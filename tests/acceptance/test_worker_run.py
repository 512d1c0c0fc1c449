"""The installed worker as its operator meets it: exit codes, signals, probes, the log, the embedded queue."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from esa_preload.client import PreloadClient
from esa_preload.connection import connect, embedded_socket
from esa_preload.keys import Keys
from esa_preload.scripts import command
from processes import environment, finish, started, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload_worker.sandbox import Sandbox
    from processes import Running

SITE = 190007158391808
QUICK = {"ESA_PRELOAD_BATCH_QUIET": "0.1", "ESA_PRELOAD_RATE_INITIAL": "100"}


def urls_of(count: int, start: int = 0) -> list[str]:
    """Return *count* URLs."""
    return [f"https://www.example.com/{i}.js" for i in range(start, start + count)]


async def started_line(worker: Running) -> dict[str, Any]:
    """Wait for the line that says that the worker has started."""
    return (await wait_until(lambda: worker.events("worker.started")))[0]


async def get(url: str) -> tuple[int, str]:
    """Return status and text of a page of the ops port."""
    async with httpx.AsyncClient(trust_env=False) as http:
        reply = await http.get(url)
        return reply.status_code, reply.text


def sum_of(metrics: str, name: str) -> float:
    """Add up the series of a metric."""
    lines = [line for line in metrics.splitlines() if line.split("{")[0].split(" ")[0] == name]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


async def test_run_until_sigterm_and_all_that_counts_agrees(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """1,000 URLs: metrics, log, status and the sandbox agree; the probes answer; SIGTERM ends it with 0 and two lines."""
    del redis
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    async with started("esa-preload-worker", "run", env=env) as worker, PreloadClient(redis_url) as client:
        ops_url = (await started_line(worker))["ops_url"]
        receipt = await client.enqueue(
            SITE, [*urls_of(990), *(f"https://x{i}.example.net/" for i in range(10))]
        )
        status = await client.wait(receipt.request_id, timeout=15)
        assert (status.accepted, status.submitted, status.refused) == (1_000, 990, 10)
        assert await get(f"{ops_url}/livez") == (200, "ok\n")

        async def ready() -> bool:
            return (await get(f"{ops_url}/readyz"))[0] == 200

        await wait_until_async(ready)
        _, metrics = await get(f"{ops_url}/metrics")
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert sum_of(metrics, "esa_preload_urls_accepted_total") == 1_000
    assert sum_of(metrics, "esa_preload_urls_submitted_total") == 990
    assert sum_of(metrics, "esa_preload_urls_refused_total") == 10
    submitted = worker.events("batch.submitted")
    assert sum(event["url_submitted"] for event in submitted) == 990
    assert sum(event["url_count"] for event in submitted) == 1_000
    assert sandbox.stats()["planned_urls"] == 990
    assert [event["event"] for event in worker.events()][-2:] == ["worker.stopping", "worker.stopped"]
    assert all(line.startswith("{") for line in worker.lines), "one JSON object a line and nothing else"


async def test_a_second_signal_ends_at_once(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """The first signal waits for a slow call; the second does not: 128 and its number."""
    sandbox.reconfigure(latency_s=8)
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    async with started("esa-preload-worker", "run", env=env) as worker, PreloadClient(redis_url) as client:
        await started_line(worker)
        receipt = await client.enqueue(SITE, urls_of(1))

        async def in_flight() -> bool:
            return (await client.status(receipt.request_id)).in_flight == 1

        await wait_until_async(in_flight)
        worker.process.send_signal(signal.SIGINT)
        await wait_until(lambda: worker.events("worker.stopping"))
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 128 + signal.SIGTERM
    del redis


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("sign", ["lock", "valkey.log", "valkey.sock", ""])
async def test_a_signal_during_the_start_ends_it_and_its_server(
    sandbox: Sandbox, number: signal.Signals, sign: str
) -> None:
    """However far the start has come: code 0, no traceback, and the embedded Valkey ends with its worker."""
    with tempfile.TemporaryDirectory(prefix="esap-") as parent:
        directory = Path(parent) / "queue"
        env = worker_environment(f"embedded:{directory}", sandbox.url, **QUICK)
        async with started("esa-preload-worker", "run", env=env) as worker:
            await wait_until((directory / sign).exists, every_s=0.001)
            worker.process.send_signal(number)
            assert await worker.ended() == 0, worker.lines
        assert not any("Traceback" in line for line in worker.lines), worker.lines
        assert worker.events("worker.stopped")
        with socket.socket(socket.AF_UNIX) as probe, pytest.raises(OSError, match=r"refused|No such file"):
            probe.connect(str(embedded_socket(directory)))


async def test_a_start_that_waits_for_redis_can_be_stopped(sandbox: Sandbox) -> None:
    """A server that takes the connection and never answers does not hold up a stop."""
    accepted: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: accepted.append(writer), "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        env = worker_environment(f"redis://127.0.0.1:{port}", sandbox.url)
        async with started("esa-preload-worker", "run", env=env) as worker:
            await wait_until(lambda: accepted)
            worker.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(5):
                assert await worker.ended() == 0
        for writer in accepted:
            writer.close()
    assert not any("Traceback" in line for line in worker.lines), worker.lines


async def test_burst_on_an_empty_and_on_a_filled_queue(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """A burst ends with 0 when nothing is pending or in flight."""
    del redis
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    assert (await finish("esa-preload-worker", "run", "--burst", env=env)).code == 0
    async with PreloadClient(redis_url) as client:
        receipt = await client.enqueue(SITE, urls_of(150))
        assert (await finish("esa-preload-worker", "run", "--burst", env=env)).code == 0
        assert (await client.status(receipt.request_id)).submitted == 150


async def test_burst_names_a_site_that_needs_a_person(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """What only a person can get on ends a burst with 1; the site is named with its reason, the others are done."""
    del redis
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    async with PreloadClient(redis_url) as client:
        await client.enqueue(7, urls_of(1))
        done = await client.enqueue(SITE, urls_of(1))
        ended = await finish("esa-preload-worker", "run", "--burst", env=env)
        assert (await client.status(done.request_id)).submitted == 1
    assert ended.code == 1
    last = [json.loads(line) for line in ended.err.splitlines() if '"worker.error"' in line][-1]
    assert last["sites"] == ["7 (blocked: SiteNotFound)"]


async def test_burst_makes_a_probe_that_is_due(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """A blocked site whose probe is due is probed before anything is called stuck; what was put right meanwhile goes."""
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    keys = Keys("default")
    async with PreloadClient(redis_url) as client:
        receipt = await client.enqueue(7, urls_of(1))
        assert (await finish("esa-preload-worker", "run", "--burst", env=env)).code == 1
        sandbox.reconfigure(sites={7: ("example.com",)})
        await command(redis, "HSET", keys.site(7), "wait_until", 1)
        await command(redis, "ZADD", keys.ring, 1, 7)
        assert (await finish("esa-preload-worker", "run", "--burst", env=env)).code == 0
        assert (await client.status(receipt.request_id)).submitted == 1


async def test_burst_ends_on_a_job_cap(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """A site that holds as many jobs as ESA allows is named, and does not keep a burst for ever."""
    del redis
    sandbox.reconfigure(max_jobs_per_site=1)
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    async with PreloadClient(redis_url) as client:
        await client.enqueue(SITE, urls_of(150))
        ended = await finish("esa-preload-worker", "run", "--burst", env=env)
    assert ended.code == 1
    last = [json.loads(line) for line in ended.err.splitlines() if '"worker.error"' in line][-1]
    assert last["sites"] == [f"{SITE} (waiting: job_cap)"]


async def test_an_unreachable_redis_is_3(sandbox: Sandbox) -> None:
    """Redis that is not there: one sentence, exit code 3, no traceback, no password."""
    env = worker_environment("redis://:canary-pass@127.0.0.1:1/0", sandbox.url)
    ended = await finish("esa-preload-worker", "run", env=env)
    assert ended.code == 3
    assert "Redis cannot be reached" in ended.err
    assert "Traceback" not in ended.err
    assert "canary" not in ended.err
    assert "request_id" not in ended.err, "there is no call to repeat at a start"


async def test_bad_settings_are_2_and_all_named_at_once() -> None:
    """Every variable that is wrong is named in one go; what they hold is not shown."""
    bad = {
        "ESA_PRELOAD_BATCH_MAX_URLS": "0",
        "ESA_PRELOAD_RATE_MIN": "9",
        "ESA_PRELOAD_ENDPOINT": "http://canary.example",
        "ESA_PRELOAD_LOG_LEVEL": "canary",
        "ESA_PRELOAD_NAMESPACE": "a b",
        "ESA_PRELOAD_REDIS_URL": "canary://user:canary@host",
    }
    ended = await finish("esa-preload-worker", "run", env=environment(**bad))
    assert ended.code == 2
    for variable in bad.keys() - {"ESA_PRELOAD_RATE_MIN"} | {"ESA_PRELOAD_RATE_MAX"}:
        assert variable in ended.err, variable
    assert "canary" not in ended.err
    assert "Traceback" not in ended.err
    missing = await finish("esa-preload-worker", "run", env=environment())
    assert (missing.code, "ESA_PRELOAD_REDIS_URL is not set" in missing.err) == (2, True)


async def test_a_taken_ops_port_is_2(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """A port that is taken is a setting to change."""
    del redis
    port = sandbox.url.rsplit(":", 1)[1]
    env = {**worker_environment(redis_url, sandbox.url), "ESA_PRELOAD_OPS_PORT": port}
    ended = await finish("esa-preload-worker", "run", env=env)
    assert (ended.code, "ESA_PRELOAD_OPS_PORT" in ended.err, "Traceback" in ended.err) == (2, True, False)


async def test_a_namespace_of_another_endpoint_is_2(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """One namespace is one endpoint: a worker of another is refused with what to do."""
    del redis
    ours = worker_environment(redis_url, sandbox.url)
    assert (await finish("esa-preload-worker", "run", "--burst", env=ours)).code == 0
    other = worker_environment(redis_url, "http://127.0.0.1:1")
    ended = await finish("esa-preload-worker", "run", "--burst", env=other)
    assert (ended.code, "choose another ESA_PRELOAD_NAMESPACE" in ended.err) == (2, True)


async def test_arq_runs_it_too(redis: Redis, redis_url: str, sandbox: Sandbox) -> None:
    """arq's own command works on our settings class, and SIGINT ends it without a loss."""
    del redis
    env = worker_environment(redis_url, sandbox.url, **QUICK)
    async with (
        started("arq", "esa_preload_worker.app.WorkerSettings", env=env) as worker,
        PreloadClient(redis_url) as client,
    ):
        ops_url = (await started_line(worker))["ops_url"]
        receipt = await client.enqueue(SITE, urls_of(100))
        assert (await client.wait(receipt.request_id, timeout=10)).submitted == 100
        assert await get(f"{ops_url}/readyz") == (200, "ok\n")
        worker.process.send_signal(signal.SIGINT)
        assert await worker.ended() == 0
    assert worker.events("worker.stopped")
    assert sandbox.stats()["planned_urls"] == 100


@pytest.mark.parametrize(
    ("redis_url", "code", "said"),
    [
        ("redis://:canary@127.0.0.1:1/0", 3, "Redis cannot be reached"),
        ("embedded:/tmp/none", 2, "arq's command runs no embedded Valkey"),
    ],
)
async def test_arq_is_refused_in_one_sentence(sandbox: Sandbox, redis_url: str, code: int, said: str) -> None:
    """What arq's command can't start with ends it as our own command ends: a sentence, a hint, the documented code."""
    env = worker_environment(redis_url, sandbox.url)
    ended = await finish("arq", "esa_preload_worker.app.WorkerSettings", env=env)
    assert (ended.code, said in ended.err, "Traceback" in ended.err) == (code, True, False), ended.err
    assert "canary" not in ended.err
    assert len(ended.err.strip().splitlines()) == 2


async def test_arq_is_refused_by_what_only_the_queue_knows(
    redis: Redis, redis_url: str, sandbox: Sandbox
) -> None:
    """A namespace of another endpoint: found after arq has begun, and said the same way."""
    del redis
    ours = worker_environment(redis_url, sandbox.url)
    assert (await finish("esa-preload-worker", "run", "--burst", env=ours)).code == 0
    env = worker_environment(redis_url, "http://127.0.0.1:1")
    ended = await finish("arq", "esa_preload_worker.app.WorkerSettings", env=env)
    assert (ended.code, "Traceback" in ended.err) == (2, False), ended.err
    assert "choose another ESA_PRELOAD_NAMESPACE" in ended.err


async def test_an_embedded_queue_survives_a_kill(sandbox: Sandbox) -> None:
    """SIGKILL of the worker: what was enqueued is there at the next start; its socket is ours alone; one worker a directory."""
    with tempfile.TemporaryDirectory(prefix="esap-") as parent:
        directory = Path(parent) / "queue"
        redis_url = f"embedded:{directory}"
        env = worker_environment(redis_url, sandbox.url, **QUICK) | {"ESA_PRELOAD_BATCH_QUIET": "3"}
        async with started("esa-preload-worker", "run", env=env) as worker:
            await started_line(worker)
            assert stat.S_IMODE(directory.stat().st_mode) == 0o700
            assert stat.S_IMODE(embedded_socket(directory).stat().st_mode) & 0o077 == 0
            async with PreloadClient(redis_url) as client:
                receipt = await client.enqueue(SITE, urls_of(20))
            second = await finish("esa-preload-worker", "run", env=env)
            assert (second.code, "another process runs the embedded Valkey" in second.err) == (2, True)
            worker.process.kill()
            await worker.ended()
        ended = await finish("esa-preload-worker", "run", "--burst", env=env)
        assert ended.code == 0, ended.err
        assert sandbox.stats()["planned_urls"] == 20
        assert receipt.accepted == 20
        assert not embedded_socket(directory).exists(), "the embedded server ended with its worker"


async def test_an_embedded_server_that_dies_is_started_again(sandbox: Sandbox) -> None:
    """SIGKILL of the child, twice: what was enqueued is there, work goes on, each is one line; none runs after the stop."""
    with tempfile.TemporaryDirectory(prefix="esap-") as parent:
        directory = Path(parent) / "queue"
        redis_url = f"embedded:{directory}"
        env = worker_environment(redis_url, sandbox.url, **QUICK)
        async with started("esa-preload-worker", "run", env=env) as worker:
            ops_url = (await started_line(worker))["ops_url"]
            pids: list[int] = []
            for times in (1, 2):
                async with PreloadClient(redis_url) as client:
                    receipt = await client.enqueue(SITE, urls_of(20, start=20 * times))
                pids.append(await kill_embedded(redis_url))
                lines = await wait_until(lambda: worker.events("redis.restarted")[len(pids) - 1 :])
                assert [line["code"] for line in lines] == [-signal.SIGKILL]
                async with PreloadClient(redis_url, wait_for_redis=20) as client:
                    assert (await client.wait(receipt.request_id, timeout=20)).submitted == 20

            async def ready() -> bool:
                return (await get(f"{ops_url}/readyz"))[0] == 200

            await wait_until_async(ready)
            first, second = worker.events("redis.restarted")
            assert second["pause_s"] > first["pause_s"], "it died young again"
            worker.process.terminate()
            assert await worker.ended() == 0
        assert len(set(pids)) == 2
        assert not embedded_socket(directory).exists()
        assert sandbox.stats()["planned_urls"] == 40


async def kill_embedded(redis_url: str) -> int:
    """SIGKILL a worker's own server, and return the process id that it had."""
    redis = connect(redis_url)
    try:
        pid = int((await command(redis, "INFO", "server"))["process_id"])
    finally:
        await redis.aclose()
    os.kill(pid, signal.SIGKILL)
    return pid


async def test_a_directory_too_long_for_a_socket_is_2(sandbox: Sandbox) -> None:
    """The path of a Unix socket is short: a longer one is named as what it is."""
    env = worker_environment(f"embedded:/tmp/{'d' * 120}", sandbox.url)
    ended = await finish("esa-preload-worker", "run", env=env)
    assert (ended.code, "shorter directory" in ended.err, "Traceback" in ended.err) == (2, True, False)


async def test_settings_are_printed_in_every_form() -> None:
    """JSON, a sample environment file that loads as it is, and the table of the docs: all of the same rows."""
    env = environment()
    rows = (await finish("esa-preload-worker", "settings", "--json", env=env)).json()
    names = [row["variable"] for row in rows]
    sample = (await finish("esa-preload-worker", "settings", "--env", env=env)).out
    table = (await finish("esa-preload-worker", "settings", "--markdown", env=env)).out
    plain = await finish("esa-preload-worker", "settings", env=env)
    assert plain.code == 0
    for name in names:
        assert f"{name}=" in sample
        assert f"| `{name}` |" in table
        assert name in plain.out
    given = dict(line.split("=", 1) for line in sample.splitlines() if line and not line.startswith("#"))
    ended = await finish("esa-preload-worker", "run", env=env | given)
    assert "ESA_PRELOAD_REDIS_URL is not set" in ended.err
    assert ended.err.count("ESA_PRELOAD_") <= 2, "nothing else is wrong with the sample"


def title_of(worker: Running) -> str:
    """Return a process's title, as everybody on the machine may read it."""
    return Path(f"/proc/{worker.process.pid}/cmdline").read_bytes().decode()


async def test_no_secret_shows(redis: Redis, sandbox: Sandbox, redis_url: str) -> None:
    """Secrets in the settings reach neither log nor metrics nor the process title, whatever fails."""
    canary = "canary-7f3a"
    path = redis_url.removeprefix("unix://")
    env = worker_environment(f"unix://user:{canary}-redis@{path}", sandbox.url, **QUICK) | {
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": f"{canary}-key",
        "ESA_PRELOAD_LOG_LEVEL": "debug",
        "ESA_PRELOAD_REDIS_URL": redis_url,
    }
    async with started("esa-preload-worker", "run", env=env) as worker, PreloadClient(redis_url) as client:
        ops_url = (await started_line(worker))["ops_url"]
        await client.enqueue(SITE, [f"{url}?token={canary}-query" for url in urls_of(2)])
        await wait_until(lambda: worker.events("site.blocked"))
        _, metrics = await get(f"{ops_url}/metrics")
        title = title_of(worker)
        worker.process.send_signal(signal.SIGTERM)
        assert await worker.ended() == 0
    assert canary not in "\n".join(worker.lines) + metrics + title
    assert 'esa_preload_site_blocked{reason="signature"' in metrics
    for key in await command(redis, "KEYS", "*"):
        assert f"{canary}-key".encode() not in await command(redis, "DUMP", key)
    wrong_login = env | {"ESA_PRELOAD_REDIS_URL": f"unix://user:{canary}@{path}"}
    ended = await finish("esa-preload-worker", "run", env=wrong_login)
    assert ended.code == 3
    assert canary not in ended.err + ended.out
