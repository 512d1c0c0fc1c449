"""Decide from where the list of refused URLs may be read, and read its lines."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from esa_preload.addresses import is_loopback
from esa_preload_worker.esa.errors import FailedFileError
from esa_preload_worker.esa.model import RefusedUrl
from esa_preload_worker.esa.text import loggable

if TYPE_CHECKING:
    from collections.abc import Collection, Set

MAX_BYTES = 8 * 1024 * 1024
LINES_MAX = 100_001
LINE_BYTES = 400
"""A list of ours may have a million URLs in 10 MB: twice as many lines as were sent, and so many bytes for each, if that is more."""
URL_MAX_CHARS = 8192
"""No URL of a batch is longer, whatever the settings."""
REASON_MAX_CHARS = 200

# No userinfo, no trailing dot, no empty label, no Punycode, no odd character: nothing that two parsers could read differently.
_LABEL = r"(?!xn--)[a-z0-9_-]{1,63}"
_NETLOC = re.compile(rf"(?P<host>{_LABEL}(?:\.{_LABEL})*|\[[0-9a-f:]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_URL_CHARS = re.compile(rf"[!-\[\]-~]{{1,{URL_MAX_CHARS}}}")
_KNOWN_REASON = re.compile(
    r"(?P<url>\S+?),\s*(?P<reason>(?:InvalidUrl|InvalidDomain|QuotaExcess|OtherErrors|invalid|quota|other)\b.*)",
    re.IGNORECASE,
)
_SEPARATOR = re.compile(r",?\s+|,")
_SEPARATES = re.compile(r"[,\s]")


def max_bytes(sent: int) -> int:
    """Return how long the list may be when so many URLs were sent."""
    return max(MAX_BYTES, LINE_BYTES * sent)


def check_source(url: str, *, allow_loopback: bool, allow_any: bool) -> None:
    """
    Check that the list may be read from *url*: https and below ``aliyuncs.com``.

    Args:
        allow_loopback: the endpoint itself is loopback, so http and this machine will do.
        allow_any: an operator allowed every http and https address.

    Raises:
        FailedFileError: it may not.
    """
    # The message does not show the URL: its query may hold a signature.
    if not _URL_CHARS.fullmatch(url):
        raise FailedFileError("the list's address is no URL")
    try:
        parts = urlsplit(url)
        place = _NETLOC.fullmatch(parts.netloc.lower())
    except ValueError:
        raise FailedFileError("the list's address is no URL") from None
    if place is None or parts.scheme not in ("http", "https") or not 0 < int(place["port"] or 443) < 65536:
        raise FailedFileError("the list's address is no plain http or https URL")
    if allow_any or (allow_loopback and is_loopback(place["host"])):
        return
    if (
        parts.scheme != "https"
        or place["port"] not in (None, "443")
        or not place["host"].endswith(".aliyuncs.com")
    ):
        raise FailedFileError("the list is not at https://*.aliyuncs.com")


def parse_failed_file(content: bytes, *, among: Collection[str] = ()) -> tuple[RefusedUrl, ...]:
    """
    Read the lines of the list: a URL each, and after white space or a comma perhaps the reason.

    Args:
        among: the URLs of the batch. A comma may belong to a URL: where it does is decided by which one was sent.

    Raises:
        FailedFileError: it is not text, too long, or a line is neither an http nor https URL nor one of *among*.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FailedFileError("the list is not UTF-8 text") from None
    # Not splitlines(): that would also cut at characters which may stand in a reason.
    most = max(LINES_MAX, 2 * len(among))
    lines = text.replace("\r", "\n").split("\n", most)
    if len(lines) > most:
        raise FailedFileError("the list has too many lines")
    sent = frozenset(among)
    lengths = frozenset(map(len, sent))
    longest = max(lengths, default=0)
    return tuple(_parse_line(line, sent, lengths, longest) for line in map(str.strip, lines) if line)


def _parse_line(line: str, sent: Set[str], lengths: Set[int], longest: int) -> RefusedUrl:
    url, reason = _split(line, sent, lengths, longest)
    if url not in sent and not (
        url.startswith(("http://", "https://")) and url.isprintable() and len(url) <= URL_MAX_CHARS
    ):
        raise FailedFileError("a line of the list is no URL")
    return RefusedUrl(url=url, reason=loggable(reason, REASON_MAX_CHARS).strip(" ,"))


def _split(line: str, sent: Set[str], lengths: Set[int], longest: int) -> tuple[str, str]:
    if line in sent:
        return line, ""
    # The longest URL is the one that was meant. By the lengths too: a line may be nothing but separators.
    ends = [found.start() for found in _SEPARATES.finditer(line, 0, longest + 1)]
    for end in reversed(ends):
        separator = _SEPARATOR.match(line, end) if end in lengths else None
        if separator and line[:end] in sent:
            return line[:end], line[separator.end() :]
    if known := _KNOWN_REASON.fullmatch(line):
        return known["url"], known["reason"]
    url, *reason = line.split(None, 1)
    return (url.removesuffix(","), reason[0]) if reason else (url, "")
