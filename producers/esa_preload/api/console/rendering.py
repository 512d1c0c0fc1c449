"""Templates, static files, and the headers that keep a page to itself."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.staticfiles import StaticFiles

from esa_preload.api.console import progress, words

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response
    from starlette.types import Scope

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"

HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    # With "no-referrer" browsers would not say where a form comes from either.
    "Referrer-Policy": "same-origin",
}
"""Of every page, in place of what other answers have."""

_FILTERS: Final[tuple[Callable[..., Any], ...]] = (
    words.ago,
    words.coded,
    words.grouped,
    words.iso,
    words.plan,
    words.rate,
    words.shown,
    words.span,
    words.utc,
    progress.ended_percent,
)


def make_templates() -> Environment:
    """Return the templates, with what they use: every text in them is escaped, and a name that they lack is an error."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    _extend(environment)
    return environment


def _extend(environment: Any) -> None:
    """Add what is ours to what templates know; untyped, since jinja2 types its own only."""
    files = {
        path.relative_to(STATIC).as_posix(): _address(path) for path in STATIC.rglob("*") if path.is_file()
    }
    environment.filters.update({each.__name__: each for each in _FILTERS})
    environment.globals.update(static=files.__getitem__, has_assets="vendor/htmx.min.js" in files)


def _address(path: Path) -> str:
    """Return where a static file is, with what it holds: another content has another address."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return f"/static/{path.relative_to(STATIC).as_posix()}?v={digest}"


class Static(StaticFiles):
    """The static files; one that is asked for by its content's address never changes."""

    def __init__(self) -> None:
        super().__init__(directory=STATIC)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file."""
        response = await super().get_response(path, scope)
        if scope["query_string"].startswith(b"v="):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        else:
            response.headers["Cache-Control"] = "no-cache"
        return response
