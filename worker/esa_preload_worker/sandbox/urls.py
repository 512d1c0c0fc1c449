"""Which lines of a list ESA would accept, and why not the others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

RefusalKind = Literal["InvalidUrl", "InvalidDomain", "QuotaExcess", "OtherErrors"]

# Visible ASCII only: ESA asks for everything else to be percent-encoded.
_URL = re.compile(
    r"https?://((?:[a-z0-9_-]+\.)*[a-z0-9_-]+)(?::[0-9]{1,5})?(?:[/?#][!-~]*)?", re.ASCII | re.IGNORECASE
)

# The same over a whole list in lower case, in half the time; hosts are looked at once each, afterwards.
_LINES = re.compile(r"^https?://([a-z0-9._-]+)(?::[0-9]{1,5})?(?:[/?#][!-~]*)?$", re.ASCII | re.MULTILINE)
_HOST = re.compile(r"(?:[a-z0-9_-]+\.)*[a-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A line that was not accepted; ``line`` counts from 0."""

    line: int
    url: str
    kind: RefusalKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """
    A list after the check.

    Attributes:
        url_count: its lines, empty ones included.
        domains: the distinct hosts of the well-formed URLs, in order of appearance.
        refused: in order of lines.
    """

    url_count: int
    domains: tuple[str, ...]
    refused: tuple[Refusal, ...]


def examine(text: str, *, owned: Sequence[str], quota_left: int | None, is_all_or_nothing: bool) -> Examined:
    r"""
    Check a list of one URL a line.

    Lines are separated by ``\n`` and by nothing else, and every line counts: an empty one, or one that ends in
    ``\r``, is an invalid URL.

    Args:
        owned: the site's domains, lower case; a subdomain is owned too. Empty: every domain is.
        quota_left: URLs the site may still submit; ``None``: any number.
        is_all_or_nothing: a list over the quota is refused whole.
    """
    url_count = text.count("\n") + 1
    refused: dict[int, Refusal] = {}
    hosts: list[str] = _LINES.findall(text.lower()) if text.isascii() else []
    domains = dict.fromkeys(hosts)
    if len(hosts) != url_count or not all(
        _HOST.fullmatch(host) and _is_owned(host, owned) for host in domains
    ):
        refused, domains = _refuse_lines(text, owned)
    accepted = url_count - len(refused)
    if quota_left is not None and accepted > quota_left:
        _refuse_excess(text, refused, 0 if is_all_or_nothing else quota_left)
    return Examined(
        url_count=url_count,
        domains=tuple(domains),
        refused=tuple(refused[line] for line in sorted(refused)),
    )


def accepted_urls(text: str, refused: Sequence[Refusal]) -> list[str]:
    """Return the lines of *text* that were not *refused*, in order."""
    lines = text.split("\n")
    if not refused:
        return lines
    out = {refusal.line for refusal in refused}
    return [url for line, url in enumerate(lines) if line not in out]


def _refuse_lines(text: str, owned: Sequence[str]) -> tuple[dict[int, Refusal], dict[str, None]]:
    refused: dict[int, Refusal] = {}
    domains: dict[str, None] = {}
    for line, url in enumerate(text.split("\n")):
        match = _URL.fullmatch(url)
        if match is None:
            refused[line] = Refusal(line, url, "InvalidUrl")
            continue
        host = match[1].lower()
        domains[host] = None
        if not _is_owned(host, owned):
            refused[line] = Refusal(line, url, "InvalidDomain")
    return refused, domains


def _is_owned(host: str, owned: Sequence[str]) -> bool:
    return not owned or any(host == domain or host.endswith("." + domain) for domain in owned)


def _refuse_excess(text: str, refused: dict[int, Refusal], quota: int) -> None:
    for line, url in enumerate(text.split("\n")):
        if line in refused:
            continue
        if quota > 0:
            quota -= 1
        else:
            refused[line] = Refusal(line, url, "QuotaExcess")
