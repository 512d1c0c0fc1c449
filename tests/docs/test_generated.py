"""What is printed from the code stands in the docs as it is printed now."""

from __future__ import annotations

import pytest

from docs.generated import REFERENCE, openapi_text, parts
from docs.pages import generated, reference


@pytest.mark.parametrize(("page", "name"), parts())
def test_a_generated_part_is_what_the_code_prints_now(page: str, name: str) -> None:
    """Settings, help texts and codes in the docs equal the code's; `python tests/docs/generated.py` writes them."""
    assert generated(reference(page), name) == parts()[page, name], (
        "run: .venv/bin/python tests/docs/generated.py"
    )


def test_the_openapi_document_is_that_of_the_app() -> None:
    """docs/reference/openapi.json is what the API serves, but for the version."""
    assert (REFERENCE / "openapi.json").read_text(encoding="utf-8") == openapi_text(), (
        "run: .venv/bin/python tests/docs/generated.py"
    )
