"""
Build the release of a clean tree, twice, and take nothing on trust: same bytes, right contents, installs and runs.

Run by ``make release``; leaves sdist and wheel in ``dist/``. Ends with 1 and a sentence when something is wrong.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
DIST = ROOT / "dist"
LOCK = ROOT / "deploy" / "requirements" / "runtime.txt"
PACKAGES = {"esa_preload": "producers", "esa_preload_worker": "worker"}
CONSOLE = "esa_preload/api/console/"
VENDOR = ("htmx.LICENSE", "htmx.min.js", "uPlot.LICENSE", "uPlot.iife.min.js", "uPlot.min.css")
"""What `make assets` brings, which `make release` runs before."""
SMOKE = """
import asyncio, esa_preload, esa_preload_worker
from esa_preload.urls import normalise
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
async def main():
    async with Sandbox(SandboxConfig()) as sandbox:
        assert sandbox.url.startswith("http://127.0.0.1:")
asyncio.run(main())
assert normalise("https://www.example.com/\\u00dc") == "https://www.example.com/%C3%9C"
"""


class ReleaseError(Exception):
    """The tree, or what was built of it, is not fit to be released."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Where the two files are."""

    sdist: Path
    wheel: Path


def require_clean_tree() -> None:
    """
    Make sure that what is built is what is committed.

    Raises:
        ReleaseError: it is not.
    """
    if changed := _git("status", "--porcelain"):
        raise ReleaseError(f"the tree has changes that are not committed:\n{changed}")


def committed_at() -> str:
    """Return the moment of the last commit, in seconds: what every file of the release is dated."""
    return _git("log", "-1", "--format=%ct")


def build(into: Path, *, epoch: str) -> Built:
    """Build the sdist, and the wheel of it, without a network: what builds is locked and installed."""
    _run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(into), str(ROOT)],
        SOURCE_DATE_EPOCH=epoch,
    )
    [sdist], [wheel] = into.glob("*.tar.gz"), into.glob("*.whl")
    return Built(sdist=sdist, wheel=wheel)


def require_same(one: Built, other: Built) -> None:
    """
    Make sure that two builds are the same to the byte.

    Raises:
        ReleaseError: they are not.
    """
    for first, second in ((one.sdist, other.sdist), (one.wheel, other.wheel)):
        if first.name != second.name or first.read_bytes() != second.read_bytes():
            raise ReleaseError(f"{first.name}: two builds of one commit differ")


def differences(present: set[str], wanted: set[str]) -> list[str]:
    """Return a line for each name that is missing, then one for each that is too many."""
    said = [f"is missing: {name}" for name in sorted(wanted - present)]
    return said + [f"does not belong there: {name}" for name in sorted(present - wanted)]


def wrong_contents(names: Iterable[str], sources: Iterable[str]) -> list[str]:
    """
    Return what is wrong with the files of a wheel.

    Args:
        names: of the files in it.
        sources: the files of the two packages, as they should be in it.
    """
    present = set(names)
    said = differences({name for name in present if ".dist-info/" not in name}, set(sources))
    has_license = any(name.endswith(".dist-info/licenses/LICENSE") for name in present)
    return said if has_license else [*said, "is missing: LICENSE"]


def package_files() -> set[str]:
    """Return every file of the two packages that git knows, and what others wrote for the console, by their names in the wheel."""
    found: set[str] = set()
    for package, folder in PACKAGES.items():
        tracked = _git("ls-files", f"{folder}/{package}").splitlines()
        found |= {
            name.removeprefix(f"{folder}/") for name in tracked if name.startswith(f"{folder}/{package}/")
        }
    return found | vendored()


def vendored() -> set[str]:
    """Return what others wrote for the console, by its names in the wheel."""
    return {f"{CONSOLE}static/vendor/{name}" for name in VENDOR}


def source_files() -> set[str]:
    """Return every file that git knows, with what others wrote for the console: whoever has the sdist can do all that a clone can."""
    return {*_git("ls-files").splitlines(), *(f"producers/{name}" for name in vendored()), "PKG-INFO"}


def check_contents(built: Built) -> None:
    """
    Make sure that the wheel is the two packages, and the sdist all of the tree: its tests need what is beside them, too.

    Raises:
        ReleaseError: a file is missing, or one too many.
    """
    with zipfile.ZipFile(built.wheel) as wheel:
        if wrong := wrong_contents(wheel.namelist(), package_files()):
            raise ReleaseError(f"{built.wheel.name}:\n" + "\n".join(wrong))
    with tarfile.open(built.sdist) as sdist:
        names = {member.name.partition("/")[2] for member in sdist if member.isfile()}
    if wrong := differences(names, source_files()):
        raise ReleaseError(f"{built.sdist.name}:\n" + "\n".join(wrong))


def check_install(wheel: Path) -> None:
    """Install the wheel into an empty environment, its dependencies by the lock, and run what is in it."""
    with tempfile.TemporaryDirectory(prefix="esap-release-") as name:
        home = Path(name)
        _run([sys.executable, "-m", "venv", str(home / "venv")])
        python = str(home / "venv" / "bin" / "python")
        pip = [python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        _run([*pip, "--require-hashes", "-r", str(LOCK)])
        _run([*pip, "--no-deps", str(wheel)])
        for command in ("esa-preload", "esa-preload-worker"):
            _run([str(home / "venv" / "bin" / command), "--help"], cwd=home)
            _run([str(home / "venv" / "bin" / command), "--version"], cwd=home)
        _run([python, "-W", "error::DeprecationWarning:esa_preload", "-c", SMOKE], cwd=home)


def main() -> int:
    """Build, check, and say where it is."""
    try:
        require_clean_tree()
        epoch = committed_at()
        with (
            tempfile.TemporaryDirectory(prefix="esap-release-") as first,
            tempfile.TemporaryDirectory(prefix="esap-release-") as second,
        ):
            built = build(Path(first), epoch=epoch)
            require_same(built, build(Path(second), epoch=epoch))
            _run([str(BIN / "twine"), "check", "--strict", str(built.sdist), str(built.wheel)])
            check_contents(built)
            check_install(built.wheel)
            shutil.rmtree(DIST, ignore_errors=True)
            DIST.mkdir()
            for path in (built.sdist, built.wheel):
                shutil.copy2(path, DIST)
                print(f"dist/{path.name}: {path.stat().st_size:,} bytes")
    except ReleaseError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return 0


def _git(*arguments: str) -> str:
    return _run(["git", "-C", str(ROOT), *arguments]).strip()


def _run(command: list[str], *, cwd: Path | None = None, **variables: str) -> str:
    environment: Mapping[str, str] = {**os.environ, **variables}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = re.sub(r"\n{2,}", "\n", done.stdout + done.stderr)
        raise ReleaseError(f"{' '.join(command[:4])} … ended with {done.returncode}:\n{said[-2_000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
