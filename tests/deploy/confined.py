"""
Run a command under what a unit forbids: its filter of system calls, its address families, and no memory both writable and executable.

systemd itself is not running where the tests run; the kernel's means that it uses are the same.
``python confined.py UNIT COMMAND [ARGUMENT…]``
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

LIBRARY = "libseccomp.so.2"
PR_SET_NO_NEW_PRIVS = 38
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
"""Since Linux 6.3."""
ALLOW, FAIL = 0x7FFF_0000, 0x0005_0000 | errno.EPERM
COMPARE_EQUAL = 4


class Comparison(ctypes.Structure):
    """What libseccomp compares an argument of a call with."""

    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def settings_of(unit: Path) -> list[tuple[str, str]]:
    """Return the settings of a unit, in order; the same may come again."""
    lines = unit.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return [(name, value) for name, _, value in pairs]


def allowed_calls(unit: Path) -> set[str]:
    """Return the names of the system calls that are left by the unit's lists: the first allows, those with ~ take away."""
    allowed: set[str] = set()
    for name, value in settings_of(unit):
        if name == "SystemCallFilter":
            calls = {call for one in value.lstrip("~").split() for call in _calls_of(one)}
            allowed = allowed - calls if value.startswith("~") else allowed | calls
    return allowed


def _calls_of(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    shown = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager", name], capture_output=True, text=True, check=True
    ).stdout
    words = [line.strip() for line in shown.splitlines()[1:]]
    return {call for word in words if word and not word.startswith("#") for call in _calls_of(word)}


def confine(unit: Path) -> None:
    """Confine this process, and what it becomes, as *unit* says."""
    libc, seccomp = ctypes.CDLL(None, use_errno=True), ctypes.CDLL(LIBRARY)
    _need(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)
    settings = dict(settings_of(unit))
    if settings.get("MemoryDenyWriteExecute") == "yes":
        _need(libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(ctypes.c_uint32(FAIL)))
    for name in allowed_calls(unit) - {"socket"}:
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:
            _need(seccomp.seccomp_rule_add(context, ctypes.c_uint32(ALLOW), number, 0) == 0)
    number = seccomp.seccomp_syscall_resolve_name(b"socket")
    for family in settings["RestrictAddressFamilies"].split():
        comparison = Comparison(0, COMPARE_EQUAL, int(getattr(socket, family)), 0)
        _need(
            seccomp.seccomp_rule_add_array(
                context, ctypes.c_uint32(ALLOW), number, 1, ctypes.byref(comparison)
            )
            == 0
        )
    _need(seccomp.seccomp_load(context) == 0)


def _need(is_done: bool) -> None:
    if not is_done:
        raise OSError(ctypes.get_errno(), "this kernel cannot confine a process so")


def main() -> None:
    """Confine, and become the command."""
    confine(Path(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - a program of the tests


if __name__ == "__main__":
    main()
