"""What is printed from the code stands in the docs as it is printed now."""

from __future__ import annotations

import pytest

from docs.generated import parts
from docs.pages import generated, reference


@pytest.mark.parametrize(("page", "name"), parts())
def test_a_generated_part_is_what_the_code_prints_now(page: str, name: str) -> None:
    """Settings, help texts and codes in the docs equal the code's; `python tests/docs/generated.py` writes them."""
    assert generated(reference(page), name) == parts()[page, name], (
        "run: .venv/bin/python tests/docs/generated.py"
    )
