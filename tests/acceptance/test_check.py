"""``esa-preload-worker check``: what it finds, its documents, its exit codes, and no secret anywhere."""

from __future__ import annotations

import signal
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload import PreloadClient
from esa_preload.scripts import command
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import environment, finish, started, worker_environment
from waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from redis.asyncio import Redis

    from processes import Finished

SITE = 190007158391808
SECRET = "canary-7c1f"
NAMES = [
    "settings", "redis", "version", "role", "cluster", "persistence", "waitaof", "eviction", "memory", "redis-clock",
    "namespace", "workers", "published", "credentials", "endpoint", "esa-clock",
]  # fmt: skip


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A simulated ESA."""
    async with Sandbox(SandboxConfig()) as running:
        yield running


@pytest.fixture
def env(redis: Redis, redis_url: str, sandbox: Sandbox) -> dict[str, str]:
    """The environment of a worker on the tests' empty server."""
    del redis
    return worker_environment(redis_url, sandbox.url, ESA_PRELOAD_NAMESPACE="t")


async def check(env: dict[str, str], *options: str) -> Finished:
    """Run the command; there is no traceback and no secret in what it prints."""
    done = await finish("esa-preload-worker", "check", *options, env=env)
    assert "Traceback" not in done.out + done.err
    assert SECRET not in done.out + done.err
    assert "sandbox-secret" not in done.out + done.err
    return done


def states(done: Finished) -> dict[str, str]:
    """Return name → state of the printed document."""
    return {outcome["name"]: outcome["state"] for outcome in done.json()["checks"]}


def outcome(done: Finished, name: str) -> dict[str, Any]:
    """Return one outcome of the printed document."""
    found: dict[str, Any] = next(one for one in done.json()["checks"] if one["name"] == name)
    return found


async def test_a_good_environment_passes(env: dict[str, str]) -> None:
    """Every check is there, in order; the only warning is that no worker runs yet, and the code is 0."""
    done = await check(env, "--json")
    assert (done.code, done.err, done.json()["ok"]) == (0, "", True)
    assert list(states(done)) == NAMES
    odd = {name for name, state in states(done).items() if state != "ok"}
    assert odd - {"waitaof"} == {"workers"}  # a Redis before 7.2 has none
    assert set(outcome(done, "workers")) == {"name", "state", "sentence", "hint"}

    plain = await check(env)
    assert plain.code == 0
    assert [line.split()[1] for line in plain.out.splitlines() if not line.startswith(" ")] == NAMES
    assert "warn    workers       no worker is alive: URLs wait\n" in plain.out
    assert "hint: start one: esa-preload-worker run" in plain.out


async def test_a_bucket_is_tried(env: dict[str, str], sandbox: Sandbox) -> None:
    """Only where one is configured: a list is put, read and deleted again; what is missing is named."""
    with_bucket = env | {"ESA_PRELOAD_OSS_BUCKET": "lists", "ESA_PRELOAD_OSS_ENDPOINT": sandbox.url}
    done = await check(with_bucket, "--json")
    assert (done.code, list(states(done))) == (0, [*NAMES, "oss"])
    assert outcome(done, "oss")["sentence"].endswith("takes, gives and deletes a list")
    assert (sandbox.objects.names, sandbox.stats()["calls"]["PutObject"]) == ([], {"OK": 1})
    sandbox.reconfigure(oss_buckets=("other",))
    done = await check(with_bucket, "--json")
    assert (done.code, outcome(done, "oss")["state"]) == (1, "fail")
    assert "NoSuchBucket" in outcome(done, "oss")["sentence"]
    assert "ESA_PRELOAD_OSS_BUCKET" in outcome(done, "oss")["hint"]


