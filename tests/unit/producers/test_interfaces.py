"""Every client has the verbs of the interface, with the same arguments: none can drift."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pytest

from esa_preload import Preloads
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


@pytest.mark.parametrize("name", VERBS)
def test_the_recording_client_has_each_verb_as_it_is(name: str) -> None:
    """Parameters, defaults and annotations are those of the interface."""
    own = getattr(RecordingClient, name)
    assert inspect.signature(own) == inspect.signature(VERBS[name])
    assert own.__doc__ or name in OF_ASYNC


@pytest.mark.parametrize("name", sorted(VERBS.keys() - OF_ASYNC))
def test_the_client_without_await_has_each_verb(name: str) -> None:
    """Parameters, defaults and annotations are those of the interface; what it returns is, without ``await``."""
    own = getattr(SyncPreloads, name)
    assert shape(own) == shape(VERBS[name])
    returned = str(inspect.signature(VERBS[name]).return_annotation).replace("AsyncIterator", "Iterator")
    assert inspect.signature(own).return_annotation == returned
    assert own.__doc__
    assert not inspect.iscoroutinefunction(own)
