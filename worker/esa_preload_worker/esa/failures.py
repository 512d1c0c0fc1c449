"""Decide whether a call that broke was surely not sent, by what broke it."""

from __future__ import annotations

import errno

import aiohttp
import httpx

from esa_preload_worker.esa.errors import EsaError, NotSentError, UncertainError
from esa_preload_worker.esa.replies import UNREADABLE
from esa_preload_worker.esa.text import loggable

BREAKS = (httpx.HTTPError, aiohttp.ClientError, OSError)
"""What the transport raises when a call breaks: httpx's own, and what httpx-aiohttp lets through."""

_HINTS = {
    "not_sent.dns": "check the name in ESA_PRELOAD_ENDPOINT and this host's resolver",
    "not_sent.tls": "check ESA_PRELOAD_ENDPOINT, the certificates this host trusts (SSL_CERT_FILE), and its clock",
    "not_sent.proxy": "check HTTPS_PROXY and NO_PROXY",
}


def failure_of(exc: BaseException) -> EsaError:
    """
    Return the error for what the transport raised.

    httpx-aiohttp gives a connection that was dropped after the request went out the type of one that was never made
    (``httpx.ConnectTimeout``), so only aiohttp's own exception, the cause, tells.
    """
    cause = exc.__cause__ if isinstance(exc, httpx.HTTPError) and exc.__cause__ is not None else exc
    code = _not_sent_code(cause)
    if code:
        return NotSentError(f"{code}: {_told(cause)}", code=code, hint=_HINTS.get(code, ""))
    code = _uncertain_code(cause)
    return UncertainError(f"{code}: {type(cause).__name__}", code=code)


def _told(cause: BaseException) -> str:
    if isinstance(cause, aiohttp.ClientHttpProxyError):
        # Not its words: they are the proxy's own, which knows its password.
        return f"the proxy answers HTTP {cause.status}"
    return loggable(str(cause))


def _not_sent_code(cause: BaseException) -> str:
    match cause:
        case aiohttp.ConnectionTimeoutError():
            return "not_sent.timeout"
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            # The latter is the proxy's answer to CONNECT, which comes before the request.
            return "not_sent.proxy"
        case aiohttp.ClientSSLError():
            return "not_sent.tls"
        case aiohttp.ClientConnectorDNSError():
            return "not_sent.dns"
        case aiohttp.ClientConnectorError():
            return "not_sent.refused" if cause.errno == errno.ECONNREFUSED else "not_sent.connect"
        case _:
            return ""


def _uncertain_code(cause: BaseException) -> str:
    match cause:
        case TimeoutError():
            return "uncertain.timeout"
        case httpx.DecodingError():
            return UNREADABLE
        case aiohttp.ClientPayloadError():
            return "uncertain.incomplete"
        case aiohttp.ClientResponseError():
            return "uncertain.protocol"
        case aiohttp.ClientConnectionError() | OSError():
            return "uncertain.reset"
        case _:
            return "uncertain.protocol"
