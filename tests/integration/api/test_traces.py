"""The trace of an HTTP request goes on in the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conftest import NAMESPACE
from esa_preload.keys import Keys
from esa_preload.scripts import as_text, command
from integration.api.conftest import SITE

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from integration.api.conftest import Served

KEYS = Keys(NAMESPACE)
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("headers", "is_kept"),
    [({"traceparent": PARENT, "tracestate": "a=1"}, True), ({"traceparent": "nonsense"}, False), ({}, False)],
)
async def test_a_request_keeps_the_trace_that_it_came_in(
    served: Served, redis: Redis, headers: dict[str, str], is_kept: bool
) -> None:
    """What `traceparent` names is stored with the request, for the worker; a header that names nothing is not."""
    document = {"site_id": SITE, "urls": ["https://www.example.com/a"]}
    reply = await served.http["producer"].post("/v1/preloads", json=document, headers=headers)
    assert reply.status_code == 202
    number = await command(redis, "GET", KEYS.request_number(reply.json()["request_id"]))
    stored = await command(redis, "HGET", KEYS.request(as_text(number)), "trace")
    assert (stored is not None and TRACE_ID in as_text(stored)) == is_kept
