"""The commands of a section of the runbook: those that look, and those that mend."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from docs.pages import DOCS, blocks, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """What a section says to do: each command as its words."""

    look: tuple[tuple[str, ...], ...]
    mend: tuple[tuple[str, ...], ...]


def section(alert: str) -> Section:
    """
    Return the section of *alert*.

    Raises:
        LookupError: there is none, or it has not one block of commands that look, and one of those that mend.
    """
    _, found, rest = read(DOCS / "how-to" / "runbook.md").partition(f"\n## {alert}\n")
    scripts = [block.text for block in blocks(rest.partition("\n## ")[0]) if block.language == "sh"]
    if not found or len(scripts) != 2:
        raise LookupError(alert)
    look, mend = (tuple(tuple(shlex.split(line)) for line in text.splitlines()) for text in scripts)
    return Section(look=look, mend=mend)


def drilled() -> set[str]:
    """Return the alerts whose section says that it is drilled."""
    text = read(DOCS / "how-to" / "runbook.md")
    return {
        part.split("\n", 1)[0] for part in text.split("\n## ")[1:] if part.split("\n", 2)[2].startswith("⚒")
    }
