"""A request of the sandbox as it arrived: read whole, within bounds."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import ClientPayloadError, web

from esa_preload_worker.sandbox.operations import OPERATIONS
from esa_preload_worker.sandbox.replies import ApiError

# Actions that do not exist are counted together: their names are the caller's to invent.
_UNKNOWN_OPERATION = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A call as it arrived; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def action(self) -> str:
        """The operation of ESA's API that it names."""
        return self.headers.get("x-acs-action", "")

    @property
    def operation(self) -> str:
        """The same; one that does not exist is ``unknown``."""
        return self.action if self.action in OPERATIONS else _UNKNOWN_OPERATION

    @property
    def base_url(self) -> str:
        """Where the caller reached the sandbox, without a slash at the end."""
        return f"http://{self.headers.get('host', '')}"


async def receive(request: web.BaseRequest, max_bytes: int) -> Received:
    """Read a whole request; see :func:`read`."""
    return Received(
        method=request.method,
        target=request.raw_path,
        headers=_headers_of(request),
        body=await read(request, max_bytes),
    )


async def read(request: web.BaseRequest, max_bytes: int) -> bytes:
    """
    Read the body of *request*.

    Raises:
        ApiError: it cannot be read, or is larger than *max_bytes*.
    """
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.content.iter_any():
            size += len(chunk)
            if size > max_bytes:
                raise ApiError(413, "RequestEntityTooLarge", f"The request is larger than {max_bytes} bytes.")
            chunks.append(chunk)
    except (ClientPayloadError, web.RequestPayloadError):
        raise ApiError(400, "InvalidParameter", "The body cannot be read.") from None
    return b"".join(chunks)


def _headers_of(request: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        key = name.lower()
        headers[key] = f"{headers[key]},{value}" if key in headers else value
    return headers
