"""What the address of a queue may say, and what becomes of it; nothing is connected to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest

from esa_preload.connection import connect, describe
from esa_preload.errors import SettingsError

if TYPE_CHECKING:
    from redis.asyncio import Redis


def options(client: Redis) -> dict[str, Any]:
    """Return what each connection of *client* is made with."""
    return cast("dict[str, Any]", cast("Any", client.connection_pool).connection_kwargs)


def sentinels(client: Redis) -> list[dict[str, Any]]:
    """Return what the connections to each sentinel are made with."""
    manager = cast("Any", client.connection_pool).sentinel_manager
    return [options(sentinel) for sentinel in manager.sentinels]


@pytest.mark.parametrize(
    ("hosts", "addresses"),
    [
        ("one", [("one", 26379)]),
        ("one:1,two,10.0.0.3:3", [("one", 1), ("two", 26379), ("10.0.0.3", 3)]),
        ("[::1],[fe80::2]:7", [("::1", 26379), ("fe80::2", 7)]),
    ],
)
def test_sentinels_are_named_in_a_row(hosts: str, addresses: list[tuple[str, int]]) -> None:
    """Names and addresses of either family, each with its own port or the usual one."""
    client = connect(f"redis+sentinel://{hosts}/queue/2")
    assert [(made["host"], made["port"]) for made in sentinels(client)] == addresses
    assert cast("Any", client.connection_pool).service_name == "queue"
    assert options(client)["db"] == 2


def test_the_server_and_its_sentinels_have_users_of_their_own() -> None:
    """What is special is percent-encoded; without a user there is none."""
    client = connect("redis+sentinel://app:p%40ss%3A@s/q?sentinel_username=watch&sentinel_password=w%26")
    assert (options(client)["username"], options(client)["password"]) == ("app", "p@ss:")
    assert (sentinels(client)[0]["username"], sentinels(client)[0]["password"]) == ("watch", "w&")
    plain = connect("redis+sentinel://:pw@s/q")
    assert (options(plain)["username"], options(plain)["password"]) == (None, "pw")
    assert sentinels(plain)[0].get("password") is None


def test_tls_is_for_the_server_and_its_sentinels() -> None:
    """With one list of authorities for both."""
    client = connect("redis+sentinel://s/q?tls=1&ssl_ca_certs=/etc/ca.pem")
    assert "SSL" in cast("Any", client.connection_pool).connection_class.__name__
    assert [made["ssl_ca_certs"] for made in (options(client), *sentinels(client))] == ["/etc/ca.pem"] * 2


@pytest.mark.parametrize(
    ("query", "checks"),
    [
        ("tls=1", True),
        ("tls=1&ssl_check_hostname=false", False),
        ("tls=1&ssl_cert_reqs=none", False),
        ("tls=1&ssl_cert_reqs=required", True),
    ],
)
def test_the_name_in_a_certificate_is_checked_unless_said_otherwise(query: str, *, checks: bool) -> None:
    """Of the server and of its sentinels; whoever takes any certificate takes any name."""
    client = connect(f"redis+sentinel://s/q?{query}")
    assert [made["ssl_check_hostname"] for made in (options(client), *sentinels(client))] == [checks] * 2


def test_waits_can_be_shortened() -> None:
    """For the server and its sentinels alike; else they are bounded all the same."""
    client = connect("redis+sentinel://s/q?socket_timeout=0.5")
    assert [made["socket_timeout"] for made in (options(client), *sentinels(client))] == [0.5, 0.5]
    usual = connect("redis+sentinel://s/q")
    assert [made["socket_timeout"] for made in (options(usual), *sentinels(usual))] == [10.0, 3.0]


@pytest.mark.parametrize(
    "rest",
    [
        "s",
        "/q",
        "s:x/q",
        "s:1:2/q",
        ":1/q",
        "s,/q",
        "s/q/two",
        "s/q?tsl=1",
        "s/q?ssl_ca_certs=/etc/ca.pem",
        "s/q?socket_timeout=canary",
    ],
)
def test_what_cannot_be_meant_is_refused(rest: str) -> None:
    """A misspelt parameter, or one for TLS without TLS, would otherwise be believed in; the password is not repeated."""
    with pytest.raises(SettingsError) as refused:
        connect(f"redis+sentinel://u:canary@{rest}")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize("url", ["redis://h", "rediss://h", "unix:///run/v.sock", "redis+sentinel://h/q"])
def test_every_connection_leaves_a_server_that_became_a_replica(url: str) -> None:
    """However it is reached; redis-py's own do so behind a sentinel only."""
    name = cast("Any", connect(url).connection_pool).connection_class.__name__
    assert name in ("_TcpConnection", "_TlsConnection", "_UnixConnection", "SentinelManagedConnection")


def test_an_address_is_shown_without_its_password() -> None:
    """In logs and errors."""
    assert describe("redis+sentinel://u:canary@one:1,two/q") == "redis+sentinel://one:1,two/q"
