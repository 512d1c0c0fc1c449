"""What the routes work with, made once for each app."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol, cast

from fastapi import Depends, Request

from esa_preload.interface import Preloads

if TYPE_CHECKING:
    from esa_preload.api.bodies import Streams
    from esa_preload.api.metrics import Metrics
    from esa_preload.api.settings import Settings
    from esa_preload.api.tokens import Principal, Tokens


class SharedPreloads(Preloads, Protocol):
    """A client that acts for many: what it does is written down under the name of who asked."""

    def acting_as(self, actor: str) -> Preloads:
        """Return this client under another name in the audit; it is not to be closed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """
    The queue, the tokens, the settings and the metrics.

    Attributes:
        tokens: ``None``: there are none, and only loopback is served.
    """

    client: SharedPreloads
    tokens: Tokens | None
    settings: Settings
    metrics: Metrics
    streams: Streams

    def acting_as(self, principal: Principal) -> Preloads:
        """Return the client under the name of who asks, for the audit."""
        return self.client.acting_as(principal.actor)


async def get_context(request: Request) -> Context:
    """Return the context of the app that *request* came to. Without `async` it would be run in a thread, which takes longer than all else."""
    return cast("Context", request.app.state.context)


Api = Annotated[Context, Depends(get_context)]
