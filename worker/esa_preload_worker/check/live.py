"""The cheap probe for containers: ask this environment's worker for /livez. Imports nothing that takes time to load."""

from __future__ import annotations

import http.client
import os
from typing import TYPE_CHECKING

from esa_preload.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 2.0
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 9_464
"""Those of ESA_PRELOAD_OPS_HOST and ESA_PRELOAD_OPS_PORT; the table of settings takes too long to load. A test compares."""
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "": DEFAULT_HOST}  # noqa: S104 - what is asked, not listened on


def address(environ: Mapping[str, str]) -> tuple[str, int]:
    """
    Return where the worker of *environ* listens.

    Raises:
        SettingsError: the port is none, or 0, which names none.
    """
    host = environ.get("ESA_PRELOAD_OPS_HOST", DEFAULT_HOST).strip()
    text = environ.get("ESA_PRELOAD_OPS_PORT", str(DEFAULT_PORT)).strip()
    port = int(text) if text.isascii() and text.isdigit() else -1
    if port == 0:
        raise SettingsError(
            "ESA_PRELOAD_OPS_PORT is 0: the worker takes a free port, which nobody else can know",
            hint="give the worker a fixed port to have it probed; its log names the one that it took",
        )
    if not 1 <= port <= 65_535:
        raise SettingsError(
            f"ESA_PRELOAD_OPS_PORT must be a port from 1 to 65535 for a probe to find it, not {text!r}"
        )
    return _EVERYWHERE.get(host, host), port


def ask(host: str, port: int, *, timeout_s: float = TIMEOUT_S) -> str:
    """Return why the worker at *host* and *port* is not alive, or nothing."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/livez")
        reply = connection.getresponse()
        text = reply.read(200).decode("utf-8", "replace").strip()
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except (OSError, http.client.HTTPException) as exc:
        return f"no answer: {(exc.strerror if isinstance(exc, OSError) else None) or type(exc).__name__}"
    finally:
        connection.close()
    return "" if reply.status == http.client.OK else text or f"HTTP {reply.status}"


def probe(environ: Mapping[str, str] | None = None) -> str:
    """Return why the worker of this environment is not alive, or nothing."""
    return ask(*address(os.environ if environ is None else environ))
