"""Who gets in, and for how long; and that another site's page cannot act in their name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from esa_preload.api.console import attempts, sessions
from esa_preload.api.token_file import new_token, revoke_token
from esa_preload.api.tokens import LOOK_S
from integration.console.visitor import PAGES, SITE, Served, actions_of, secret_of, served, text_of
from waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from esa_preload.client import PreloadClient

COOKIE = re.compile(
    r"(__Host-)?esa-preload-t=\S+; HttpOnly; Max-Age=43200; Path=/; SameSite=strict(; Secure)?"
)


@pytest.mark.parametrize("path", [*PAGES, "/enqueue"])
async def test_nobody_sees_anything_without_signing_in(console: Served, path: str) -> None:
    """Every page asks for a token first, and leads back to itself."""
    visitor = console.visitor()
    asked = await visitor.get(path)
    assert (asked.status_code, asked.url.path) == (200, "/sign-in")
    assert actions_of(asked) == {"/sign-in"}
    assert "Requests" not in text_of(asked)
    back = re.search(r'name="back" value="([^"]*)"', asked.text)
    assert back
    page = await visitor.post(
        "/sign-in", asked, token=console.secrets["operator"], back=back[1].replace("&amp;", "&")
    )
    assert str(page.url).removeprefix("http://console.example") == path


async def test_a_wrong_token_is_refused_and_too_many_cost_a_wait(console: Served) -> None:
    """Not so the right one: nobody can shut out who shares an address. The token that was tried is nowhere on the page."""
    visitor = console.visitor()
    page = await visitor.get("/sign-in")
    for _ in range(attempts.LIMIT):
        page = await visitor.post("/sign-in", page, token="esap_wrong")
        assert page.status_code == 401
        assert "not known, was revoked, or has expired" in page.text
        assert "esap_wrong" not in page.text
    late = await visitor.post("/sign-in", page, token="esap_wrong")
    assert late.status_code == 429
    assert 0 < int(late.headers["retry-after"]) <= attempts.WINDOW_S
    known = await visitor.post("/sign-in", late, token=console.secrets["operator"])
    assert (known.status_code, known.url.path) == (200, "/")


@pytest.mark.parametrize("address", ["http://console.example", "https://console.example"])
async def test_the_cookie_is_for_this_server_and_no_script(console: Served, address: str) -> None:
    """Strict, HttpOnly, and over TLS Secure and bound to the host; it does not hold the token."""
    visitor = console.visitor(address)
    page = await visitor.get("/")
    answer = await visitor.post("/sign-in", page, token=console.secrets["operator"])
    cookies = [cookie for each in (page, *answer.history) for cookie in each.headers.get_list("set-cookie")]
    assert cookies
    for cookie in cookies:
        found = COOKIE.fullmatch(cookie)
        assert found, cookie
        assert all(found.groups()) == address.startswith("https")
        assert console.secrets["operator"] not in cookie


async def test_signing_in_changes_the_secret_of_the_forms(console: Served) -> None:
    """What was on a page before belongs to nobody."""
    visitor = console.visitor()
    before = await visitor.get("/sign-in")
    after = await visitor.post("/sign-in", before, token=console.secrets["operator"])
    assert secret_of(before) != secret_of(after)
    refused = await visitor.post(f"/sites/{SITE}/pause", before)
    assert refused.status_code == 403


async def test_who_signs_out_is_out(console: Served) -> None:
    """And is told so."""
    visitor = await console.signed_in("operator")
    out = await visitor.post("/sign-out", await visitor.get("/"))
    assert "You are signed out." in text_of(out)
    assert (await visitor.get("/")).url.path == "/sign-in"


async def test_a_token_that_is_revoked_ends_its_sessions_for_good(console: Served, tokens_file: Path) -> None:
    """Also when another token is made under its name."""
    visitor = await console.signed_in("operator")
    revoke_token(tokens_file, "operator")

    async def is_out() -> bool:
        return (await visitor.get("/")).url.path == "/sign-in"

    await wait_until_async(is_out, timeout_s=LOOK_S + 5)
    new_token(tokens_file, name="operator", role="operator", sites=["*"])
    wrong = await console.visitor().get("/")
    await console.visitor().post("/sign-in", wrong, token="x")
    assert await is_out()


async def test_a_session_ends_when_nobody_does_anything(
    console: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that renews itself is nobody: it neither keeps the session nor loses the way back to the sign-in."""
    visitor = await console.signed_in("operator")
    polled = await visitor.get("/", HX_Request="true")
    assert polled.status_code == 200
    assert "set-cookie" not in polled.headers
    monkeypatch.setattr(sessions, "IDLE_S", -1)
    ended = await visitor.get("/requests?state=active", HX_Request="true")
    assert ended.headers["hx-redirect"] == "/sign-in?back=%2Frequests%3Fstate%3Dactive"
    assert ended.text == ""


