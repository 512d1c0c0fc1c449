"""What the routes work with, made once for each app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from fastapi import Request

if TYPE_CHECKING:
    from esa_preload.api.metrics import Metrics
    from esa_preload.api.settings import Settings
    from esa_preload.api.tokens import Tokens
    from esa_preload.interface import Preloads


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """
    The queue, the tokens, the settings and the metrics.

    Attributes:
        tokens: ``None``: there are none, and only loopback is served.
    """

    client: Preloads
    tokens: Tokens | None
    settings: Settings
    metrics: Metrics


def get_context(request: Request) -> Context:
    """Return the context of the app that *request* came to."""
    return cast("Context", request.app.state.context)
