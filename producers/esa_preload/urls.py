"""
The URL rules: what may be preloaded, and the one form in which it is queued.

The WHATWG parser that every browser follows *repairs* its input: it drops tabs and line breaks, turns ``\\`` into ``/`` and
finds a host in ``https:host``. A queue must not guess, so whatever would be repaired is refused before it is parsed.

The normal form is an RFC 3986 URI: printable ASCII without blanks, so one URL is always one line of ESA's ``UrlList``.
Browsers leave some characters raw that RFC 3986 does not allow (``| ^ ` { } [ ]`` and a ``%`` that starts no escape); these are
percent-encoded too, because ESA asks for it. Escapes that are there already stay as they were written.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import unquote

import ada_url

from esa_preload.errors import EsaPreloadError

URL_MAX_CHARS: Final = 2048
"""The longest normal form accepted, unless the workers publish another bound."""

INPUT_MAX_CHARS: Final = 65_536
"""Nothing longer is looked at, fragment and dot segments included: it bounds what one bad URL can cost."""

HOST_MAX_CHARS: Final = 253
LABEL_MAX_CHARS: Final = 63
PORT_MAX: Final = 65_535

_PATH = r"A-Za-z0-9\-._~!$&'()*+,;=:@/"
_QUERY = r"A-Za-z0-9\-._~!$&()*+,;=:@/?"  # without the ' that the WHATWG parser encodes in a query
_ESCAPE = "%[0-9A-Fa-f]{2}"

# Proves that a URL is its own normal form, so that the parser need not be asked, which takes four times as long. It may
# only err towards asking: labels in Punycode, a last label that could be a number, ports, and path segments that start with
# an escape or a dot (looked for beside the pattern) are left to the parser.
_is_normal = re.compile(
    rf"https?://(?![^/]{{{HOST_MAX_CHARS + 1}}})(?:(?!xn--)[a-z0-9_-]{{1,63}}\.)*+(?!xn--)[a-z][a-z0-9_-]{{0,62}}"
    rf"/[{_PATH}]*+(?:(?<!/){_ESCAPE}[{_PATH}]*+)*+"
    rf"(?:\?[{_QUERY}]*+(?:{_ESCAPE}[{_QUERY}]*+)*+)?"
).fullmatch

_find_repaired = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\\\\]").search
_match_start = re.compile(r"[Hh][Tt][Tt][Pp][Ss]?:(//)?([^/?#]*)").match
_find_unescaped = re.compile(rf"%(?![0-9A-Fa-f]{{2}})|[^%?{_PATH}]").sub
_match_result = re.compile(
    rf"https?://(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::[1-9][0-9]{{0,4}})?"
    rf"/[{_PATH}]*+(?:{_ESCAPE}[{_PATH}]*+)*+(?:\?[{_QUERY}]*+(?:{_ESCAPE}[{_QUERY}]*+)*+)?"
).fullmatch
_drop_credentials = re.compile(r"^((?:[^/\\@]*[/\\]++)?)[^/\\]*@").sub

_LINE_BREAKS = frozenset("\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029")
# Zero-width joiners belong to names in several scripts; the parser checks where they may stand.
_JOINERS = frozenset("\u200c\u200d")


class UrlRejectedError(EsaPreloadError, ValueError):
    """
    A URL breaks a rule; it alone is left out, its neighbours go on.

    Attributes:
        reason: one short sentence, safe for a terminal and a log: it quotes nothing of the URL.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def normalise(url: object, *, url_max_chars: int = URL_MAX_CHARS) -> str:
    """
    Return the normal form of *url*: what is queued, compared and sent.

    Scheme and host in lower case, the host in ASCII (IDNA), default port and fragment dropped, dot segments resolved,
    everything that RFC 3986 does not allow percent-encoded as UTF-8. The normal form of a normal form is itself.

    Refused rather than repaired: schemes other than http and https, an authority that is not written out, credentials,
    control characters, line breaks of any kind, backslashes, lone surrogates, blanks at either end, invisible characters
    in the host, and hosts that no name server can know. Invisible characters elsewhere are percent-encoded.

    Args:
        url: the URL, without anything around it. Anything but a ``str`` is refused.
        url_max_chars: bound of the normal form; more than ``INPUT_MAX_CHARS`` has no effect.

    Raises:
        UrlRejectedError: a rule is broken. Nothing else is ever raised.
    """
    if (
        type(url) is str
        and len(url) <= url_max_chars
        and _is_normal(url)
        and "/." not in url
        and len(url) <= INPUT_MAX_CHARS
    ):
        return url
    return _parse(url, url_max_chars)


def redact(url: str) -> str:
    """Return *url* as a log may show it: printable, bounded, without query, fragment and credentials, which may be secret."""
    return printable(_drop_credentials(r"\1", re.split(r"[?#]", url, maxsplit=1)[0], count=1))


