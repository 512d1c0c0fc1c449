"""The built wheel is typed: a service that uses every part of the client passes the strict checks of mypy and pyright."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
MISUSE = """# pyright: strict
from esa_preload import Plan, PreloadClient
from esa_preload.sync import SyncPreloads

async def misuse(client: PreloadClient, blocking: SyncPreloads) -> None:
    await client.enqueue("site", ["https://www.example.com/"])
    blocking.enqueue(1, 2)
    Plan(interval=60)
"""


def run(*command: str | Path, cwd: Path) -> tuple[int, str]:
    """Run *command* away from the checkout; returns its code and what it said."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an environment of its own, in which the wheel is installed beside the libraries of ours."""
    folder = tmp_path_factory.mktemp("consumer")
    code, said = run(
        sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder / "dist", cwd=ROOT
    )
    assert code == 0, said
    venv.create(folder / "env", with_pip=False)
    (wheel,) = (folder / "dist").glob("*.whl")
    python = folder / "env" / "bin" / "python"
    install = (
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-deps",
        "--no-index",
        "--quiet",
        wheel,
    )
    code, said = run(*install, cwd=folder)
    assert code == 0, said
    # Paths in a .pth are not looked into for more of them: the checkout, which is one of those, is not seen.
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    consumer = (ROOT / "tests" / "packaging" / "consumer.py").read_text(encoding="utf-8")
    (folder / "service.py").write_text(f"# pyright: strict\n{consumer}", encoding="utf-8")
    (folder / "misuse.py").write_text(MISUSE, encoding="utf-8")
    code, said = run(python, "-c", "import esa_preload; print(esa_preload.__file__)", cwd=folder)
    assert said.startswith(str(site)), said
    return folder


def mypy(folder: Path, name: str) -> tuple[int, str]:
    """Check a file with mypy."""
    python = folder / "env" / "bin" / "python"
    return run(BIN / "mypy", "--strict", "--config-file=", "--python-executable", python, name, cwd=folder)


def pyright(folder: Path, name: str) -> tuple[int, str]:
    """Check a file with pyright; its first line makes that strict."""
    return run(BIN / "pyright", "--pythonpath", folder / "env" / "bin" / "python", name, cwd=folder)


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_service_passes_strict_checks(project: Path, check: Callable[[Path, str], tuple[int, str]]) -> None:
    """Nothing of the public interface is untyped, and no ignore is needed."""
    code, said = check(project, "service.py")
    assert code == 0, said


@pytest.mark.parametrize("check", [mypy, pyright])
def test_a_misuse_is_found(project: Path, check: Callable[[Path, str], tuple[int, str]]) -> None:
    """Each wrong argument is an error of the checker: the types are there, and exact."""
    code, said = check(project, "misuse.py")
    assert code == 1, said
    for line in (6, 7, 8):
        assert f"misuse.py:{line}:" in said
