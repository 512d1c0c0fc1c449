"""Spoil the reply of a call that a fault has struck."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from esa_preload_worker.sandbox.faults import Fault

_LINGER_NOT = struct.pack("ii", 1, 0)
_PAGE = "<!DOCTYPE html>\n<html><head><title>Gateway</title></head><body><h1>One moment, please</h1></body></html>\n"
_GARBAGE = bytes(range(256)) * 2


async def spoiled(request: web.BaseRequest, reply: web.Response, fault: Fault) -> web.StreamResponse:
    """
    Send of *reply* what *fault* leaves of it.

    Returns:
        what the server is to send, or what it has begun to send; nothing gets out of it where the connection is gone.
    """
    match fault.kind:
        case "lost_before" | "lost_after":
            _close(request)
        case "reset_before" | "reset_after":
            _reset(request)
        case "html_before" | "html_after":
            return web.Response(status=fault.http_status, content_type="text/html", text=_PAGE)
        case "garbage":
            return web.Response(status=reply.status, content_type="application/json", body=_GARBAGE)
        case "slow_after":
            await asyncio.sleep(fault.delay_s)
        case "drip":
            return await _drip(request, reply, fault.delay_s)
        case "half":
            return await _halve(request, reply)
        case _:
            pass
    return reply


def _close(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.close()


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    known = transport.get_extra_info("socket")
    if known is not None:
        # By a copy of its descriptor: not every event loop lets its sockets be set.
        with socket.socket(fileno=os.dup(known.fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


async def _drip(request: web.BaseRequest, reply: web.Response, delay_s: float) -> web.StreamResponse:
    body = _body_of(reply)
    sent = await _begin(request, reply, len(body))
    for i in range(len(body)):
        await sent.write(body[i : i + 1])
        await asyncio.sleep(delay_s)
    return sent


async def _halve(request: web.BaseRequest, reply: web.Response) -> web.StreamResponse:
    body = _body_of(reply)
    sent = await _begin(request, reply, len(body))
    await sent.write(body[: len(body) // 2])
    _close(request)
    return sent


async def _begin(request: web.BaseRequest, reply: web.Response, length: int) -> web.StreamResponse:
    sent = web.StreamResponse(status=reply.status, headers=reply.headers)
    sent.content_length = length
    await sent.prepare(request)
    return sent


def _body_of(reply: web.Response) -> bytes:
    body = reply.body
    if not isinstance(body, (bytes, bytearray)):
        raise TypeError(f"a reply of the sandbox is bytes, not {type(body).__name__}")
    return bytes(body)
