"""
Run a script, and wait until what it wrote outlives its server: in the append-only file, or on a replica.

``WAITAOF`` and ``WAIT`` look at what *their connection* wrote last. Script and wait therefore go down one connection together, and
the script must write, if only again what is there: a connection that wrote nothing waits for nothing. As a server puts all
its writes into one file in their order, the last write of a request stands for those before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from redis.exceptions import NoPermissionError, NoScriptError, ResponseError

from esa_preload.scripts import Reply, as_text, command, pipelined

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

    from esa_preload.scripts import Argument, Script

WAIT_MS = 5_000
"""Half of what a client waits for a reply; a server that syncs once a second needs a tenth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """Why what was written may not outlive its server, and what to do about it."""

    why: str
    hint: str


TOO_SLOW = Doubt(
    why=f"the server did not have it on disk within {WAIT_MS / 1000:g} s",
    hint="is its disk slow or full, or appendfsync set to no? Repeat the call with the same request_id: it waits again",
)
NO_REPLICA_YET = Doubt(
    why=f"no replica had it within {WAIT_MS / 1000:g} s",
    hint="see the replicas' state; repeat the call with the same request_id: it waits again",
)
UNTOLD = Doubt(
    why="this user may not ask the server how it keeps what is written",
    hint="let the user of ESA_PRELOAD_REDIS_URL ask: ACL SETUSER … +config|get +info",
)
NOWHERE = Doubt(
    why="the server has no append-only file that it can be asked about, and no replica",
    hint="set `appendonly yes` on Redis 7.2 or newer or on Valkey; on Redis 7.0 with `appendfsync always`, or give it a replica",
)


async def run_durably(
    redis: Redis, script: Script, prefix: str, arguments: Sequence[Argument]
) -> tuple[Reply, Doubt | None]:
    """
    Run *script*, which must write and be safe to repeat, and wait until that is out of danger.

    Returns:
        the script's reply, and ``None``, or why it is not known to be.
    """
    reply, waited = await _run_and_wait(redis, script, prefix, arguments, ("WAITAOF", 1, 0, WAIT_MS))
    if not isinstance(waited, ResponseError):
        return reply, None if int(cast("Any", waited)[0]) >= 1 else TOO_SLOW
    if isinstance(waited, NoPermissionError):
        return reply, _forbidden("WAITAOF", waited)
    # No append-only file, or a server from before 7.2.
    syncs = False if "appendonly is disabled" in str(waited) else await _syncs_every_write(redis)
    if syncs:
        return reply, None
    replicas = await _replicas(redis)
    if replicas == 0:
        return reply, UNTOLD if syncs is None else NOWHERE
    reply, waited = await _run_and_wait(redis, script, prefix, arguments, ("WAIT", 1, WAIT_MS))
    if isinstance(waited, ResponseError):
        return reply, _forbidden("WAIT", waited)
    if int(cast("Any", waited)) >= 1:
        return reply, None
    return reply, NO_REPLICA_YET if replicas else UNTOLD


async def _run_and_wait(
    redis: Redis, script: Script, prefix: str, arguments: Sequence[Argument], wait: Sequence[Argument]
) -> tuple[Reply, object]:
    for call in (("EVALSHA", script.sha), ("EVAL", script.text)):
        reply, waited = await pipelined(redis, [(*call, 1, prefix, *arguments), wait], raise_on_error=False)
        if not isinstance(reply, NoScriptError):
            break
    if isinstance(reply, Exception):
        raise reply
    # The server changed its part in a failover while we waited: that is an outage, not a doubt.
    if isinstance(waited, Exception) and (
        not isinstance(waited, ResponseError) or str(waited).startswith("UNBLOCKED")
    ):
        raise waited
    return cast("Reply", reply), waited


async def _syncs_every_write(redis: Redis) -> bool | None:
    """Tell whether each reply of the server means that it has synced its file; ``None``: it may not be asked."""
    try:
        reply = await command(redis, "CONFIG", "GET", "append*")
    except ResponseError:
        return None
    pairs = cast("Any", reply).items() if isinstance(reply, dict) else zip(*[iter(reply)] * 2, strict=True)
    config = {as_text(name): as_text(value) for name, value in pairs}
    return (config.get("appendonly"), config.get("appendfsync")) == ("yes", "always")


async def _replicas(redis: Redis) -> int | None:
    try:
        info = await command(redis, "INFO", "replication")
    except ResponseError:
        return None
    return int(info.get("connected_slaves", 0))


def _forbidden(name: str, error: ResponseError) -> Doubt:
    return Doubt(
        why=f"the server does not let us wait for it: {error}",
        hint=f"allow the command to the user of ESA_PRELOAD_REDIS_URL: ACL SETUSER … +{name.lower()}",
    )
