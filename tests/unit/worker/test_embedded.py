"""How the embedded Valkey is started."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload_worker.embedded import MALLOC, ValkeyProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@pytest.mark.parametrize(
    ("set_by_user", "expected"),
    [(None, MALLOC["GLIBC_TUNABLES"]), ("glibc.malloc.perturb=1", "glibc.malloc.perturb=1")],
)
def test_its_allocator_is_tuned_unless_somebody_tunes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, set_by_user: str | None, expected: str
) -> None:
    """Beside the variables that are there it gets the tunables of glibc, and never in the place of others."""
    started: list[Mapping[str, str]] = []

    def popen(*_: Any, env: Mapping[str, str], **__: Any) -> None:
        started.append(env)

    monkeypatch.setattr(subprocess, "Popen", popen)
    monkeypatch.setenv("KEPT", "1")
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if set_by_user:
        monkeypatch.setenv("GLIBC_TUNABLES", set_by_user)
    ValkeyProcess(tmp_path, socket=tmp_path / "s").spawn()
    (env,) = started
    assert (env["GLIBC_TUNABLES"], env["KEPT"]) == (expected, "1")
