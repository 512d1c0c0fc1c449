"""Bearer tokens: a file of their hashes, read again when it changes."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, cast, get_args

from esa_preload.errors import EsaPreloadError, InvalidRequestError, SettingsError, UnsupportedRecordError
from esa_preload.model import parse_site_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Role = Literal["producer", "viewer", "operator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)

VERSION: Final = 1
LOOK_S: Final = 1.0
"""The file is looked at again after this long."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """
    Who asks.

    Attributes:
        name: of the token.
        sites: those that it may see; ``None`` for all.
    """

    name: str
    role: Role
    sites: frozenset[int] | None

    @property
    def actor(self) -> str:
        """What the audit calls it."""
        return f"token:{self.name}"

    def sees(self, site_id: int | None) -> bool:
        """Tell whether a site is its own; ``None``: what concerns the account, and with it every site."""
        return self.sites is None or site_id in self.sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A line of the file; the secret itself is nowhere."""

    name: str
    role: Role
    sites: frozenset[int] | None
    sha256: str
    created_at: datetime
    expires_at: datetime | None = None

    def principal(self) -> Principal:
        """Return who asks with this token."""
        return Principal(name=self.name, role=self.role, sites=self.sites)

    def document(self) -> dict[str, Any]:
        """Return what the file holds of it."""
        return {
            "name": self.name,
            "role": self.role,
            "sites": "*" if self.sites is None else sorted(self.sites),
            "sha256": self.sha256,
            "created_at": self.created_at.isoformat(),
            "expires_at": self.expires_at and self.expires_at.isoformat(),
        }


class Tokens:
    """
    The tokens of a file, as they are now.

    A file that changes is read again within ``LOOK_S``. One that cannot be read any more leaves the tokens as they were.

    Args:
        on_change: told when the file was read again: how many tokens it has now, or the error.

    Raises:
        SettingsError: the file cannot be read to begin with.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[int | EsaPreloadError], object] = lambda _: None,
    ) -> None:
        self._path, self._clock, self._on_change = path, clock, on_change
        self._state = _state_of(path)
        self._tokens = read_tokens(path)
        self._looked_at = clock()

    def __repr__(self) -> str:
        return f"<Tokens {len(self._tokens)}>"

    def find(self, secret: str) -> Principal | None:
        """Return who *secret* belongs to, or ``None``; takes as long for a wrong one as for a right one."""
        return self.hashed(digest_of(secret))

    def hashed(self, digest: str) -> Principal | None:
        """Return who the secret of that digest belongs to, as a session keeps it, or ``None`` once it is revoked or has expired."""
        self._look()
        found: Token | None = None
        for token in self._tokens:
            if hmac.compare_digest(token.sha256, digest):
                found = token
        if found is None or (found.expires_at and found.expires_at <= datetime.now(UTC)):
            return None
        return found.principal()

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        state = _state_of(self._path)
        if state == self._state:
            return
        self._state = state
        try:
            self._tokens = read_tokens(self._path)
        except EsaPreloadError as exc:
            self._on_change(exc)
        else:
            self._on_change(len(self._tokens))


def digest_of(secret: str) -> str:
    """Return what the file holds of *secret*: 256 random bits need no salt, and no slow hash."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_tokens(path: Path) -> tuple[Token, ...]:
    """
    Read the file of tokens.

    Raises:
        SettingsError: it cannot be read, or something in it is not what it should be; nothing of it is shown.
        UnsupportedRecordError: a later release wrote it.
    """
    try:
        document = json.loads(path.read_bytes())
    except OSError as exc:
        raise SettingsError(
            f"ESA_PRELOAD_TOKENS_FILE: {path} cannot be read: {exc.strerror}",
            hint="`esa-preload token new` makes it",
        ) from exc
    except (ValueError, RecursionError) as exc:
        raise SettingsError(f"ESA_PRELOAD_TOKENS_FILE: {path} is no JSON") from exc
    try:
        return _parse(document)
    except (KeyError, TypeError, ValueError) as exc:
        raise SettingsError(f"ESA_PRELOAD_TOKENS_FILE: {path} is no file of tokens: {_what(exc)}") from None


def _parse(document: Any) -> tuple[Token, ...]:
    version = document["version"]
    if type(version) is not int or version < 1:
        raise ValueError("version")
    if version > VERSION:
        raise UnsupportedRecordError(
            f"the file of tokens has version {version}, this release reads {VERSION}",
            hint="upgrade this process",
        )
    tokens = tuple(_token(each) for each in cast("list[Any]", document["tokens"]))
    if len({token.name for token in tokens}) != len(tokens):
        raise ValueError("two tokens of one name")
    return tokens


def _token(entry: Any) -> Token:
    sha256 = str(entry["sha256"])
    if not _SHA256.fullmatch(sha256):
        raise ValueError("sha256")
    expires_at = entry.get("expires_at")
    return Token(
        name=parse_name(entry["name"]),
        role=parse_role(entry["role"]),
        sites=parse_sites(entry["sites"]),
        sha256=sha256,
        created_at=_time(entry["created_at"]),
        expires_at=None if expires_at is None else _time(expires_at),
    )


def _time(text: object) -> datetime:
    at = datetime.fromisoformat(str(text))
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at


def _what(error: Exception) -> str:
    return f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)


def parse_name(value: object) -> str:
    """Return *value* as a token's name, or raise InvalidRequestError."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidRequestError("a token's name is 1 to 64 letters, digits or any of . _ -")
    return value


def parse_role(value: object) -> Role:
    """Return *value* as a role, or raise InvalidRequestError."""
    if value not in ROLES:
        raise InvalidRequestError(f"a role is one of {', '.join(ROLES)}")
    return value


def parse_sites(value: object) -> frozenset[int] | None:
    """Return *value*, ``*`` or site ids, as sites, or raise InvalidRequestError."""
    if value in ("*", ["*"], ("*",)):
        return None
    if not isinstance(value, list | tuple) or not value:
        raise InvalidRequestError("sites are site ids, or * for all")
    try:
        return frozenset(parse_site_id(each) for each in cast("Sequence[object]", value))
    except InvalidRequestError as exc:
        raise InvalidRequestError(
            f"sites are site ids, not names, or * alone for all: {exc}",
            hint="`esa-preload sites` lists the ids of those that had a URL, by name; ESA's console has all",
        ) from exc


def _state_of(path: Path) -> tuple[int, ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)
