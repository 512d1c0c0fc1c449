"""What others wrote for the web console: locked by hash, from whichever registry, and nothing of it committed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "deploy" / "web"


def test_every_package_is_locked_by_its_hash_and_to_no_registry() -> None:
    """An address would tie the build to one machine's registry; exact versions keep `npm ci` from asking which."""
    wanted = json.loads((WEB / "package.json").read_text())
    locked = json.loads((WEB / "package-lock.json").read_text())["packages"]
    names = {**wanted["dependencies"], **wanted["devDependencies"]}
    assert set(locked) == {"", *(f"node_modules/{name}" for name in names)}
    for name, version in names.items():
        entry = locked[f"node_modules/{name}"]
        assert entry["version"] == version
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", entry["integrity"])
        assert "resolved" not in entry


def test_nothing_of_others_is_committed() -> None:
    """Neither what was fetched nor what was copied from it."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: there is no index to look at")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not re.findall(r"^.*(?:node_modules|static/vendor)/.*$", listed.stdout, re.MULTILINE)
