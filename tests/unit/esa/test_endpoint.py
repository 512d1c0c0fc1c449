"""Which addresses are an endpoint, and when a proxy is used."""

from __future__ import annotations

import pytest

from esa_preload_worker.esa.endpoint import Endpoint, Proxies


@pytest.mark.parametrize(
    ("url", "expected", "host"),
    [
        (
            "https://esa.cn-hangzhou.aliyuncs.com",
            "https://esa.cn-hangzhou.aliyuncs.com",
            "esa.cn-hangzhou.aliyuncs.com",
        ),
        ("https://ESA.aliyuncs.com:443/", "https://esa.aliyuncs.com", "esa.aliyuncs.com"),
        ("https://esa.example:8443", "https://esa.example:8443", "esa.example:8443"),
        ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1"),
        ("http://localhost:8080", "http://localhost:8080", "localhost:8080"),
        ("http://[::1]:8080", "http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_endpoints(url: str, expected: str, host: str) -> None:
    """The host that is signed is the one that is sent: lower case, and with a port only where it is not the usual one."""
    endpoint = Endpoint.parse(url, allow_insecure=False)
    assert (endpoint.url, endpoint.host_header) == (expected, host)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "esa.aliyuncs.com",
        "ftp://esa.aliyuncs.com",
        "https://",
        "https://user:canary@esa.aliyuncs.com",
        "https://@esa.aliyuncs.com",
        "https://esa.aliyuncs.com/path",
        "https://esa.aliyuncs.com?canary",
        "https://esa.aliyuncs.com#x",
        "https://esa aliyuncs.com",
        "https://esa.aliyuncs.com:port",
        "https://esa.aliyuncs.com:99999",
        "https://esa.aliyuncs.com.",
        "http://esa.aliyuncs.com",
        "http://10.0.0.1",
    ],
)
def test_what_is_no_endpoint(url: str) -> None:
    """Plain http away from this machine, passwords, paths and nonsense are refused, without showing them."""
    with pytest.raises(ValueError, match=r".") as caught:
        Endpoint.parse(url, allow_insecure=False)
    assert "canary" not in str(caught.value)


def test_http_anywhere_when_an_operator_says_so() -> None:
    """Insecure allows http, and does not make the host loopback."""
    assert not Endpoint.parse("http://10.0.0.1:8080", allow_insecure=True).is_loopback


@pytest.mark.parametrize(
    ("url", "environ", "expected"),
    [
        ("https://esa.aliyuncs.com", {}, None),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "http://proxy:3128"}, "proxy"),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "proxy:3128"}, "proxy"),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, "b"),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "aliyuncs.com"}, None),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "x, .aliyuncs.com"}, None),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "*"}, None),
        ("https://esa.aliyuncs.com", {"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "yuncs.com"}, "proxy"),
        ("https://127.0.0.1:8443", {"HTTPS_PROXY": "http://proxy:1"}, None),
        ("http://10.0.0.1", {"HTTPS_PROXY": "http://proxy:1"}, None),
        ("http://10.0.0.1", {"HTTP_PROXY": "http://proxy:1"}, None),
        ("http://10.0.0.1", {"http_proxy": "http://proxy:1"}, "proxy"),
    ],
)
def test_proxies(url: str, environ: dict[str, str], expected: str | None) -> None:
    """HTTPS_PROXY is honoured, NO_PROXY spares whole domains, and this machine is never reached through one."""
    proxy = Proxies(environ).proxy_for(url)
    assert (proxy.url.host if proxy else None) == expected


@pytest.mark.parametrize("proxy", ["socks5://canary@p:1", "http://", "http://canary@p:notaport"])
def test_what_is_no_proxy(proxy: str) -> None:
    """A proxy that cannot be used stops the start, without showing its password."""
    with pytest.raises(ValueError, match="HTTPS_PROXY") as caught:
        Proxies({"HTTPS_PROXY": proxy})
    assert "canary" not in str(caught.value)


def test_a_password_does_not_show() -> None:
    """The repr names schemes, and a proxy its address only."""
    proxies = Proxies({"HTTPS_PROXY": "http://user:canary@proxy:1"})
    shown = f"{proxies!r} {proxies.proxy_for('https://esa.aliyuncs.com')!r}"
    assert shown == "<Proxies for https> <Proxy http://proxy:1>"
