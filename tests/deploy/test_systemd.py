"""The units: accepted by systemd's own checks, agreeing with the settings, and enough for worker and API to work under."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from deploy.command_lines import parse
from deploy.confined import LIBRARY, PR_SET_MDWE, settings_of
from deploy.programs import program
from deploy.setting_names import DEFAULTS, is_known
from docs.pages import DOCS, ROOT, read
from esa_preload import PreloadClient
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from processes import BIN, api_environment, environment, started, worker_environment
from waiting import wait_until

if TYPE_CHECKING:
    from redis.asyncio import Redis

SYSTEMD = ROOT / "deploy" / "systemd"
OURS = ("worker", "api")
ANALYZE = ("systemd-analyze",)
EXPOSURE, AT_MOST = 1.1, 1.5
"""Of 10: as systemd 252 counts, which docs/how-to/deploy-with-systemd.md says, too; and as another may."""
CONFINED = Path(__file__).parent / "confined.py"


def unit_of(component: str) -> Path:
    """Return the unit of a component."""
    return SYSTEMD / f"esa-preload-{component}.service"


def one(component: str, name: str) -> str:
    """Return the one value of a setting of a unit."""
    (value,) = [value for key, value in settings_of(unit_of(component)) if key == name]
    return value


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units in a folder, their programs those of this environment."""
    for component in OURS:
        text = unit_of(component).read_text(encoding="utf-8")
        assert "ExecStart=/opt/esa-preload/bin/" in text
        (tmp_path / unit_of(component).name).write_text(
            text.replace("/opt/esa-preload/bin", str(BIN)), encoding="utf-8"
        )
    return tmp_path


