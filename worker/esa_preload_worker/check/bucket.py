"""Tries the bucket of lists: puts a small object, reads it, deletes it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from esa_preload.errors import SettingsError
from esa_preload_worker.check.model import Outcome
from esa_preload_worker.oss import OssError, list_store, object_name

if TYPE_CHECKING:
    from esa_preload_worker.esa import CredentialSource
    from esa_preload_worker.oss import ListStore
    from esa_preload_worker.settings import Settings

NAME = "oss"
LINES = b"https://esa-preload-check.invalid/\n"


async def check_bucket(settings: Settings, source: CredentialSource) -> list[Outcome]:
    """
    Return what was found, or nothing where no bucket is configured; the object is gone afterwards.

    Raises:
        SettingsError: HTTPS_PROXY is no proxy.
    """
    try:
        store = list_store(settings, source)
    except ValueError as exc:
        raise SettingsError(str(exc)) from None
    if store is None:
        return []
    name = object_name(settings, f"check-{secrets.token_hex(8)}")
    where = f"bucket {settings.oss_bucket} at {settings.oss_endpoint_url}"
    try:
        async with store:
            is_same = await _try(store, name)
    except OssError as exc:
        return [Outcome(name=NAME, state="fail", sentence=f"{where}: {exc}", hint=exc.hint)]
    if not is_same:
        hint = "look at what stands between this host and OSS"
        return [Outcome(name=NAME, state="fail", sentence=f"{where} gives back something else", hint=hint)]
    return [Outcome(name=NAME, state="ok", sentence=f"{where} takes, gives and deletes a list")]


async def _try(store: ListStore, name: str) -> bool:
    await store.put(name, LINES)
    try:
        return await store.get(name) == LINES
    finally:
        await store.delete(name)
