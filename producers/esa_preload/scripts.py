"""The ledger's Lua scripts: read from the package, named by their hash, loaded into Redis when it does not know them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

Argument = str | int | float | bytes
Reply = list[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A script as Redis runs it: its header in front of what it includes, and the hash of the whole."""

    name: str
    text: str
    sha: str


@cache
def load_script(
    name: str, *, package: str = "esa_preload", includes: tuple[tuple[str, str], ...] = ()
) -> Script:
    """Read ``lua/<name>.lua`` of *package*, the prelude and *includes* (package, name) in front of its body."""
    header, body = _read(package, name).split("\n", 1)
    parts = [_read("esa_preload", "prelude"), *(_read(*include) for include in includes), body]
    text = "\n".join([header, *parts])
    return Script(name=name, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _read(package: str, name: str) -> str:
    return (files(package) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


async def command(redis: Redis, *arguments: Argument) -> Any:
    """Run one Redis command; here because the client's own methods have no types worth the name."""
    return await cast("Any", redis).execute_command(*arguments)


async def commands(redis: Redis, calls: Sequence[Sequence[Argument]]) -> list[Any]:
    """Run several commands in one round trip, not as a transaction; the first error is raised."""
    return await pipelined(redis, calls, raise_on_error=True)


async def pipelined(redis: Redis, calls: Sequence[Sequence[Argument]], *, raise_on_error: bool) -> list[Any]:
    """Run several commands in one round trip; errors are among the replies unless *raise_on_error*."""
    if not calls:
        return []
    pipe: Any = cast("Any", redis).pipeline(transaction=False)
    for arguments in calls:
        pipe.execute_command(*arguments)
    return cast("list[Any]", await pipe.execute(raise_on_error=raise_on_error))


async def run_script(redis: Redis, script: Script, prefix: str, arguments: Sequence[Argument]) -> Reply:
    """Run *script* on the namespace of *prefix*; loads it first where Redis has forgotten it."""
    try:
        return cast("Reply", await command(redis, "EVALSHA", script.sha, 1, prefix, *arguments))
    except NoScriptError:
        return cast("Reply", await command(redis, "EVAL", script.text, 1, prefix, *arguments))


def as_text(value: object) -> str:
    """Return a reply's value as text, whether or not the client decodes replies."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
