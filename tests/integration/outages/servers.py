"""Redis servers that a test may kill, freeze and reconfigure, each a process of its own on its own port or socket."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from redis import Redis
from redis.exceptions import RedisError

from esa_preload_worker.embedded import valkey_binary
from ports import free_port
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from pathlib import Path

START_S = 30.0

CONFIG = {"appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction"}
"""What was answered is on disk, so that a SIGKILL takes nothing back."""


class Server:
    """
    A server on a port of loopback; its file and its log are in *directory*.

    Args:
        lines: of its configuration file, where a sentinel's are kept; it writes there itself.
    """

    def __init__(
        self, directory: Path, *, config: Mapping[str, str] | None = None, lines: tuple[str, ...] = ()
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = free_port()
        self._config = dict(CONFIG if config is None else config)
        self._lines = lines
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Server {self.directory.name} port={self.port}>"

    @property
    def url(self) -> str:
        """Its address; a connection that hears nothing for 2 s is given up."""
        return f"redis://127.0.0.1:{self.port}?socket_timeout=2"

    def begin(self, **config: str) -> None:
        """Start it, with more of a configuration, and do not wait."""
        path = self.directory / "server.conf"
        settings = {**self._config, **{name.replace("_", "-"): value for name, value in config.items()}}
        head = [f"port {self.port}", "bind 127.0.0.1", f"dir {self.directory}", *self._lines]
        if not (self._lines and path.exists()):
            path.write_text(
                "\n".join([*head, *(f'{name} "{value}"' for name, value in settings.items())]) + "\n"
            )
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(valkey_binary()), str(path), *(["--sentinel"] if self._lines else [])],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start(self, **config: str) -> None:
        """Start it and wait until it serves."""
        self.begin(**config)
        await wait_until(self.answers, timeout_s=START_S)

    def answers(self) -> bool:
        """Tell whether it serves."""
        assert self._process is None or self._process.poll() is None, self.log()
        try:
            return bool(self.command("PING"))
        except (RedisError, OSError):
            return False

    def log(self) -> str:
        """Return what it has logged."""
        return (self.directory / "server.log").read_text(encoding="utf-8", errors="replace")

    def command(self, *arguments: str | int) -> Any:
        """Run one command on a connection of its own."""
        with self.client() as client:
            return client.execute_command(*arguments)

    @contextmanager
    def client(self) -> Generator[Any]:
        """A connection that is there before an outage and stays through it."""
        with Redis(
            port=self.port,
            socket_timeout=5,
            socket_connect_timeout=5,
            decode_responses=True,
            single_connection_client=True,
        ) as client:
            yield cast("Any", client)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop it where it stands: it accepts connections, and never answers."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)
