"""The console in a real Chromium: what people do, see, and must not be able to do."""

from __future__ import annotations

import asyncio
import re
import signal
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.keys import Keys

from acceptance.console.chromium import DESK_PX, PHONE_PX, SCHEMES, Browser
from acceptance.console.elsewhere import elsewhere
from acceptance.console.plant import SITE, Plant
from esa_preload.api.token_file import revoke_token

if TYPE_CHECKING:
    from acceptance.console.chromium import Scheme
    from esa_preload.model import RequestStatus


def sign_in(browser: Browser, secret: str, path: str = "/") -> None:
    """Open a page, which asks for a token first."""
    browser.open(path)
    browser.fill(token=secret)
    browser.press("main button")


async def submitted(console: Plant, *urls: str) -> RequestStatus:
    """Enqueue *urls* and wait until they have ended."""
    receipt = await console.preloads.enqueue(SITE, urls)
    return await console.preloads.wait(receipt.request_id, timeout=60)


async def test_a_request_is_seen_from_its_urls_to_its_end(browser: Browser, console: Plant) -> None:
    """A wrong token is told; then URLs are pasted, and their page shows how far they are without being loaded again."""

    def enqueue_and_look() -> set[int]:
        browser.open("/enqueue")
        browser.fill(token="esap_wrong")
        browser.press("main button")
        assert "not known, was revoked, or has expired" in browser.text("[role=alert]")
        browser.fill(token=console.secrets["producer"])
        browser.press("main button")
        assert browser.path == "/enqueue"
        urls = [f"https://www.example.com/{n}.js" for n in range(200)]
        browser.fill(site=str(SITE))
        browser.run("document.querySelector('[name=urls]').value = arguments[0].join('\\n')", urls)
        browser.press("#enqueue")
        assert "Accepted\n200" in browser.text()
        browser.press("main a[href^='/requests/']")
        browser.run("window.isStillThere = true")
        seen: set[int] = set()

        def is_done() -> bool:
            seen.add(int(browser.find("[role=progressbar]").get_attribute("aria-valuenow") or -1))
            return 100 in seen

        browser.until(is_done, timeout_s=90)
        assert browser.run("return window.isStillThere")
        assert not browser.all("[hx-get]"), "a page of what is over does not renew itself"
        assert browser.until(lambda: browser.text("#said")) == "Done: 200 of 200 URLs submitted"
        return seen

    seen = await asyncio.to_thread(enqueue_and_look)
    assert min(seen) < max(seen) == 100  # how many steps are seen between is the machine's affair
    assert [complaint for complaint in browser.complaints() if "401" not in complaint] == []
    [info] = (await console.preloads.requests(SITE)).items
    assert (info.actor, info.status.submitted) == ("token:producer", 200)


async def test_an_operator_pauses_and_resumes_a_site(browser: Browser, console: Plant) -> None:
    """From the list by one press, from its own page with a reason; what is done is said, and seen."""
    await submitted(console, "https://www.example.com/")

    def pause() -> None:
        sign_in(browser, console.secrets["operator"])
        browser.press(f"#pause-{SITE}")
        assert f"Site {SITE} is paused" in browser.text(".notice")
        assert browser.text("td .state") == "paused"

    def resume_and_pause_for_a_reason() -> None:
        browser.press("tbody th a")
        browser.press("#resume")
        assert browser.text("dd .state") == "active"
        browser.fill(reason="the origin moves")
        browser.press("#pause")
        assert "Paused: the origin moves" in browser.text()

    await asyncio.to_thread(pause)
    assert [site.state for site in await console.preloads.sites()] == ["paused"]
    await asyncio.to_thread(resume_and_pause_for_a_reason)
    assert [site.reason for site in await console.preloads.sites()] == ["the origin moves"]
    entries = (await console.preloads.audit()).items
    assert [(entry.action, entry.actor) for entry in entries[:3]] == [
        ("paused", "token:operator"),
        ("resumed", "token:operator"),
        ("paused", "token:operator"),
    ]
    assert browser.complaints() == []


