"""What the environment must be for a queue, as pure functions: facts in, outcomes with hints out."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from esa_preload_worker.block_reasons import block_reason
from esa_preload_worker.check.model import Outcome, State
from esa_preload_worker.esa import BlockedError, EsaError, NotSentError, ThrottledError, UncertainError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REDIS_MIN = (7, 0)
WAITAOF_MIN = "7.2"
OFFSET_WARN_S = 2.0
OFFSET_FAIL_S = 15 * 60.0
"""ESA refuses a time stamp that is off by more; a worker then measures the offset, but something is badly wrong by then."""
MEMORY_WARN = 0.80
MEMORY_FAIL = 0.95
ALIVE_LEASES = 1.5
"""A worker renews about three times a lease; one that was not seen for this many is gone."""

SERVER_CHECKS = ("version", "role", "cluster", "persistence", "waitaof", "eviction", "memory", "redis-clock")
"""The names of what :func:`judge_server` judges, in its order."""

NO_PERMISSION = "no permission"
_ASK_FOR_INFO = "let the ACL user run INFO (category @dangerous in Redis's own grouping) to have this checked"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """
    What Redis says of itself.

    Attributes:
        info: of INFO, as text; ``None`` when the ACL user may not ask.
        config: of CONFIG GET; ``None`` when it may not be asked, as on most managed servers.
        has_waitaof: ``None`` when that could not be found out.
        offset_s: seconds that its clock is ahead of ours.
    """

    info: Mapping[str, str] | None
    config: Mapping[str, str] | None
    has_waitaof: bool | None
    offset_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceFacts:
    """What the workers left in the ledger: fingerprint, settings, and seconds since each was last seen."""

    fingerprint: str
    published: Mapping[str, float] = field(default_factory=dict[str, float])
    workers: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """
    What ESA's endpoint answered.

    Attributes:
        failure: of the call; ``None`` when it went through.
        offset_s: seconds that ESA's clock is ahead of ours; ``None`` when it did not say.
        took_s: seconds that the call took.
    """

    failure: EsaError | None
    offset_s: float | None
    took_s: float


def fingerprint_of(endpoint_url: str) -> str:
    """Return what a worker leaves in the ledger as the sign of its endpoint."""
    return hashlib.sha256(endpoint_url.encode()).hexdigest()[:16]


def judge_settings(warnings: Sequence[str]) -> Outcome:
    """Judge what is odd about the settings, which are in range."""
    if warnings:
        return Outcome(
            name="settings",
            state="warn",
            sentence="; ".join(warnings),
            hint="`esa-preload-worker settings` lists them",
        )
    return Outcome(name="settings", state="ok", sentence="every setting is known and in range")


def judge_server(facts: ServerFacts, *, waits_for_disk: bool = True) -> list[Outcome]:
    """Judge whether a server is fit for a queue, whose workers ask it when a claim is on disk if *waits_for_disk*."""
    info = facts.info
    if info is None:
        skipped = [
            Outcome(name=name, state="skipped", sentence=NO_PERMISSION, hint=_ASK_FOR_INFO)
            for name in SERVER_CHECKS[:-1]
        ]
        return [*skipped, judge_offset(SERVER_CHECKS[-1], "Redis", facts.offset_s)]
    config = facts.config or {}
    return [
        _judge_version(info),
        _judge_role(info),
        _judge_cluster(info),
        _judge_persistence(info, config, is_known=facts.config is not None),
        _judge_waitaof(info, config, has_it=facts.has_waitaof, is_asked=waits_for_disk),
        _judge_eviction(info),
        _judge_memory(info),
        judge_offset(SERVER_CHECKS[-1], "Redis", facts.offset_s),
    ]


def _judge_version(info: Mapping[str, str]) -> Outcome:
    text = info.get("redis_version", "")
    shown = f"Valkey {info['valkey_version']} (Redis {text})" if "valkey_version" in info else f"Redis {text}"
    if numbers := re.match(r"(\d+)\.(\d+)", text):
        if (int(numbers[1]), int(numbers[2])) >= REDIS_MIN:
            return Outcome(name="version", state="ok", sentence=shown)
        hint = (
            "upgrade: scripts that may run out of memory, and no-writes scripts, need Redis 7.0 or any Valkey"
        )
        return Outcome(name="version", state="fail", sentence=f"{shown} is older than 7.0", hint=hint)
    return Outcome(name="version", state="skipped", sentence="the server does not tell its version")


def _judge_role(info: Mapping[str, str]) -> Outcome:
    role = info.get("role", "")
    if role == "master":
        return Outcome(name="role", state="ok", sentence="it is the master")
    if not role:
        return Outcome(name="role", state="skipped", sentence="the server does not tell its role")
    hint = "point ESA_PRELOAD_REDIS_URL at the master, or use redis+sentinel://"
    return Outcome(name="role", state="fail", sentence=f"it is a {role}, which takes no writes", hint=hint)


def _judge_cluster(info: Mapping[str, str]) -> Outcome:
    if info.get("cluster_enabled", "0") == "0" and info.get("redis_mode", "") != "cluster":
        return Outcome(name="cluster", state="ok", sentence="it is not a cluster")
    hint = "use a server (or Sentinel) that is no cluster: the scripts and arq need all keys in one place"
    return Outcome(name="cluster", state="fail", sentence="it is a cluster", hint=hint)


def _judge_persistence(info: Mapping[str, str], config: Mapping[str, str], *, is_known: bool) -> Outcome:
    def fail(sentence: str, hint: str) -> Outcome:
        return Outcome(name="persistence", state="fail", sentence=sentence, hint=hint)

    if info.get("loading", "0") != "0":
        return fail("it is still loading its data", "wait until it has read its append-only file")
    if "aof_enabled" not in info:
        return Outcome(name="persistence", state="skipped", sentence="the server does not tell")
    if info.get("aof_last_write_status", "ok") != "ok":
        return fail("the last write to the append-only file failed", "see the server's disk and its log")
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        return fail(
            "the last save failed; the server may refuse writes", "see the server's disk, memory and log"
        )
    if info["aof_enabled"] == "0":
        return fail(
            "the append-only file is off: a restart loses what was accepted since the last save",
            "set `appendonly yes` (CONFIG SET appendonly yes, then CONFIG REWRITE)",
        )
    fsync = config.get("appendfsync", "")
    if fsync == "no":
        return Outcome(
            name="persistence",
            state="warn",
            sentence="the append-only file is on, but synced only when the system likes (appendfsync no)",
            hint="set `appendfsync everysec`, or `always`",
        )
    told = f"appendfsync {fsync}" if fsync else "appendfsync is not told"
    lost = "; the last second may be lost with the machine" if fsync == "everysec" else ""
    told = told if is_known else f"{told}: no permission for CONFIG"
    return Outcome(name="persistence", state="ok", sentence=f"the append-only file is on ({told}{lost})")


def _judge_waitaof(
    info: Mapping[str, str], config: Mapping[str, str], *, has_it: bool | None, is_asked: bool
) -> Outcome:
    if has_it is None:
        return Outcome(
            name="waitaof",
            state="skipped",
            sentence=NO_PERMISSION,
            hint="let the ACL user run WAITAOF: a batch is then on disk before it is sent",
        )
    if has_it and info.get("aof_enabled", "0") != "0" and config.get("appendfsync") == "no":
        return Outcome(
            name="waitaof",
            state="fail" if is_asked else "warn",
            sentence="with appendfsync no it never says that a batch is on disk",
            hint="set `appendfsync always`, or ESA_PRELOAD_WAIT_AOF=off: what was sent before a crash of the machine may "
            "then be sent again",
        )
    if has_it and info.get("aof_enabled", "0") != "0" and config.get("appendfsync") == "everysec":
        return Outcome(
            name="waitaof",
            state="warn",
            sentence="with appendfsync everysec many servers answer it up to a second before a batch is on disk",
            hint="set `appendfsync always`, or live with it: what was sent in the last second before a crash of the "
            "machine may be sent again",
        )
    if has_it and info.get("aof_enabled", "0") != "0":
        return Outcome(name="waitaof", state="ok", sentence="it says when a batch is on disk")
    why = "the append-only file is off" if has_it else f"it needs Redis {WAITAOF_MIN} or Valkey"
    return Outcome(
        name="waitaof",
        state="warn",
        sentence=f"it cannot say when a batch is on disk: {why}",
        hint="what was sent in the last second before a crash of the machine may be sent again",
    )


def _judge_eviction(info: Mapping[str, str]) -> Outcome:
    limit, policy = _integer(info, "maxmemory"), info.get("maxmemory_policy", "")
    if limit is None:
        return Outcome(name="eviction", state="skipped", sentence="the server does not tell its bound")
    if limit and policy != "noeviction":
        return Outcome(
            name="eviction",
            state="fail",
            sentence=f"it may throw keys away when memory runs out (maxmemory-policy {policy or 'unknown'})",
            hint="set `maxmemory-policy noeviction`: a queue must not lose keys",
        )
    said = (
        "nothing is thrown away (noeviction)"
        if limit
        else "no bound on its memory, so nothing is thrown away"
    )
    return Outcome(name="eviction", state="ok", sentence=said)


def _judge_memory(info: Mapping[str, str]) -> Outcome:
    used, limit = _integer(info, "used_memory"), _integer(info, "maxmemory")
    bound = "maxmemory"
    if not limit:
        limit, bound = _integer(info, "total_system_memory"), "the machine's memory"
    if used is None or not limit:
        return Outcome(name="memory", state="skipped", sentence="the server does not tell its memory")
    share = used / limit
    sentence = f"{_mib(used)} of {_mib(limit)} used ({share:.0%} of {bound})"
    if share < MEMORY_WARN:
        return Outcome(name="memory", state="ok", sentence=sentence)
    hint = (
        "give it more memory, or lower ESA_PRELOAD_MAX_PENDING_PER_SITE: when it is full, no URL is accepted"
    )
    return Outcome(
        name="memory", state="fail" if share >= MEMORY_FAIL else "warn", sentence=sentence, hint=hint
    )


def judge_offset(name: str, whose: str, offset_s: float | None) -> Outcome:
    """Judge how far another clock is from this host's."""
    if offset_s is None:
        return Outcome(name=name, state="skipped", sentence=f"{whose} did not tell its time")
    way = "ahead of" if offset_s >= 0 else "behind"
    sentence = f"the clock of {whose} is {abs(offset_s):.1f} s {way} ours"
    if abs(offset_s) <= OFFSET_WARN_S:
        return Outcome(name=name, state="ok", sentence=sentence)
    state: State = "fail" if abs(offset_s) >= OFFSET_FAIL_S else "warn"
    return Outcome(name=name, state=state, sentence=sentence, hint="let NTP set the clocks of both")


