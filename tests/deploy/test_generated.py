"""What is printed from other files stands in deploy/ as it is printed now."""

from __future__ import annotations

import pytest

from deploy.generated import DEPLOY, files


@pytest.mark.parametrize("name", files())
def test_a_generated_file_is_what_would_be_written_now(name: str) -> None:
    """Rules and settings are the same wherever they stand; `python tests/deploy/generated.py` writes them."""
    assert (DEPLOY / name).read_text(encoding="utf-8") == files()[name], (
        "run: .venv/bin/python tests/deploy/generated.py"
    )
