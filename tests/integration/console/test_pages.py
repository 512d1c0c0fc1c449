"""What each page shows, to whom, and what its forms do; all of it without JavaScript."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from esa_preload.api.console import forms, rendering
from esa_preload.client import PreloadClient
from esa_preload.keys import Keys
from esa_preload.model import Plan
from esa_preload.scripts import command
from esa_preload_worker.ledger import WorkerLedger
from integration.console.visitor import (
    NAMESPACE,
    OTHER_SITE,
    PAGES,
    SITE,
    Served,
    actions_of,
    served,
    text_of,
)

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

PAUSE, RESUME = f"/sites/{SITE}/pause", f"/sites/{SITE}/resume"
REQUEUE = f"/sites/{SITE}/requeue"
CANCEL = "/requests/theirs/cancel"

ALLOWED = {
    "viewer": set[str](),
    "producer": {"/enqueue", CANCEL},
    "operator": {"/enqueue", CANCEL, PAUSE, RESUME, REQUEUE, "/limits"},
    "narrow": {"/enqueue", CANCEL, PAUSE, RESUME, REQUEUE},
}
CHANGES = {
    "/enqueue": {"site": str(SITE), "urls": "https://www.example.com/new.js"},
    CANCEL: {},
    PAUSE: {},
    RESUME: {},
    REQUEUE: {"which": "all"},
    "/limits": {"operation": "CreateScheduledPreloadJob", "rate": "7", "verb": "set"},
}


@pytest.mark.parametrize("name", ALLOWED)
async def test_every_page_shows_to_every_role_what_it_may_do(console: Served, name: str) -> None:
    """And no button that would be refused."""
    visitor = await console.signed_in(name)
    offered: set[str] = set()
    for path in PAGES:
        page = await visitor.get(path)
        assert page.status_code == 200, path
        offered |= actions_of(page)
    # One is offered while a site is paused, one while it has failures.
    always = ALLOWED[name] - {RESUME, REQUEUE, "/enqueue"}
    assert {path for path in offered if path in CHANGES} == always
    assert (await visitor.get("/enqueue")).status_code == (200 if "/enqueue" in ALLOWED[name] else 403)


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.parametrize("path", CHANGES)
async def test_roles_decide_in_the_server(
    console: Served, preloads: PreloadClient, name: str, path: str
) -> None:
    """A form that a role may not send changes nothing, whoever wrote the page that it is on."""
    visitor = await console.signed_in(name)
    before = (await preloads.audit()).items
    answer = await visitor.post(path, await visitor.get("/"), **CHANGES[path])
    if path in ALLOWED[name]:
        assert answer.status_code == 200, answer.text
    else:
        assert answer.status_code == 403
        assert (await preloads.audit()).items == before


async def test_a_token_of_some_sites_finds_nothing_of_others(
    console: Served, preloads: PreloadClient
) -> None:
    """Not in a list, not by an address, and not by what is refused."""
    await preloads.pause(SITE)
    visitor = await console.signed_in("elsewhere")
    for path in ("/", "/requests", "/failures", "/audit", "/explain", "/enqueue"):
        assert str(SITE) not in (page := await visitor.get(path)).text, path
        assert "theirs" not in page.text
    for path in (f"/sites/{SITE}", "/requests/theirs", f"/requests?site={SITE}", f"/audit?site={SITE}"):
        hidden = await visitor.get(path)
        unknown = await visitor.get(path.replace(str(SITE), "5").replace("theirs", "none"))
        assert hidden.status_code == unknown.status_code == 404
        assert _numberless(hidden.text) == _numberless(unknown.text)
    page = await visitor.get("/")
    for path in (PAUSE, RESUME, REQUEUE, CANCEL):
        assert (await visitor.post(path, page, **CHANGES[path])).status_code == 404
    assert {site.state for site in await preloads.sites()} == {"active", "paused"}


async def test_a_token_of_some_sites_learns_no_names_of_others(
    console: Served, preloads: PreloadClient, redis: Redis
) -> None:
    """A name that is another's is answered as one that is nobody's."""
    del preloads
    await WorkerLedger(redis, Keys(NAMESPACE)).keep_site_names({"www.example.com": SITE})
    visitor = await console.signed_in("elsewhere")
    for path in ("/requests?site=", "/failures?site=", "/audit?site=", "/explain?site="):
        theirs, none = [
            (await visitor.get(path + name)).text.replace(name, "X")
            for name in ("www.example.com", "www.example.con")
        ]
        assert _numberless(theirs) == _numberless(none)
        assert "www.example" not in none
        assert str(SITE) not in theirs


def _numberless(text: str) -> str:
    return re.sub(r'\d+|theirs|none|value="[^"]*"', "", text)


async def test_pause_and_resume(console: Served, preloads: PreloadClient) -> None:
    """With a reason, which everybody sees, as text; and what was done is said once."""
    visitor = await console.signed_in("operator")
    page = await visitor.get(f"/sites/{SITE}")
    paused = await visitor.post(PAUSE, page, reason="<b>moving</b> the origin")
    assert paused.url.path == f"/sites/{SITE}"
    assert f"Site {SITE} is paused" in text_of(paused)
    assert "&lt;b&gt;moving&lt;/b&gt; the origin" in paused.text
    assert "is paused" not in text_of(await visitor.get("/limits"))
    assert [site.state for site in await preloads.sites()] == ["paused", "active"]
    resumed = await visitor.post(RESUME, paused, back="/")
    assert resumed.url.path == "/"
    assert f"Site {SITE} goes on" in text_of(resumed)
    assert {site.state for site in await preloads.sites()} == {"active"}


async def test_enqueue(console: Served, preloads: PreloadClient) -> None:
    """The form takes URLs, tells which are none, and sent twice is one request, made by the token."""
    visitor = await console.signed_in("producer")
    form = await visitor.get("/enqueue")
    request_id = re.search(r'name="request_id" value="(\w+)"', form.text)
    assert request_id
    urls = "https://www.example.com/a.js\r\n  https://www.example.com/b.js\r\n\r\nwww.example.com/c\r\n"
    fields = {
        "site": str(SITE),
        "urls": urls,
        "request_id": request_id[1],
        "source": "release 7",
        "priority": "high",
    }
    for _ in range(2):
        receipt = await visitor.post("/enqueue", form, **fields)
        assert receipt.status_code == 200
        assert "Accepted 2 Merged with pending ones 0 Repeats 0 Rejected 1" in text_of(receipt)
        assert "must start with http" in text_of(receipt)
    [info] = [
        info for info in (await preloads.requests(SITE)).items if info.status.request_id == request_id[1]
    ]
    assert (info.status.accepted, info.source, info.priority) == (2, "release 7", "high")
    assert info.actor == "token:producer"


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"site": "5x"}, "5x"),
        ({"site": ""}, "say for which site"),
        ({"urls": " "}, "urls is empty"),
        ({"interval_s": "often"}, "interval_s must be a whole number"),
        ({"end": "2001-01-01T00:00"}, "plan end"),
    ],
)
async def test_a_form_that_is_wrong_comes_back_as_it_was(
    console: Served, fields: dict[str, str], why: str
) -> None:
    """With what is wrong about it; nobody types a list twice."""
    visitor = await console.signed_in("producer")
    sent = {"site": str(SITE), "urls": "https://www.example.com/kept.js", "source": "<release>", **fields}
    back = await visitor.post("/enqueue", await visitor.get("/enqueue"), **sent)
    assert back.status_code == 422
    assert why in text_of(back)
    assert 'value="&lt;release&gt;"' in back.text
    assert "kept.js" in back.text or "urls" in fields


async def test_a_form_is_read_within_a_bound(console: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer lists are sent on to where they are streamed."""
    monkeypatch.setattr(forms, "FORM_MAX_BYTES", 10_000)
    visitor = await console.signed_in("producer")
    long = await visitor.post(
        "/enqueue", await visitor.get("/enqueue"), site=str(SITE), urls="https://www.example.com/" * 1_000
    )
    assert long.status_code == 413
    assert "esa-preload enqueue --file" in text_of(long)