def printable(text: str, max_chars: int = URL_MAX_CHARS) -> str:
    """Return *text* on one line with nothing that moves a cursor, cut to *max_chars*; printable text stays as it is."""
    if len(text) <= max_chars and text.isprintable():
        return text
    escaped = "".join(char if char.isprintable() else _escape(ord(char)) for char in text[: max_chars + 1])
    return escaped if len(escaped) <= max_chars else escaped[: max_chars - 1] + "…"


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as the line reader hands it on
        return f"\\x{code - 0xDC00:02x}"
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _parse(url: object, url_max_chars: int) -> str:
    text = _require_plain_text(url)
    host = _require_authority(text)
    try:
        href = ada_url.normalize_url(text)
    except ValueError:
        raise UrlRejectedError("the host is not a valid host name or address") from None
    normal = _encode_leftovers(href.partition("#")[0])
    _require_known_to_dns(normal)
    if len(normal) > url_max_chars:
        raise UrlRejectedError(
            f"the URL is {len(normal)} characters long once encoded, more than the {url_max_chars} allowed"
        )
    # IDNA is the one step whose result is taken on trust: parse what it made once more.
    if (not host.isascii() or "xn--" in normal) and not _is_stable(normal):
        raise UrlRejectedError("the host is not a valid host name or address")
    return normal


def _require_plain_text(url: object) -> str:
    if not isinstance(url, str):
        raise UrlRejectedError(f"a URL must be a str, not {printable(type(url).__name__, 100)}")
    text = str.__str__(url)  # a subclass may compare and print as it likes
    if len(text) > INPUT_MAX_CHARS:
        raise UrlRejectedError(f"the URL is longer than {INPUT_MAX_CHARS} characters")
    if found := _find_repaired(text):
        raise UrlRejectedError(_name_character(found[0]))
    if len(stripped := text.strip()) < len(text):
        raise UrlRejectedError("the URL has blanks at its start or end" if stripped else "the URL is empty")
    return text


def _name_character(char: str) -> str:
    code = ord(char)
    if char == "\\":
        return "the URL has a backslash where a URL has slashes"
    if 0xDC80 <= code <= 0xDCFF:
        return f"the URL has the byte 0x{code - 0xDC00:02x}, which is not valid UTF-8"
    if 0xD800 <= code <= 0xDFFF:
        return f"the URL has a lone surrogate (U+{code:04X})"
    return f"the URL has a {'line break' if char in _LINE_BREAKS else 'control character'} (U+{code:04X})"


def _require_authority(url: str) -> str:
    start = _match_start(url)
    if start is None:
        if not url:
            raise UrlRejectedError("the URL is empty")
        raise UrlRejectedError("the URL must start with http:// or https://")
    slashes, authority = start.groups()
    if slashes is None:
        raise UrlRejectedError("the URL must have // and a host after its scheme")
    if "@" in authority:
        raise UrlRejectedError("the URL must not carry credentials (user:password@)")
    host, port = _split_port(authority)
    if not host:
        raise UrlRejectedError("the URL has no host")
    digits = port.lstrip("0")
    if port and not (
        port.isascii() and port.isdigit() and len(digits) <= 5 and 1 <= int(digits or "0") <= PORT_MAX
    ):
        raise UrlRejectedError(f"the port must be a number from 1 to {PORT_MAX}")
    # A host may be percent-encoded, so look at what it stands for. The parser would drop these without a word.
    shown = unquote(host) if "%" in host else host
    if not shown.isascii() and any(
        unicodedata.category(char) == "Cf" and char not in _JOINERS for char in shown
    ):
        raise UrlRejectedError("the host has an invisible character")
    return shown


def _split_port(authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        address, bracket, port = authority.partition("]")
        return address + bracket, port.removeprefix(":")
    host, _, port = authority.partition(":")
    return host, port


def _encode_leftovers(href: str) -> str:
    path_at = href.index("/", len("https://"))
    return href[:path_at] + _find_unescaped(lambda found: f"%{ord(found[0]):02X}", href[path_at:])


def _require_known_to_dns(normal: str) -> None:
    result = _match_result(normal)
    if result is None:
        raise UrlRejectedError("the host has a character that no host name has")
    host = result[1].removesuffix(".")
    if len(host) > HOST_MAX_CHARS:
        raise UrlRejectedError(f"the host is longer than {HOST_MAX_CHARS} characters")
    if not all(1 <= len(label) <= LABEL_MAX_CHARS for label in host.split(".")):
        raise UrlRejectedError(
            f"the host has a part between dots that is empty or longer than {LABEL_MAX_CHARS} characters"
        )


def _is_stable(normal: str) -> bool:
    try:
        return ada_url.normalize_url(normal) == normal
    except ValueError:
        return False
