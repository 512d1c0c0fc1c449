"""Ids of batches and of their packs."""

from __future__ import annotations

import secrets
import time


def new_id() -> str:
    """Return a new id of a batch: 24 hex digits that begin with the time, so that names sort by age."""
    return f"{int(time.time() * 1000):011x}{secrets.token_hex(7)[:13]}"
