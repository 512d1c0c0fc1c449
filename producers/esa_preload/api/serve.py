"""The life of an API process, from its settings to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import uvicorn

from esa_preload.api.app import create_app
from esa_preload.api.metrics import Metrics
from esa_preload.api.ops import Ops
from esa_preload.api.tokens import Tokens
from esa_preload.cancellation import end_tasks
from esa_preload.client import PreloadClient
from esa_preload.errors import EsaPreloadError, SettingsError
from esa_preload.logs import get_logger
from esa_preload.notify import Notifier
from esa_preload.otel import start_tracing
from esa_preload.settings import PREFIX
from esa_preload.stopping import Stop, loop_factory

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from esa_preload.api.settings import Settings

log = get_logger()

OPS_GRACE_S = 1
"""A slow reader of the metrics does not hold up the end of the process for longer."""

_BAD_ADDRESS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL)


def run(settings: Settings, *, warnings: Sequence[str] = ()) -> int:
    """
    Serve until SIGTERM or SIGINT.

    Returns:
        the exit code: 0.

    Raises:
        SettingsError: it cannot start: a file of tokens, or an address.
    """
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(Stop())
        stack.callback(start_tracing("esa-preload-api", os.environ))
        for warning in warnings:
            log.warning("http.warning", message=warning)
        path = settings.tokens_path
        tokens = Tokens(path, on_change=_tell_tokens) if path else None
        http = stack.enter_context(_listening(settings.http_host, settings.http_port, "HTTP"))
        ops = stack.enter_context(_listening(settings.ops_host, settings.ops_port, "OPS"))
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_live(settings, stop, tokens, http, ops))
        log.info("http.stopped", code=0)
    return 0


async def _live(
    settings: Settings, stop: Stop, tokens: Tokens | None, http: socket.socket, ops_socket: socket.socket
) -> None:
    redis_url = settings.redis_url.get_secret_value()
    async with PreloadClient(redis_url, namespace=settings.namespace) as client:
        metrics = Metrics(version=version("esa-preload"))
        ops = Ops(client=client, metrics=metrics)
        app = create_app(client, settings=settings, tokens=tokens, metrics=metrics)
        server = _Server(_config(app, settings))
        ops_server = _Server(_ops_config(ops.app()))
        serving = asyncio.create_task(server.serve([http]))
        watching = asyncio.create_task(ops_server.serve([ops_socket]))
        stopped = asyncio.create_task(stop.wait())
        systemd = Notifier.of(os.environ)
        # Redis may come later. And that the loop turns is all there is to being alive: whatever serves runs on it.
        reporting = asyncio.create_task(
            systemd.report(
                why_not_alive=lambda: "", why_not_ready=lambda: "" if server.started else "starting"
            )
        )
        try:
            log.info(
                "http.started",
                version=version("esa-preload"),
                namespace=settings.namespace,
                url=_url_of(http),
                ops_url=_url_of(ops_socket),
                has_tokens=tokens is not None,
            )
            await asyncio.wait((serving, watching, stopped), return_when=asyncio.FIRST_COMPLETED)
            ops.is_stopping = True
            systemd.send("STOPPING=1")
            log.info(
                "http.stopping", in_flight=len(server.server_state.tasks), grace_s=settings.shutdown_grace
            )
            server.should_exit = True
            await serving
            ops_server.should_exit = True
            await watching
        finally:
            await end_tasks(serving, watching, stopped, reporting)


class _Server(uvicorn.Server):
    """A server whose signals are its owner's."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def _config(app: Any, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        **_quiet(),
        proxy_headers=bool(settings.http_trusted_proxies),
        forwarded_allow_ips=settings.http_trusted_proxies,
        timeout_graceful_shutdown=round(settings.shutdown_grace),
    )


def _ops_config(app: Any) -> uvicorn.Config:
    return uvicorn.Config(app, **_quiet(), proxy_headers=False, timeout_graceful_shutdown=OPS_GRACE_S)


def _quiet() -> dict[str, Any]:
    return {"log_config": None, "access_log": False, "server_header": False, "lifespan": "off", "ws": "none"}


@contextlib.contextmanager
def _listening(host: str, port: int, what: str) -> Generator[socket.socket]:
    """Listen while inside: an address that cannot be had is an error of the settings, before anything else has begun."""
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as exc:
        raise _cannot_listen(host, port, what, exc) from exc
    with listener:
        yield listener


def _cannot_listen(host: str, port: int, what: str, error: OSError | UnicodeError) -> SettingsError:
    is_address = isinstance(error, socket.gaierror | UnicodeError) or error.errno in _BAD_ADDRESS
    why = (isinstance(error, OSError) and error.strerror) or str(error)
    return SettingsError(
        f"{PREFIX}{what}_{'HOST' if is_address else 'PORT'}: cannot listen on {host}:{port}: {why}",
        hint="it is an address of this host, such as 127.0.0.1 or 0.0.0.0"
        if is_address
        else "choose another port, or 0 for a free one",
    )


def _url_of(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _tell_tokens(outcome: int | EsaPreloadError) -> None:
    if isinstance(outcome, int):
        log.info("tokens.loaded", count=outcome)
    else:
        log.error("tokens.kept", message=str(outcome), hint=outcome.hint)