@pytest.mark.parametrize("body", [b"\xff=1", b"&".join(b"%d=x" % n for n in range(forms.FIELDS_MAX + 1))])
async def test_what_is_no_form_is_told(console: Served, body: bytes) -> None:
    """Bytes that are no text, or more fields than any page has."""
    visitor = await console.signed_in("operator")
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    refused = await visitor.client.post(PAUSE, content=body, headers=headers)
    assert refused.status_code == 422
    assert "that is no form" in text_of(refused)


async def test_requeue_takes_what_was_chosen(console: Served) -> None:
    """When none was, it says so and takes none."""
    visitor = await console.signed_in("operator")
    page = await visitor.get(f"/failures?site={SITE}")
    none = await visitor.post(REQUEUE, page, which="chosen")
    assert none.url.path == "/failures"
    assert "None was chosen: nothing was requeued" in text_of(none)


async def test_what_cannot_be_explained_is_told_beside_the_form(console: Served) -> None:
    """Which keeps what was asked."""
    visitor = await console.signed_in("viewer")
    page = await visitor.get("/explain?request_id=nothing-like-it")
    assert page.status_code == 200
    assert "no request nothing-like-it" in text_of(page)
    assert 'value="nothing-like-it"' in page.text


async def test_cancel(console: Served, preloads: PreloadClient) -> None:
    """What is pending ends, and the page says how much it was."""
    visitor = await console.signed_in("producer")
    page = await visitor.get("/requests/theirs")
    assert "0 % of 3 URLs have ended" in text_of(page)
    cancelled = await visitor.post(CANCEL, page)
    assert "3 URLs cancelled; 0 in flight go on" in text_of(cancelled)
    assert "100 % of 3 URLs have ended" in text_of(cancelled)
    assert (await preloads.status("theirs")).cancelled == 3


