"""The URL rules under mutations of real URLs: what is accepted is what the page says, and is one line for ever."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import parse_qs, unquote

import ada_url
from hypothesis import example, given
from hypothesis import strategies as st

from esa_preload.urls import UrlRejectedError, normalise, redact
from esa_preload_worker.esa import wire
from fuzz.budget import bounded
from fuzz.url_mutations import PIECES, mutated_urls, real_urls

BEFORE, AFTER = "https://www.example.com/before", "https://www.example.com/after"
VISIBLE = frozenset(map(chr, range(33, 127)))
START = re.compile(r"(?P<start>https?://(?P<authority>[^/?#]*))", re.IGNORECASE)
ESCAPED_LATER = re.compile(r"%(?![0-9A-Fa-f]{2})|[|^`{}\[\]]")

urls = st.one_of(
    mutated_urls(),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join).map("https://".__add__),
    st.lists(st.sampled_from(PIECES), max_size=8).map("".join).map("https://www.example.com/".__add__),
)


def accepted(url: str) -> str | None:
    """Return the normal form, or nothing where the URL is refused."""
    try:
        return normalise(url)
    except UrlRejectedError as exc:
        reason = exc.reason
    assert reason.isprintable()
    assert len(reason) <= 200
    return None


def page_says(url: str) -> str | None:
    """Return what docs/explanation/url-rules.md promises for *url*: its normal form, or nothing where it is refused."""
    if len(url) > 65_536 or "\\" in url or url != url.strip():
        return None
    if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in url):
        return None
    found = START.match(url)
    if found is None or "@" in found["authority"]:
        return None
    host = unquote(re.sub(r":[^:\]]*$", "", found["authority"]))
    port = found["authority"].removeprefix(re.sub(r":[^:\]]*$", "", found["authority"])).removeprefix(":")
    if not host or (port and not (port.isascii() and port.isdigit() and 1 <= int(port[-20:]) <= 65_535)):
        return None
    if any(unicodedata.category(char) == "Cf" and char not in "\u200c\u200d" for char in host):
        return None
    try:
        parsed = ada_url.URL(url)
    except ValueError:
        return None
    labels = parsed.hostname.removesuffix(".").split(".")
    is_known = parsed.hostname.startswith("[") or (
        all(re.fullmatch(r"[a-z0-9_-]{1,63}", label) for label in labels) and len(".".join(labels)) <= 253
    )
    # The fragment goes; the parser leaves "?" where a query is empty.
    whole = parsed.href.partition("#")[0]
    tail = whole.removeprefix(f"{parsed.protocol}//{parsed.host}")
    normal = whole.removesuffix(tail) + ESCAPED_LATER.sub(lambda bad: f"%{ord(bad[0]):02X}", tail)
    return normal if is_known and len(normal) <= 2048 else None


@given(urls)
@bounded()
@example("https://e.com:000000000000000000000443/")
@example("https://e.com:65536/")
def test_what_is_accepted_is_what_the_page_says(url: str) -> None:
    """No URL is accepted, refused or rewritten otherwise than the rules on the page have it."""
    assert accepted(url) == page_says(url)


@given(urls)
@bounded()
def test_a_normal_form_is_one_line_for_ever(url: str) -> None:
    """Visible ASCII, its own normal form, the same to the parser that browsers use, and one line of UrlList between its neighbours."""
    normal = accepted(url)
    if normal is None:
        return
    assert frozenset(normal) <= VISIBLE
    assert normalise(normal) == normal
    assert ada_url.normalize_url(normal) == normal
    request = wire.create_job(site_id=7, name="n", urls=[BEFORE, normal, AFTER])
    [sent] = parse_qs(request.body.decode("ascii"), strict_parsing=True, encoding="utf-8")["UrlList"]
    assert sent.split("\n") == sent.splitlines() == sent.split() == [BEFORE, normal, AFTER]


@given(urls)
@bounded()
def test_nothing_that_could_be_two_lines_is_sent(url: str) -> None:
    """Even without the rules, what is sent is either exactly these lines or nothing: the last guard before the wire."""
    try:
        request = wire.create_job(site_id=7, name="n", urls=[BEFORE, url, AFTER])
    except UnicodeError:
        raise AssertionError("refused by accident, not for what it is") from None
    except ValueError:
        return
    [sent] = parse_qs(request.body.decode("ascii"), strict_parsing=True)["UrlList"]
    assert sent.splitlines() == [BEFORE, url, AFTER]


@given(urls)
@bounded()
def test_a_log_never_sees_a_query(url: str) -> None:
    """What a log may show is one bounded line, without what stands behind the first question mark or hash."""
    shown = redact(url)
    assert shown.isprintable()
    assert len(shown) <= 2048
    assert "?" not in shown
    assert "#" not in shown


def test_real_urls_are_accepted() -> None:
    """Not one of 50,000 URLs of real sites is refused, and each is what the page says."""
    assert [url for url in real_urls() if accepted(url) is None] == []
    assert [url for url in real_urls()[::20] if accepted(url) != page_says(url)] == []
