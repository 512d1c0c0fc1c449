"""Somebody at a browser without JavaScript: keeps cookies, follows where forms lead, and sends the fields that a page has."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import httpx

from esa_preload.api.app import create_app
from esa_preload.api.settings import load
from esa_preload.api.tokens import Tokens

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from esa_preload.client import PreloadClient

NAMESPACE = "t"
SITE = 190007158391808
OTHER_SITE = 190007158391809

PAGES = (
    "/",
    "/?q=nobody",
    f"/sites/{SITE}",
    "/requests",
    f"/requests?site={SITE}&state=active",
    "/requests/theirs",
    "/requests/theirs?urls=pending",
    "/failures",
    f"/failures?site={SITE}",
    "/limits",
    "/explain",
    "/explain?request_id=theirs",
    f"/explain?site={SITE}&url=https://www.example.com/0.js",
    "/audit",
    f"/audit?site={SITE}",
)
"""Every page that everybody may see."""


@dataclass(frozen=True, slots=True)
class Served:
    """A console, and whom it knows."""

    app: Any
    secrets: Mapping[str, str]

    def visitor(self, address: str = "http://console.example") -> Visitor:
        """Return somebody whom it does not know yet."""
        transport = httpx.ASGITransport(app=self.app)
        return Visitor(httpx.AsyncClient(transport=transport, base_url=address, follow_redirects=True))

    async def signed_in(
        self, name: str, address: str = "http://console.example", *, code: int = 200
    ) -> Visitor:
        """Return somebody with the token of that name, whose first page has the status *code*."""
        visitor = self.visitor(address)
        page = await visitor.get("/")
        answer = await visitor.post("/sign-in", page, token=self.secrets[name])
        assert answer.status_code == code, answer.text
        return visitor


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks."""

    client: httpx.AsyncClient

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """Return a page."""
        return await self.client.get(path, headers=_named(headers))

    async def post(
        self, path: str, page: httpx.Response, headers: Mapping[str, str] | None = None, /, **fields: str
    ) -> httpx.Response:
        """Send a form of *page*, as far as its secret goes, and return the page that it leads to."""
        return await self.client.post(path, data={"csrf": secret_of(page), **fields}, headers=headers)


def _named(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}


def secret_of(page: httpx.Response) -> str:
    """Return the secret of the forms of *page*."""
    found = re.search(r'name="csrf" value="([^"]+)"', page.text)
    assert found, page.text
    return found[1]


def actions_of(page: httpx.Response) -> set[str]:
    """Return where the forms of *page* are posted to."""
    reader = _Forms()
    reader.feed(page.text)
    return reader.actions


def text_of(page: httpx.Response) -> str:
    """Return what can be read on *page*."""
    reader = _Text()
    reader.feed(page.text)
    return " ".join(" ".join(reader.parts).split())


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.actions: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "form" and found.get("method") == "post":
            self.actions.add(found.get("action") or "")


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)


def served(
    preloads: PreloadClient, *, secrets: Mapping[str, str] | None = None, tokens_file: Path | None = None
) -> Served:
    """Return a console over *preloads*; without a file of tokens it serves this machine only."""
    settings = load(
        {
            "ESA_PRELOAD_REDIS_URL": "redis://127.0.0.1:1",
            "ESA_PRELOAD_NAMESPACE": NAMESPACE,
            "ESA_PRELOAD_HTTP_SESSION_KEY": "k" * 32,
        }
    ).settings
    tokens = Tokens(tokens_file) if tokens_file else None
    return Served(create_app(preloads, settings=settings, tokens=tokens), secrets or {})
