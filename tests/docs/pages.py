"""Read the project's pages: their tables, their fenced blocks, their links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the word after the fence, and what stands in it."""

    language: str
    text: str


def pages() -> list[Path]:
    """Return the README and every page of docs."""
    return [README, *sorted(DOCS.rglob("*.md"))]


def read(path: Path) -> str:
    """Return a page's text."""
    return path.read_text(encoding="utf-8")


def reference(name: str) -> str:
    """Return the text of a page of docs/reference."""
    return read(DOCS / "reference" / name)


def blocks(text: str) -> list[Block]:
    """Return the fenced blocks of *text*, in order."""
    return [Block(language, body) for language, body in _FENCE.findall(text)]


def without_blocks(text: str) -> str:
    """Return *text* without its fenced blocks."""
    return _FENCE.sub("", text)


def code_spans(text: str) -> list[str]:
    """Return what stands between backquotes in *text*."""
    return _CODE.findall(text)


def links(text: str) -> list[str]:
    """Return the targets of the links of *text*."""
    return _LINK.findall(without_blocks(text))


def anchors(text: str) -> set[str]:
    """Return the anchors that a page's headings have on GitHub."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def table(text: str, *header: str) -> list[list[str]]:
    """
    Return the rows of the one table of *text* that has this *header*, as cells without the blanks around them.

    Raises:
        LookupError: there is no such table, or more than one.
    """
    lines = text.splitlines()
    wanted = list(header)
    found = [i for i, line in enumerate(lines) if line.startswith("|") and _cells(line) == wanted]
    if len(found) != 1:
        raise LookupError(f"{len(found)} tables with the header {wanted}")
    rows: list[list[str]] = []
    for line in lines[found[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append(_cells(line))
    return rows


def after(text: str, marker: str) -> str:
    """Return the paragraph or block that follows the comment *marker*."""
    _, found, rest = text.partition(f"<!-- {marker} -->\n")
    if not found:
        raise LookupError(marker)
    return rest.split("\n\n", 1)[0]


def generated(text: str, name: str) -> str:
    """Return what stands between the markers of the generated part *name*."""
    _, found, rest = text.partition(f"<!-- generated: {name} -->\n")
    part, end, _ = rest.partition("<!-- /generated -->")
    if not found or not end:
        raise LookupError(name)
    return part


def _cells(line: str) -> list[str]:
    return [cell.strip(" ") for cell in line.strip().strip("|").split("|")]
