"""Redis as an operator secures it: TLS and users of few rights. The packaged Valkey knows no TLS, so a proxy ends it there."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
import tempfile
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from esa_preload.connection import connect
from esa_preload.scripts import command
from esa_preload_worker.embedded import ValkeyProcess
from integration.security.certificates import Certificates, make_certificates
from ports import free_port
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

KINDS = ("valkey", "redis")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureServer:
    """
    A server that speaks TLS at *port*.

    Attributes:
        admin_url: a socket that only this user can open, with every right.
        certificates: in *directory*, where there is room for more.
    """

    port: int
    admin_url: str
    certificates: Certificates
    directory: Path

    def url(self, user: str, password: str, *, host: str = "127.0.0.1", ca: Path | None = None) -> str:
        """Return the setting of a producer or a worker."""
        authority = ca or self.certificates.authority
        return f"rediss://{user}:{password}@{host}:{self.port}/0?ssl_ca_certs={authority}"

    async def admin_list(self, *arguments: str | int) -> list[Any]:
        """As :meth:`admin`, for a reply that is a list."""
        return cast("list[Any]", await self.admin(*arguments))

    async def admin(self, *arguments: str | int) -> object:
        """Run a command with every right."""
        client = connect(self.admin_url)
        try:
            return await command(client, *arguments)
        finally:
            await client.aclose()


@asynccontextmanager
async def secure_server(
    kind: str, *, hosts: Sequence[str] = ("127.0.0.1", "localhost")
) -> AsyncGenerator[SecureServer]:
    """Run a server of *kind* with TLS on a free port, its certificate for *hosts*; skips where there is no redis-server, but never in CI."""
    with tempfile.TemporaryDirectory(prefix="esap-") as name:
        directory = Path(name)
        certificates = make_certificates(directory / "tls", hosts=hosts)
        run = _valkey if kind == "valkey" else _redis
        async with run(directory, certificates) as port:
            yield SecureServer(
                port=port,
                admin_url=f"unix://{directory}/admin.sock",
                certificates=certificates,
                directory=directory,
            )


@asynccontextmanager
async def _valkey(directory: Path, certificates: Certificates) -> AsyncGenerator[int]:
    admin = directory / "admin.sock"
    server = ValkeyProcess(directory, socket=admin)
    server.start(30)
    try:
        async with _tls_in_front_of(admin, certificates) as port:
            yield port
    finally:
        server.kill()


@asynccontextmanager
async def _redis(directory: Path, certificates: Certificates) -> AsyncGenerator[int]:
    binary = shutil.which("redis-server")
    if binary is None and not os.environ.get("CI"):
        pytest.skip("no redis-server on this machine")
    assert binary is not None, "CI has a redis-server"
    admin = directory / "admin.sock"
    port = free_port()
    config: dict[str, object] = {
        "port": 0,
        "tls-port": port,
        "tls-auth-clients": "no",
        "tls-cert-file": certificates.server,
        "tls-key-file": certificates.key,
        "tls-ca-cert-file": certificates.authority,
        "bind": "127.0.0.1",
        "unixsocket": admin,
        "unixsocketperm": 700,
        "dir": directory,
        "appendonly": "yes",
        "save": "''",
        "logfile": directory / "redis.log",
    }
    path = directory / "redis.conf"
    path.write_text("".join(f"{key} {value}\n" for key, value in config.items()))
    process = await asyncio.create_subprocess_exec(binary, str(path))
    try:
        await wait_until(admin.exists)
        yield port
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _tls_in_front_of(path: Path, certificates: Certificates) -> AsyncGenerator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server, certificates.key)
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if task := asyncio.current_task():
            tasks.add(task)
        inner_reader, inner_writer = await asyncio.open_unix_connection(path)
        with suppress(OSError):
            await asyncio.gather(_copy(reader, inner_writer), _copy(inner_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while block := await source.read(65_536):
            target.write(block)
            await target.drain()
    finally:
        target.close()
