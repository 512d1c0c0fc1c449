"""The simulated ESA as a command: its options, its announcement, its life."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from esa_preload.addresses import is_loopback
from esa_preload.errors import InvalidRequestError, SettingsError
from esa_preload.model import parse_site_id
from esa_preload_worker.demo.signals import until_signal
from esa_preload_worker.sandbox import (
    DEFAULT_ACCESS_KEY_ID,
    DEFAULT_ACCESS_KEY_SECRET,
    BucketLimit,
    SandboxConfig,
    WindowLimit,
    serve,
)
from esa_preload_worker.sandbox.config import EVERY_OPERATION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

BUCKET = "lists"
"""Any will do: every bucket exists."""
_WINDOW = re.compile(r"(\d{1,9})/(\d{1,9}(?:\.\d{1,9})?)", re.ASCII)


def parse_config(
    *,
    rate: float | None,
    burst: int | None,
    window: str | None,
    no_hint: bool,
    job_cap: int | None,
    quota: int | None,
    sites: Sequence[str],
    latency: float,
    jitter: float,
    no_verify: bool,
) -> SandboxConfig:
    """
    Return the configuration that the command's options ask for.

    Raises:
        ValueError: options that exclude each other, or a value out of range; the message is one sentence.
    """
    limit = _parse_limit(rate, burst, window)
    return SandboxConfig(
        verify_signatures=not no_verify,
        sites=_parse_sites(sites),
        limits={EVERY_OPERATION: limit} if limit else {},
        send_hint=not no_hint,
        latency_s=latency,
        jitter_s=jitter,
        max_jobs_per_site=job_cap,
        url_quota_per_site=quota,
    )


def announce(url: str, *, host: str) -> tuple[str, str]:
    """
    Return how to point a worker at the sandbox at *url*, in two lines, and a warning, or an empty text.

    Args:
        host: what it was told to listen on.
    """
    insecure, warning = "", ""
    if not is_loopback(host):
        warning = (
            f"Warning: {host} can be reached from other machines, unencrypted, with an access key that is no secret;"
            " the control routes (/_sandbox/…) are off."
        )
        insecure = " ESA_PRELOAD_ALLOW_INSECURE_ENDPOINT=1"
    if _is_wildcard(host):
        url = f"http://127.0.0.1:{urlsplit(url).port}"
    return (
        f"Simulated ESA at {url}; for a worker: ESA_PRELOAD_ENDPOINT={url}{insecure}"
        f" ALIBABA_CLOUD_ACCESS_KEY_ID={DEFAULT_ACCESS_KEY_ID} ALIBABA_CLOUD_ACCESS_KEY_SECRET={DEFAULT_ACCESS_KEY_SECRET}\n"
        f"Simulated OSS at the same address; for large backlogs as lists: ESA_PRELOAD_OSS_BUCKET={BUCKET} ESA_PRELOAD_OSS_ENDPOINT={url}",
        warning,
    )


def run(config: SandboxConfig, *, host: str, port: int) -> int:
    """
    Serve until a signal; returns 0.

    Raises:
        SettingsError: the address cannot be listened on.
    """

    def ready(url: str) -> None:
        line, warning = announce(url, host=host)
        if warning:
            click.echo(warning, err=True)
        click.echo(line)

    try:
        with asyncio.Runner() as runner:
            runner.run(until_signal(_serve(config, host, port, ready)))
    except OSError as exc:
        why = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else exc.strerror or str(exc)
        raise SettingsError(
            f"cannot listen on {host}:{port}: {why}",
            hint="choose another --port (0 for a free one) or --host",
        ) from exc
    return 0


async def _serve(config: SandboxConfig, host: str, port: int, ready: Callable[[str], None]) -> int:
    await serve(config, host, port, ready)
    return 0


def _parse_limit(
    rate: float | None, burst: int | None, window: str | None
) -> BucketLimit | WindowLimit | None:
    if window is not None:
        if rate is not None or burst is not None:
            raise ValueError("--window excludes --rate and --burst: a limit is a window or a bucket")
        match = _WINDOW.fullmatch(window)
        if match is None:
            raise ValueError(f"--window must be calls/seconds such as 200/60, not {window!r}")
        return WindowLimit(calls=int(match[1]), window_s=float(match[2]))
    if rate is None:
        if burst is not None:
            raise ValueError("--burst needs --rate")
        return None
    if not 0 < rate < math.inf:
        raise ValueError("--rate must be a positive number")
    return BucketLimit(rate_per_s=rate, burst=max(1, math.ceil(rate)) if burst is None else burst)


def _parse_sites(texts: Sequence[str]) -> dict[int, tuple[str, ...]]:
    sites: dict[int, tuple[str, ...]] = {}
    for text in texts:
        site, equals, domains = text.partition("=")
        try:
            site_id = parse_site_id(site)
        except InvalidRequestError as exc:
            raise ValueError(f"--site must be ID=DOMAIN[,DOMAIN…]: {exc}") from None
        names = tuple(name.strip().lower() for name in domains.split(",") if name.strip())
        if not equals or not names:
            raise ValueError(f"--site must be ID=DOMAIN[,DOMAIN…], not {text!r}")
        sites[site_id] = sites.get(site_id, ()) + names
    return sites


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False
