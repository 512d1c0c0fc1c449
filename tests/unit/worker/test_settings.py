"""The worker's settings: what is read, what is refused, and what is said about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload.errors import SettingsError
from esa_preload.settings import PREFIX
from esa_preload_worker.settings import Settings, load, table

if TYPE_CHECKING:
    from pathlib import Path

REDIS = {"ESA_PRELOAD_REDIS_URL": "redis://h"}

DEFAULTS = {
    "NAMESPACE": "default",
    "REGION": "cn-hangzhou",
    "ENDPOINT": "",
    "ALLOW_INSECURE_ENDPOINT": "off",
    "BATCH_MAX_URLS": "100",
    "BATCH_MAX_BYTES": "65536",
    "BATCH_MAX_AGE": "60",
    "BATCH_QUIET": "5",
    "URL_MAX_CHARS": "2048",
    "SITE_CONCURRENCY": "4",
    "MAX_JOBS": "16",
    "RATE_INITIAL": "5",
    "RATE_MIN": "0.1",
    "RATE_MAX": "100",
    "JOB_NAME_PREFIX": "preload",
    "PLAN": "on",
    "JOB_RETENTION": "3600",
    "LEASE": "10",
    "CALL_TIMEOUT": "10",
    "LIST_LAG": "5",
    "QUOTA_RETRY_AFTER": "3600",
    "MAX_PENDING_PER_SITE": "1000000",
    "REQUEST_TTL": "604800",
    "SHUTDOWN_GRACE": "25",
    "OPS_HOST": "127.0.0.1",
    "OPS_PORT": "9464",
    "METRICS_MAX_SITES": "200",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "auto",
}
"""The contract's list."""

ADDED = {
    "WAIT_AOF": "on",
    "OSS_BUCKET": "",
    "OSS_ENDPOINT": "",
    "OSS_PREFIX": "esa-preload/",
    "OSS_MIN_URLS": "1000",
    "OSS_MAX_URLS": "100000",
    "OSS_LINK": "signed",
}
"""What came since."""


def settings(**variables: str) -> Settings:
    """Load *variables*, given without prefix."""
    return load(REDIS | {f"{PREFIX}{name}": value for name, value in variables.items()}).settings


def refusal(**variables: str) -> str:
    """Return what is said about *variables*."""
    with pytest.raises(SettingsError) as caught:
        settings(**variables)
    return str(caught.value)


def test_the_defaults_are_those_of_the_contract() -> None:
    """Name by name; only the pace of plans has defaults that the contract leaves open."""
    shown = {row.variable.removeprefix(PREFIX): row.default for row in table()}
    assert shown | DEFAULTS | ADDED == shown
    assert shown.keys() - (DEFAULTS | ADDED) == {"REDIS_URL", "PLAN_INTERVAL", "PLAN_SLICE"}
    assert all(row.help.endswith(".") for row in table())


