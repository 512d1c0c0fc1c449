"""docs/reference/ledger.md lists exactly the keys that the code uses."""

from __future__ import annotations

import inspect
import re
from importlib.resources import files

from docs.pages import code_spans, reference, table
from esa_preload.keys import Keys
from esa_preload_worker.settings import Settings

PAGE = reference("ledger.md")


def _stem(key: str) -> str:
    """Return what a key begins with, before anything that varies."""
    return key.split(":", 1)[0]


def _listed() -> set[str]:
    rows = table(PAGE, "key", "type", "lasts", "holds", "written by")
    return {_stem(code_spans(key)[0]) for key, *_ in rows}


def _of_keys() -> set[str]:
    """Return the keys that `esa_preload.keys.Keys` names."""
    keys = Keys("n")
    stems: set[str] = set()
    for name, member in inspect.getmembers_static(Keys):
        if name.startswith("_") or name in ("namespace", "prefix"):
            continue
        if isinstance(member, property):
            key = getattr(keys, name)
        else:
            parameters = inspect.signature(getattr(keys, name)).parameters
            key = getattr(keys, name)(*("1" for _ in parameters))
        stems.add(_stem(key.removeprefix(keys.prefix)))
    return stems


def _lua() -> dict[str, str]:
    folders = [files("esa_preload") / "lua", files("esa_preload_worker") / "lua"]
    return {
        file.name: file.read_text(encoding="utf-8")
        for folder in folders
        for file in folder.iterdir()
        if file.name.endswith(".lua")
    }


def _of_scripts() -> set[str]:
    """Return the keys that the scripts build from the prefix."""
    return {stem for text in _lua().values() for stem in re.findall(r"\bP \.\. '([a-z-]+)", text)}


def test_the_page_lists_exactly_the_keys_of_the_code() -> None:
    """Whatever `Keys` names or a script builds is in the table, and nothing else is."""
    assert _listed() == _of_keys() | _of_scripts()


def test_the_page_lists_every_key_that_the_prelude_lists() -> None:
    """The list at the head of prelude.lua, which readers of the scripts see first, names no key that the page lacks."""
    head = _lua()["prelude.lua"].split("local P =", 1)[0]
    named = re.findall(r"^--   ([a-z-]+)[a-z:<>, -]* +(?:hash|zset|list|stream)", head, re.MULTILINE)
    assert len(named) > 10
    assert {stem for stem in named if stem != "open"} <= _listed()


def test_the_page_lists_exactly_the_published_settings() -> None:
    """The fields of the hash `settings` are what a worker publishes."""
    rows = dict(table(PAGE, "key", "fields"))
    settings = Settings.model_validate({"redis_url": "redis://localhost"})
    assert set(code_spans(rows["`settings`"])) == set(settings.published())


def test_every_field_of_a_record_that_a_script_writes_is_listed() -> None:
    """A literal field name in an HSET or HINCRBY of a script, or a count of a request, is in the table of fields."""
    listed = {name for _, fields in table(PAGE, "key", "fields") for name in code_spans(fields)}
    written: set[str] = set()
    for text in _lua().values():
        for call in re.findall(r"call\('(?:HSET|HSETNX)',(.*)", text):
            fields = re.sub(r"'state', '[a-z]+'", "'state'", call)
            written |= set(re.findall(r"'([a-z_]+)',", fields))
        written |= set(re.findall(r"call\('HINCRBY', [^,]+, '([a-z_]+)'", text))
    keys = _of_keys() | _of_scripts()
    assert written - listed - keys - {"live", "good"} == set()


def test_the_wake_up_job_on_the_page_is_the_one_that_the_script_writes() -> None:
    """The JSON of the page is the prelude's, but for the number that stands for now."""
    written = re.search(r"string\.format\('(\{\"t\".*?\})'", _lua()["prelude.lua"])
    assert written
    assert written[1].replace("%.0f", "<now>") in code_spans(PAGE)
