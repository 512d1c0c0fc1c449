"""The commands `esa-preload explain` and `esa-preload limits`: their documents, their first line, their exit codes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from esa_preload.keys import Keys
from esa_preload.scripts import command
from processes import Finished, finish

if TYPE_CHECKING:
    from redis.asyncio import Redis

SITE = "190007158391808"
URL = "https://a.example/1"
CREATE = "CreateScheduledPreloadJob"
KEYS = Keys("t")


async def run(env: dict[str, str], *arguments: str) -> Finished:
    """Run the command; whatever it says is no traceback."""
    done = await finish("esa-preload", *arguments, env=env)
    assert "Traceback" not in done.err + done.out
    return done


async def enqueue(env: dict[str, str]) -> None:
    """Have one URL pending, as request r1."""
    done = await run(env, "enqueue", "--site", SITE, "--request-id", "r1", URL)
    assert done.code == 0


async def test_the_first_line_is_the_answer(env: dict[str, str]) -> None:
    """Without a worker nothing goes; what to do, what else applies, and what was asked about follow."""
    await enqueue(env)
    done = await run(env, "explain", "r1")
    assert (done.code, done.err) == (0, "")
    first, hint, *more, last = done.out.splitlines()
    assert first == "no worker is alive: none was seen in the last minute"
    assert hint.startswith("  what to do: start `esa-preload-worker run`")
    assert [line[:26] for line in more] == ["  also: its lane waits for"]
    assert last == f"request r1, site {SITE}: pending"


async def test_the_document_of_an_explanation(env: dict[str, str], redis: Redis) -> None:
    """A paused site: reason, sentence and hint of the first reason stand for the whole; a URL is found in whatever form it is given."""
    await enqueue(env)
    now_s = int((await command(redis, "TIME"))[0])
    await command(redis, "ZADD", KEYS.workers, now_s * 1000 + 600_000, "w")
    assert (await run(env, "pause", SITE, "--reason", "origin is down")).code == 0
    asked = {
        "request_id": ("r1",),
        "site": ("--site", SITE),
        "url": ("--site", SITE, "--url", "https://A.example:443/1#top"),
    }
    for what, arguments in asked.items():
        document = (await run(env, "explain", *arguments, "--json")).json()
        assert document["site_id"] == int(SITE)
        assert (document["state"], document["reason"], document["until"]) == ("pending", "paused", None)
        assert document["text"] == "the site is paused: origin is down"
        assert document["hint"] == f"`esa-preload resume {SITE}`"
        assert document["next_at"] is None
        assert [reason["reason"] for reason in document["reasons"]] in (["paused", "quiet"], ["paused"])
        assert ("request_id" in document) == (what == "request_id")
        assert document.get("url") == (URL if what == "url" else None)


async def test_its_exit_codes(env: dict[str, str]) -> None:
    """1 for what is not known, 2 for what cannot be asked, 3 without Redis; a URL that was never accepted is an answer."""
    await enqueue(env)
    assert (await run(env, "explain", "nobody")).code == 1
    assert (await run(env, "explain", "--site", "7")).code == 1
    for wrong in (
        (),
        ("r1", "--site", SITE),
        ("--url", URL),
        ("--site", "x y"),
        ("--site", SITE, "--url", "nonsense"),
    ):
        done = await run(env, "explain", *wrong)
        assert (done.code, done.out) == (2, ""), wrong
    done = await run(env, "explain", "--site", SITE, "--url", "https://a.example/other")
    assert (done.code, done.out.splitlines()[0][:18]) == (0, "it is not pending:")
    away = {**env, "ESA_PRELOAD_REDIS_URL": "redis://127.0.0.1:1"}
    assert (await run(away, "explain", "r1")).code == 3


async def test_limits_are_shown_set_and_reset(env: dict[str, str]) -> None:
    """Nothing is known at first; a rate that is set is shown, in the table and the document, until it is reset."""
    assert (await run(env, "limits")).out == "Nothing is known of any operation's limit yet.\n"
    assert (await run(env, "limits", "--json")).json() == []
    done = await run(
        env, "limits", "--set", f"{CREATE}=12.5", "--set", "ListScheduledPreloadJobs=3", "--json"
    )
    assert (done.code, done.err) == (0, "")
    assert [(each["operation"], each["rate"], each["is_fixed"]) for each in json.loads(done.out)] == [
        (CREATE, 12.5, True),
        ("ListScheduledPreloadJobs", 3.0, True),
    ]
    assert set(json.loads(done.out)[0]) == {
        "operation",
        "rate",
        "is_fixed",
        "set_rate",
        "ceiling",
        "cooldown_s",
        "window_s",
    }
    table = (await run(env, "limits")).out
    assert CREATE in table
    assert "12.5" in table
    assert [each["operation"] for each in (await run(env, "limits", "--json", "--reset", CREATE)).json()] == [
        "ListScheduledPreloadJobs"
    ]
    assert (await run(env, "limits", "--json", "--reset")).json() == []


async def test_limits_that_cannot_be_set(env: dict[str, str]) -> None:
    """An unknown operation, a rate that is none, and one outside of the workers' bounds: 2, and nothing was set."""
    for wrong in (
        f"{CREATE}",
        f"{CREATE}=x",
        f"{CREATE}=0",
        f"{CREATE}=-1",
        f"{CREATE}=nan",
        "Tea=1",
        f"{CREATE}=1000000",
    ):
        done = await run(env, "limits", "--set", wrong)
        assert (done.code, done.out) == (2, ""), wrong
    assert (await run(env, "limits", "--reset", "Tea")).code == 2
    assert (await run(env, "limits", "--json")).json() == []


async def test_limits_change_all_that_is_asked_or_nothing(env: dict[str, str]) -> None:
    """One that cannot be set ends the command with 2, and what was there before is kept; else a reset goes before what is set."""
    assert (await run(env, "limits", "--set", f"{CREATE}=5.25")).code == 0
    before = (await run(env, "limits", "--json")).json()
    for wrong in (("--reset", "--set", f"{CREATE}=1e9"), ("--set", f"{CREATE}=3", "--set", "Tea=2")):
        done = await run(env, "limits", *wrong)
        assert (done.code, done.out) == (2, ""), wrong
        assert (await run(env, "limits", "--json")).json() == before
    done = await run(env, "limits", "--json", "--reset", "--set", "ListScheduledPreloadJobs=3")
    assert [each["operation"] for each in done.json()] == ["ListScheduledPreloadJobs"]
