"""The settings of `esa-preload serve`: bounds, what is unknown, and what each process knows of the other's."""

from __future__ import annotations

import pytest

from esa_preload.api.settings import WORKER_SETTINGS, Settings, load
from esa_preload.errors import SettingsError
from esa_preload.settings import EnvironmentSettings, variable_of
from esa_preload_worker.settings import Settings as WorkerSettings
from esa_preload_worker.settings import load as load_worker

REDIS = {"ESA_PRELOAD_REDIS_URL": "redis://localhost"}


def test_all_that_is_wrong_is_named_at_once() -> None:
    """One error names every bad variable, also those that are wrong only beside another."""
    bad = {
        "HTTP_HOST": "0.0.0.0",
        "HTTP_PORT": "70000",
        "HTTP_TRUSTED_PROXIES": "10.0.0.0/8, proxy",
        "HTTP_SESSION_KEY": "short",
        "HTTP_BODY_TIMEOUT": "nan",
        "NAMESPACE": "a b",
    }
    with pytest.raises(SettingsError) as caught:
        load({f"ESA_PRELOAD_{name}": value for name, value in bad.items()})
    for name in (*bad, "REDIS_URL", "TOKENS_FILE"):
        assert (f"ESA_PRELOAD_{name}" in str(caught.value)) == (name != "HTTP_HOST"), name
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.8.8.8"])
def test_loopback_needs_no_tokens(host: str) -> None:
    """Only there a missing TOKENS_FILE is no error."""
    assert load(REDIS | {"ESA_PRELOAD_HTTP_HOST": host}).settings.tokens_path is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", "localhost.example.com"])
def test_elsewhere_tokens_are_needed(host: str) -> None:
    """No other address is served to whoever comes."""
    with pytest.raises(SettingsError, match="TOKENS_FILE"):
        load(REDIS | {"ESA_PRELOAD_HTTP_HOST": host})


def test_the_worker_settings_known_here_are_the_worker_s() -> None:
    """A variable of the worker's is not warned about, and none that is no setting is taken for one."""
    shared = {*EnvironmentSettings.model_fields, *Settings.model_fields}
    assert set(WORKER_SETTINGS) == set(WorkerSettings.model_fields) - shared


def test_neither_process_warns_of_what_the_other_reads() -> None:
    """One environment serves both; what neither knows is warned about by both."""
    everything = {variable_of(name): "" for name in (*WorkerSettings.model_fields, *Settings.model_fields)}
    odd = everything | REDIS | {"ESA_PRELOAD_HTTP_SESSION_KEY_FILE": "/nowhere", "ESA_PRELOAD_HTTP_PROT": "1"}
    meant = "ESA_PRELOAD_HTTP_PROT is not a setting"
    assert load_worker(odd).warnings == (meant,)
    del odd["ESA_PRELOAD_HTTP_SESSION_KEY_FILE"]
    assert load(odd).warnings == (f"{meant}; is ESA_PRELOAD_HTTP_PORT meant?",)
