"""Names of actors and sites: as they are compared and shown, and what is said of one that is not known."""

from __future__ import annotations

import getpass
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from esa_preload.actor import ACTOR_MAX_CHARS, default_actor, printable
from esa_preload.errors import InvalidRequestError
from esa_preload.site_names import KnownNames, normal_name, parse_site_name, unknown_name


def test_who_does_not_say_is_the_user_at_the_host() -> None:
    """The name of the process's user and of its host."""
    assert default_actor() == f"{getpass.getuser()}@{socket.gethostname()}"


@pytest.mark.parametrize("error", [OSError, KeyError])
def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    """As in a container that runs under a number that no file knows."""

    def fail() -> str:
        raise error("no such user")

    monkeypatch.setattr(getpass, "getuser", fail)
    monkeypatch.setattr(socket, "gethostname", lambda: "pod\x1b[31m-1")
    user, host = default_actor().split("@")
    assert (user.isdecimal(), host) == (True, "pod?[31m-1")


@given(st.text(max_size=300))
def test_whatever_is_shown_is_one_short_printable_line(text: str) -> None:
    """No text formats a terminal; what was printable already stays as it is."""
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == min(len(text), ACTOR_MAX_CHARS)
    assert not text.isprintable() or shown == text[:ACTOR_MAX_CHARS]


@given(st.text(max_size=300))
def test_a_normal_name_is_normal(text: str) -> None:
    """Said again it is the same; none is a number, has a space or is longer than a domain."""
    name = normal_name(text)
    assert normal_name(name) == name
    assert not name.isdecimal()
    assert " " not in name
    assert len(name) <= 253


@pytest.mark.parametrize("text", ["", "5", "a b", "a\nb", ".", "x" * 254])
def test_what_is_no_name_is_refused_in_a_sentence(text: str) -> None:
    """The sentence shows what was given, escaped."""
    with pytest.raises(InvalidRequestError, match="neither the id nor the name of a site"):
        parse_site_name(text)


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (KnownNames(names=(), age_s=None, workers=0), ["no worker is alive"]),
        (KnownNames(names=(), age_s=None, workers=2), ["have not listed", "esa-preload-worker check"]),
        (KnownNames(names=("b.example",), age_s=70, workers=1), ["1 minute old", "if it is new"]),
        (
            KnownNames(names=("www.example.com", "ww.example.com", "z"), age_s=600, workers=0),
            [
                "did you mean www.example.com or ww.example.com?",
                "10 minutes old",
                "no worker is alive",
            ],
        ),
    ],
)
def test_a_hint_says_what_to_do(known: KnownNames, words: list[str]) -> None:
    """What the name may have been, how old the list is, and whether a new one will come."""
    error = unknown_name("www.exampl.com", known)
    assert str(error) == "no site is named www.exampl.com"
    for word in words:
        assert word in error.hint
    assert ("did you mean" in error.hint) == ("did you mean" in words[0])
