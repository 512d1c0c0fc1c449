"""``esa-preload audit``, and sites by their names in every command that takes one."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING

from esa_preload.keys import Keys
from esa_preload.scripts import command
from esa_preload_worker.ledger import WorkerLedger
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import finish, started, worker_environment
from waiting import wait_until_async

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from processes import Finished

KEYS = Keys("t")
SITE, NAME = 190007158391808, "www.example.com"
ME = f"{getpass.getuser()}@{socket.gethostname()}"
URL = f"https://{NAME}/app.js"


async def run(env: dict[str, str], *arguments: str, code: int = 0) -> Finished:
    """Run a command that ends with *code*."""
    done = await finish("esa-preload", *arguments, env=env)
    assert (done.code, "Traceback" in done.err) == (code, False), done
    return done


async def test_the_audit_says_who_did_what(env: dict[str, str]) -> None:
    """Newest first, as a table and as a document; of one site, and only so many where that is asked."""
    assert (await run(env, "audit")).out == "Nobody has changed anything yet.\n"
    await run(env, "enqueue", "--site", str(SITE), "--request-id", "r1", "--source", "cms", URL)
    await run(env, "pause", str(SITE), "--reason", "release")
    await run(env, "enqueue", "--site", "7", "--request-id", "r2", "https://b.example/")
    shown = (await run(env, "audit")).out
    assert shown.splitlines()[0].split() == [
        *("at", "action", "actor", "source", "site_id", "request_id", "detail")
    ]
    assert all(word in shown for word in (ME, "enqueued", "paused", "cms", "release", "r1"))
    found = (await run(env, "audit", "--site", str(SITE), "--json")).json()
    assert [{**entry, "id": "", "at": ""} for entry in found] == [
        {
            "id": "",
            "at": "",
            "action": "paused",
            "actor": ME,
            "source": "",
            "site_id": SITE,
            "request_id": None,
            "detail": "release",
        },
        {
            "id": "",
            "at": "",
            "action": "enqueued",
            "actor": ME,
            "source": "cms",
            "site_id": SITE,
            "request_id": "r1",
            "detail": "URLs: 1",
        },
    ]
    assert [entry["request_id"] for entry in (await run(env, "audit", "--limit", "1", "--json")).json()] == [
        "r2"
    ]


async def test_what_others_wrote_does_not_format_the_terminal(env: dict[str, str], redis: Redis) -> None:
    """Whoever may write to the ledger could put escapes into it: none reaches the table or the document."""
    fields = ("actor", "\x1b[31mroot\x07", "source", "a\nb", "detail", "\x9b2J")
    await command(redis, "XADD", KEYS.audit, "*", "at", 1, "action", "paused", *fields)
    await command(redis, "PEXPIRE", KEYS.audit, 60_000)
    for arguments in (("audit",), ("audit", "--json")):
        out = (await run(env, *arguments)).out
        assert "?[31mroot?" in out
        assert not any(char in out for char in "\x1b\x07\x9b")
        assert "a?b" in out


async def test_a_site_goes_by_its_name_everywhere(env: dict[str, str], redis: Redis) -> None:
    """Each command that takes a site takes its name, however it is written."""
    await WorkerLedger(redis, KEYS).keep_site_names({NAME: SITE})
    receipt = await run(env, "enqueue", "--site", NAME.upper(), "--request-id", "r1", "--json", URL)
    assert receipt.json()["site_id"] == SITE
    assert "is paused" in (await run(env, "pause", NAME)).out
    assert f"site {SITE}: pending" in (await run(env, "explain", "--site", NAME)).out
    assert f"site {SITE} goes on" in (await run(env, "resume", NAME)).out
    assert (await run(env, "failures", "--site", NAME, "--json")).json() == []
    assert (await run(env, "requeue", "--site", NAME, "--json")).json() == []
    assert len((await run(env, "audit", "--site", NAME, "--json")).json()) == 3
    assert [site["name"] for site in (await run(env, "sites", "--json")).json()] == [NAME]


async def test_a_name_that_is_not_known_is_an_error_with_a_hint(env: dict[str, str], redis: Redis) -> None:
    """1, as any site that is not known, with what it may have been."""
    await WorkerLedger(redis, KEYS).keep_site_names({NAME: SITE})
    done = await run(env, "enqueue", "--site", "www.exmaple.com", URL, code=1)
    assert "no site is named www.exmaple.com" in done.err
    assert "did you mean www.example.com?" in done.err
    assert "no worker is alive" in done.err


async def test_a_worker_lists_the_sites_of_the_account(env: dict[str, str]) -> None:
    """A worker that has started makes the names known, with a single call for a small account."""
    async with Sandbox(SandboxConfig(sites={SITE: (NAME,)})) as sandbox:
        worker = worker_environment(env["ESA_PRELOAD_REDIS_URL"], sandbox.url, ESA_PRELOAD_NAMESPACE="t")
        async with started("esa-preload-worker", "run", env=worker | {"ESA_PRELOAD_OPS_PORT": "0"}):

            async def is_known() -> bool:
                done = await finish("esa-preload", "failures", "--site", NAME, env=env)
                return done.code == 0

            assert await wait_until_async(is_known, timeout_s=30)
        assert sandbox.stats()["calls"]["ListSites"] == {"OK": 1}
