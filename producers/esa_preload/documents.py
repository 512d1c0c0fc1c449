"""From the JSON documents of the HTTP API to the values of the interface; fields that this release does not know are ignored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from esa_preload.errors import QueueUnavailableError
from esa_preload.model import Page

T = TypeVar("T")


def read_value(kind: type[T], document: object) -> T:
    """
    Return *document* as the dataclass *kind*.

    Raises:
        QueueUnavailableError: it is none; so for the other functions here.
    """
    try:
        return cast("T", _read(kind, document))
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise not_ours(f"no {kind.__name__}: {exc}") from exc


def read_field(name: str, document: object) -> object:
    """Return the field *name* of *document*."""
    if not isinstance(document, Mapping) or name not in document:
        raise not_ours(f"it has no {name}")
    return cast("Mapping[str, object]", document)[name]


def read_items(kind: type[T], document: object, *, name: str = "items") -> list[T]:
    """Return the list *name* of *document*."""
    items = read_field(name, document)
    if not isinstance(items, list):
        raise not_ours(f"{name} is no list")
    return [read_value(kind, item) for item in cast("list[object]", items)]


def read_page(kind: type[T], document: object) -> Page[T]:
    """Return *document* as a page."""
    cursor = read_field("cursor", document)
    return Page(items=tuple(read_items(kind, document)), cursor=None if cursor is None else str(cursor))


def not_ours(why: str) -> QueueUnavailableError:
    """Return the error for an answer that is none of the API's."""
    return QueueUnavailableError(
        f"the answer is none of esa-preload's HTTP API: {why}",
        hint="check the service's address, and its version",
    )


def _read(kind: Any, value: Any) -> Any:
    if get_origin(kind) in (Union, UnionType):
        return None if value is None else _read(_first(kind), value)
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], item) for item in value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    if is_dataclass(kind):
        hints = _hints(cast("type", kind))
        return cast("Any", kind)(
            **{name: _read(hint, value[name]) for name, hint in hints.items() if name in value}
        )
    return value


def _first(kind: Any) -> Any:
    return next(each for each in get_args(kind) if each is not NoneType)


@cache
def _hints(kind: type) -> dict[str, Any]:
    # Some modules name datetime for type checkers only.
    return get_type_hints(kind, localns={"datetime": datetime})
