"""The README's producer does what the README says."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import sys
from typing import TYPE_CHECKING

import pytest

import esa_preload
from docs.pages import README, ROOT, blocks, pages, read

if TYPE_CHECKING:
    from pathlib import Path

    from redis.asyncio import Redis

README_REDIS = "redis://localhost:6379"
_REQUEST_ID = re.compile(r"\b[0-9a-f]{32}\b")


def _masked(text: str) -> str:
    return _REQUEST_ID.sub("<request id>", text)


async def test_the_producer_of_the_readme_prints_what_the_readme_shows(redis: Redis, redis_url: str) -> None:
    """The first Python block runs as it is, but for the address of Redis, and its output is the block after it."""
    del redis  # an empty Valkey
    shown = blocks(read(README))
    at = next(i for i, block in enumerate(shown) if block.language == "python")
    program, output = shown[at].text, shown[at + 1].text
    assert program.count(README_REDIS) == 1
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program.replace(README_REDIS, redis_url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (process.returncode, err.decode()) == (0, "")
    assert _masked(out.decode()) == _masked(output)
    assert _REQUEST_ID.search(output), "the id on the page has the form of a real one"


@pytest.mark.parametrize("page", pages(), ids=lambda path: str(path.relative_to(ROOT)))
def test_python_in_the_docs_uses_names_that_the_package_exports(page: Path) -> None:
    """Each Python block parses, and what it imports from esa_preload, and calls on a client, is public."""
    for block in blocks(read(page)):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            match node:
                case ast.ImportFrom(module="esa_preload", names=names):
                    assert {name.name for name in names} <= set(esa_preload.__all__)
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="client"), attr=method), keywords=keywords
                ):
                    known = inspect.signature(getattr(esa_preload.PreloadClient, method)).parameters
                    assert {keyword.arg for keyword in keywords} <= set(known)
                case _:
                    pass


def test_the_first_screen_has_the_producer_and_the_command_that_runs_it_all() -> None:
    """Within the first screen: at most ten lines of producer, its output, and `make demo`."""
    first = "\n".join(read(README).splitlines()[:60])
    program = next(block for block in blocks(first) if block.language == "python")
    assert len([line for line in program.text.splitlines() if line.strip()]) <= 10
    assert any("make demo" in block.text for block in blocks(first) if block.language == "sh")
