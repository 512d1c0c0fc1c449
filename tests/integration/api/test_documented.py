"""Every answer is one that the document names for that route, also to what no well-meaning client sends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.api.conftest import Served

ODD = (
    "",
    ".",
    "..",
    "/",
    "a/b",
    "a?b#c",
    "\n",
    "\0",
    "é",
    "\ud800",
    "%",
    "+1",
    "-1",
    str(2**63),
    "x" * 5_000,
)
USUAL = {"request_id": "r", "site_id": "1", "operation": "ListScheduledPreloadExecutions"}


def escaped(text: str) -> str:
    """Return *text* as a part of a URL; half a surrogate pair as bytes that are no UTF-8."""
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


def odd_targets(path: str, operation: dict[str, Any], odd: str) -> Iterator[str]:
    """Yield what is asked for with *odd* as each parameter of the path and of the query."""
    named = {
        kind: [each["name"] for each in operation.get("parameters", ()) if each["in"] == kind]
        for kind in ("path", "query")
    }
    for name in named["path"]:
        yield path.format_map({**USUAL, name: escaped(odd)})
    for name in named["query"]:
        yield f"{path.format_map(USUAL)}?{name}={escaped(odd)}"


@pytest.mark.parametrize("odd", ODD, ids=ascii)
async def test_odd_values_get_documented_answers(served: Served, odd: str) -> None:
    """No redirect of a slash too many, no status of another route: a client generated from the document knows them all."""
    undocumented = [
        (method, target, reply.status_code)
        for path, operations in served.app.openapi()["paths"].items()
        for method, operation in operations.items()
        for target in odd_targets(path, operation, odd)
        if str((reply := await served.http["admin"].request(method, target)).status_code)
        not in operation["responses"]
    ]
    assert not undocumented
