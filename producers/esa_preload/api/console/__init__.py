"""The web console: server-rendered pages over the same verbs as the HTTP API, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from esa_preload.api.console import actions, pages, sign_in
from esa_preload.api.console.rendering import Static
from esa_preload.api.console.visits import Console

if TYPE_CHECKING:
    from fastapi import FastAPI

    from esa_preload.api.context import Context

__all__ = ["add_console"]


def add_console(app: FastAPI, context: Context) -> None:
    """Serve the console of *app* at ``/``."""
    app.state.console = Console.of(context)
    for module in (pages, actions, sign_in):
        app.include_router(module.router)
    app.mount("/static", Static(), name="static")
