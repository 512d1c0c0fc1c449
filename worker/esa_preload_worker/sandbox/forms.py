"""Decode queries and form bodies as fast as a benchmark needs, to exactly what the standard library says."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

# What a list of URLs is full of. None of them is a hex digit or a percent sign, so replacing them first can neither
# make nor break another escape, and the slow way has little left to do.
_COMMON = (
    (b"%3A", b":"),
    (b"%2F", b"/"),
    (b"%0A", b"\n"),
    (b"%3F", b"?"),
    (b"%3D", b"="),
    (b"%26", b"&"),
)


def decode_component(raw: bytes) -> bytes:
    """Return *raw* with ``+`` as a space and its percent escapes undone; a broken escape stays as it is."""
    if b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" not in raw:
        return raw
    for escape, character in _COMMON:
        raw = raw.replace(escape, character)
    return unquote_to_bytes(raw) if b"%" in raw else raw


def decode_pairs(raw: bytes) -> list[tuple[bytes, bytes]]:
    """Return the names and values of a query string or a form body, in order, blank values kept."""
    pairs: list[tuple[bytes, bytes]] = []
    for part in raw.split(b"&"):
        if part:
            name, _, value = part.partition(b"=")
            pairs.append((decode_component(name), decode_component(value)))
    return pairs