async def test_a_running_worker_is_seen_and_its_settings_compared(env: dict[str, str]) -> None:
    """With other settings here than in force the check names them; a namespace of another endpoint fails."""
    async with started("esa-preload-worker", "run", env=env) as worker:
        await wait_until(partial(worker.events, "worker.started"))
        good = states(await check(env, "--json"))
        assert {name for name, state in good.items() if state != "ok"} <= {"waitaof"}
        other = await check(env | {"ESA_PRELOAD_BATCH_MAX_URLS": "50", "ESA_PRELOAD_TYPO": "1"}, "--json")
        assert other.code == 0
        assert (
            "ESA_PRELOAD_BATCH_MAX_URLS is 50 here, 100 in force" in outcome(other, "published")["sentence"]
        )
        assert outcome(other, "settings")["state"] == "warn"
        foreign = await check(env | {"ESA_PRELOAD_ENDPOINT": "http://127.0.0.1:1"}, "--json")
        assert foreign.code == 1
        assert (states(foreign)["namespace"], states(foreign)["endpoint"]) == ("fail", "fail")
        assert states(foreign)["esa-clock"] == "skipped"


@pytest.mark.parametrize(
    ("variables", "name", "word"),
    [
        ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET}, "endpoint", "SignatureDoesNotMatch"),
        (
            {"ALIBABA_CLOUD_ACCESS_KEY_ID": "", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET},
            "credentials",
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
        ),
    ],
)
async def test_credentials_that_do_not_hold_fail_with_a_hint(
    env: dict[str, str], variables: dict[str, str], name: str, word: str
) -> None:
    """A wrong secret and a missing key are each one failed check; the secret is not shown."""
    done = await check(env | variables, "--json")
    assert done.code == 1
    assert {one for one, state in states(done).items() if state == "fail"} == {name}
    assert word in outcome(done, name)["sentence"]
    assert outcome(done, name)["hint"]


@pytest.mark.parametrize(("offset_s", "state", "code"), [(30, "warn", 0), (-3_600, "fail", 1)])
async def test_a_clock_that_is_off_is_told_in_seconds(
    redis: Redis, redis_url: str, offset_s: float, state: str, code: int
) -> None:
    """ESA's clock is compared with ours by its replies, within the second that they show."""
    del redis
    async with Sandbox(SandboxConfig(clock_offset_s=offset_s)) as sandbox:
        done = await check(worker_environment(redis_url, sandbox.url), "--json")
    assert (done.code, outcome(done, "esa-clock")["state"]) == (code, state)
    told = float(outcome(done, "esa-clock")["sentence"].split(" is ")[1].split()[0])
    assert abs(told - abs(offset_s)) < 2


async def test_what_a_user_may_not_ask_is_skipped(env: dict[str, str], redis: Redis, redis_url: str) -> None:
    """An ACL user without INFO and CONFIG is told so, check by check; nothing fails for it."""
    rules = ("on", f">{SECRET}", "~*", "&*", "+@all", "-info", "-config")
    await command(redis, "ACL", "SETUSER", "limited", *rules)
    try:
        scheme, _, rest = redis_url.partition("://")
        limited = f"{scheme}://limited:{SECRET}@{rest.rpartition('@')[2]}"
        done = await check(env | {"ESA_PRELOAD_REDIS_URL": limited}, "--json")
    finally:
        await command(redis, "ACL", "DELUSER", "limited")
    assert done.code == 0
    for name in ("version", "role", "cluster", "persistence", "waitaof", "eviction", "memory"):
        assert (outcome(done, name)["state"], outcome(done, name)["sentence"]) == ("skipped", "no permission")
    assert states(done)["redis-clock"] == "ok"


async def test_settings_that_cannot_be_are_exit_2(env: dict[str, str]) -> None:
    """As everywhere: every bad variable is named at once, and nothing is checked."""
    bad = env | {"ESA_PRELOAD_LEASE": "soon", "ESA_PRELOAD_MAX_JOBS": "0"}
    for options in ((), ("--ledger",), ("--repair", "--json")):
        done = await check(bad, *options)
        assert (done.code, done.out) == (2, "")
        assert "ESA_PRELOAD_LEASE" in done.err
        assert "ESA_PRELOAD_MAX_JOBS" in done.err


