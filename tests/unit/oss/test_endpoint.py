"""How an endpoint of OSS is read: the region, the place of the bucket, and what ESA is told."""

from __future__ import annotations

import pytest

from esa_preload_worker.oss_endpoint import OssEndpoint


def parse(url: str) -> OssEndpoint:
    """Read *url*, with a region that none of them names."""
    return OssEndpoint.parse(url, region="eu-x-1", allow_insecure=False)


@pytest.mark.parametrize(
    ("host", "link_host", "region", "style"),
    [
        ("oss-cn-hangzhou.aliyuncs.com", None, "cn-hangzhou", "virtual"),
        ("oss-cn-hangzhou-internal.aliyuncs.com", "oss-cn-hangzhou.aliyuncs.com", "cn-hangzhou", "virtual"),
        ("oss-ap-southeast-1.aliyuncs.com", None, "ap-southeast-1", "virtual"),
        ("cn-hangzhou.oss.aliyuncs.com", None, "cn-hangzhou", "virtual"),
        ("oss-accelerate.aliyuncs.com", None, "eu-x-1", "virtual"),
        ("oss-accelerate-overseas.aliyuncs.com", None, "eu-x-1", "virtual"),
        ("lists.example.com", None, "eu-x-1", "domain"),
        ("127.0.0.1:8787", None, "eu-x-1", "path"),
        ("localhost:1", None, "eu-x-1", "path"),
        ("[::1]:1", None, "eu-x-1", "path"),
    ],
)
def test_an_endpoint_says_region_and_style(host: str, link_host: str | None, region: str, style: str) -> None:
    """And ESA, which is in no VPC of ours, is never sent to an internal one."""
    endpoint = parse(f"https://{host}")
    assert (endpoint.url, endpoint.link_url) == (f"https://{host}", f"https://{link_host or host}")
    assert (endpoint.region, endpoint.style) == (region, style)


@pytest.mark.parametrize(
    "url",
    [
        "https://lists.oss-cn-hangzhou.aliyuncs.com",
        "https://oss.aliyuncs.com",
        "https://esa.cn-hangzhou.aliyuncs.com",
        "http://oss-cn-hangzhou.aliyuncs.com",
        "https://lists.example.com/prefix",
    ],
)
def test_what_is_no_endpoint_is_refused(url: str) -> None:
    """With the bucket in it, it would stand there twice."""
    with pytest.raises(ValueError, match="endpoint"):
        parse(url)
