"""Where OSS is: for us, and for ESA, which reads the lists from elsewhere."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import urlsplit

from esa_preload.addresses import is_loopback
from esa_preload_worker.esa.endpoint import Endpoint

_REGION = r"[a-z]{2,8}-[a-z0-9-]{1,40}?"
_OFFICIAL = re.compile(rf"oss-({_REGION})(-internal)?\.aliyuncs\.com|({_REGION})\.oss\.aliyuncs\.com")
_ACCELERATED = re.compile(r"oss-accelerate(-overseas)?\.aliyuncs\.com")

Style = Literal["virtual", "path", "domain"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OssEndpoint:
    """
    An endpoint of OSS.

    Attributes:
        url: where we call.
        link_url: where ESA reads: the public endpoint, when ours is the internal one.
        region: which the signatures name.
        style: the bucket stands in the host, in the path (loopback only), or the host is a domain of the bucket's own.
    """

    url: str
    link_url: str
    region: str
    style: Style

    @classmethod
    def parse(cls, url: str, *, region: str, allow_insecure: bool) -> Self:
        """
        Read *url*: an endpoint of Alibaba Cloud, or a domain mapped to the bucket; http as for ESA's endpoint.

        Args:
            region: of the bucket, unless the endpoint names one.

        Raises:
            ValueError: it is none, or it holds the bucket.
        """
        url = Endpoint.parse(url, allow_insecure=allow_insecure).url
        host = urlsplit(url).hostname or ""
        if is_loopback(host):
            return cls(url=url, link_url=url, region=region, style="path")
        if not host.endswith(".aliyuncs.com"):
            return cls(url=url, link_url=url, region=region, style="domain")
        if _ACCELERATED.fullmatch(host):
            return cls(url=url, link_url=url, region=region, style="virtual")
        if (match := _OFFICIAL.fullmatch(host)) is None:
            raise ValueError("an OSS endpoint is oss-<region>.aliyuncs.com, without the bucket")
        link_url = url.replace("-internal.aliyuncs.com", ".aliyuncs.com")
        return cls(url=url, link_url=link_url, region=match[1] or match[3], style="virtual")
