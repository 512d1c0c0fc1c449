"""Where the access key comes from: two variables or files, or Alibaba's chain of providers."""

from __future__ import annotations

import asyncio
import importlib
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from esa_preload_worker.esa.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEY_ID = "ALIBABA_CLOUD_ACCESS_KEY_ID"
KEY_SECRET = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"  # noqa: S105 - the variable's name
TOKEN = "ALIBABA_CLOUD_SECURITY_TOKEN"  # noqa: S105 - the variable's name

CHAIN_INTERVAL_S = 30.0
"""The chain is asked this often at most; it renews a token 15 minutes before its end."""
CHAIN_RETRY_S = 5.0
"""After a failure it is asked again so soon."""
CHAIN_TIMEOUT_S = 5.0
FILE_CHECK_INTERVAL_S = 1.0
FILE_MAX_BYTES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An access key, and with a role its session token; only the id may be shown."""

    access_key_id: str
    access_key_secret: str = field(repr=False)
    security_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        parts = (self.access_key_id, self.access_key_secret, self.security_token or "-")
        if not all(part.isascii() and part.isprintable() and " " not in part and part for part in parts):
            raise _no_credentials("an access key or token is empty or holds characters that none has")


class CredentialSource(Protocol):
    """
    Gives the credential to sign the next call with.

    Both methods may be called by many tasks at once, are bounded in time, and raise only ``BlockedError`` (scope
    account, code ``no_credentials``).
    """

    async def get(self) -> Credential:
        """Return the current credential; cheap, called before every call."""
        ...

    async def refresh(self) -> Credential:
        """Fetch anew, because ESA refused the current one, and return what is current then."""
        ...


class StaticCredentials:
    """
    Credentials from values, or from files that are read again when they change.

    Args:
        values: by variable name: ``ALIBABA_CLOUD_ACCESS_KEY_ID``, ``…_SECRET``, ``ALIBABA_CLOUD_SECURITY_TOKEN``, and
            each with ``_FILE`` for a path.
        clock: seconds, monotonic.
    """

    def __init__(self, values: Mapping[str, str], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._values = {
            name: values[name]
            for key in (KEY_ID, KEY_SECRET, TOKEN)
            for name in (key, f"{key}_FILE")
            if values.get(name)
        }
        self._clock = clock
        self._credential: Credential | None = None
        self._seen: tuple[tuple[int, int, int], ...] = ()
        self._checked_at = 0.0

    def __repr__(self) -> str:
        return f"<StaticCredentials from {', '.join(sorted(self._values)) or 'nothing'}>"

    async def get(self) -> Credential:
        """Return the credential; looks at the files at most once a second."""
        if self._credential is not None and self._clock() - self._checked_at < FILE_CHECK_INTERVAL_S:
            return self._credential
        return self._check(force=False)

    async def refresh(self) -> Credential:
        """Read the files again."""
        return self._check(force=True)

    def _check(self, *, force: bool) -> Credential:
        seen = tuple(_version_of(path) for name, path in self._values.items() if name.endswith("_FILE"))
        self._checked_at = self._clock()
        if force or self._credential is None or seen != self._seen:
            try:
                self._credential = Credential(
                    access_key_id=self._read(KEY_ID),
                    access_key_secret=self._read(KEY_SECRET),
                    security_token=self._read(TOKEN, required=False),
                )
            except BlockedError:
                # A file that is being replaced may be away or empty for a moment: look again at the next check.
                if self._credential is None:
                    raise
                return self._credential
            self._seen = seen
        return self._credential

    def _read(self, key: str, *, required: bool = True) -> str:
        value, path = self._values.get(key), self._values.get(f"{key}_FILE")
        if value and path:
            raise _no_credentials(f"{key} and {key}_FILE are both set: keep one")
        if path:
            value = _read_file(path)
        if required and not value:
            raise _no_credentials(f"{key} is not set, or its file is empty")
        return (value or "").strip()


class ChainCredentials:
    """
    Credentials from Alibaba's default chain: OIDC on ACK, CLI profile, profile file, ECS role, URI.

    The library blocks, and its own asynchronous refresh holds a thread lock over an await, so it is asked in a thread:
    one at a time, every 30 s at most. Callers meanwhile get the credential there is, and a stale one beats none: ESA
    decides whether it still holds. The library reads the process's environment once, when it is imported.

    Args:
        connect: makes a chain that remembers no session, and returns what asks it; both block.
        clock: seconds, monotonic.
        timeout_s: how long a caller waits for it.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], Callable[[], Credential]] | None = None,
        clock: Callable[[], float] = time.monotonic,
        timeout_s: float = CHAIN_TIMEOUT_S,
    ) -> None:
        self._connect = connect or connect_default_chain
        self._clock = clock
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()
        self._fetch: Callable[[], Credential] | None = None
        self._running: asyncio.Future[Credential] | None = None
        self._credential: Credential | None = None
        self._failure = ""
        self._asked_at = self._rebuilt_at = -math.inf

    def __repr__(self) -> str:
        return f"<ChainCredentials {'with' if self._credential else 'without'} a credential>"

    async def get(self) -> Credential:
        """Return the credential, asking the chain when the last answer is 30 s old."""
        if self._credential is not None and (self._is_fresh() or self._lock.locked()):
            return self._credential
        async with self._lock:
            if not self._is_fresh():
                await self._ask()
            return self._current()

    async def refresh(self) -> Credential:
        """Ask a new chain, unless that was done within the last 30 s."""
        async with self._lock:
            if self._clock() - self._rebuilt_at >= CHAIN_INTERVAL_S:
                self._fetch = None
                await self._ask()
            return self._current()

    def _is_fresh(self) -> bool:
        interval_s = CHAIN_RETRY_S if self._failure else CHAIN_INTERVAL_S
        return self._clock() - self._asked_at < interval_s

    def _current(self) -> Credential:
        if self._credential is None:
            raise _no_credentials(self._failure)
        return self._credential

    async def _ask(self) -> None:
        """Ask the chain; keeps the credential there is when it fails."""
        # A thread cannot be stopped: one that outlived its caller is waited for again, never doubled.
        if self._running is None or self._running.done():
            self._running = asyncio.ensure_future(asyncio.to_thread(self._ask_blocking))
            self._running.add_done_callback(_retrieve)
        try:
            async with asyncio.timeout(self._timeout_s):
                self._credential = await asyncio.shield(self._running)
            self._failure = ""
        except TimeoutError:
            self._failure = "the chain of providers did not answer in time"
        except BlockedError as exc:
            self._failure = str(exc)
        self._asked_at = self._clock()

    def _ask_blocking(self) -> Credential:
        try:
            if self._fetch is None:
                self._fetch = self._connect()
                self._rebuilt_at = self._clock()
            return self._fetch()
        except BlockedError:
            raise
        except Exception as exc:  # noqa: BLE001 - the chain raises whatever its providers raise
            # Its text is left out: it may quote an answer of the metadata server or of STS.
            raise _no_credentials(f"the chain of providers found none ({type(exc).__name__})") from None


