"""The users of deploy/redis/users.acl, for tests that run as one of them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from esa_preload.scripts import command

if TYPE_CHECKING:
    from redis.asyncio import Redis

FILE = Path(__file__).resolve().parents[1] / "deploy" / "redis" / "users.acl"
PASSWORD = "a-password-of-the-tests"
VARIABLE = "REDIS_TEST_USER"
"""Of the environment: the user that the integration tests run as, or several whose rights they have together, with a + between."""
TESTS = "esa-tests"
WITHOUT = "REDIS_TEST_WITHOUT"
"""A right that is taken from that user."""

needs_config = pytest.mark.skipif(bool(os.environ.get(VARIABLE)), reason="CONFIG GET is nobody's right")

PLUMBING = (
    *("+acl|setuser", "+client|id", "+client|kill", "+client|list", "+client|pause", "+config|resetstat"),
    *("+config|set", "+dump", "+flushall", "+hkeys", "+keys", "+restore", "+script|flush", "+ttl", "+type"),
    "+xlen",
    *("~arq:job:*", "~arq:result:*"),  # a job of arq's own, beside which a wake-up is laid
)
"""What only the tests do, to set a scene and to look behind it: nothing of it is in the packages or in the file."""


def users() -> dict[str, list[str]]:
    """Return the rules of each user of the file, in order."""
    lines = [line.split() for line in FILE.read_text(encoding="utf-8").splitlines()]
    assert all(words[0] == "user" for words in lines)
    return {words[1]: words[2:] for words in lines}


def rules(user: str, *, namespace: str = "default", without: str = "") -> list[str]:
    """
    Return the rules of a user for ``ACL SETUSER``, with a password.

    Args:
        namespace: ``*`` for every namespace.
        without: a rule of the file that is left out.
    """
    found = users()[user]
    assert not without or without in found, f"{user} has no right {without}"
    kept = [rule.replace(":default:", f":{namespace}:") for rule in found if rule != without]
    return ["reset", *kept, f">{PASSWORD}"]


async def as_user(admin: Redis, url: str, names: str) -> str:
    """Make a user with the rights of all of *names* known to the server of *url*, in every namespace, and return its URL."""
    without = os.environ.get(WITHOUT, "")
    given = [rules(name, namespace="*", without=without) for name in names.split("+")]
    merged = [rule for rules_of_one in given for rule in rules_of_one if rule not in ("reset", "-@all")]
    await command(admin, "ACL", "SETUSER", TESTS, "reset", *merged, *PLUMBING)
    return url_of(TESTS, url)


def url_of(user: str, url: str) -> str:
    """Return *url* as it is for *user*."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{user}:{PASSWORD}@{host}").geturl()