async def test_a_request_says_who_made_it_and_how(console: Served, preloads: PreloadClient) -> None:
    """By whom, from which source, with which plan and priority; what others wrote is text."""
    await preloads.acting_as("<b>anna</b>").enqueue(
        SITE,
        ["https://www.example.com/"],
        request_id="asked",
        source="<i>cms</i>",
        priority="high",
        plan=Plan(interval_s=60, slice_len=10),
        expires_in=3600,
    )
    page = await (await console.signed_in("viewer")).get("/requests/asked")
    assert "<b>anna" not in page.text
    said = text_of(page)
    assert "By <b>anna</b> Source <i>cms</i>" in said
    assert "Plan at once, 10 URLs a slice, 60 s between slices Priority high Expires in" in said
    by_default = text_of(await (await console.signed_in("viewer")).get("/requests/theirs"))
    assert "Source – Plan at once Priority normal" in by_default


async def test_limits(console: Served, preloads: PreloadClient, redis: Redis) -> None:
    """Set, with a word about a rate at which ESA throttles, and learnt anew; a rate that is none is told."""
    visitor = await console.signed_in("operator")
    page = await visitor.get("/limits")
    change = {"operation": "CreateScheduledPreloadJob", "verb": "set"}
    fixed = await visitor.post("/limits", page, rate="7.5", **change)
    assert "7.5/s 7.5/s set" in text_of(fixed)
    assert [(limit.rate, limit.is_fixed) for limit in await preloads.limits()] == [(7.5, True)]
    await command(redis, "HSET", Keys(NAMESPACE).rate("CreateScheduledPreloadJob"), "rate", "5")
    assert "5/s 7.5/s set ESA throttles at that" in text_of(await visitor.get("/limits"))
    assert (await visitor.post("/limits", page, rate="fast", **change)).status_code == 422
    assert (await visitor.post("/limits", page, rate="nan", **change)).status_code == 422
    assert (await visitor.post("/limits", page, operation="Nothing", verb="reset")).status_code == 422
    await visitor.post("/limits", page, operation="CreateScheduledPreloadJob", verb="reset")
    assert await preloads.limits() == []


async def test_lists_are_paged(console: Served, preloads: PreloadClient) -> None:
    """Each request is on one of the pages, the newest on the first."""
    names = {f"request-{n:03}" for n in range(60)}
    for name in sorted(names):
        await preloads.enqueue(SITE, [f"https://www.example.com/{name}"], request_id=name)
    visitor = await console.signed_in("narrow")
    seen: list[str] = []
    path: str | None = "/requests"
    while path:
        page = await visitor.get(path)
        seen += re.findall(r'href="/requests/([^"]+)"', page.text)
        older = re.search(r'href="([^"]+)" rel="next"', page.text)
        path = older[1].replace("&amp;", "&") if older else None
    assert len(seen) == len(set(seen))
    assert set(seen) == names | {"theirs"}
    assert seen[0] == "request-059"


async def test_a_list_of_own_requests_is_not_empty_for_those_of_others(
    console: Served, preloads: PreloadClient
) -> None:
    """However many newer ones others have."""
    for n in range(120):
        await preloads.enqueue(OTHER_SITE, [f"https://shop.example.org/{n}"])
    visitor = await console.signed_in("narrow")
    page = await visitor.get("/requests")
    assert re.findall(r'href="/requests/([^"]+)"', page.text) == ["theirs"]


