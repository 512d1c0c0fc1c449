"""What the environment of a process may name: the settings of worker and API, and what the official library reads."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Final

from esa_preload.api.settings import Settings as ApiSettings
from esa_preload.api.settings import table as api_table
from esa_preload_worker.settings import Settings as WorkerSettings
from esa_preload_worker.settings import table as worker_table

DEFAULTS: Final = {
    "worker": {row.variable: row.default for row in worker_table()},
    "api": {row.variable: row.default for row in api_table()},
}
"""Component → variable → default."""

_SECRETS: Final = {
    f"ESA_PRELOAD_{name.upper()}_FILE" for kind in (WorkerSettings, ApiSettings) for name in kind.secrets
}


def is_known(variable: str) -> bool:
    """Tell whether *variable* does something."""
    if variable.startswith("ESA_PRELOAD_"):
        return variable in _SECRETS or any(variable in settings for settings in DEFAULTS.values())
    return variable.removesuffix("_FILE") in _read_by_us() or variable in _read_by_the_library()


def _read_by_us() -> set[str]:
    return {f"ALIBABA_CLOUD_{name}" for name in ("ACCESS_KEY_ID", "ACCESS_KEY_SECRET", "SECURITY_TOKEN")}


def _read_by_the_library() -> set[str]:
    spec = find_spec("alibabacloud_credentials")
    assert spec
    assert spec.origin
    texts = [path.read_text(encoding="utf-8") for path in Path(spec.origin).parent.rglob("*.py")]
    return {
        word
        for text in texts
        for word in text.replace('"', "'").split("'")
        if word.startswith("ALIBABA_CLOUD_")
    }
