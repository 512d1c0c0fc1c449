"""`make release`: what it looks at, and the whole of it in a clone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from supply.release import (
    CONSOLE,
    ROOT,
    VENDOR,
    Built,
    ReleaseError,
    package_files,
    require_same,
    wrong_contents,
)

if TYPE_CHECKING:
    from pathlib import Path

HAS_GIT = (ROOT / ".git").exists() and shutil.which("git") is not None
needs_git = pytest.mark.skipif(not HAS_GIT and not os.environ.get("CI"), reason="not a git checkout")
LICENSE = "esa_preload-1.dist-info/licenses/LICENSE"


def test_what_is_missing_or_too_much_in_a_wheel_is_named() -> None:
    """A script that was left out, a test that came along, no license: each is told by its name."""
    sources = ["esa_preload/py.typed", "esa_preload/lua/accept.lua"]
    assert wrong_contents([*sources, LICENSE], sources) == []
    assert wrong_contents([sources[0], LICENSE], sources) == ["is missing: esa_preload/lua/accept.lua"]
    assert wrong_contents([*sources, "tests/acl.py", LICENSE], sources) == [
        "does not belong there: tests/acl.py"
    ]
    assert wrong_contents(sources, sources) == ["is missing: LICENSE"]


@needs_git
def test_the_files_of_the_packages_are_those_that_the_wheel_must_have() -> None:
    """Both packages with their types and scripts, and what others wrote for the console; no test."""
    found = package_files()
    for name in ("esa_preload/py.typed", "esa_preload_worker/py.typed", "esa_preload/lua/accept.lua"):
        assert name in found
    assert f"{CONSOLE}static/vendor/{VENDOR[0]}" in found
    assert not [name for name in found if "test" in name.split("/")[0]]


def test_two_builds_that_differ_are_no_release(tmp_path: Path) -> None:
    """One byte is enough."""
    built = [Built(sdist=tmp_path / f"{n}" / "a.tar.gz", wheel=tmp_path / f"{n}" / "a.whl") for n in (1, 2)]
    for one in built:
        one.sdist.parent.mkdir()
        one.sdist.write_bytes(b"s")
        one.wheel.write_bytes(b"w")
    require_same(*built)
    built[1].wheel.write_bytes(b"v")
    with pytest.raises(ReleaseError, match=r"a\.whl"):
        require_same(*built)


@needs_git
@pytest.mark.slow
def test_a_release_is_built_checked_and_tried_in_a_clone(tmp_path: Path) -> None:
    """Two builds are the same, the wheel is complete, installs into an empty environment and runs; a change that is not committed stops it."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    vendor = ROOT / "producers" / CONSOLE / "static" / "vendor"
    if not vendor.exists() and not os.environ.get("CI"):
        pytest.skip("what others wrote for the console is not there: `make assets`")
    shutil.copytree(vendor, clone / vendor.relative_to(ROOT))
    command = [sys.executable, str(clone / "tests" / "supply" / "release.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((clone / "dist").iterdir())) == 2
    (clone / "README.md").write_text("changed")
    again = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert (again.returncode, "README.md" in again.stderr) == (1, True)