async def test_failures_that_were_chosen_are_requeued(browser: Browser, console: Plant) -> None:
    """Those and no others."""
    await submitted(console, *(f"https://elsewhere.example.net/{n}" for n in range(3)))
    await console.preloads.pause(SITE)

    def requeue() -> None:
        sign_in(browser, console.secrets["operator"], f"/failures?site={SITE}")
        browser.find("[data-all]").click()
        assert [box.is_selected() for box in browser.all("[name=id]")] == [True] * 3
        browser.all("[name=id]")[0].click()
        browser.press("#requeue-chosen")
        assert "2 URLs enqueued anew" in browser.text(".notice")
        assert "0 % of 2 URLs have ended" in browser.text()

    await asyncio.to_thread(requeue)
    [left] = await console.preloads.failures(SITE)
    assert left.url == "https://elsewhere.example.net/2"
    assert browser.complaints() == []


async def test_a_viewer_may_look_and_nothing_else(browser: Browser, console: Plant) -> None:
    """There is no button, and the form that the button would send is refused."""
    await submitted(console, "https://www.example.com/")

    def try_to_pause() -> int:
        sign_in(browser, console.secrets["viewer"])
        assert browser.text("td .state") == "active"
        for path in ("/", f"/sites/{SITE}", "/limits", f"/failures?site={SITE}"):
            browser.open(path)
            assert [button.text for button in browser.all("form[method=post] button")] == ["Sign out"]
        return int(
            browser.run(
                """
                const form = new URLSearchParams({csrf: document.querySelector("[name=csrf]").value});
                return fetch(arguments[0], {method: "POST", body: form}).then((answer) => answer.status);
                """,
                f"/sites/{SITE}/pause",
            )
        )

    assert await asyncio.to_thread(try_to_pause) == 403
    assert [site.state for site in await console.preloads.sites()] == ["active"]


async def test_a_page_of_another_site_cannot_act_but_may_lead_here(browser: Browser, console: Plant) -> None:
    """Its form is refused though somebody is signed in; its link arrives, and nobody signs in twice."""
    await submitted(console, "https://www.example.com/")
    address = f"{console.address}/sites/{SITE}"

    def be_lured() -> None:
        sign_in(browser, console.secrets["operator"])
        form = f"<form method=post action={address}/pause><input name=csrf value=x><button>Free tokens</button></form>"
        with elsewhere(form) as lure:
            browser.driver.get(lure)
            browser.press("button")
            assert "nothing was done" in browser.text()
        with elsewhere(f"<a href={address}>look at this</a>") as link:
            browser.driver.get(link)
            browser.find("a").click()
            browser.until(lambda: browser.text("h1").startswith("Site "))
        assert "operator" in browser.text(".who")

    await asyncio.to_thread(be_lured)
    assert [site.state for site in await console.preloads.sites()] == ["active"]


async def test_a_live_part_is_not_renewed_under_the_hand(browser: Browser, console: Plant) -> None:
    """What has the focus keeps it, what is pressed or marked stays; a screen reader is told of what changed."""
    await submitted(console, "https://www.example.com/")

    def time_of_part() -> str:
        return browser.find(".as-of time").get_attribute("datetime") or ""

    def is_renewed() -> bool:
        before = time_of_part()
        return browser.until(lambda: time_of_part() != before, timeout_s=15)

    def use() -> None:
        sign_in(browser, console.secrets["operator"])
        button = f"#pause-{SITE}"
        browser.run("document.querySelector(arguments[0]).focus()", button)
        assert is_renewed()
        assert browser.run("return document.activeElement.id") == button[1:]
        browser.run("window.renewals = 0; document.addEventListener('htmx:afterRequest', () => renewals++)")
        browser.run("getSelection().selectAllChildren(document.querySelector('#live h2, #live td'))")
        marked = time_of_part()
        browser.until(lambda: browser.run("return renewals") >= 2)
        assert time_of_part() == marked
        browser.run("getSelection().removeAllRanges()")
        assert is_renewed()

    await asyncio.to_thread(use)
    assert browser.complaints() == []


