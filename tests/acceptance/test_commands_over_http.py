"""The producers' commands through a served HTTP API: the same output and exit codes as beside Redis."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from conftest import NAMESPACE
from esa_preload.client import PreloadClient
from esa_preload.keys import Keys
from esa_preload_worker.claims import Batch, Settlement, SiteWait
from esa_preload_worker.ledger import WorkerLedger
from processes import api_environment, environment, finish, started
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from redis.asyncio import Redis

SITE = "190007158391808"


@asynccontextmanager
async def api(redis_url: str, **settings: str) -> AsyncGenerator[str]:
    """Serve the API on a free port of loopback while inside; yields its address."""
    async with started("esa-preload", "serve", env=api_environment(redis_url, **settings)) as server:
        await wait_until(lambda: server.events("http.started"), timeout_s=60)
        yield server.events("http.started")[0]["url"]


async def test_a_list_goes_in_and_is_followed(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """Enqueue, status, sites, pause, failures and cancel work without Redis; a bad URL and an unknown id are told by the exit code."""
    del redis
    listed = tmp_path / "list.txt"
    listed.write_text("".join(f"https://www.example.com/{n}\n" for n in range(1_500)) + "nonsense\n")
    async with api(redis_url) as url:
        env = environment(ESA_PRELOAD_API_URL=url)
        done = await finish(
            "esa-preload",
            "enqueue",
            "--site",
            SITE,
            "--file",
            str(listed),
            "--request-id",
            "r",
            "--json",
            env=env,
        )
        assert (done.code, done.json()["accepted"], done.json()["rejected_count"]) == (1, 1_500, 1)
        assert (await finish("esa-preload", "status", "r", "--json", env=env)).json()["pending"] == 1_500
        assert (await finish("esa-preload", "pause", SITE, "--reason", "test", env=env)).code == 0
        (site,) = (await finish("esa-preload", "sites", "--json", env=env)).json()
        assert (site["site_id"], site["state"], site["reason"]) == (int(SITE), "paused", "test")
        assert (await finish("esa-preload", "failures", "--json", env=env)).json() == []
        assert (await finish("esa-preload", "cancel", "r", "--json", env=env)).json()["cancelled"] == 1_500
        unknown = await finish("esa-preload", "status", "nobody", env=env)
        assert (unknown.code, "no request nobody" in unknown.err) == (1, True)


async def test_what_is_wrong_is_said_with_its_exit_code(redis: Redis, redis_url: str, tmp_path: Path) -> None:
    """A token that the service does not know fails, a service that is away is 3, two queues at once are a mistake: 2."""
    del redis
    tokens = str(tmp_path / "tokens.json")
    made = await finish(
        "esa-preload", "token", "new", "--name", "n", "--role", "viewer", "--site", SITE, "--file", tokens, env=environment()
    )  # fmt: skip
    assert made.code == 0, made.err
    async with api(redis_url, ESA_PRELOAD_TOKENS_FILE=tokens) as url:
        denied = await finish(
            "esa-preload", "sites", env=environment(ESA_PRELOAD_API_URL=url, ESA_PRELOAD_TOKEN="esa_wrong")
        )
        assert (denied.code, "token" in denied.err, "esa_wrong" in denied.err) == (1, True, False)
    away = await finish("esa-preload", "sites", env=environment(ESA_PRELOAD_API_URL="http://127.0.0.1:1"))
    assert (away.code, "cannot be reached" in away.err) == (3, True)
    both = await finish(
        "esa-preload", "sites", env=environment(ESA_PRELOAD_API_URL=url, ESA_PRELOAD_REDIS_URL=redis_url)
    )
    assert (both.code, "both set" in both.err) == (2, True)
    shown = await finish(
        "esa-preload", "sites", env=environment(ESA_PRELOAD_API_URL="http://preload.example")
    )
    assert (shown.code, "token" in shown.err) == (2, True)


async def meet_quota(redis: Redis) -> str:
    """Let a worker hear that the site's quota is used up; returns until when the site waits."""
    ledger = WorkerLedger(redis, Keys(NAMESPACE))
    await ledger.publish({"batch_max_urls": 1})
    client = PreloadClient(redis, namespace=NAMESPACE)
    await client.enqueue(int(SITE), ["https://www.example.com/first"])
    batch = await ledger.take(token="t", pump="p", new_batch_id="b")
    assert isinstance(batch, Batch)
    quota = SiteWait(reason="quota", ms=3_600_000)
    over = Settlement(what="end", outcome="requeued", verdict="pending", site_wait=quota)
    await ledger.settle(batch, over, children=(), roll=0.5)
    (site,) = await client.sites()
    assert site.waiting_until is not None
    return site.waiting_until.isoformat()


@pytest.mark.parametrize("is_over_http", [False, True], ids=["redis", "http"])
async def test_who_enqueues_is_told_until_when_the_quota_is_waited_for(
    redis: Redis, redis_url: str, is_over_http: bool
) -> None:
    """The document has the moment that the ledger has, the sentence its second, whichever way the command goes."""
    until = await meet_quota(redis)
    at = {"ESA_PRELOAD_NAMESPACE": NAMESPACE}
    async with api(redis_url, **at) as url:
        env = environment(
            **({"ESA_PRELOAD_API_URL": url} if is_over_http else {"ESA_PRELOAD_REDIS_URL": redis_url, **at})
        )
        call = ("esa-preload", "enqueue", "--site", SITE, "https://www.example.com/second")
        assert (await finish(*call, "--json", env=env)).json()["waiting_until"] == until
        said = await finish(*call, env=env)
        assert f"the site waits until {until[:19]}" in said.out