async def test_a_redis_that_is_down_is_exit_3() -> None:
    """The document is still printed; the ledger's check says it in a sentence."""
    env = worker_environment(f"redis://u:{SECRET}@127.0.0.1:1", "http://127.0.0.1:1")
    done = await check(env, "--json")
    assert (done.code, done.json()["ok"], states(done)) == (3, False, {"settings": "ok", "redis": "fail"})
    assert "ESA_PRELOAD_REDIS_URL" in outcome(done, "redis")["hint"]
    ledger = await check(env, "--ledger", "--json")
    assert (ledger.code, ledger.out) == (3, "")
    assert "Redis cannot be reached" in ledger.err


async def test_the_ledger_is_verified_and_repaired(env: dict[str, str], redis: Redis) -> None:
    """0 and the counts when all holds; 1 with the name, the key and what is expected when not; a repair says what it did."""
    async with PreloadClient(redis, namespace="t") as client:
        await client.enqueue(SITE, [f"https://a.example/{number}?token={SECRET}" for number in range(30)])
        good = await check(env, "--ledger", "--json")
        assert (good.code, good.err, good.json()["ok"], good.json()["violations"]) == (0, "", True, [])
        assert (good.json()["counts"]["urls"], good.json()["counts"]["requests_active"]) == (30, 1)
        assert (await check(env, "--ledger")).out.endswith("every invariant holds\n")

        await command(redis, "HINCRBY", f"esa-preload:t:site:{SITE}", "pending", 7)
        await command(redis, "LPOP", f"esa-preload:t:band:{SITE}::1")
        bad = await check(env, "--ledger", "--json")
        assert (bad.code, bad.json()["ok"], bad.json()["violation_count"]) == (1, False, 2)
        found = {one["name"]: one for one in bad.json()["violations"]}
        assert set(found) == {"site.pending", "band.missing"}
        assert found["site.pending"]["key"] == f"esa-preload:t:site:{SITE}"
        assert found["site.pending"]["expected"].startswith("30")
        assert found["site.pending"]["repairable"] is True

        plain = await check(env, "--ledger")
        assert plain.code == 1
        assert f"site.pending: esa-preload:t:site:{SITE}: pending 37; expected 30" in plain.out

        mended = await check(env, "--repair", "--json")
        assert (mended.code, mended.json()["ok"]) == (0, True)
        assert mended.json()["before"]["violation_count"] == 2
        assert mended.json()["after"]["violations"] == []
        assert any("has pending 30, not 37" in line for line in mended.json()["repairs"])
        again = await check(env, "--repair")
        assert again.code == 0
        assert "nothing to repair" in again.out

        await command(redis, "HINCRBY", f"esa-preload:t:site:{SITE}", "accepted", 1)
        lasting = await check(env, "--repair")
        assert lasting.code == 1
        assert lasting.out.count("site.balance: ") == 2


async def test_the_probe_for_containers(env: dict[str, str]) -> None:
    """A worker that serves /livez is alive; a frozen one is not, within the time-out; a dead one is not, at once."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = env | {"ESA_PRELOAD_OPS_PORT": str(port)}
    async with started("esa-preload-worker", "run", env=env) as worker:

        async def is_alive() -> bool:
            return (await check(env, "--live")).code == 0

        await wait_until_async(is_alive)
        assert (await check(env, "--live", "--json")).json() == {"ok": True, "reason": ""}
        worker.process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        frozen = await check(env, "--live")
        assert (frozen.code, "no answer within 2 s" in frozen.err) == (1, True)
        assert time.monotonic() - began < 10
        worker.process.send_signal(signal.SIGCONT)
        worker.process.send_signal(signal.SIGTERM)
        await worker.ended()
        dead = await check(env, "--live", "--json")
        assert (dead.code, dead.json()["ok"]) == (1, False)


async def test_the_probe_needs_no_other_setting_and_a_port() -> None:
    """It reads two variables; port 0 names none, and the other checks do not go with it."""
    unset = await check(environment(ESA_PRELOAD_OPS_PORT="1"), "--live")
    assert (unset.code, unset.err.startswith("no answer")) == (1, True)
    free = await check(environment(ESA_PRELOAD_OPS_PORT="0"), "--live")
    assert (free.code, "ESA_PRELOAD_OPS_PORT is 0: the worker takes a free port" in free.err) == (2, True)
    both = await check(environment(), "--live", "--ledger")
    assert (both.code, "--live goes alone" in both.err) == (2, True)
