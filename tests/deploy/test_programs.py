"""A test that needs a program skips on a bare machine, and fails where it must run."""

from __future__ import annotations

import pytest

from deploy.programs import PROMTOOL, program


def test_without_the_program_a_test_skips(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make test` needs no Prometheus."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="promtool is not installed"):
        program(PROMTOOL)


def test_in_ci_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that never runs anywhere would prove nothing."""
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(AssertionError, match="CI must have promtool"):
        program(PROMTOOL)