BAD = {
    "NAMESPACE": ("a b", "-a", "x" * 65),
    "REGION": ("cn hangzhou", "x/../y", "A"),
    "ENDPOINT": (
        "https://u:p@h",
        "https://h/path",
        "https://h?q",
        "ftp://h",
        "https://",
        "https://h:99999",
        "h h",
    ),
    "ALLOW_INSECURE_ENDPOINT": ("maybe", "2"),
    "BATCH_MAX_URLS": ("0", "1001", "1.5", "many"),
    "BATCH_MAX_BYTES": ("1023", "1048577"),
    "BATCH_MAX_AGE": ("0", "-1", "nan", "inf", "1e12"),
    "BATCH_QUIET": ("0.01", "5s"),
    "URL_MAX_CHARS": ("15", "8193"),
    "SITE_CONCURRENCY": ("0", "1001"),
    "MAX_JOBS": ("0", "1001"),
    "RATE_INITIAL": ("0", "nan", "10001"),
    "RATE_MIN": ("0", "-1"),
    "RATE_MAX": ("0", "inf"),
    "JOB_NAME_PREFIX": ("a-b", "a" * 33, "ü"),
    "PLAN": ("perhaps",),
    "PLAN_INTERVAL": ("0", "86401"),
    "PLAN_SLICE": ("0",),
    "JOB_RETENTION": ("0",),
    "LEASE": ("0.9", "601"),
    "CALL_TIMEOUT": ("0.4", "301"),
    "WAIT_AOF": ("perhaps",),
    "LIST_LAG": ("0",),
    "QUOTA_RETRY_AFTER": ("0",),
    "MAX_PENDING_PER_SITE": ("0",),
    "REQUEST_TTL": ("0",),
    "SHUTDOWN_GRACE": ("-1", "3601"),
    "OSS_BUCKET": ("ab", "a" * 64, "-ab", "ab-", "A-b", "a_b", "a.b", "a/b"),
    "OSS_ENDPOINT": (
        "http://oss-cn-hangzhou.aliyuncs.com",
        "https://lists.oss-cn-hangzhou.aliyuncs.com",
        "https://esa.cn-hangzhou.aliyuncs.com",
        "https://u:p@h",
        "https://h/lists",
    ),
    "OSS_PREFIX": ("/a", "a b/", "a?b", "a\nb", "x" * 201),
    "OSS_MIN_URLS": ("0", "1000001"),
    "OSS_MAX_URLS": ("0", "1000001", "999"),
    "OSS_LINK": ("public",),
    "OPS_PORT": ("-1", "65536", "http"),
    "METRICS_MAX_SITES": ("0",),
    "LOG_LEVEL": ("loud",),
    "LOG_FORMAT": ("xml",),
    "REDIS_URL": ("http://h", "redis://", "h:6379", "redis://h:port", "redis+sentinel://h"),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_bad_value_is_named_and_stops_the_start(name: str, value: str) -> None:
    """No bad value becomes a default in silence; the variable is named in full."""
    assert f"{PREFIX}{name}" in refusal(**{name: value})


def test_every_variable_that_has_a_range_is_tried() -> None:
    """The table above forgets none but the one that takes any text."""
    assert {row.variable.removeprefix(PREFIX) for row in table()} - BAD.keys() == {"OPS_HOST"}


def test_all_that_is_wrong_is_named_at_once() -> None:
    """One start shows every bad variable, those that only two variables together make wrong among them."""
    message = refusal(
        REDIS_URL="nothing",
        BATCH_MAX_URLS="0",
        LEASE="x",
        RATE_MIN="50",
        ENDPOINT="http://h.example",
        NAMESPACE="?",
        OSS_BUCKET="No_bucket",
        OSS_ENDPOINT="ftp://h",
        OSS_MAX_URLS="10",
    )
    for name in (
        "REDIS_URL", "BATCH_MAX_URLS", "LEASE", "RATE_MAX", "ENDPOINT", "NAMESPACE",
        "OSS_BUCKET", "OSS_ENDPOINT", "OSS_MAX_URLS",
    ):  # fmt: skip
        assert f"{PREFIX}{name}" in message


def test_what_is_wrong_is_said_in_plain_words() -> None:
    """Names keep their letters, and what is no number is not called too large."""
    assert "ESA_PRELOAD_RATE_MAX: RATE_MIN <= RATE_INITIAL" in refusal(RATE_MIN="50")
    assert "ESA_PRELOAD_BATCH_MAX_URLS: input should be" in refusal(BATCH_MAX_URLS="0")
    for name in ("RATE_MIN", "LEASE", "BATCH_MAX_AGE"):
        for value in ("nan", "inf"):
            assert f"ESA_PRELOAD_{name}: input should be a finite number" in refusal(**{name: value})


def test_a_missing_queue_is_named_with_the_rest() -> None:
    """REDIS_URL has no default: unset and empty are the same."""
    for environ in ({}, {"ESA_PRELOAD_REDIS_URL": "  "}):
        with pytest.raises(SettingsError, match="ESA_PRELOAD_REDIS_URL is not set"):
            load(environ)


def test_an_empty_variable_is_not_set() -> None:
    """What a sample file leaves empty keeps its default."""
    assert settings(BATCH_MAX_URLS="", ENDPOINT=" ").batch_max_urls == 100


@pytest.mark.parametrize(
    "url",
    ["canary://u:canary@h", "redis://u:canary@h:x", "redis://:canary@", "redis+sentinel://u:canary@h:x/s"],
)
def test_no_secret_is_echoed(url: str) -> None:
    """What is wrong with a URL is said without the URL."""
    assert "canary" not in refusal(REDIS_URL=url)
    assert "canary" not in repr(settings(REDIS_URL="redis://u:canary@h"))


@pytest.mark.parametrize(
    ("endpoint", "allow", "url"),
    [
        ("", "0", "https://esa.cn-hangzhou.aliyuncs.com"),
        ("esa.example", "0", "https://esa.example"),
        ("HTTPS://ESA.Example:443/", "0", "https://esa.example"),
        ("https://esa.example:8443", "0", "https://esa.example:8443"),
        ("http://127.0.0.1:8080", "0", "http://127.0.0.1:8080"),
        ("http://localhost", "0", "http://localhost"),
        ("http://[::1]:1", "0", "http://[::1]:1"),
        ("http://esa.example", "1", "http://esa.example"),
    ],
)
def test_one_endpoint_is_written_one_way(endpoint: str, allow: str, url: str) -> None:
    """However it is spelt: the fingerprint of the namespace is made of it."""
    assert settings(ENDPOINT=endpoint, ALLOW_INSECURE_ENDPOINT=allow).endpoint_url == url


@pytest.mark.parametrize("endpoint", ["http://esa.example", "http://10.0.0.1", "http://127.0.0.1.example"])
def test_http_is_for_loopback(endpoint: str) -> None:
    """Anywhere else it must be allowed, and then warns at each start."""
    assert "ALLOW_INSECURE_ENDPOINT" in refusal(ENDPOINT=endpoint)
    loaded = load(REDIS | {f"{PREFIX}ENDPOINT": endpoint, f"{PREFIX}ALLOW_INSECURE_ENDPOINT": "on"})
    assert any("unencrypted" in warning for warning in loaded.warnings)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("ESA_PRELOAD_BATCH_MAX_URL", "ESA_PRELOAD_BATCH_MAX_URLS"),
        ("ESA_PRELOAD_MAXJOBS", "ESA_PRELOAD_MAX_JOBS"),
        ("ESA_PRELOAD_XYZZY", ""),
    ],
)
def test_an_unknown_variable_warns(variable: str, meant: str) -> None:
    """A typing error must not be a silent default; the value is not shown, and only what is close is suggested."""
    (warning,) = load(REDIS | {variable: "canary", "OTHER": "x"}).warnings
    assert variable in warning
    assert "canary" not in warning
    assert (meant in warning) if meant else ("meant" not in warning)


