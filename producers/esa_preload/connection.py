"""From a URL to a Redis client with the timeouts that a queue needs."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from esa_preload.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from urllib.parse import SplitResult

SCHEMES = "redis://, rediss://, unix://, redis+sentinel://, or embedded[:DIR]"
SOCKET_NAME = "valkey.sock"
_DATABASE = re.compile(r"/?\d{0,5}")
_UNKNOWN_PARAMETER = re.compile(r"unexpected keyword argument ('\w{1,64}')")
_SUN_PATH_MAX = 107
"""Bytes that the path of a Unix socket may have on Linux."""

RETRIED_ERRORS = [RedisConnectionError, RedisTimeoutError, OSError]


def embedded_directory(redis_url: str) -> Path | None:
    """Return the directory of an ``embedded[:DIR]`` URL, or ``None`` for any other."""
    if redis_url != "embedded" and not redis_url.startswith("embedded:"):
        return None
    _, _, directory = redis_url.partition(":")
    if directory:
        return Path(directory).expanduser().absolute()
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser().absolute() / "esa-preload"


def embedded_socket(directory: Path) -> Path:
    """
    Return the socket of the embedded Valkey of *directory*.

    Raises:
        SettingsError: the path is longer than a Unix socket may have.
    """
    socket = directory / SOCKET_NAME
    if len(os.fsencode(socket)) > _SUN_PATH_MAX:
        raise SettingsError(
            f"ESA_PRELOAD_REDIS_URL: {socket} is too long for a socket; choose a shorter directory"
        )
    return socket


def client_options(*, retries: int = 2) -> dict[str, Any]:
    """
    Return the options of every client: bounded waits, keep-alive, few and short retries of whole commands.

    No health checks: redis-py 5 recurses without end when one meets a server that wants a password.
    """
    return {
        "socket_connect_timeout": 3.0,
        "socket_timeout": 10.0,
        "socket_keepalive": True,
        "retry": Retry(ExponentialWithJitterBackoff(base=0.05, cap=0.5), retries),
        "retry_on_error": list(RETRIED_ERRORS),
        "encoding": "utf-8",
    }


def connect(
    redis_url: str, *, redis_class: type[Redis] = Redis, options: Mapping[str, Any] | None = None
) -> Redis:
    """
    Return a client for *redis_url*; connects when first used.

    Args:
        redis_url: ``redis://``, ``rediss://``, ``unix://``, ``redis+sentinel://[user:password@]host[:port][,host…]/service[/db]``
            or ``embedded[:DIR]`` (the socket of the Valkey that a worker runs in DIR).
        redis_class: a subclass of ``redis.asyncio.Redis``.
        options: overrides of :func:`client_options`.

    Raises:
        SettingsError: the URL is of none of these forms.
    """
    kwargs = {**client_options(), **(options or {})}
    directory = embedded_directory(redis_url)
    try:
        if directory is not None:
            return redis_class(unix_socket_path=str(embedded_socket(directory)), **kwargs)
        parts = _parse(redis_url)
        if parts.scheme == "redis+sentinel":
            return _connect_sentinel(parts, redis_class, kwargs)
        if parts.scheme in ("redis", "rediss") and not parts.hostname:
            raise ValueError("no host")
        if parts.scheme == "unix":
            del kwargs["socket_keepalive"]  # a socket on this machine has none
        if parts.scheme in ("redis", "rediss", "unix"):
            return _connect_url(redis_url, parts, redis_class, kwargs)
    except ValueError as exc:
        # Not the URL itself: it may hold a password.
        raise SettingsError(f"ESA_PRELOAD_REDIS_URL cannot be read ({exc}); it is one of {SCHEMES}") from None
    raise SettingsError(f"ESA_PRELOAD_REDIS_URL must be one of {SCHEMES}")


def _parse(redis_url: str) -> SplitResult:
    try:
        parts = urlsplit(redis_url)
        _ = parts.scheme == "redis+sentinel" or parts.port
    except ValueError:
        # The reason may quote a piece of the password: one with a # or a / in it ends the address early.
        raise ValueError("host or port; percent-encode what is special in the password") from None
    return parts


def _connect_url(
    redis_url: str, parts: SplitResult, redis_class: type[Redis], kwargs: dict[str, Any]
) -> Redis:
    if parts.scheme == "unix" and not parts.path:
        raise ValueError("no path of a socket")
    if parts.scheme != "unix" and not _DATABASE.fullmatch(parts.path):
        raise ValueError("the path is the number of a database")
    client: Redis = cast("Any", redis_class).from_url(redis_url, **kwargs)
    try:
        cast(
            "Any", client.connection_pool
        ).make_connection()  # connects nowhere: it only takes its parameters
    except TypeError as exc:
        unknown = _UNKNOWN_PARAMETER.search(str(exc))
        raise ValueError(f"unknown parameter {unknown[1] if unknown else ''}".rstrip()) from None
    return client


def _connect_sentinel(parts: SplitResult, redis_class: type[Redis], kwargs: dict[str, Any]) -> Redis:
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise ValueError("hosts and the name of the service are needed")
    addresses: list[tuple[str, int]] = []
    for host in hosts.split(","):
        name, _, port = host.rpartition(":") if ":" in host else (host, "", "26379")
        addresses.append((name, int(port)))
    query = parse_qs(parts.query)
    username, _, password = credentials.partition(":")
    auth: dict[str, Any] = {"username": unquote(username) or None, "password": unquote(password) or None}
    sentinel_auth = {
        key.removeprefix("sentinel_"): values[0]
        for key, values in query.items()
        if key.startswith("sentinel_")
    }
    tls = {"ssl": query.get("tls", ["0"])[0] in ("1", "true")}
    timeouts = {"socket_connect_timeout": 3.0, "socket_timeout": 3.0}
    sentinel = Sentinel(addresses, sentinel_kwargs={**timeouts, **sentinel_auth, **tls})  # type: ignore[no-untyped-call]
    master: Redis = cast("Any", sentinel).master_for(
        service, redis_class=redis_class, db=int(database or 0), **auth, **tls, **kwargs
    )
    return master


def describe(redis_url: str) -> str:
    """Return *redis_url* without its user and password, for logs and errors."""
    if embedded_directory(redis_url) is not None:
        return redis_url
    parts = urlsplit(redis_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
