"""The password of a user of Redis is exchanged without an outage, as docs/how-to/rotate-credentials.md says."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

import acl
from esa_preload.client import PreloadClient
from esa_preload.errors import QueueUnavailableError
from esa_preload.scripts import command
from integration.worker.rig import NAMESPACE, SITE, urls_of

if TYPE_CHECKING:
    from redis.asyncio import Redis

USER = "esa-producer"


async def test_two_passwords_hold_until_the_old_one_is_taken_away(
    redis: Redis, admin: Redis, admin_url: str
) -> None:
    """Both let in; who is logged in by the old one stays when it is taken away, and nobody logs in by it any more."""
    del redis  # an empty server
    await command(admin, "ACL", "SETUSER", USER, *acl.rules(USER, namespace=NAMESPACE))
    old_url = acl.url_of(USER, admin_url)
    new_url = old_url.replace(acl.PASSWORD, "the-next-one")
    try:
        async with AsyncExitStack() as stack:
            before = await stack.enter_async_context(PreloadClient(old_url, namespace=NAMESPACE))
            assert (await before.enqueue(SITE, urls_of(2), request_id="before")).accepted == 2
            await command(admin, "ACL", "SETUSER", USER, ">the-next-one")
            after = await stack.enter_async_context(PreloadClient(new_url, namespace=NAMESPACE))
            assert (await after.status("before")).pending == 2
            await command(admin, "ACL", "SETUSER", USER, f"<{acl.PASSWORD}")
            assert (await before.status("before")).pending == 2
            late = await stack.enter_async_context(PreloadClient(old_url, namespace=NAMESPACE))
            with pytest.raises(QueueUnavailableError, match="password"):
                await late.sites()
            await command(admin, "CLIENT", "KILL", "USER", USER)
            with pytest.raises(QueueUnavailableError, match="password"):
                await before.sites()
            assert len(await after.sites()) == 1
    finally:
        await command(admin, "ACL", "DELUSER", USER)
        await command(admin, "FLUSHALL")