def test_an_undocumented_region_warns_unless_there_is_an_endpoint() -> None:
    """ESA has endpoints in two regions; a new one may come."""
    assert load(REDIS | {"ESA_PRELOAD_REGION": "eu-x-1"}).warnings
    assert not load(REDIS | {"ESA_PRELOAD_REGION": "eu-x-1", "ESA_PRELOAD_ENDPOINT": "h"}).warnings


def test_the_queue_may_stand_in_a_file(tmp_path: Path) -> None:
    """``_FILE`` keeps a password out of the environment; a file that can't be read is named, not its content."""
    file = tmp_path / "url"
    file.write_text("redis://u:canary@h\n")
    environ = {"ESA_PRELOAD_REDIS_URL_FILE": str(file)}
    loaded = load(environ)
    assert loaded.settings.redis_url.get_secret_value() == "redis://u:canary@h"
    assert not loaded.warnings
    with pytest.raises(SettingsError, match="ESA_PRELOAD_REDIS_URL_FILE cannot be read"):
        load({"ESA_PRELOAD_REDIS_URL_FILE": str(tmp_path / "none")})


def test_what_is_published_is_in_the_units_of_the_scripts() -> None:
    """Milliseconds, bytes, counts."""
    published = settings(BATCH_QUIET="0.5", LEASE="2", REQUEST_TTL="10").published()
    assert (published["batch_quiet_ms"], published["lease_ms"], published["request_ttl_ms"]) == (
        500,
        2_000,
        10_000,
    )
    assert all(isinstance(value, int | float) for value in published.values())


def test_the_embedded_queue_has_a_directory(tmp_path: Path) -> None:
    """Only an embedded URL has one; a path too long for a socket is refused as that."""
    assert settings().embedded_directory is None
    assert settings(REDIS_URL=f"embedded:{tmp_path}").embedded_directory == tmp_path
    assert "ESA_PRELOAD_REDIS_URL: /" in refusal(REDIS_URL=f"embedded:/{'d' * 200}")


def test_a_bucket_without_the_extra_is_said_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first large backlog, hours later."""

    def find_nothing(name: str) -> None:
        del name

    monkeypatch.setattr("importlib.util.find_spec", find_nothing)
    assert "pip install 'esa-preload[worker,oss]'" in refusal(OSS_BUCKET="lists")


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://oss-cn-hangzhou.aliyuncs.com"),
        ({"REGION": "ap-southeast-1"}, "https://oss-ap-southeast-1.aliyuncs.com"),
        ({"OSS_ENDPOINT": "oss-cn-shanghai-internal.aliyuncs.com"}, "https://oss-cn-shanghai-internal.aliyuncs.com"),
        ({"OSS_ENDPOINT": "http://127.0.0.1:8787/"}, "http://127.0.0.1:8787"),
        ({"OSS_ENDPOINT": "http://lists.example", "ALLOW_INSECURE_ENDPOINT": "1"}, "http://lists.example"),
    ],
)  # fmt: skip
def test_the_endpoint_of_oss_follows_the_region(variables: dict[str, str], url: str) -> None:
    """Unless it is given; as for ESA's, http is for loopback, or must be allowed."""
    assert settings(**variables).oss_endpoint_url == url
