"""Which facts about the environment are well, odd or wrong: tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.check import live
from esa_preload_worker.check.environment import (
    EndpointFacts,
    NamespaceFacts,
    ServerFacts,
    fingerprint_of,
    judge_credentials,
    judge_endpoint,
    judge_namespace,
    judge_offset,
    judge_published,
    judge_server,
    judge_settings,
    judge_workers,
)
from esa_preload_worker.esa import (
    BlockedError,
    EsaError,
    NotSentError,
    RefusedError,
    ThrottledError,
    UncertainError,
)
from esa_preload_worker.settings import Settings

if TYPE_CHECKING:
    from esa_preload_worker.check.model import Outcome, State

GOOD = {
    "redis_version": "7.2.4",
    "valkey_version": "9.1.2",
    "role": "master",
    "cluster_enabled": "0",
    "redis_mode": "standalone",
    "loading": "0",
    "aof_enabled": "1",
    "aof_last_write_status": "ok",
    "rdb_last_bgsave_status": "ok",
    "maxmemory": "0",
    "maxmemory_policy": "noeviction",
    "used_memory": "1048576",
    "total_system_memory": "1073741824",
}
ENDPOINT = "https://esa.cn-hangzhou.aliyuncs.com"


def server(**changes: str) -> ServerFacts:
    """Return a good server, but for *changes* of what INFO says."""
    return ServerFacts(info=GOOD | changes, config={"appendfsync": "always"}, has_waitaof=True, offset_s=0.01)


def outcome_of(name: str, outcomes: list[Outcome]) -> Outcome:
    """Return the outcome of one check."""
    return next(outcome for outcome in outcomes if outcome.name == name)


def test_a_good_server_is_ok_in_everything() -> None:
    """No check of a server that is as it should be warns, fails or is skipped; none needs a hint."""
    for outcome in judge_server(server()):
        assert (outcome.state, outcome.hint) == ("ok", ""), outcome


@pytest.mark.parametrize(
    ("changes", "name", "state", "word"),
    [
        ({"redis_version": "6.2.14"}, "version", "fail", "older than 7.0"),
        ({"redis_version": "7.0.0"}, "version", "ok", "7.0.0"),
        ({"redis_version": "10.1"}, "version", "ok", "10.1"),
        ({"redis_version": ""}, "version", "skipped", "does not tell"),
        ({"role": "slave"}, "role", "fail", "slave"),
        ({"role": ""}, "role", "skipped", "does not tell"),
        ({"cluster_enabled": "1"}, "cluster", "fail", "cluster"),
        ({"redis_mode": "cluster"}, "cluster", "fail", "cluster"),
        ({"loading": "1"}, "persistence", "fail", "loading"),
        ({"aof_enabled": "0"}, "persistence", "fail", "off"),
        ({"aof_last_write_status": "err"}, "persistence", "fail", "append-only file failed"),
        ({"rdb_last_bgsave_status": "err"}, "persistence", "fail", "last save failed"),
        ({"maxmemory": "1000", "maxmemory_policy": "allkeys-lru"}, "eviction", "fail", "allkeys-lru"),
        ({"maxmemory": "1000"}, "eviction", "ok", "noeviction"),
        ({"maxmemory": "0", "maxmemory_policy": "allkeys-lru"}, "eviction", "ok", "no bound"),
        ({"maxmemory": "x"}, "eviction", "skipped", "does not tell"),
        ({"maxmemory": "100", "used_memory": "79"}, "memory", "ok", "79%"),
        ({"maxmemory": "100", "used_memory": "80"}, "memory", "warn", "80%"),
        ({"maxmemory": "100", "used_memory": "95"}, "memory", "fail", "95%"),
        ({"total_system_memory": "2097152", "used_memory": "1992295"}, "memory", "fail", "machine"),
        ({"total_system_memory": ""}, "memory", "skipped", "does not tell"),
    ],
)
def test_a_server_is_judged_by_what_it_says(
    changes: dict[str, str], name: str, state: State, word: str
) -> None:
    """Each fact that matters for a queue leads to its state, a sentence, and a hint where something is to be done."""
    outcome = outcome_of(name, judge_server(server(**changes)))
    assert outcome.state == state
    assert word in outcome.sentence
    assert bool(outcome.hint) == (state in ("warn", "fail"))


@pytest.mark.parametrize(
    ("config", "state", "word"),
    [
        ({"appendfsync": "always"}, "ok", "always"),
        ({"appendfsync": "everysec"}, "ok", "the last second may be lost"),
        ({"appendfsync": "no"}, "warn", "appendfsync no"),
        (None, "ok", "no permission"),
    ],
)
def test_how_the_append_only_file_is_synced_matters(
    config: dict[str, str] | None, state: State, word: str
) -> None:
    """`no` is a warning; a server that may not be asked is not."""
    facts = ServerFacts(info=GOOD, config=config, has_waitaof=True, offset_s=0)
    outcome = outcome_of("persistence", judge_server(facts))
    assert (outcome.state, word in outcome.sentence) == (state, True)


@pytest.mark.parametrize(
    ("has_waitaof", "aof", "fsync", "state"),
    [
        (True, "1", "always", "ok"), (True, "1", "", "ok"), (True, "1", "everysec", "warn"),
        (True, "1", "no", "fail"), (True, "0", "no", "warn"),
        (True, "0", "always", "warn"), (False, "1", "always", "warn"), (None, "1", "always", "skipped"),
    ],
)  # fmt: skip
def test_waitaof_needs_the_command_the_file_and_a_sync_each_time(
    *, has_waitaof: bool | None, aof: str, fsync: str, state: State
) -> None:
    """Without one of them a batch is not known to be on disk; without permission nobody knows."""
    config = {"appendfsync": fsync} if fsync else None
    facts = ServerFacts(info=GOOD | {"aof_enabled": aof}, config=config, has_waitaof=has_waitaof, offset_s=0)
    assert outcome_of("waitaof", judge_server(facts)).state == state


def test_a_file_that_is_never_synced_matters_to_workers_that_wait_for_it() -> None:
    """With `appendfsync no` no claim is ever said to be on disk: the way out is named; where nobody asks, it is odd only."""
    facts = ServerFacts(info=GOOD, config={"appendfsync": "no"}, has_waitaof=True, offset_s=0)
    outcome = outcome_of("waitaof", judge_server(facts))
    assert "`appendfsync always`, or ESA_PRELOAD_WAIT_AOF=off" in outcome.hint
    assert outcome_of("waitaof", judge_server(facts, waits_for_disk=False)).state == "warn"


def test_what_may_not_be_asked_is_skipped() -> None:
    """Without INFO everything that rests on it is skipped for lack of permission; the clock needs none."""
    outcomes = judge_server(ServerFacts(info=None, config=None, has_waitaof=None, offset_s=0))
    assert {outcome.state for outcome in outcomes[:-1]} == {"skipped"}
    assert {outcome.sentence for outcome in outcomes[:-1]} == {"no permission"}
    assert outcomes[-1].state == "ok"


@pytest.mark.parametrize(
    ("offset_s", "state", "word"),
    [
        (0.0, "ok", "0.0 s"),
        (-2.0, "ok", "2.0 s behind"),
        (2.1, "warn", "2.1 s ahead"),
        (-899.9, "warn", "899.9 s behind"),
        (900.0, "fail", "900.0 s"),
        (-3600.0, "fail", "3600.0 s behind"),
        (None, "skipped", "did not tell"),
    ],
)
def test_a_clock_may_be_off_by_two_seconds_and_must_not_be_by_fifteen_minutes(
    offset_s: float | None, state: State, word: str
) -> None:
    """The sentence tells the seconds and the direction."""
    outcome = judge_offset("esa-clock", "ESA", offset_s)
    assert (outcome.state, word in outcome.sentence) == (state, True)


@pytest.mark.parametrize(
    ("fingerprint", "state"), [("", "ok"), (fingerprint_of(ENDPOINT), "ok"), ("0123456789abcdef", "fail")]
)
def test_a_namespace_is_of_one_endpoint(fingerprint: str, state: State) -> None:
    """Nobody's is fine, ours is fine, another's is not."""
    outcome = judge_namespace(NamespaceFacts(fingerprint=fingerprint), namespace="n", endpoint_url=ENDPOINT)
    assert outcome.state == state


@pytest.mark.parametrize(
    ("workers", "state", "word"),
    [
        ({}, "warn", "no worker is alive"),
        ({"a": 59.0}, "warn", "no worker is alive"),
        ({"a": 2.5, "b": 59.0}, "ok", "1 worker is alive, last seen 2.5 s ago"),
        ({"a": 2.5, "b": -0.1}, "ok", "2 workers are alive, last seen 0.0 s ago"),
    ],
)
def test_who_renewed_lately_is_alive(workers: dict[str, float], state: State, word: str) -> None:
    """A worker that was not seen for a lease and a half does not count."""
    outcome = judge_workers(NamespaceFacts(fingerprint="", workers=workers), lease_s=10)
    assert (outcome.state, outcome.sentence.startswith(word)) == (state, True)


def test_settings_in_force_that_differ_are_named() -> None:
    """Each by its variable, with both values; those that are equal or not published are not."""
    own = {"batch_max_urls": 50, "batch_quiet_ms": 5_000, "rate_max": 100}
    none = NamespaceFacts(fingerprint="")
    assert judge_published(none, own=own).state == "ok"
    same = NamespaceFacts(fingerprint="", published={"batch_max_urls": 50})
    assert judge_published(same, own=own).state == "ok"
    other = NamespaceFacts(
        fingerprint="", published={"batch_max_urls": 100, "batch_quiet_ms": 1_000, "rate_max": 100}
    )
    outcome = judge_published(other, own=own)
    assert outcome.state == "warn"
    assert "ESA_PRELOAD_BATCH_MAX_URLS is 50 here, 100 in force" in outcome.sentence
    assert "ESA_PRELOAD_BATCH_QUIET is 5000 here, 1000 in force (ms)" in outcome.sentence
    assert "RATE_MAX" not in outcome.sentence


@pytest.mark.parametrize(
    ("failure", "state", "word"),
    [
        (None, "ok", "answered ListSites"),
        (
            BlockedError("m", scope="account", code="SignatureDoesNotMatch", hint="h"),
            "fail",
            "refuses the call",
        ),
        (
            BlockedError("m", scope="account", code="Forbidden.RAM", hint="grant it"),
            "warn",
            "denies ListSites",
        ),
        (ThrottledError("m", code="TooManyRequests"), "warn", "throttles"),
        (NotSentError("m", code="not_sent.dns"), "fail", "cannot be reached"),
        (UncertainError("m", code="uncertain.timeout"), "fail", "no usable reply"),
        (RefusedError("m", code="InvalidParameter", hint="h"), "fail", "refused ListSites"),
    ],
)
def test_an_endpoint_is_judged_by_how_the_call_ended(
    failure: EsaError | None, state: State, word: str
) -> None:
    """The class of the error decides; its code is in the sentence, and its hint is handed on."""
    facts = EndpointFacts(failure=failure, offset_s=None, took_s=0.1)
    outcome = judge_endpoint(facts, endpoint_url=ENDPOINT)
    assert (outcome.state, word in outcome.sentence) == (state, True)
    assert bool(outcome.hint) == (failure is not None)


def test_credentials_and_settings_speak_for_themselves() -> None:
    """What is missing is said with its hint; a warning of the settings is one here."""
    assert judge_credentials(None).state == "ok"
    missing = BlockedError("no usable credentials", scope="account", code="no_credentials", hint="set them")
    assert (judge_credentials(missing).state, judge_credentials(missing).hint) == ("fail", "set them")
    assert judge_settings([]).state == "ok"
    assert (judge_settings(["X is not a setting"]).state, "X is not" in judge_settings(["X is not a setting"]).sentence) == ("warn", True)  # fmt: skip


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({}, ("127.0.0.1", 9464)),
        ({"ESA_PRELOAD_OPS_HOST": "0.0.0.0"}, ("127.0.0.1", 9464)),
        ({"ESA_PRELOAD_OPS_HOST": "::", "ESA_PRELOAD_OPS_PORT": "80"}, ("::1", 80)),
        ({"ESA_PRELOAD_OPS_HOST": " 10.0.0.7 ", "ESA_PRELOAD_OPS_PORT": " 1 "}, ("10.0.0.7", 1)),
    ],
)
def test_the_probe_asks_where_the_worker_listens(environ: dict[str, str], address: tuple[str, int]) -> None:
    """Everywhere means this machine."""
    assert live.address(environ) == address


def test_the_probe_s_defaults_are_the_settings() -> None:
    """They are written down twice, since the table of settings takes too long to load."""
    defaults = [Settings.model_fields[name].default for name in ("ops_host", "ops_port")]
    assert defaults == [live.DEFAULT_HOST, live.DEFAULT_PORT]
