"""Names of sites: as they are compared, and what to say of one that is not known. No I/O."""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from esa_preload.errors import InvalidRequestError, UnknownSiteError
from esa_preload.reasons import counted

NAME_MAX_CHARS = 253
"""Of a domain."""
CLOSE, CLOSE_MOST = 0.75, 3
"""So like it, of 1, is a name that may have been meant; as many are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNames:
    """The names on record; ``age_s``: since the workers listed them, ``None`` when they never did. ``workers`` that are alive."""

    names: tuple[str, ...]
    age_s: float | None
    workers: int


def normal_name(text: str) -> str:
    """Return a site's name as it is compared, or the empty string for what is none, such as a number."""
    name = text.strip().lower().removesuffix(".")
    is_name = 0 < len(name) <= NAME_MAX_CHARS and name.isprintable() and not name.isdecimal()
    return name if is_name and " " not in name else ""


def parse_site_name(value: str) -> str:
    """
    Return *value* as names are compared.

    Raises:
        InvalidRequestError: it is none.
    """
    name = normal_name(value)
    if not name:
        raise InvalidRequestError(f"{value!r} is neither the id nor the name of a site")
    return name


def unknown_name(name: str, known: KnownNames) -> UnknownSiteError:
    """Return the error for a *name* that is not on record: what is like it, and when it may be known."""
    if not known.workers:
        soon = "no worker is alive: start `esa-preload-worker run`, which lists them, or give the site's id"
    elif known.age_s is None:
        soon = "the workers have not listed the account's sites yet: try again in a minute, or give the site's id (see `esa-preload-worker check`)"
    else:
        soon = "if it is new, try again in a minute, or give its id"
    close = difflib.get_close_matches(name, known.names, n=CLOSE_MOST, cutoff=CLOSE)
    hints = [f"did you mean {' or '.join(close)}?"] if close else []
    if known.age_s is not None:
        minutes = counted(round(known.age_s / 60), "minute")
        hints.append(f"the list of sites is {minutes} old")
    return UnknownSiteError(f"no site is named {name}", hint="; ".join([*hints, soon]))