async def test_a_link_from_elsewhere_leads_on_by_a_page_of_ours(console: Served) -> None:
    """Browsers keep the strict cookie back then: the session is not lost, and nothing is told."""
    visitor = await console.signed_in("operator")
    arrived = await visitor.get("/requests/theirs?urls=pending", Sec_Fetch_Site="cross-site")
    assert arrived.status_code == 200
    assert '<meta http-equiv="refresh" content="0;url=/requests/theirs?urls=pending">' in arrived.text
    assert "set-cookie" not in arrived.headers
    assert "example.com" not in arrived.text


@pytest.mark.parametrize(
    ("spoil", "headers"),
    [
        ("", {}),
        ("x", {}),
        (None, {"Sec-Fetch-Site": "cross-site"}),
        (None, {"Sec-Fetch-Site": "same-site"}),
        (None, {"Origin": "https://evil.example"}),
        (None, {"Origin": "null"}),
    ],
)
async def test_a_form_of_another_page_does_nothing(
    console: Served, preloads: PreloadClient, spoil: str | None, headers: dict[str, str]
) -> None:
    """Without the session's secret, or from where a browser says that it comes from."""
    visitor = await console.signed_in("operator")
    page = await visitor.get("/")
    given = {} if spoil is None else {"csrf": spoil}
    refused = await visitor.post(f"/sites/{SITE}/pause", page, headers, **given)
    assert refused.status_code == 403
    assert "nothing was done" in refused.text
    assert {site.state for site in await preloads.sites()} == {"active"}
    assert (
        await visitor.post(f"/sites/{SITE}/pause", page, {"Origin": "http://console.example"})
    ).status_code == 200
    assert [site.state for site in await preloads.sites()] == ["paused", "active"]


async def test_every_answer_keeps_to_itself(console: Served) -> None:
    """No script or style but ours, no frame, no copy in a cache, no address told to others."""
    visitor = await console.signed_in("operator")
    for answer in [await visitor.get(path) for path in (*PAGES, "/requests/none", "/enqueue")]:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"<[^>]+ (style|on\w+)=|<style|<script>", answer.text)


async def test_without_tokens_only_this_machine_is_served(preloads: PreloadClient) -> None:
    """By a name of its own, so that a name that leads here cannot be used; there is nothing to sign in to or out of."""
    await preloads.enqueue(SITE, ["https://www.example.com/"])
    open_console = served(preloads)
    here = open_console.visitor("http://127.0.0.1:8080")
    page = await here.get("/")
    assert page.status_code == 200
    assert "/sign-out" not in actions_of(page)
    assert (await here.get("/sign-in")).url.path == "/"
    assert (await here.post(f"/sites/{SITE}/pause", page)).status_code == 200
    elsewhere = open_console.visitor("http://rebound.example:8080")
    refused = await elsewhere.get("/")
    assert refused.status_code == 403
    assert str(SITE) not in refused.text
    assert (
        await here.post(f"/sites/{SITE}/resume", page, {"Origin": "http://evil.example"})
    ).status_code == 403
    assert [site.state for site in await preloads.sites()] == ["paused"]