@pytest.mark.parametrize("component", OURS)
def test_systemd_finds_nothing_wrong_with_the_unit(installed: Path, component: str) -> None:
    """``systemd-analyze verify``: each setting is known, and none is contradicted."""
    unit = installed / unit_of(component).name
    done = subprocess.run([program(ANALYZE), "verify", unit], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("component", OURS)
def test_the_exposure_is_low(installed: Path, component: str) -> None:
    """``systemd-analyze security``: what is left is the network, which it is there for, and this host's root to read."""
    unit = installed / unit_of(component).name
    command = [program(ANALYZE), "security", "--offline=true", "--no-pager", str(unit)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown)
    assert found
    assert float(found[1]) <= AT_MOST, shown
    release = subprocess.run(
        [program(ANALYZE), "--version"], capture_output=True, text=True, check=True
    ).stdout
    assert float(found[1]) == EXPOSURE or not release.startswith("systemd 252")
    assert f"counts {EXPOSURE} of 10" in read(DOCS / "how-to" / "deploy-with-systemd.md")


@pytest.mark.parametrize("component", OURS)
def test_each_line_of_hardening_says_why(component: str) -> None:
    """A comment stands before each of them."""
    lines = unit_of(component).read_text(encoding="utf-8").splitlines()
    first, last = lines.index("NoNewPrivileges=yes"), lines.index("RemoveIPC=yes")
    settings = [at for at in range(first, last + 1) if not lines[at].startswith("#")]
    assert len(settings) > 25
    assert [lines[at] for at in settings if not lines[at - 1].startswith("# ")] == []


@pytest.mark.parametrize("component", OURS)
def test_its_variables_are_settings_and_its_credentials_are_loaded(component: str) -> None:
    """Each variable does something, and each file in the credentials' folder is one that is loaded."""
    given = [value for key, value in settings_of(unit_of(component)) if key == "Environment"]
    variables = dict(value.split("=", 1) for value in given)
    assert variables
    assert all(map(is_known, variables))
    loaded = [
        value.partition(":") for key, value in settings_of(unit_of(component)) if key == "LoadCredential"
    ]
    assert {value for value in variables.values() if value.startswith("%d/")} == {
        f"%d/{name}" for name, _, _ in loaded
    }
    assert all(path.startswith("/etc/esa-preload/") for _, _, path in loaded)
    sample = (SYSTEMD / f"{component}.env").read_text(encoding="utf-8")
    assert all(line.startswith("#") for line in sample.splitlines() if line), "it would win over these"
    assert set(re.findall(r"^#(ESA_PRELOAD_\w+)=", sample, re.MULTILINE)) == DEFAULTS[component].keys()


@pytest.mark.parametrize("component", OURS)
def test_it_has_time_to_finish_and_its_watchdog_is_patient(component: str) -> None:
    """Stopping may take SHUTDOWN_GRACE and the slowest call; the watchdog outlives a few signs of life that are late."""
    slowest_s = float(DEFAULTS["worker"]["ESA_PRELOAD_CALL_TIMEOUT"]) if component == "worker" else 0
    assert (
        float(one(component, "TimeoutStopSec"))
        > float(DEFAULTS[component]["ESA_PRELOAD_SHUTDOWN_GRACE"]) + slowest_s
    )
    assert float(one(component, "WatchdogSec")) >= 10
    assert one(component, "Type") == "notify"
    program_path, *arguments = one(component, "ExecStart").split()
    parse([Path(program_path).name, *arguments])
    assert one(component, "RestartPreventExitStatus") == "2", "the code for settings"


def test_the_users_of_the_units_are_those_that_are_made() -> None:
    """sysusers.d makes one for each unit, and systemd can read it."""
    path = SYSTEMD / "sysusers.d" / "esa-preload.conf"
    lines = [
        line.split()[:2] for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("u ")
    ]
    assert lines == [["u", one(component, "User")] for component in OURS]
    sysusers = shutil.which("systemd-sysusers")
    if sysusers:
        done = subprocess.run([sysusers, "--dry-run", path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def confined(component: str, *command: str) -> list[str]:
    """Return what runs an installed command under the unit's restrictions; skips where they cannot be had."""
    program(ANALYZE)
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        pytest.skip(f"{LIBRARY} is not installed")
    if ctypes.CDLL(None).prctl(PR_SET_MDWE + 1, 0, 0, 0, 0) < 0:  # PR_GET_MDWE
        pytest.skip("this kernel is older than 6.3")
    return [sys.executable, str(CONFINED), str(unit_of(component)), str(BIN / command[0]), *command[1:]]


async def test_a_worker_works_under_the_restrictions_of_its_unit(redis: Redis, redis_url: str) -> None:
    """It starts, submits and ends, with calls filtered, three address families, and no memory that is written and run."""
    del redis
    async with Sandbox(SandboxConfig()) as sandbox, PreloadClient(redis_url) as client:
        env = worker_environment(redis_url, sandbox.url, ESA_PRELOAD_BATCH_QUIET="0.1")
        async with started(*confined("worker", "esa-preload-worker", "run"), env=env) as worker:
            await wait_until(lambda: worker.events("worker.started"))
            assert _seccomp_mode(worker.process.pid) == 2
            receipt = await client.enqueue(190007158391808, ["https://www.example.com/a.js"])
            assert (await client.wait(receipt.request_id, timeout=15)).submitted == 1
            worker.process.terminate()
            assert await worker.ended() == 0
        assert not worker.events("worker.error")


async def test_the_api_works_under_the_restrictions_of_its_unit(redis: Redis, redis_url: str) -> None:
    """It starts, is ready, and ends."""
    del redis
    env = api_environment(redis_url)
    async with started(*confined("api", "esa-preload", "serve"), env=env) as api:
        (line,) = await wait_until(lambda: api.events("http.started"))
        assert _seccomp_mode(api.process.pid) == 2
        async with httpx.AsyncClient(trust_env=False) as http:
            assert (await http.get(f"{line['ops_url']}/readyz")).status_code == 200
        api.process.terminate()
        assert await api.ended() == 0


def test_what_a_unit_forbids_is_refused() -> None:
    """The restrictions bite: another address family, a call that is taken away, and memory that is written and run all fail."""
    attempt = """
import ctypes, errno, mmap, os, socket
def refused(what):
    try: what()
    except OSError as exc: return exc.errno in (errno.EPERM, errno.EACCES)
print(refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
      refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, 1)),
      refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)),
      refused(lambda: socket.socket().close()))
"""
    command = confined("worker", "python", "-c", attempt)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment())
    assert done.stdout.split() == ["True", "True", "True", "None"], done.stderr


def _seccomp_mode(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("Seccomp:")]
    return int(line.split()[1])
