"""Asks Redis, the ledger and ESA what the checks of the environment judge; each question within its time."""

from __future__ import annotations

import asyncio
import os
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx
from redis.exceptions import ResponseError

from esa_preload.errors import SettingsError
from esa_preload.keys import Keys
from esa_preload.outages import redis_errors
from esa_preload.scripts import as_text, command
from esa_preload_worker.check.bucket import check_bucket
from esa_preload_worker.check.environment import (
    EndpointFacts,
    NamespaceFacts,
    ServerFacts,
    judge_credentials,
    judge_endpoint,
    judge_namespace,
    judge_offset,
    judge_published,
    judge_server,
    judge_settings,
    judge_workers,
)
from esa_preload_worker.check.model import Outcome
from esa_preload_worker.esa import EsaClient, EsaError, credentials_from_env
from esa_preload_worker.esa.classify import http_date
from esa_preload_worker.esa.endpoint import Proxies

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from esa_preload_worker.esa import CredentialSource
    from esa_preload_worker.settings import Loaded, Settings

PROBE_S = 10.0
"""For one check, at most."""
NOBODYS_SITE = "esa-preload-check.invalid"
"""The name that ListSites is filtered by: a site that no account has, so that the reply is small."""


async def reach(redis: Redis) -> None:
    """
    Make sure that Redis answers.

    Raises:
        QueueUnavailableError: it does not.
    """
    with redis_errors():
        async with asyncio.timeout(PROBE_S):
            await command(redis, "PING")


async def check_all(redis: Redis, loaded: Loaded) -> list[Outcome]:
    """Run every check of the environment; Redis is known to answer."""
    settings = loaded.settings
    local, remote = await asyncio.gather(_check_redis(redis, settings), _check_esa(settings))
    reached = Outcome(name="redis", state="ok", sentence="Redis answers")
    return [judge_settings(loaded.warnings), reached, *local, *remote]


async def _check_redis(redis: Redis, settings: Settings) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with redis_errors():
        async with asyncio.timeout(PROBE_S):
            outcomes += judge_server(await server_facts(redis), waits_for_disk=settings.wait_aof)
        async with asyncio.timeout(PROBE_S):
            facts = await namespace_facts(redis, Keys(settings.namespace))
    endpoint_url = settings.endpoint_url
    return [
        *outcomes,
        judge_namespace(facts, namespace=settings.namespace, endpoint_url=endpoint_url),
        judge_workers(facts, lease_s=settings.lease),
        judge_published(facts, own=settings.published()),
    ]


async def _check_esa(settings: Settings) -> list[Outcome]:
    source = credentials_from_env(os.environ)
    try:
        async with asyncio.timeout(PROBE_S):
            await source.get()
    except EsaError as exc:
        offset_s = await _date_offset_s(settings)
        answers = "does not answer" if offset_s is None else "answers"
        said = f"{settings.endpoint_url} {answers}; no call can be signed"
        skipped = Outcome(name="endpoint", state="skipped", sentence=said)
        return [judge_credentials(exc), skipped, judge_offset("esa-clock", "ESA", offset_s)]
    facts = await endpoint_facts(settings, source)
    return [
        judge_credentials(None),
        judge_endpoint(facts, endpoint_url=settings.endpoint_url),
        judge_offset("esa-clock", "ESA", facts.offset_s),
        *await check_bucket(settings, source),
    ]


async def server_facts(redis: Redis) -> ServerFacts:
    """Ask a server what it is."""
    before = time.time()
    seconds, micros = await command(redis, "TIME")
    middle = (before + time.time()) / 2
    info = await _permitted(redis, "INFO")
    config = await _permitted(redis, "CONFIG", "GET", "appendfsync")
    return ServerFacts(
        info=info,
        config=config,
        has_waitaof=await _has_waitaof(redis),
        offset_s=int(seconds) + int(micros) / 1e6 - middle,
    )


async def namespace_facts(redis: Redis, keys: Keys) -> NamespaceFacts:
    """Ask the ledger what the workers left in it."""
    fingerprint = await command(redis, "HGET", keys.meta, "fingerprint")
    published = await command(redis, "HGETALL", keys.settings)
    seconds, micros = await command(redis, "TIME")
    now_ms = int(seconds) * 1000 + int(micros) / 1000
    seen = await command(redis, "ZRANGE", keys.workers, 0, -1, "WITHSCORES")
    return NamespaceFacts(
        fingerprint="" if fingerprint is None else as_text(fingerprint),
        published={as_text(name): float(value) for name, value in published.items()},
        workers={
            as_text(worker): (now_ms - float(at)) / 1000
            for worker, at in zip(seen[0::2], seen[1::2], strict=True)
        },
    )


async def endpoint_facts(settings: Settings, source: CredentialSource) -> EndpointFacts:
    """
    Make one cheap call of ESA, and learn its time.

    Raises:
        SettingsError: HTTPS_PROXY is no proxy.
    """
    timeout_s = min(settings.call_timeout, PROBE_S)
    try:
        client = EsaClient(
            settings.endpoint_url, source, timeout_s, allow_insecure_endpoint=settings.allow_insecure_endpoint
        )
    except ValueError as exc:  # of the proxy, which the settings do not look at
        raise SettingsError(str(exc)) from None
    failure: EsaError | None = None
    began = time.perf_counter()
    async with client:
        try:
            await client.list_sites(name=NOBODYS_SITE)
        except EsaError as exc:
            failure = exc
        took_s = time.perf_counter() - began
        learnt_s = client.clock_offset_s
    offset_s = await _date_offset_s(settings)
    return EndpointFacts(failure=failure, offset_s=learnt_s or offset_s, took_s=took_s)


async def _date_offset_s(settings: Settings) -> float | None:
    """Return how far ESA's clock is ahead, by the Date of its reply to an unsigned request; ``None`` when none came."""
    url = f"{settings.endpoint_url}/"
    try:
        async with (
            asyncio.timeout(min(settings.call_timeout, PROBE_S)),
            httpx.AsyncClient(
                proxy=Proxies(os.environ).proxy_for(url), trust_env=False, timeout=PROBE_S
            ) as client,
        ):
            before = datetime.now(UTC)
            response = await client.head(url)
            middle = before + (datetime.now(UTC) - before) / 2
    except (httpx.HTTPError, OSError, TimeoutError, ValueError):
        return None
    said = http_date(response.headers.get("date", ""))
    # The header is cut to the second: half of one is the best guess.
    return None if said is None else (said - middle).total_seconds() + 0.5


async def _has_waitaof(redis: Redis) -> bool | None:
    try:
        await command(redis, "WAITAOF", 0, 0, 1)
    except ResponseError as exc:
        text = str(exc).lower()
        return False if "unknown command" in text else None
    return True


async def _permitted(redis: Redis, *arguments: str) -> dict[str, str] | None:
    """Run a command that an ACL user, or a managed server, may refuse; its reply is a map, or a list of names and values."""
    try:
        reply: Any = await command(redis, *arguments)
    except ResponseError:
        return None
    flat: Any = [part for pair in reply.items() for part in pair] if hasattr(reply, "items") else reply
    return {as_text(name): as_text(value) for name, value in zip(flat[0::2], flat[1::2], strict=True)}
