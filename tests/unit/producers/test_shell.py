"""How a command line ends: a sentence and a code for what is expected, a traceback for a fault of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from esa_preload.shell import EXIT_USAGE, run_cli

if TYPE_CHECKING:
    from collections.abc import Callable


def without(module: str) -> Callable[..., None]:
    """Return a command line that needs *module*, which is not installed."""

    def cli(*, standalone_mode: bool) -> None:
        del standalone_mode
        raise ModuleNotFoundError(f"No module named {module!r}", name=module)

    return cli


@pytest.mark.parametrize(("module", "extra"), [("arq", "worker"), ("httpx._client", "http-client")])
def test_a_missing_extra_is_one_sentence(capsys: pytest.CaptureFixture[str], module: str, extra: str) -> None:
    """What is not installed is named with how to install it, and ends with 2."""
    with pytest.raises(SystemExit) as caught:
        run_cli(without(module), extra="worker", extras={"httpx": "http-client"})
    assert caught.value.code == EXIT_USAGE
    sentence, hint = capsys.readouterr().err.splitlines()
    assert sentence == f"Error: {module} is not installed"
    assert f"pip install 'esa-preload[{extra}]'" in hint


@pytest.mark.parametrize("module", ["esa_preload.nowhere", "esa_preload_worker.nowhere"])
def test_a_missing_module_of_ours_is_a_fault(module: str) -> None:
    """No extra brings it: it is not called one."""
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        run_cli(without(module))