def credentials_from_env(environ: Mapping[str, str]) -> CredentialSource:
    """
    Return the source that *environ* asks for: the access key variables if one is set, else the chain.

    Never raises: what is missing is said by the first ``get``.
    """
    if any(environ.get(name) for key in (KEY_ID, KEY_SECRET) for name in (key, f"{key}_FILE")):
        return StaticCredentials(environ)
    return ChainCredentials()


def connect_default_chain() -> Callable[[], Credential]:
    """Return a function that asks a new default chain; both block. Silences the library's own log handlers."""
    # Imported late: it takes a tenth of a second, and most deployments never need it.
    library = importlib.import_module("alibabacloud_credentials.client")
    for name in ("credentials", "darabonba-core"):
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False
    client = library.Client()

    def fetch() -> Credential:
        model = client.get_credential()
        return Credential(
            access_key_id=str(model.access_key_id or ""),
            access_key_secret=str(model.access_key_secret or ""),
            security_token=str(model.security_token or ""),
        )

    return fetch


def _version_of(path: str) -> tuple[int, int, int]:
    try:
        stat = Path(path).stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino)


def _read_file(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(FILE_MAX_BYTES)
        return content.decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "not ASCII"
        raise _no_credentials(f"{path} cannot be read: {reason}") from None


def _retrieve(future: asyncio.Future[Credential]) -> None:
    """Take the exception of a fetch that nobody waits for any more."""
    if not future.cancelled():
        future.exception()


def _no_credentials(why: str) -> BlockedError:
    return BlockedError(
        why if why.startswith("no usable credentials") else f"no usable credentials: {why}",
        scope="account",
        code="no_credentials",
        hint=f"set {KEY_ID} and {KEY_SECRET} (or both with _FILE), or give this host or pod a RAM role",
    )