async def test_sites_are_found_by_a_part_of_their_id(console: Served) -> None:
    """As many of them as there are, one is soon found."""
    visitor = await console.signed_in("viewer")
    found = text_of(await visitor.get(f"/?q={str(OTHER_SITE)[-4:]}"))
    assert str(OTHER_SITE) in found
    assert str(SITE) not in found
    assert "No site is called" in text_of(await visitor.get("/?q=<nobody>"))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/requests/none", 404),
        ("/requests/%00", 422),
        ("/sites/5", 404),
        ("/sites/x", 422),
        ("/requests?cursor=nonsense", 422),
        ("/requests?site=nobody", 404),
    ],
)
async def test_what_is_not_there_is_told_on_a_page(console: Served, path: str, status: int) -> None:
    """With a way on."""
    visitor = await console.signed_in("operator")
    page = await visitor.get(path)
    assert page.status_code == status
    assert 'href="/"' in page.text


@pytest.mark.parametrize(
    ("path", "status"),
    [("/nothing", 404), ("/sites/5/nothing?x=1", 404), ("/static/nothing.js", 404), (PAUSE, 405)],
)
async def test_an_address_that_no_page_has_is_told_on_a_page(console: Served, path: str, status: int) -> None:
    """To a browser, with the navigation for who is signed in; whoever else asks gets a document, and so does the API's path."""
    visitor = await console.signed_in("viewer")
    page = await visitor.get(path, Accept="text/html,application/xhtml+xml,*/*;q=0.8")
    assert page.status_code == status
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
    assert 'href="/requests"' in page.text
    stranger = await console.visitor().get(path, Accept="text/html")
    assert (stranger.status_code, 'href="/requests"' in stranger.text) == (status, False)
    assert 'href="/"' in stranger.text
    for answer in (
        await visitor.get(path),
        await visitor.get("/v1/nothing", Accept="text/html"),
        await visitor.client.post("/nothing", headers={"Accept": "text/html"}),
    ):
        assert answer.headers["content-type"] == "application/problem+json"


async def test_an_unknown_address_leads_to_no_other_host(console: Served) -> None:
    """Neither by its path nor by what is written in it."""
    visitor = await console.signed_in("viewer")
    page = await visitor.client.get(
        "http://console.example//evil.example/%22%3E%3Cb%3E", headers={"Accept": "text/html"}
    )
    assert page.status_code == 404
    assert "evil.example" not in page.text
    assert "<b>" not in page.text


@pytest.mark.parametrize("path", [f"/sites/{SITE}", "/requests/theirs"])
async def test_a_page_of_one_site_reads_no_other(
    console: Served, preloads: PreloadClient, redis: Redis, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    """Of 10,000 sites it shows the name of one."""
    await WorkerLedger(redis, Keys(NAMESPACE)).keep_site_names({"www.example.com": SITE})
    visitor = await console.signed_in("viewer")
    monkeypatch.delattr(type(preloads), "sites")
    page = await visitor.get(path)
    assert page.status_code == 200
    assert "www.example.com" in text_of(page)


async def test_an_outage_of_redis_is_a_page_too(secrets: dict[str, str], tokens_file: Path) -> None:
    """With the status that tells an open page that it is not up to date, and what to do."""
    async with PreloadClient("redis://127.0.0.1:1") as nowhere:
        visitor = await served(nowhere, secrets=secrets, tokens_file=tokens_file).signed_in(
            "viewer", code=503
        )
        for path in ("/", "/requests", "/audit"):
            page = await visitor.get(path)
            assert page.status_code == 503
            assert "What to do:" in text_of(page)
            assert "127.0.0.1" not in page.text


async def test_without_the_libraries_of_others_every_page_works(
    preloads: PreloadClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As in a checkout where nobody ran `make assets`: nothing is asked for that is not there."""
    for name in ("console.css", "console.js", "icon.svg"):
        (tmp_path / name).write_bytes((rendering.STATIC / name).read_bytes())
    monkeypatch.setattr(rendering, "STATIC", tmp_path)
    await preloads.enqueue(SITE, ["https://www.example.com/"], request_id="theirs")
    visitor = served(preloads).visitor("http://localhost")
    for path in PAGES:
        page = await visitor.get(path)
        assert page.status_code == 200
        assert "vendor" not in page.text
        for file in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
            found = await visitor.get(file)
            assert found.status_code == 200
            assert found.headers["cache-control"] == "public, max-age=31536000, immutable"