def judge_namespace(facts: NamespaceFacts, *, namespace: str, endpoint_url: str) -> Outcome:
    """Judge whether the namespace belongs to this endpoint."""
    if not facts.fingerprint:
        return Outcome(
            name="namespace",
            state="ok",
            sentence=f"{namespace} belongs to nobody yet: no worker has run in it",
        )
    if facts.fingerprint == fingerprint_of(endpoint_url):
        return Outcome(name="namespace", state="ok", sentence=f"{namespace} belongs to {endpoint_url}")
    return Outcome(
        name="namespace",
        state="fail",
        sentence=f"{namespace} belongs to another ESA endpoint than {endpoint_url}",
        hint="one namespace is one account and endpoint: choose another ESA_PRELOAD_NAMESPACE",
    )


def judge_workers(facts: NamespaceFacts, *, lease_s: float) -> Outcome:
    """Judge whether anybody works."""
    alive = [age_s for age_s in facts.workers.values() if age_s <= lease_s * ALIVE_LEASES]
    if not alive:
        return Outcome(
            name="workers",
            state="warn",
            sentence="no worker is alive: URLs wait",
            hint="start one: esa-preload-worker run",
        )
    several = "1 worker is" if len(alive) == 1 else f"{len(alive)} workers are"
    return Outcome(
        name="workers", state="ok", sentence=f"{several} alive, last seen {max(0.0, min(alive)):.1f} s ago"
    )


