"""Where the access key comes from, and that it never shows."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from esa_preload_worker.esa.credentials import (
    ChainCredentials,
    Credential,
    StaticCredentials,
    connect_default_chain,
    credentials_from_env,
)
from esa_preload_worker.esa.errors import BlockedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ID = "ALIBABA_CLOUD_ACCESS_KEY_ID"
SECRET = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
TOKEN = "ALIBABA_CLOUD_SECURITY_TOKEN"
CANARY = "canary-5e1f"


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Chain:
    """A chain of providers whose answer a test sets; counts how often it was built and asked."""

    def __init__(self) -> None:
        self.built = self.asked = 0
        self.answer: Credential | Exception = credential("first")
        self.gate: threading.Event | None = None

    def __call__(self) -> Callable[[], Credential]:
        self.built += 1
        return self._ask

    def _ask(self) -> Credential:
        self.asked += 1
        if self.gate is not None:
            self.gate.wait(5)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def credential(key_id: str) -> Credential:
    """Make a credential whose secrets are canaries."""
    return Credential(access_key_id=key_id, access_key_secret=CANARY, security_token=CANARY)


async def test_values() -> None:
    """The three variables are the credential, blanks around them are not."""
    source = credentials_from_env({ID: "id ", SECRET: f" {CANARY}\n", TOKEN: CANARY})
    assert await source.get() == await source.refresh() == credential("id")


async def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    """A rotated secret is seen at the next check, or at once when ESA refused the old one."""
    clock = Clock()
    for name in ("id", "secret"):
        (tmp_path / name).write_text(f"{name}-1\n")
    source = StaticCredentials(
        {f"{ID}_FILE": str(tmp_path / "id"), f"{SECRET}_FILE": str(tmp_path / "secret")}, clock=clock
    )
    assert (await source.get()).access_key_id == "id-1"
    (tmp_path / "id").write_text("id-number-2\n")
    assert (await source.get()).access_key_id == "id-1"
    clock.now_s += 1
    assert (await source.get()).access_key_id == "id-number-2"
    (tmp_path / "id").write_text("id-number-3\n")
    assert (await source.refresh()).access_key_id == "id-number-3"


async def test_a_file_that_is_away_for_a_moment(tmp_path: Path) -> None:
    """While a file is replaced the credential stays as it was; the next check sees the new one."""
    clock = Clock()
    path = tmp_path / "secret"
    path.write_text("one")
    source = StaticCredentials({ID: "id", f"{SECRET}_FILE": str(path)}, clock=clock)
    assert (await source.get()).access_key_secret == "one"
    path.unlink()
    clock.now_s += 1
    assert (await source.get()).access_key_secret == "one"
    path.write_text("two")
    clock.now_s += 1
    assert (await source.get()).access_key_secret == "two"


@pytest.mark.parametrize(
    "environ",
    [
        {ID: "id"},
        {SECRET: CANARY},
        {ID: "id", SECRET: "  "},
        {ID: "id", f"{SECRET}_FILE": "/nonexistent/file"},
        {ID: "id", SECRET: CANARY, f"{SECRET}_FILE": "/nonexistent/file"},
        {ID: "id", SECRET: f"{CANARY} b"},
        {ID: "id", SECRET: f"{CANARY}\r\nx-evil: 1"},
        {ID: "id", SECRET: f"{CANARY}\u00e9"},
    ],
)
async def test_what_is_missing_or_odd_is_named(environ: dict[str, str]) -> None:
    """Half a pair, both forms of one, and characters that no key has block the account, with what to set, showing nothing."""
    source = credentials_from_env(environ)
    with pytest.raises(BlockedError) as caught:
        await source.get()
    error = caught.value
    assert (error.scope, error.code) == ("account", "no_credentials")
    assert ID in error.hint
    assert CANARY not in f"{error!r}{error}{source!r}"


def test_a_role_needs_no_variables() -> None:
    """Without a key in the environment the chain is asked; with half a pair it is not, for that is a mistake."""
    assert isinstance(credentials_from_env({ID: ""}), ChainCredentials)
    assert isinstance(credentials_from_env({f"{SECRET}_FILE": "x"}), StaticCredentials)


async def test_the_chain_is_asked_every_30_s() -> None:
    """In between there is no thread, and no second question."""
    clock, chain = Clock(), Chain()
    source = ChainCredentials(connect=chain, clock=clock)
    assert await source.get() is await source.get()
    clock.now_s += 29
    await source.get()
    assert (chain.built, chain.asked) == (1, 1)
    chain.answer = credential("second")
    clock.now_s += 1
    assert (await source.get()).access_key_id == "second"
    assert (chain.built, chain.asked) == (1, 2)


async def test_many_callers_ask_once() -> None:
    """A cold cache under load is one question, and the loop is not stalled meanwhile."""
    chain = Chain()
    chain.gate = threading.Event()
    source = ChainCredentials(connect=chain)
    callers = [asyncio.create_task(source.get()) for _ in range(50)]
    await asyncio.sleep(0.01)
    chain.gate.set()
    async with asyncio.timeout(5):
        assert len(set(await asyncio.gather(*callers))) == 1
    assert chain.asked == 1


async def test_a_refusal_makes_a_new_chain() -> None:
    """What the old one remembers is what ESA refused; a second refusal at once does not make another."""
    clock, chain = Clock(), Chain()
    source = ChainCredentials(connect=chain, clock=clock)
    await source.get()
    clock.now_s += 30
    chain.answer = credential("second")
    assert (await source.refresh()).access_key_id == "second"
    assert (await source.refresh()).access_key_id == "second"
    assert (chain.built, chain.asked) == (2, 2)


async def test_a_failing_chain() -> None:
    """Without a credential it blocks the account and is asked again after 5 s; with one, that one stays."""
    clock, chain = Clock(), Chain()
    chain.answer = RuntimeError(CANARY)
    source = ChainCredentials(connect=chain, clock=clock)
    for _ in range(3):
        with pytest.raises(BlockedError) as caught:
            await source.get()
        assert CANARY not in f"{caught.value!r}{caught.value}"
        assert str(caught.value).count("no usable credentials") == 1
    assert chain.asked == 1
    clock.now_s += 5
    chain.answer = credential("first")
    first = await source.get()
    chain.answer = RuntimeError(CANARY)
    clock.now_s += 60
    assert await source.get() is await source.refresh() is first


async def test_a_chain_that_hangs_is_one_thread() -> None:
    """Its callers stop waiting, and the next ones wait for the same answer instead of asking again."""
    chain = Chain()
    chain.gate = threading.Event()
    clock = Clock()
    source = ChainCredentials(connect=chain, clock=clock, timeout_s=0.01)
    for _ in range(3):
        with pytest.raises(BlockedError, match="in time"):
            await source.get()
        clock.now_s += 5
    chain.gate.set()
    async with asyncio.timeout(5):
        while True:
            try:
                assert await source.get() == credential("first")
                break
            except BlockedError:
                clock.now_s += 5
    assert chain.asked == 1


async def test_the_official_chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's own chain is asked, whatever it finds here, and keeps its log lines to itself."""
    # Read once, when the library is imported: whoever was first decides, so only the outcome's kind is checked.
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in (("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"), (ID, "chain-id"), (SECRET, CANARY)):
        monkeypatch.setitem(os.environ, name, value)
    source = ChainCredentials(connect=connect_default_chain)
    try:
        found = await source.get()
    except BlockedError as exc:
        assert exc.code == "no_credentials"  # noqa: PT017 - either outcome is right
    else:
        assert CANARY not in repr(found)
    for name in ("credentials", "darabonba-core"):
        logger = logging.getLogger(name)
        assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
        assert not logger.propagate


def test_nothing_secret_shows() -> None:
    """The repr and str of a credential and of its sources hold the key's id at most."""
    for value in (credential("id"), StaticCredentials({ID: "id", SECRET: CANARY}), ChainCredentials()):
        assert CANARY not in f"{value!r}{value}"
    assert "id" in repr(credential("id"))
