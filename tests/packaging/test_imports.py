"""What is loaded before anything is done: a service that only imports the package, and a person who asks for help, wait for no more."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HELP = """
import sys
from {package}.commands import cli
cli(["--help"], standalone_mode=False)
"""
_LOADED = """
import contextlib, io, json, sys
before = set(sys.modules)
with contextlib.redirect_stdout(io.StringIO()):
{code}
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def loaded_by(code: str) -> set[str]:
    """Return the modules that *code* loads in a process of its own."""
    indented = "\n".join(f"    {line}" for line in code.strip().splitlines())
    out = subprocess.run(
        [sys.executable, "-c", _LOADED.format(code=indented)],
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return set(json.loads(out.stdout))


def packages_of(modules: set[str]) -> set[str]:
    """Return the packages of *modules* that are not Python's own."""
    names = {name.partition(".")[0] for name in modules}
    return {name for name in names if name not in sys.stdlib_module_names}


@pytest.mark.parametrize(
    ("code", "packages"),
    [
        ("import esa_preload", {"esa_preload"}),
        ("from esa_preload import Plan, QueueFullError, RequestStatus", {"esa_preload"}),
        (HELP.format(package="esa_preload"), {"esa_preload", "click"}),
        (HELP.format(package="esa_preload_worker"), {"esa_preload", "esa_preload_worker", "click"}),
    ],
)
def test_what_may_be_loaded(code: str, packages: set[str]) -> None:
    """No library but the command line's, and neither asyncio nor TLS."""
    modules = loaded_by(code)
    assert packages_of(modules) == packages
    assert not modules & {"asyncio", "ssl", "importlib.metadata"}


def test_a_service_that_starts_loads_no_module_of_ours() -> None:
    """Each name is loaded when it is first asked for, and with it only what it needs."""
    assert {name for name in loaded_by("import esa_preload") if name.startswith("esa_preload.")} == set()
    assert "esa_preload.model" not in loaded_by("from esa_preload import QueueFullError")


def test_the_client_without_await_loads_neither_redis_nor_http() -> None:
    """Its module costs what asyncio costs: the libraries come with the client that needs them."""
    assert packages_of(loaded_by("import esa_preload.sync")) == {"esa_preload"}


def test_every_name_is_there_when_it_is_asked_for() -> None:
    """The client that is loaded late is its own, by import and by attribute; so is all that is exported; another name is still none."""
    code = """
import esa_preload
from esa_preload import PreloadClient
from esa_preload.client import PreloadClient as own
assert esa_preload.PreloadClient is PreloadClient is own
assert not hasattr(esa_preload, "PreloadClients")
assert set(esa_preload.__all__) <= set(dir(esa_preload))
assert all(hasattr(esa_preload, name) for name in esa_preload.__all__)
"""
    assert "redis" in packages_of(loaded_by(code))
