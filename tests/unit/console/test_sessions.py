"""Sessions: signed, bound to a token, and at an end when nobody does anything."""

from __future__ import annotations

import pytest

from esa_preload.api.console import sessions as module
from esa_preload.api.console.attempts import ADDRESSES_MAX, LIMIT, WINDOW_S, Attempts
from esa_preload.api.console.sessions import IDLE_S, LIFETIME_S, Sessions
from esa_preload.api.console.visits import local_path

KEY = "k" * 32
OTHERS: list[object] = [{"token": "a"}, [1], {}]


class Clock:
    """A clock that a test turns."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        """Return what it shows."""
        return self.now


def test_a_session_is_read_as_it_was_written() -> None:
    """With its token and its secret, by every process that has the key."""
    session = Sessions(KEY).begin("a" * 64)
    assert Sessions(KEY).read(Sessions(KEY).write(session)) == session


def test_each_session_has_a_secret_of_its_own() -> None:
    """It stands in forms, and must not be guessed from another."""
    sessions = Sessions(KEY)
    assert len({sessions.begin().csrf for _ in range(100)}) == 100


def test_what_we_did_not_sign_is_no_session() -> None:
    """Nor what another key signed."""
    cookie = Sessions(KEY).write(Sessions(KEY).begin("a" * 64))
    for other in ("", ".", "x", cookie[:-1], f"x{cookie}", cookie.replace(".", "..")):
        assert Sessions(KEY).read(other) is None
    assert Sessions("q" * 32).read(cookie) is None


@pytest.mark.parametrize("content", OTHERS)
def test_a_session_that_another_release_wrote_otherwise_is_none(
    content: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner signs in again."""

    def as_that(session: object) -> object:
        del session
        return content

    monkeypatch.setattr(module, "asdict", as_that)
    cookie = Sessions(KEY).write(Sessions(KEY).begin())
    assert Sessions(KEY).read(cookie) is None


def test_a_session_ends_after_an_hour_without_anybody_and_after_a_day_of_work() -> None:
    """Whichever comes first; what is done in time makes it last."""
    clock = Clock()
    sessions = Sessions(KEY, clock=clock)
    session = sessions.begin("a" * 64)
    clock.now += IDLE_S + 1
    assert sessions.read(sessions.write(session)) is None
    clock.now -= 2
    began = clock.now - IDLE_S + 1
    while clock.now - began < LIFETIME_S:
        session = sessions.touch(session)
        assert sessions.read(sessions.write(session)) == session
        clock.now += IDLE_S / 2
    assert sessions.read(sessions.write(sessions.touch(session))) is None


def test_who_is_not_signed_in_has_a_session_that_does_not_end() -> None:
    """It only holds the secret of the forms, such as that of a sign-in that was left open over night."""
    clock = Clock()
    sessions = Sessions(KEY, clock=clock)
    session = sessions.begin()
    clock.now += LIFETIME_S * 10
    assert sessions.read(sessions.write(session)) == session


def test_wrong_tokens_cost_an_address_a_wait_and_others_nothing() -> None:
    """Until the first of them is a minute old."""
    clock = Clock()
    attempts = Attempts(clock=clock)
    for _ in range(LIMIT):
        assert attempts.wait_s("192.0.2.1") == 0
        attempts.note_wrong("192.0.2.1")
        clock.now += 1
    assert attempts.wait_s("192.0.2.1") == WINDOW_S - LIMIT
    assert attempts.wait_s("192.0.2.2") == 0
    clock.now += WINDOW_S - LIMIT
    assert attempts.wait_s("192.0.2.1") == 0


def test_wrong_tokens_from_anywhere_take_no_memory_without_bound() -> None:
    """The address that was quiet longest is forgotten."""
    attempts = Attempts()
    for number in range(ADDRESSES_MAX + 50):
        attempts.note_wrong(f"address {number}")
    assert len(attempts) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("/requests?site=1&state=done", "/requests?site=1&state=done"),
        ("/explain?url=a+b%2Bc", "/explain?url=a+b%2Bc"),
        ("", "/"),
        ("//example.net/", "/"),
        ("/\\example.net", "/"),
        ("https://example.net/", "/"),
        ("javascript:alert(1)", "/"),
        ("/x\r\nSet-Cookie: a=b", "/x%0D%0ASet-Cookie:%20a=b"),
    ],
)
def test_the_way_back_stays_here(text: str, path: str) -> None:
    """A link to the sign-in cannot lead on to another site, nor write a header."""
    assert local_path(text) == path