def judge_published(facts: NamespaceFacts, *, own: Mapping[str, float]) -> Outcome:
    """Judge whether the settings in force are those of this environment, naming each that differs."""
    if not facts.published:
        return Outcome(name="published", state="ok", sentence="no worker has published its settings yet")
    differ = [
        f"{_variable(name)} is {own[name]:g} here, {facts.published[name]:g} in force{_unit(name)}"
        for name in own
        if name in facts.published and facts.published[name] != own[name]
    ]
    if not differ:
        return Outcome(
            name="published", state="ok", sentence="the settings in force are those of this environment"
        )
    hint = "give all workers of a namespace the same settings; the last one started decides"
    return Outcome(name="published", state="warn", sentence="; ".join(differ), hint=hint)


def judge_credentials(failure: EsaError | None) -> Outcome:
    """Judge whether calls to ESA can be signed."""
    if failure is None:
        return Outcome(name="credentials", state="ok", sentence="an access key is there")
    return Outcome(name="credentials", state="fail", sentence=str(failure), hint=failure.hint)


def judge_endpoint(facts: EndpointFacts, *, endpoint_url: str) -> Outcome:
    """Judge whether ESA answers, and whether it lets us."""
    failure = facts.failure
    if failure is None:
        took = f"{facts.took_s * 1000:.0f} ms"
        return Outcome(name="endpoint", state="ok", sentence=f"{endpoint_url} answered ListSites in {took}")
    said = f"{failure} ({failure.code})"
    match failure:
        case BlockedError() if block_reason(failure.code) == "permission":
            return Outcome(
                name="endpoint",
                state="warn",
                sentence=f"{endpoint_url} answers, but denies ListSites: {said}",
                hint="grant esa:ListSites; without it sites are known by their ids only, and whether other calls are allowed was not asked",
            )
        case BlockedError():
            sentence, hint = f"ESA refuses the call: {said}", failure.hint
        case ThrottledError():
            return Outcome(
                name="endpoint",
                state="warn",
                sentence=f"{endpoint_url} answers, but throttles ListSites just now: {said}",
                hint="try again later",
            )
        case NotSentError():
            sentence = f"{endpoint_url} cannot be reached: {said}"
            hint = (
                failure.hint
                or "check ESA_PRELOAD_ENDPOINT or ESA_PRELOAD_REGION, DNS, HTTPS_PROXY and the firewall"
            )
        case UncertainError():
            sentence = f"{endpoint_url} gave no usable reply: {said}"
            hint = (
                failure.hint or "check ESA_PRELOAD_ENDPOINT and HTTPS_PROXY, and whether ESA has an incident"
            )
        case _:
            sentence, hint = f"{endpoint_url} refused ListSites: {said}", failure.hint
    return Outcome(name="endpoint", state="fail", sentence=sentence, hint=hint)


def _variable(name: str) -> str:
    return f"ESA_PRELOAD_{name.removesuffix('_ms').upper()}"


def _unit(name: str) -> str:
    return " (ms)" if name.endswith("_ms") else ""


def _integer(info: Mapping[str, str], name: str) -> int | None:
    value = info.get(name, "")
    return int(value) if value.isdigit() else None


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 1024 / 1024:,.0f} MiB"
