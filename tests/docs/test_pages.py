"""Pages agree with one another: links lead somewhere, decisions are numbered."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from docs.pages import DOCS, README, ROOT, anchors, links, pages, read

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    """A link to a file, and to a heading in it, is not broken."""
    for link in links(read(page)):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(read(target)), link


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page is lost: each is linked from the README or from a page that is."""
    reached: set[Path] = set()
    waiting = [README]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(read(page))]
        waiting += [target for target in targets if target.suffix == ".md"]
    assert set(pages()) <= reached


def test_decisions_are_numbered_without_gaps_and_have_three_parts() -> None:
    """NNNN-title.md from 0001 on, each with its number in the title, context, decision and consequences."""
    decisions = sorted(path for path in (DOCS / "decisions").glob("*.md") if path.name != "README.md")
    assert [path.name[:4] for path in decisions] == [f"{n:04}" for n in range(1, len(decisions) + 1)]
    for path in decisions:
        text = read(path)
        assert re.fullmatch(r"\d{4}-[a-z0-9-]+\.md", path.name)
        assert text.startswith(f"# {path.name[:4]}: "), path.name
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], (
            path.name
        )
