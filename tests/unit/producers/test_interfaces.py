"""Every client has the verbs of the interface, with the same arguments: none can drift."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from esa_preload import PreloadClient, Preloads
from esa_preload.sync import SyncPreloads
from esa_preload.testing import RecordingClient

if TYPE_CHECKING:
    from collections.abc import Callable

OF_ASYNC = {"__aenter__", "__aexit__", "aclose"}
VERBS = {
    name: verb
    for name, verb in vars(Preloads).items()
    if (inspect.isfunction(verb) and name in OF_ASYNC) or (name[0] != "_" and inspect.isfunction(verb))
}


def shape(verb: Callable[..., object]) -> list[tuple[str, object, object, object]]:
    """Return a verb's parameters; what it is annotated with, too, but for iterables, which are not async without ``await``."""
    return [
        (each.name, each.kind, each.default, str(each.annotation).replace("Iterable[str]", "Urls"))
        for each in inspect.signature(verb).parameters.values()
    ]


@pytest.mark.parametrize("client", [PreloadClient, RecordingClient])
@pytest.mark.parametrize("name", VERBS)
def test_a_client_has_each_verb_as_it_is(name: str, client: type[object]) -> None:
    """Parameters, defaults and annotations are those of the interface, and ``help()`` tells what is promised."""
    own = getattr(client, name)
    assert inspect.signature(own) == inspect.signature(VERBS[name])
    assert inspect.getdoc(own)


def test_the_client_over_redis_is_one_by_its_types() -> None:
    """A type checker takes a PreloadClient for a Preloads: this line is refused when it is none."""
    made: Callable[[str], Preloads] = PreloadClient
    assert made is PreloadClient


@pytest.mark.parametrize("name", sorted(VERBS.keys() - OF_ASYNC))
def test_the_client_without_await_has_each_verb(name: str) -> None:
    """Parameters, defaults and annotations are those of the interface; what it returns is, without ``await``."""
    own = getattr(SyncPreloads, name)
    assert shape(own) == shape(VERBS[name])
    returned = str(inspect.signature(VERBS[name]).return_annotation).replace("AsyncIterator", "Iterator")
    assert inspect.signature(own).return_annotation == returned
    assert own.__doc__
    assert not inspect.iscoroutinefunction(own)
