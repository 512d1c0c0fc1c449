"""Where calls go to, and through which proxy."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

import httpx

from esa_preload.addresses import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|[0-9a-f:]+")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    ESA's address.

    Attributes:
        url: ``https://host``, with the port unless it is the scheme's own; no slash at the end.
        host_header: what is signed and sent as Host.
    """

    url: str
    host_header: str
    is_loopback: bool

    @classmethod
    def parse(cls, url: str, *, allow_insecure: bool) -> Self:
        """
        Read *url*: ``https://host[:port][/]``, or http on loopback or when insecure is allowed.

        Raises:
            ValueError: it is none of these.
        """
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
        # The message does not show the URL, which may hold a password.
        if parts.scheme not in _PORTS or not _HOST.fullmatch(host) or "@" in parts.netloc:
            raise ValueError("the endpoint must be https://host or https://host:port")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ValueError("the endpoint must have no path, query or fragment")
        if parts.scheme == "http" and not (allow_insecure or is_loopback(host)):
            raise ValueError(
                "the endpoint must be https: http is for loopback, or ESA_PRELOAD_ALLOW_INSECURE_ENDPOINT"
            )
        header = f"[{host}]" if ":" in host else host
        if port is not None and port != _PORTS[parts.scheme]:
            header = f"{header}:{port}"
        return cls(url=f"{parts.scheme}://{header}", host_header=header, is_loopback=is_loopback(host))


class Proxies:
    """
    The proxies that an environment names: ``HTTPS_PROXY``, ``http_proxy`` and ``NO_PROXY``, never for loopback.

    ``HTTP_PROXY`` in capitals is left alone, as everywhere: a web server may set it from a request's header.

    Raises:
        ValueError: a proxy's address is no http or https URL.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        https = environ.get("https_proxy") or environ.get("HTTPS_PROXY") or ""
        self._by_scheme = {"https": _proxy(https), "http": _proxy(environ.get("http_proxy", ""))}
        no_proxy = environ.get("no_proxy") or environ.get("NO_PROXY") or ""
        self._no_proxy = [domain.strip().lower() for domain in no_proxy.split(",") if domain.strip()]

    def __repr__(self) -> str:
        return f"<Proxies for {', '.join(scheme for scheme, proxy in self._by_scheme.items() if proxy) or 'nothing'}>"

    def proxy_for(self, url: str) -> httpx.Proxy | None:
        """Return the proxy that *url* is reached through; ``None`` for none."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        if is_loopback(host) or any(_is_below(host, domain) for domain in self._no_proxy):
            return None
        return self._by_scheme.get(parts.scheme)


class _Proxy(httpx.Proxy):
    """A proxy whose headers hold a password."""

    def __repr__(self) -> str:
        return f"<Proxy {self.url}>"


def _is_below(host: str, domain: str) -> bool:
    """Say whether *host* is *domain*, written with or without a dot or star before it, or below it."""
    name = domain.removeprefix("*").removeprefix(".")
    return domain == "*" or host == name or bool(name and host.endswith(f".{name}"))


def _proxy(url: str) -> httpx.Proxy | None:
    if not url:
        return None
    try:
        proxy = httpx.Proxy(url if "://" in url else f"http://{url}")
    except (ValueError, httpx.InvalidURL):
        proxy = None
    if proxy is None or proxy.url.scheme not in _PORTS or not proxy.url.host:
        raise ValueError("HTTPS_PROXY must be http://[user:password@]host:port") from None
    if proxy.raw_auth is None:
        return proxy
    # As a header: the transport would use aiohttp's BasicAuth, which is deprecated.
    login = base64.b64encode(b":".join(proxy.raw_auth)).decode()
    return _Proxy(proxy.url, headers={"proxy-authorization": f"Basic {login}"})
