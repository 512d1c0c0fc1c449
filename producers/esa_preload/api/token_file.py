"""Change the file of tokens: what ``esa-preload token`` does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from esa_preload.api.tokens import (
    VERSION,
    Token,
    digest_of,
    parse_name,
    parse_role,
    parse_sites,
    read_tokens,
)
from esa_preload.errors import InvalidRequestError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

SECRET_PREFIX: Final = "esap_"  # noqa: S105 - by which a scanner of leaked secrets knows one


def new_token(
    path: Path, *, name: str, role: str, sites: Iterable[str], expires_at: datetime | None = None
) -> str:
    """
    Add a token to the file, which is made when it is not there.

    Returns:
        its secret, which is told this once.

    Raises:
        InvalidRequestError: there is a token of that name, or an argument is wrong.
        SettingsError: the file cannot be read or written.
    """
    secret = f"{SECRET_PREFIX}{secrets.token_urlsafe(32)}"
    token = Token(
        name=parse_name(name),
        role=parse_role(role),
        sites=parse_sites(list(sites)),
        sha256=digest_of(secret),
        created_at=datetime.now(UTC).replace(microsecond=0),
        expires_at=expires_at,
    )
    with _changing(path) as tokens:
        if any(each.name == name for each in tokens):
            raise InvalidRequestError(
                f"there is a token {name} already", hint=f"`esa-preload token revoke {name}` ends it"
            )
        tokens.append(token)
    return secret


def revoke_token(path: Path, name: str) -> None:
    """
    Take a token out of the file; servers refuse it within ``LOOK_S``.

    Raises:
        InvalidRequestError: there is no such token.
        SettingsError: the file cannot be read or written.
    """
    with _changing(path) as tokens:
        kept = [token for token in tokens if token.name != name]
        if len(kept) == len(tokens):
            raise InvalidRequestError(f"there is no token {name!r:.80}", hint="see `esa-preload token list`")
        tokens[:] = kept


@contextlib.contextmanager
def _changing(path: Path) -> Generator[list[Token]]:
    """Yield the tokens of the file and write them back, whole or not at all; others who change it wait."""
    try:
        # The directory is locked, since the file itself is replaced.
        directory = os.open(path.absolute().parent, os.O_RDONLY)
    except OSError as exc:
        raise SettingsError(f"{path} cannot be written: {exc.strerror}") from exc
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        tokens = list(read_tokens(path)) if path.exists() else []
        yield tokens
        _write(path, tokens)
    finally:
        os.close(directory)


def _write(path: Path, tokens: Sequence[Token]) -> None:
    document = {"version": VERSION, "tokens": [token.document() for token in tokens]}
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(json.dumps(document, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            _keep_access(draft, path.stat())
        draft.replace(path)
    except OSError as exc:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise SettingsError(f"{path} cannot be written: {exc.strerror}") from exc


def _keep_access(draft: Path, before: os.stat_result) -> None:
    """Let those read it who could before: the server may be another user than who adds a token."""
    draft.chmod(before.st_mode & 0o777)
    with contextlib.suppress(PermissionError):
        os.chown(draft, before.st_uid, before.st_gid)
