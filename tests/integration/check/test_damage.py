"""Each invariant, broken by hand, is found by its name; ``--repair`` mends what is derived, and leaves what is not."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest

from esa_preload.scripts import as_text
from integration.check.damage import DAMAGE, plant

if TYPE_CHECKING:
    from integration.check.queue_content import Queue


async def _urls_and_requests(queue: Queue) -> dict[str, object]:
    """Return every pending URL, every batch's members, and every request: what no repair may drop."""
    kept: dict[str, object] = {}
    for raw in await queue.run("KEYS", "{}*"):
        key = as_text(raw)
        kind = key.removeprefix(queue.keys.prefix).partition(":")[0]
        if kind in ("urls", "chunks"):
            kept[key] = await queue.run("HGETALL", key)
        elif kind == "batch":
            kept[key] = await queue.run("HMGET", key, "count", "owners", "members", "job_id")
        elif kind == "request":
            record = await queue.run("HGETALL", key)
            record.pop(b"done_at", None)
            kept[key] = record
    return kept


@pytest.mark.parametrize("name", DAMAGE)
async def test_damage_is_found_by_name_and_mended_where_it_is_derived(queue: Queue, name: str) -> None:
    """The audit names exactly what was broken; a repair says what it did, loses nothing, and a second one finds nothing to do."""
    damage = DAMAGE[name]
    await queue.everything()
    await plant(queue, damage)
    audit = await queue.audit()
    assert {violation.name for violation in audit.violations} == damage.found, audit.violations
    assert all(violation.key and violation.expected for violation in audit.violations)

    before = await _urls_and_requests(queue)
    said = await queue.repair(audit)
    assert await _urls_and_requests(queue) == before
    assert bool([line for line in said if "stale entries" not in line]) == (damage.found != damage.left), said
    after = await queue.audit()
    assert {violation.name for violation in after.violations} == damage.left, (said, after.violations)
    assert await queue.repair(after) == []


def test_every_violation_that_can_be_found_is_planted_somewhere() -> None:
    """No name in the code is without its damage here."""
    text = "".join(
        (files("esa_preload_worker") / "check" / f"{module}.py").read_text() for module in ("rules", "audit")
    )
    names = set(re.findall(r'(?:find\(\s*|name=)f?"([a-z{}]+(?:\.[a-z_{}]+)?)"', text))
    planted = {name for damage in DAMAGE.values() for name in damage.found}
    for name in names:
        pattern = re.sub(r"\\{[a-z]+\\}", "[a-z_]+", re.escape(name))
        assert any(re.fullmatch(pattern, one) for one in planted), name
