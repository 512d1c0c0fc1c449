"""From a URL to a Redis client with the timeouts that a queue needs."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
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

_SENTINEL_PORT = 26379
_SENTINEL_PARAMETERS = ("sentinel_username", "sentinel_password")
_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs")
_WAIT_PARAMETERS = ("socket_timeout", "socket_connect_timeout")

SERVER_AWAY = "check ESA_PRELOAD_REDIS_URL and that the server runs"
EMBEDDED_AWAY = "the worker runs the embedded server: start `esa-preload-worker run` on this host with the same ESA_PRELOAD_REDIS_URL"

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


def away_hint(redis_url: str) -> str:
    """Return what to do when nobody answers at *redis_url*."""
    return SERVER_AWAY if embedded_directory(redis_url) is None else EMBEDDED_AWAY


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


class _Mended:
    """
    What redis-py's connections lack.

    One to what became a replica is dropped: its name, or whoever stands before it, may lead to the new primary by now. And whether
    one still stands is asked without a read: redis-py's own, before each command, takes half as long as the command.
    """

    async def can_read_destructive(self) -> bool:
        """
        Tell whether something has come in that nobody asked for.

        Raises:
            redis.exceptions.ConnectionError: the connection has ended.
        """
        reader: Any = getattr(self, "_reader", None)
        if not isinstance(reader, asyncio.StreamReader):
            return bool(await cast("Any", super()).can_read_destructive())
        if reader.at_eof() or reader.exception() is not None:
            raise RedisConnectionError("the server has closed the connection")
        return bool(cast("Any", reader)._buffer)  # noqa: SLF001 - asyncio has no other way to ask without waiting

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        base = cast("Any", super())
        try:
            return await base.read_response(*args, **kwargs)
        except ReadOnlyError as exc:
            await cast("Any", self).disconnect(nowait=True)
            raise RedisConnectionError("the server is a replica and takes no writes") from exc


class _TcpConnection(_Mended, Connection):
    pass


class _TlsConnection(_Mended, SSLConnection):
    pass


class _UnixConnection(_Mended, UnixDomainSocketConnection):
    pass


_CONNECTIONS: dict[Any, Any] = {
    Connection: _TcpConnection,
    SSLConnection: _TlsConnection,
    UnixDomainSocketConnection: _UnixConnection,
}


class _SentinelPool(SentinelConnectionPool):
    """Closes with its own connections those to the sentinels, which redis-py leaves open."""

    async def disconnect(self, inuse_connections: bool = True) -> None:  # noqa: FBT001, FBT002 - as in the base class
        await cast("Any", super()).disconnect(inuse_connections)
        if inuse_connections:
            for sentinel in cast("Any", self).sentinel_manager.sentinels:
                await sentinel.aclose()


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
            return _mended(redis_class(unix_socket_path=str(embedded_socket(directory)), **kwargs))
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
    if parts.scheme == "rediss" and parse_qs(parts.query).get("ssl_cert_reqs") != ["none"]:
        # Else redis-py 5 takes a good certificate of anybody else's; the URL's own word goes before ours.
        kwargs = {"ssl_check_hostname": True, **kwargs}
    client = _mended(cast("Any", redis_class).from_url(redis_url, **kwargs))
    try:
        cast(
            "Any", client.connection_pool
        ).make_connection()  # connects nowhere: it only takes its parameters
    except TypeError as exc:
        unknown = _UNKNOWN_PARAMETER.search(str(exc))
        raise ValueError(f"unknown parameter {unknown[1] if unknown else ''}".rstrip()) from None
    return client


def _mended(client: Redis) -> Redis:
    pool = cast("Any", client.connection_pool)
    pool.connection_class = _CONNECTIONS[pool.connection_class]
    return client


def _connect_sentinel(parts: SplitResult, redis_class: type[Redis], kwargs: dict[str, Any]) -> Redis:
    credentials, _, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not hosts or not service:
        raise ValueError("hosts and the name of the service are needed")
    if not _DATABASE.fullmatch(database):
        raise ValueError("the path is the service and the number of a database")
    username, _, password = credentials.partition(":")
    auth: dict[str, Any] = {"username": unquote(username) or None, "password": unquote(password) or None}
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    tls: dict[str, Any] = {}
    if query.pop("tls", "0") in ("1", "true"):
        tls = {"ssl": True} | {name: query.pop(name) for name in _TLS_PARAMETERS if name in query}
        checks_name = query.pop("ssl_check_hostname", "true") not in ("0", "false")
        tls["ssl_check_hostname"] = checks_name and tls.get("ssl_cert_reqs") != "none"
    waits = {name: _seconds(name, query.pop(name)) for name in _WAIT_PARAMETERS if name in query}
    sentinel_auth = {
        name.removeprefix("sentinel_"): query.pop(name) for name in _SENTINEL_PARAMETERS if name in query
    }
    if query:
        raise ValueError(f"unknown parameter {min(query)!r:.64}")
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        [_address(host) for host in hosts.split(",")],
        sentinel_kwargs={
            "socket_connect_timeout": 3.0,
            "socket_timeout": 3.0,
            **waits,
            **sentinel_auth,
            **tls,
        },
    )
    master: Redis = cast("Any", sentinel).master_for(
        service,
        redis_class=redis_class,
        connection_pool_class=_SentinelPool,
        db=int(database or 0),
        **auth,
        **tls,
        **kwargs | waits,
    )
    return master


def _address(host: str) -> tuple[str, int]:
    """Read ``host``, ``host:port``, ``[address]`` or ``[address]:port``."""
    name, _, port = host.rpartition(":") if ":" in host.rpartition("]")[2] else (host, "", "")
    is_bare = ":" not in name or (name[0], name[-1]) == ("[", "]")
    if not name or not is_bare or (port and not port.isdecimal()):
        raise ValueError("host or port; percent-encode what is special in the password")
    return name.strip("[]"), int(port or _SENTINEL_PORT)


def _seconds(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{name} is in seconds") from None


def describe(redis_url: str) -> str:
    """Return *redis_url* without its user and password, for logs and errors."""
    if embedded_directory(redis_url) is not None:
        return redis_url
    parts = urlsplit(redis_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
