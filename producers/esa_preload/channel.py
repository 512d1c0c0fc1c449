"""One request to the HTTP API and its answer: with the token, with patience, and every failure as one of our errors."""

from __future__ import annotations

import asyncio
import random
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Literal, cast

import httpx

from esa_preload.addresses import is_loopback
from esa_preload.cancellation import heed_cancellation
from esa_preload.documents import not_ours, read_value
from esa_preload.errors import (
    AccessDeniedError,
    EsaPreloadError,
    IncompleteError,
    InvalidRequestError,
    NotDurableError,
    QueueFullError,
    QueueUnavailableError,
    RequestConflictError,
    SettingsError,
    UnknownRequestError,
    UnknownSiteError,
)
from esa_preload.model import Receipt
from esa_preload.patience import PAUSE_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from esa_preload.ndjson import Lines

About = Literal["request", "site"]
"""What a verb is about, and so what is not there when the answer is 404."""

TIMEOUTS = httpx.Timeout(60, connect=3)
"""An answer comes when all of a list is in the queue, but a connection at once."""

WAY_IN = "have a token made by `esa-preload token new`, and give it as ESA_PRELOAD_TOKEN, or in the file that ESA_PRELOAD_TOKEN_FILE names"
NO_SUCH_PATH = "Not Found"
"""What a service says of a path that it does not serve: it is an older one, or its address leads elsewhere."""
AWAY = "check the service's address, and that `esa-preload serve` runs"


class NothingAcceptedError(InvalidRequestError):
    """No URL of an enqueue was accepted, as ``receipt`` says: the service calls that a wrong request, our interface does not."""

    def __init__(self, message: str, *, receipt: Receipt) -> None:
        super().__init__(message)
        self.receipt = receipt


class Channel:
    """
    Ask the service at *base_url*.

    Args:
        patience_s: how long to ask again while the service is away, or says that it has no room; from the first failure on.
    """

    def __init__(
        self,
        base_url: str,
        *,
        token: str,
        patience_s: float,
        allow_insecure: bool,
        transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        self.url = _parse_base_url(base_url, allow_insecure=allow_insecure)
        self._patience_s = patience_s
        self._http = httpx.AsyncClient(
            headers={"User-Agent": "esa-preload", "Accept": "application/json", **_authorization(token)},
            timeout=TIMEOUTS,
            transport=transport,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            # A proxy would see what goes without TLS.
            trust_env=self.url.startswith("https://"),
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        about: About = "request",
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        document: object = None,
        lines: Lines | None = None,
    ) -> object:
        """
        Return the document that answers; every request is safe to repeat.

        Args:
            document: sent as JSON; or *lines*, which are sent as they are read.
        """
        loop = asyncio.get_running_loop()
        until: float | None = None
        longest_s = PAUSE_S[0]
        while True:
            request = await self._request(method, path, params, headers, document, lines)
            try:
                return await self._once(request, about)
            except (QueueFullError, QueueUnavailableError) as exc:
                until = until or loop.time() + self._patience_s
                pause_s = max(exc.retry_after_s or 0.0, random.uniform(longest_s / 2, longest_s))  # noqa: S311 - no secret
                passes = isinstance(exc, QueueFullError) or exc.is_outage
                if not passes or loop.time() + pause_s > until or not (lines is None or lines.can_repeat):
                    raise
            await asyncio.sleep(pause_s)
            heed_cancellation()
            longest_s = min(longest_s * 2, PAUSE_S[1])

    async def _request(
        self,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        document: object,
        lines: Lines | None,
    ) -> httpx.Request:
        sent: dict[str, Any] = {} if document is None else {"json": document}
        if lines is not None:
            own, body = await lines.body()
            headers, sent = {**(headers or {}), **own}, {"content": body}
        return self._http.build_request(method, self.url + path, params=params, headers=headers, **sent)

    async def _once(self, request: httpx.Request, about: About) -> object:
        try:
            response = await self._http.send(request)
        except httpx.TransportError as exc:
            raise QueueUnavailableError(
                f"the service cannot be reached: {str(exc) or type(exc).__name__}", hint=AWAY, is_outage=True
            ) from exc
        if not response.is_success:
            raise error_of(response, about)
        try:
            return cast("object", response.json())
        except ValueError as exc:
            raise not_ours(str(exc)) from exc


def error_of(response: httpx.Response, about: About) -> EsaPreloadError:
    """Return what the client over Redis would have raised."""
    problem = _problem(response)
    message = str(problem.get("detail") or f"the service answered {response.status_code}")
    hint = str(problem.get("hint") or "")
    receipt = None if problem.get("receipt") is None else read_value(Receipt, problem["receipt"])
    match response.status_code:
        case 401:
            return AccessDeniedError(message, hint=WAY_IN)
        case 403:
            return AccessDeniedError(message, hint=hint)
        case 404 if message == NO_SUCH_PATH:
            return not_ours("it does not have this path")
        case 404 if problem:
            unknown = UnknownRequestError if about == "request" else UnknownSiteError
            return unknown(message, hint=hint)
        case 409:
            return RequestConflictError(message, hint=hint)
        case 422 if receipt is not None:
            return NothingAcceptedError(message, receipt=receipt)
        case 400 | 408 | 413 if receipt is not None:
            return IncompleteError(message, receipt=receipt, hint=hint)
        case 400 | 408 | 413 | 415 | 422:
            return InvalidRequestError(message, hint=hint)
        case 429:
            return QueueFullError(message, receipt=receipt, hint=hint, retry_after_s=_retry_after_s(response))
        case 503 if str(problem.get("type")).endswith("not-durable"):
            return NotDurableError(message, receipt=receipt, hint=hint)
        case status:
            unavailable = QueueUnavailableError(
                message, hint=hint or AWAY, is_outage=status >= 502, retry_after_s=_retry_after_s(response)
            )
            unavailable.receipt = receipt
            return unavailable


def _problem(response: httpx.Response) -> Mapping[str, Any]:
    if response.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
        return {}
    try:
        return cast("Mapping[str, Any]", response.json())
    except ValueError:
        return {}


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _parse_base_url(text: str, *, allow_insecure: bool) -> str:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        raise SettingsError("base_url is no URL") from None
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise SettingsError("base_url must be https://HOST[:PORT][/PATH]")
    if url.userinfo:
        raise SettingsError("base_url must not hold credentials", hint="give the token by itself")
    if url.scheme == "http" and not (allow_insecure or is_loopback(url.host)):
        raise SettingsError(
            f"base_url: http://{url.host} would show the token to the network",
            hint="use https, or say allow_insecure=True (ESA_PRELOAD_API_ALLOW_INSECURE=on) where TLS ends before",
        )
    return str(url).rstrip("/")


def _authorization(token: str) -> dict[str, str]:
    if not token:
        return {}
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise SettingsError("the token has characters that no token has")
    return {"Authorization": f"Bearer {token}"}