async def test_an_open_page_tells_when_the_server_is_gone(browser: Browser, console: Plant) -> None:
    """What it shows is old then, and it says so."""
    await submitted(console, "https://www.example.com/")
    await asyncio.to_thread(sign_in, browser, console.secrets["viewer"])
    assert not browser.find("#stale").is_displayed()
    console.server.process.send_signal(signal.SIGTERM)
    assert await console.server.ended() == 0
    await asyncio.to_thread(browser.until, lambda: browser.find("#stale").is_displayed())


async def test_a_token_that_is_revoked_ends_the_session_of_an_open_page(
    browser: Browser, console: Plant
) -> None:
    """It goes to the sign-in by itself, and would come back."""
    await asyncio.to_thread(sign_in, browser, console.secrets["viewer"], "/limits")
    revoke_token(console.tokens_file, "viewer")
    await asyncio.to_thread(browser.until, lambda: browser.path == "/sign-in?back=%2Flimits")


async def test_the_keyboard_is_enough(browser: Browser, console: Plant) -> None:
    """The first stop leads past the navigation, and each stop can be seen."""

    def walk() -> list[str]:
        sign_in(browser, console.secrets["viewer"], "/explain")
        browser.find("body").send_keys(Keys.TAB)
        assert browser.run("return document.activeElement.className") == "skip"
        assert browser.find(".skip").is_displayed()
        browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
        stops: list[str] = []
        for _ in range(4):
            browser.driver.switch_to.active_element.send_keys(Keys.TAB)
            stops.append(
                str(browser.run("return document.activeElement.name || document.activeElement.localName"))
            )
            assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
        return stops

    assert await asyncio.to_thread(walk) == ["request_id", "site", "url", "button"]


@pytest.mark.parametrize("scheme", SCHEMES)
async def test_every_page_is_fit_for_everybody(browser: Browser, console: Plant, scheme: Scheme) -> None:
    """
    axe-core finds nothing, the policy forbids nothing of ours, and nothing is wider than a phone.

    Pictures of each are left in build/screenshots.
    """
    urls = [f"https://www.example.com/{'long-' * 20}{n}.js" for n in range(25)]
    done = await submitted(
        console, *urls, "https://elsewhere.example.net/\u00fcber?<script>alert(1)</script>"
    )
    await console.preloads.pause(SITE, reason="<b>the origin</b> moves")
    active = await console.preloads.enqueue(SITE, urls[:5], source="release 7")
    pages = {
        "sites": "/",
        "site": f"/sites/{SITE}",
        "requests": "/requests",
        "request-active": f"/requests/{active.request_id}",
        "request-done": f"/requests/{done.request_id}",
        "failures": f"/failures?site={SITE}",
        "limits": "/limits",
        "explain": f"/explain?site={SITE}",
        "audit": "/audit",
        "enqueue": "/enqueue",
        "problem": "/requests/none",
        "sign-in": "/sign-in",
    }

    def look() -> list[str]:
        sign_in(browser, console.secrets["operator"])
        found: list[str] = []
        for width_px in (DESK_PX, PHONE_PX):
            browser.look(width_px=width_px, scheme=scheme)
            for name, path in pages.items():
                browser.open(path)
                expected = re.compile(r"/requests/none - Failed to load .* 404")
                wrong = [each for each in browser.complaints() if not expected.search(each)]
                if overhang_px := browser.overhang_px():
                    wrong.append(f"{overhang_px} px wider than the screen")
                found += [f"{name} at {width_px} px: {each}" for each in (*wrong, *browser.barriers())]
                browser.picture(f"{name}-{width_px}-{scheme}")
        browser.open("/")
        assert browser.find("#chart canvas").is_displayed()
        return found

    assert await asyncio.to_thread(look) == []
