"""Each example in docs/explanation/url-rules.md is what the code does."""

from __future__ import annotations

import ast

import pytest

from docs.pages import DOCS, code_spans, read, table
from esa_preload.urls import UrlRejectedError, normalise

PAGE = read(DOCS / "explanation" / "url-rules.md")


def _meant(cell: str) -> str:
    """Return the text that a cell stands for, its escapes resolved."""
    text = code_spans(cell)[0]
    return str(ast.literal_eval('"' + text.replace('"', '\\"') + '"'))


@pytest.mark.parametrize(("url", "normal"), [row[:2] for row in table(PAGE, "input", "normal form", "rule")])
def test_an_accepted_example_has_the_normal_form_on_the_page(url: str, normal: str) -> None:
    """The form in the table is the one that is queued."""
    assert normalise(_meant(url)) == _meant(normal)


@pytest.mark.parametrize(("url", "reason"), table(PAGE, "input", "reason"))
def test_a_refused_example_is_refused_for_the_reason_on_the_page(url: str, reason: str) -> None:
    """The reason in the table is the one in the receipt."""
    with pytest.raises(UrlRejectedError) as caught:
        normalise(_meant(url))
    assert caught.value.reason == reason
