"""Tokens: made once, found by their hash, revoked and expired in time, and a file that is wrong says where."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from esa_preload.api.token_file import new_token, revoke_token
from esa_preload.api.tokens import LOOK_S, Principal, Tokens, digest_of, read_tokens
from esa_preload.errors import EsaPreloadError, InvalidRequestError, SettingsError, UnsupportedRecordError

if TYPE_CHECKING:
    from pathlib import Path


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the tokens are."""
    return tmp_path / "tokens.json"


def test_a_token_is_found_and_its_secret_is_nowhere(path: Path) -> None:
    """The secret opens what its token says; the file holds its hash, for its owner alone."""
    secret = new_token(path, name="cms", role="producer", sites=["7", "42"])
    assert Tokens(path).find(secret) == Principal(name="cms", role="producer", sites=frozenset({7, 42}))
    text = path.read_text()
    assert secret not in text
    assert digest_of(secret) in text
    assert path.stat().st_mode & 0o777 == 0o600
    assert secret not in repr(Tokens(path))


@pytest.mark.parametrize("wrong", ["", "x", "esap_", "Bearer", "\udcff", "é" * 1_000])
def test_another_secret_is_nobody_s(path: Path, wrong: str) -> None:
    """Neither nothing, nor what cannot be encoded, nor the hash itself is taken."""
    new_token(path, name="cms", role="producer", sites=["*"])
    tokens = Tokens(path)
    assert tokens.find(wrong) is None
    assert tokens.find(read_tokens(path)[0].sha256) is None


def test_a_change_is_seen_within_a_look(path: Path) -> None:
    """A new token works and a revoked one does not, once the file is looked at again."""
    clock, seen = Clock(), list[Any]()
    first = new_token(path, name="a", role="viewer", sites=["*"])
    tokens = Tokens(path, clock=clock, on_change=seen.append)
    second = new_token(path, name="b", role="viewer", sites=["*"])
    revoke_token(path, "a")
    assert (tokens.find(first), tokens.find(second), seen) == (
        Principal(name="a", role="viewer", sites=None),
        None,
        [],
    )
    clock.now += LOOK_S
    assert tokens.find(first) is tokens.hashed(digest_of(first)) is None
    assert tokens.find(second) == tokens.hashed(digest_of(second))
    assert seen == [1]


def test_a_broken_file_leaves_the_tokens(path: Path) -> None:
    """It is told once; when the file is whole again it counts again. One that is gone is the same."""
    clock, seen = Clock(), list[Any]()
    secret = new_token(path, name="a", role="viewer", sites=["*"])
    tokens = Tokens(path, clock=clock, on_change=seen.append)
    whole = path.read_text()
    for spoil in (lambda: path.write_text("{"), path.unlink):
        spoil()
        for _ in range(2):
            clock.now += LOOK_S
            assert tokens.find(secret)
    assert [type(each) for each in seen] == [SettingsError, SettingsError]
    path.write_text(whole.replace(digest_of(secret), "0" * 64))
    clock.now += LOOK_S
    assert tokens.find(secret) is None


def test_a_token_expires(path: Path) -> None:
    """From that moment on it is unknown, by its secret and by its hash."""
    soon, past = (datetime.now(UTC) + timedelta(days=days) for days in (1, -1))
    live = new_token(path, name="live", role="viewer", sites=["*"], expires_at=soon)
    over = new_token(path, name="over", role="viewer", sites=["*"], expires_at=past)
    tokens = Tokens(path)
    assert tokens.find(live)
    assert tokens.find(over) is tokens.hashed(digest_of(over)) is None


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "a b"},
        {"name": ""},
        {"name": "x" * 65},
        {"name": "-x"},
        {"role": "admin"},
        {"sites": []},
        {"sites": ["0"]},
        {"sites": ["7", "*"]},
        {"name": "taken"},
    ],
)
def test_what_is_no_token(path: Path, arguments: dict[str, Any]) -> None:
    """A name, a role or a site that is none, or a name that is taken, leaves the file as it was."""
    new_token(path, name="taken", role="viewer", sites=["*"])
    before = path.read_text()
    given: dict[str, Any] = {"name": "a", "role": "viewer", "sites": ["7"], **arguments}
    with pytest.raises(InvalidRequestError):
        new_token(path, **given)
    assert path.read_text() == before
    with pytest.raises(InvalidRequestError):
        revoke_token(path, "nobody")


GOOD: dict[str, Any] = {
    "name": "a",
    "role": "viewer",
    "sites": "*",
    "sha256": "0" * 64,
    "created_at": "2026-01-01T00:00:00Z",
    "expires_at": None,
}


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"version": 0, "tokens": []},
        {"version": True, "tokens": []},
        {"version": 1},
        {"version": 1, "tokens": {"a": 1}},
        {"version": 1, "tokens": [GOOD, GOOD]},
        *({"version": 1, "tokens": [GOOD | {name: 7}]} for name in GOOD),
        *(
            {"version": 1, "tokens": [{key: GOOD[key] for key in GOOD if key != name}]}
            for name in GOOD
            if name != "expires_at"
        ),
        {"version": 1, "tokens": [GOOD | {"expires_at": "2026-01-01"}]},
    ],
)
def test_a_file_that_is_wrong_is_refused(path: Path, document: object) -> None:
    """Every part of it is checked; the error names the file and shows no hash."""
    path.write_text(json.dumps(document))
    with pytest.raises(SettingsError, match=r"tokens\.json") as caught:
        read_tokens(path)
    assert "000" not in str(caught.value)


def test_unknown_fields_are_ignored_and_a_later_version_is_not(path: Path) -> None:
    """As of every stored record."""
    path.write_text(json.dumps({"version": 1, "tokens": [GOOD | {"note": 1}], "by": "x"}))
    assert [token.name for token in read_tokens(path)] == ["a"]
    path.write_text(json.dumps({"version": 2, "tokens": []}))
    with pytest.raises(UnsupportedRecordError):
        read_tokens(path)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_a_file_that_is_no_json(path: Path, text: str) -> None:
    """It is an error of the settings, however odd the file."""
    path.write_text(text, encoding="latin-1")
    with pytest.raises(SettingsError):
        read_tokens(path)


def test_a_file_that_is_not_there(path: Path) -> None:
    """The error tells how to make one; a directory that is not there cannot be written to."""
    with pytest.raises(SettingsError) as caught:
        Tokens(path)
    assert "token new" in caught.value.hint
    with pytest.raises(EsaPreloadError):
        new_token(path / "no" / "such", name="a", role="viewer", sites=["*"])


@pytest.mark.parametrize("sites", [["shop.example.com"], ["5", "*"], ["5", "shop.example.com"]])
def test_a_site_goes_by_its_id(path: Path, sites: list[str]) -> None:
    """Whoever gives a name is told where ids are, and no token is made."""
    with pytest.raises(InvalidRequestError, match="not names, or \\* alone") as caught:
        new_token(path, name="a", role="viewer", sites=sites)
    assert "`esa-preload sites`" in caught.value.hint
    assert not path.exists()


def test_the_file_keeps_its_access(path: Path) -> None:
    """Whoever could read it before still can, and no draft is left."""
    new_token(path, name="a", role="viewer", sites=["*"])
    path.chmod(0o640)
    new_token(path, name="b", role="viewer", sites=["*"])
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208 - hidden ones too
