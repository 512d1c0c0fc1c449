"""The installed ``esa-preload`` command: its documents, its exit codes, one clear sentence for each mistake."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import time
from typing import TYPE_CHECKING

import pytest

from esa_preload import PreloadClient, UnknownRequestError
from esa_preload.connection import connect
from esa_preload.keys import Keys
from esa_preload.scripts import command
from esa_preload_worker.embedded import ValkeyProcess
from processes import Finished, environment, finish, started
from waiting import wait_until_async

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from pathlib import Path

    from redis.asyncio import Redis

SITE = "190007158391808"


def clean(done: Finished) -> str:
    """Return standard error, which holds no traceback."""
    assert "Traceback" not in done.err + done.out
    return done.err


async def test_enqueue_prints_the_contract_as_one_json_document(env: dict[str, str], tmp_path: Path) -> None:
    """URLs from arguments, a list and its oddities end up in the receipt; 1 because some were rejected."""
    urls = tmp_path / "urls.txt"
    urls.write_bytes(
        b"\xef\xbb\xbfhttps://a.example/1\r\n\r\n# a comment\n  https://a.example/2 \nnonsense\nhttps://a.example/1#top\n"
    )
    done = await finish(
        "esa-preload",
        "enqueue",
        "--site",
        SITE,
        "--file",
        str(urls),
        "--request-id",
        "r1",
        "--json",
        "https://a.example/0",
        env=env,
    )
    assert (done.code, clean(done)) == (1, "")
    assert done.json() == {
        "request_id": "r1",
        "site_id": int(SITE),
        "accepted": 3,
        "merged": 0,
        "duplicates": 1,
        "rejected_count": 1,
        "rejected": [{"url": "nonsense", "reason": done.json()["rejected"][0]["reason"]}],
        "waiting_until": None,
    }
    status = await finish("esa-preload", "status", "r1", "--json", env=env)
    assert status.code == 0
    assert status.json() == {
        "request_id": "r1",
        "site_id": int(SITE),
        "state": "active",
        "accepted": 3,
        "merged": 0,
        "pending": 3,
        "in_flight": 0,
        "submitted": 0,
        "refused": 0,
        "expired": 0,
        "cancelled": 0,
        "unknown": 0,
        "warming": 0,
        "finished": 0,
        "failed": 0,
    }
    sites = (await finish("esa-preload", "sites", "--json", env=env)).json()
    assert [(site["site_id"], site["state"], site["pending"]) for site in sites] == [(int(SITE), "active", 3)]
    assert set(sites[0]) == {
        "site_id",
        "name",
        "state",
        "reason",
        "pending",
        "in_flight",
        "submitted",
        "refused",
        "oldest_pending_s",
        "waiting_until",
        "jobs",
        "job_cap",
    }
    assert (await finish("esa-preload", "failures", "--site", SITE, "--json", env=env)).json() == []


async def test_lists_come_from_a_pipe_and_from_gzip(env: dict[str, str], tmp_path: Path) -> None:
    """Standard input and a gzip file are read alike; without a terminal there is no progress bar."""
    text = "".join(f"https://a.example/{i}\n" for i in range(2_500)).encode()
    piped = await finish(
        "esa-preload", "enqueue", "--site", SITE, "--file", "-", "--json", env=env, stdin=text
    )
    assert (piped.code, piped.err, piped.json()["accepted"]) == (0, "", 2_500)
    packed = tmp_path / "urls.gz"
    packed.write_bytes(gzip.compress(text))
    again = await finish("esa-preload", "enqueue", "--site", SITE, "--file", str(packed), "--json", env=env)
    assert (again.code, again.json()["merged"]) == (0, 2_500)


async def test_a_damaged_list_tells_what_was_taken_and_how_to_go_on(
    env: dict[str, str], tmp_path: Path
) -> None:
    """Half a gzip is exit 1 with the id and the count; the whole list under that id goes on where it stopped."""
    whole = gzip.compress(
        "".join(f"https://a.example/{i * 7919 % 1_000_003}\n" for i in range(20_000)).encode()
    )
    urls = tmp_path / "urls.gz"
    urls.write_bytes(whole[: len(whole) // 2])
    arguments = ("enqueue", "--site", SITE, "--file", str(urls), "--json")
    broken = await finish("esa-preload", *arguments, env=env)
    assert broken.code == 1
    assert "damaged" in clean(broken)
    receipt = broken.json()
    assert 0 < receipt["accepted"] < 20_000
    assert receipt["request_id"] in broken.err
    urls.write_bytes(whole)
    again = await finish("esa-preload", *arguments, "--request-id", receipt["request_id"], env=env)
    assert (again.code, again.json()["accepted"]) == (0, 20_000)


async def test_people_get_sentences_and_tables(env: dict[str, str]) -> None:
    """Without --json the same facts are text; an empty answer says that it is empty."""
    assert (await finish("esa-preload", "sites", env=env)).out == "No site has had a URL yet.\n"
    assert (await finish("esa-preload", "failures", env=env)).out == "No failures.\n"
    done = await finish(
        "esa-preload",
        *("enqueue", "--site", SITE, "https://a.example/", "x", "--request-id", "r", "--source", "cms"),
        env=env,
    )
    assert done.code == 1
    assert "accepted 1 (merged 0), duplicates 0, rejected 1" in done.out
    assert done.err.startswith("rejected x: ")
    status = (await finish("esa-preload", "status", "r", env=env)).out
    assert "pending 1" in status
    assert re.search(
        r"^made \S+ by \S+@\S+, source cms, priority normal, plan: at once$", status, re.MULTILINE
    )
    table = (await finish("esa-preload", "sites", env=env)).out
    assert SITE in table
    assert "active" in table


async def test_an_operator_holds_and_releases_a_site(env: dict[str, str]) -> None:
    """Pause, resume, cancel and requeue work from the shell and say what they did."""
    await finish("esa-preload", "enqueue", "--site", SITE, "https://a.example/", "--request-id", "r", env=env)
    assert "is paused" in (await finish("esa-preload", "pause", SITE, "--reason", "origin down", env=env)).out
    assert "origin down" in (await finish("esa-preload", "sites", env=env)).out
    assert "goes on" in (await finish("esa-preload", "resume", SITE, env=env)).out
    assert "nothing held the account" in (await finish("esa-preload", "resume", "--account", env=env)).out
    nothing = (await finish("esa-preload", "requeue", "--site", SITE, env=env)).out
    assert "no failures to take up: lists in OSS, and plans that have ended, are not" in nothing
    cancelled = await finish("esa-preload", "cancel", "r", "--json", env=env)
    assert cancelled.json() == {"request_id": "r", "cancelled": 1, "in_flight": 0}


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (("enqueue", "--site", SITE), 2, "No URLs"),
        (("enqueue", "https://a.example/"), 2, "--site"),
        (("enqueue", "--site", "abc", "https://a.example/"), 1, "no site is named abc"),
        (("enqueue", "--site", "a b", "https://a.example/"), 2, "neither the id nor the name of a site"),
        (("enqueue", "--site", "9223372036854775808", "https://a.example/"), 2, "site_id must be"),
        (("enqueue", "--site", SITE, "--file", "/nowhere/urls.txt"), 2, "/nowhere/urls.txt cannot be read"),
        (("enqueue", "--site", SITE, "--file", "-"), 2, "urls is empty"),
        (("enqueue", "--site", SITE, "--priority", "urgent", "https://a.example/"), 2, "priority"),
        (("enqueue", "--site", SITE, "--expires-in", "-1", "https://a.example/"), 2, "expires_in must be"),
        (
            ("enqueue", "--site", SITE, "--start", "tomorrow", "https://a.example/"),
            2,
            "--start must be an ISO 8601 time",
        ),
        (("enqueue", "--site", SITE, "--start", "2030-01-01T00:00:00", "https://a.example/"), 2, "time zone"),
        (("enqueue", "--site", SITE, "--end", "2020-01-01T00:00:00Z", "https://a.example/"), 2, "has passed"),
        (
            (
                *("enqueue", "--site", SITE, "https://a.example/"),
                *("--start", "2030-01-01T00:01:00Z", "--end", "2030-01-01T00:00:00Z"),
            ),
            2,
            "plan end must be later than its start",
        ),
        (("enqueue", "--site", SITE, "--request-id", "a b", "https://a.example/"), 2, "request_id must be"),
        (("enqueue", "--site", SITE, "--count", "5", "https://a.example/"), 2, "--count goes with --oss-url"),
        (
            (
                "enqueue",
                "--site",
                SITE,
                "--oss-url",
                "https://b.oss-cn-hangzhou.aliyuncs.com/l",
                "https://a.example/",
            ),
            2,
            "stands alone",
        ),
        (("enqueue", "--site", SITE, "--oss-url", "nonsense"), 2, "oss_url"),
        (
            ("enqueue", "--site", SITE, "--oss-url", "http://b.example/l"),
            2,
            "oss_url must start with https://",
        ),
        (
            ("enqueue", "--site", SITE, "--timeout", "3", "https://a.example/"),
            2,
            "--timeout goes with --wait",
        ),
        *(
            (
                ("enqueue", "--site", SITE, "--wait", "--timeout", value, "https://a.example/"),
                2,
                "--timeout is a number of seconds",
            )
            for value in ("nan", "inf")
        ),
        (
            ("enqueue", "--site", SITE, "--end", "9999-12-31T23:59:59+00:00", "https://a.example/"),
            2,
            "plan end must lie between",
        ),
        (("status", "nowhere"), 1, "no request nowhere"),
        (("cancel", "nowhere"), 1, "no request nowhere"),
        (("pause", SITE), 1, "has never had a URL"),
        (("resume",), 2, "Give a site, or --account"),
        (("enqueu",), 2, "No such command"),
    ],
)
async def test_a_mistake_is_one_sentence_and_the_documented_code(
    env: dict[str, str], arguments: tuple[str, ...], code: int, sentence: str
) -> None:
    """Each mistake names the thing and what is allowed, without a traceback, and enqueues nothing."""
    done = await finish("esa-preload", *arguments, env=env)
    assert done.code == code
    assert sentence in clean(done)
    assert done.out == ""
    assert json.loads((await finish("esa-preload", "sites", "--json", env=env)).out) == []


@pytest.mark.parametrize("arguments", [("sites",), ("limits",), ("explain", "r"), ("status", "r")])
async def test_a_redis_that_is_down_has_a_hint_for_who_only_asks(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """Nothing is said of a request id that the call has not, or that it has been given; an embedded server needs its worker."""
    for redis_url, hint in (
        ("redis://127.0.0.1:1", "check ESA_PRELOAD_REDIS_URL and that the server runs"),
        (f"embedded:{tmp_path}", "start `esa-preload-worker run`"),
    ):
        done = await finish("esa-preload", *arguments, env=environment(ESA_PRELOAD_REDIS_URL=redis_url))
        assert (done.code, hint in clean(done), "request_id" in done.err) == (3, True, False), done.err


async def test_a_redis_that_is_down_is_exit_3_with_the_way_to_resume() -> None:
    """The sentence says that Redis cannot be reached and under which id the call can be repeated."""
    env = environment(ESA_PRELOAD_REDIS_URL="redis://127.0.0.1:1")
    done = await finish(
        "esa-preload", "enqueue", "--site", SITE, "https://a.example/", "--request-id", "mine", env=env
    )
    assert done.code == 3
    assert "Redis cannot be reached" in clean(done)
    assert "request_id" in done.err


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "ESA_PRELOAD_REDIS_URL is not set"),
        ("http://user:secret@h", "ESA_PRELOAD_REDIS_URL must be one of"),
        ("redis://h:x", "cannot be read"),
        ("redis://user:secret#x@h", "percent-encode"),
        ("redis://h?foo=bar", "unknown parameter 'foo'"),
        ("redis://h/abc", "number of a database"),
        ("unix://", "no path"),
    ],
)
async def test_a_wrong_address_is_exit_2_and_shows_no_password(value: str, sentence: str) -> None:
    """The variable is named, its value is not shown."""
    done = await finish("esa-preload", "sites", env=environment(ESA_PRELOAD_REDIS_URL=value))
    assert done.code == 2
    assert sentence in clean(done)
    assert "secret" not in done.err


async def test_waiting_too_long_is_exit_4_and_keeps_the_receipt(env: dict[str, str]) -> None:
    """No worker runs: the wait times out, the receipt is still printed, the request goes on."""
    done = await finish(
        "esa-preload",
        "enqueue",
        "--site",
        SITE,
        "https://a.example/",
        "--wait",
        "--timeout",
        "0.3",
        "--json",
        env=env,
    )
    assert done.code == 4
    assert done.json()["accepted"] == 1
    assert "still has 1 URL " in clean(done)


async def test_every_command_has_help_with_an_example() -> None:
    """``--help`` of each command needs no settings and shows how it is called."""
    listing = (await finish("esa-preload", "--help", env=environment())).out
    for name in ("enqueue", "status", "sites", "failures", "cancel", "pause", "resume", "requeue"):
        assert name in listing
        shown = await finish("esa-preload", name, "--help", env=environment())
        assert shown.code == 0
        assert f"Example: esa-preload {name}" in " ".join(shown.out.split())


async def test_a_durable_enqueue_says_what_is_wrong_with_the_server(tmp_path: Path) -> None:
    """Without a file or replica: exit 1, the receipt and the hint; with the file: exit 0 and the same receipt."""
    server = ValkeyProcess(tmp_path, socket=tmp_path / "v.sock")
    server.start(30)
    url = f"unix://{tmp_path / 'v.sock'}"
    call = ("enqueue", "--site", SITE, "--durable", "--request-id", "r", "--json", "https://a.example/")
    env = environment(ESA_PRELOAD_REDIS_URL=url)
    try:
        redis = connect(url)
        await command(redis, "CONFIG", "SET", "appendonly", "no")
        doubtful = await finish("esa-preload", *call, env=env)
        assert (doubtful.code, doubtful.json()["accepted"]) == (1, 1)
        assert "a crash of Redis may lose it" in clean(doubtful)
        assert "appendonly yes" in doubtful.err
        await command(redis, "CONFIG", "SET", "appendonly", "yes")
        await redis.aclose()
        durable = await finish("esa-preload", *call, env=env)
        assert (durable.code, durable.err, durable.json()) == (0, "", doubtful.json())
    finally:
        server.kill()


async def test_an_enqueue_waits_for_redis_when_told_to(tmp_path: Path) -> None:
    """Redis is started after the command was: the URLs are in. Without a Redis it ends with 3 when the time is over."""
    url = f"unix://{tmp_path / 'v.sock'}"
    env = environment(ESA_PRELOAD_REDIS_URL=url)
    call = ("enqueue", "--site", SITE, "--json", "https://a.example/", "--wait-for-redis")
    begun = time.monotonic()
    late = await finish("esa-preload", *call, "0.5", env=env)
    assert (late.code, "Redis cannot be reached" in clean(late)) == (3, True)
    assert "--request-id" in late.err
    assert time.monotonic() - begun > 0.5
    server = ValkeyProcess(tmp_path, socket=tmp_path / "v.sock")
    waiting = asyncio.create_task(finish("esa-preload", *call, "60", env=env))
    try:
        await asyncio.to_thread(server.start, 30)
        done = await waiting
        assert (done.code, done.json()["accepted"]) == (0, 1)
    finally:
        server.kill()


async def test_a_command_that_is_killed_again_and_again_takes_nothing_twice(
    env: dict[str, str], redis: Redis, tmp_path: Path
) -> None:
    """Ten SIGKILLs, each when some more chunks are in; the run that lives ends with every URL counted once."""
    urls = tmp_path / "urls.txt"
    urls.write_text("".join(f"https://a.example/{number}\n" for number in range(20_000)))
    call = ("enqueue", "--site", SITE, "--file", str(urls), "--request-id", "r", "--json")
    kills = 0
    async with PreloadClient(redis, namespace="t") as client:
        for enough in range(0, 20_000, 2_000):
            async with started("esa-preload", *call, env=env) as running:

                async def is_far_enough(enough: int = enough, process: Process = running.process) -> bool:
                    try:
                        return process.returncode is not None or (await client.status("r")).accepted > enough
                    except UnknownRequestError:
                        return False

                await wait_until_async(is_far_enough, every_s=0.001)
                kills += running.process.returncode is None
        assert kills >= 5
        done = await finish("esa-preload", *call, env=env)
        assert (done.code, done.json()["accepted"], done.json()["duplicates"]) == (0, 20_000, 0)
        status = await client.status("r")
        assert (status.accepted, status.pending, status.merged) == (20_000, 20_000, 0)
        assert await command(redis, "HLEN", Keys("t").urls(int(SITE), "")) == 20_000
        assert await command(redis, "EXISTS", "esa-preload:t:open") == 0
        assert await client.cancel("r") == (20_000, 0)
        assert (await client.status("r")).state == "done"
