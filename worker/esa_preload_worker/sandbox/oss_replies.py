"""What the simulated OSS answers: XML for errors, headers for everything else."""

from __future__ import annotations

import base64
import secrets
from email.utils import formatdate
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from aiohttp import web

if TYPE_CHECKING:
    from esa_preload_worker.sandbox.bucket import StoredObject
    from esa_preload_worker.sandbox.replies import ApiError


def success(method: str, stored: StoredObject | None, *, now_s: float) -> web.Response:
    """Return the reply to a request that was done."""
    headers = _headers(now_s)
    if method == "DELETE" or stored is None:
        return web.Response(status=204, headers=headers)
    headers["ETag"] = stored.etag
    if method == "PUT":
        return web.Response(status=200, headers=headers, body=b"")
    headers |= {
        "Content-Type": stored.content_type,
        "Last-Modified": formatdate(stored.stored_s, usegmt=True),
        "x-oss-object-type": "Normal",
    }
    return web.Response(status=200, headers=headers, body=stored.body)


def failure(method: str, error: ApiError, *, host: str, now_s: float) -> web.Response:
    """Return the reply to a request that was refused; one to HEAD has its body in a header."""
    headers = _headers(now_s)
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Error>\n'
        f"  <Code>{escape(error.code)}</Code>\n"
        f"  <Message>{escape(error.message)}</Message>\n"
        f"  <RequestId>{headers['x-oss-request-id']}</RequestId>\n"
        f"  <HostId>{escape(host)}</HostId>\n</Error>\n"
    ).encode()
    if method == "HEAD":
        headers["x-oss-err"] = base64.b64encode(text).decode()
    return web.Response(status=error.status, headers=headers | {"Content-Type": "application/xml"}, body=text)


def _headers(now_s: float) -> dict[str, str]:
    return {
        "Date": formatdate(now_s, usegmt=True),
        "Server": "AliyunOSS",
        "x-oss-request-id": secrets.token_hex(12).upper(),
    }
