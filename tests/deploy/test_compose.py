"""The compose file: valid, agreeing with the settings and with the files beside it, and hardened. No engine is run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from deploy.command_lines import parse
from deploy.setting_names import DEFAULTS, is_known
from docs.pages import ROOT
from esa_preload.api.tokens import digest_of, read_tokens
from esa_preload.connection import connect
from esa_preload.scripts import as_text, command
from esa_preload_worker.embedded import valkey_binary
from processes import environment, started
from waiting import wait_until

COMPOSE = ROOT / "deploy" / "compose"
FILE = COMPOSE / "compose.yaml"
SANDBOX = COMPOSE / "sandbox"
Service = dict[str, Any]
DOCUMENT: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
SERVICES: dict[str, Service] = DOCUMENT["services"]
OURS = ("worker", "api")


def source_of(volume: str) -> str:
    """Return where a volume comes from, in the sandbox."""
    return volume.replace("${SECRETS:-./secrets}", "./sandbox").partition(":")[0]


def seconds(text: str) -> float:
    """Return a duration such as 45s."""
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def test_the_file_is_valid_by_the_compose_specification() -> None:
    """Against the schema that the specification's authors publish, with its anchors and merges put in."""
    with tempfile.TemporaryDirectory() as directory:
        merged = Path(directory) / "compose.json"
        merged.write_text(json.dumps(DOCUMENT), encoding="utf-8")
        checker = Path(sys.executable).parent / "check-jsonschema"
        arguments = ["--builtin-schema", "vendor.compose-spec", str(merged)]
        done = subprocess.run([checker, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_bounded(name: str) -> None:
    """A read-only root, no capability, no new rights, a limit of memory and processes, a log that ends, a pinned image."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert "pids_limit" in service
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & service.keys()
    if "build" in service:
        assert service["image"] == f"esa-preload:${{TAG:-{version('esa-preload')}}}"
    else:
        assert re.fullmatch(r"[\w/]+:v?\d+\.\d+\.\d+(-alpine)?", service["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_takes_in_is_there(name: str) -> None:
    """Each file and folder of the repository, each secret, each volume and each network that is named exists."""
    service = SERVICES[name]
    for volume in service.get("volumes", []):
        source = source_of(volume)
        assert (COMPOSE / source).exists() if source.startswith(".") else source in DOCUMENT["volumes"], (
            volume
        )
        assert not source.startswith(".") or volume.endswith(":ro"), "what is ours is only read"
    assert set(service.get("secrets", [])) <= DOCUMENT["secrets"].keys()
    assert set(service["networks"]) <= DOCUMENT["networks"].keys()
    if "build" in service:
        assert (COMPOSE / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).exists()


def test_each_secret_is_a_file_that_somebody_reads() -> None:
    """No secret is a variable; each is in the sandbox's folder, and each is read by a service that is given it."""
    read: set[str] = set()
    for service in SERVICES.values():
        texts = json.dumps([service.get(key) for key in ("environment", "command", "healthcheck")])
        named = set(re.findall(r"/run/secrets/([\w.-]+)", texts))
        assert named == set(service.get("secrets", []))
        read |= named
    assert read == DOCUMENT["secrets"].keys()
    for name, secret in DOCUMENT["secrets"].items():
        assert secret["file"] == f"${{SECRETS:-./secrets}}/{name}"
        assert (SANDBOX / name).stat().st_mode & 0o044 == 0o044, (
            "the user in the container is not the one outside"
        )
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "deploy/compose/secrets/" in ignored


@pytest.mark.parametrize("component", OURS)
def test_its_variables_are_settings_and_the_sandbox_s_too(component: str) -> None:
    """Each does something, and each that can be set from outside has the setting's own default."""
    variables = cast("dict[str, str]", SERVICES[component]["environment"])
    assert [name for name in variables if not is_known(name)] == []
    for name, value in variables.items():
        if value.startswith("${"):
            assert value == f"${{{name}:-{DEFAULTS[component][name]}}}"
    lines = (COMPOSE / "sandbox.env").read_text(encoding="utf-8").splitlines()
    given = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert given - {"COMPOSE_PROFILES", "SECRETS"} <= SERVICES["worker"]["environment"].keys()


def test_ports_are_those_of_the_settings_and_on_this_host_only() -> None:
    """The API is where its default says, what is published is on loopback, and Prometheus scrapes the ops ports."""
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert SERVICES["api"]["ports"] == ["127.0.0.1:{0}:{0}".format(DEFAULTS["api"]["ESA_PRELOAD_HTTP_PORT"])]
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8"))[
        "scrape_configs"
    ]
    targets = {sd["names"][0]: sd["port"] for job in scraped for sd in job.get("dns_sd_configs", [])}
    assert targets == {name: int(DEFAULTS[name]["ESA_PRELOAD_OPS_PORT"]) for name in OURS}
    assert SERVICES["api"]["environment"]["ESA_PRELOAD_OPS_PORT"] == str(targets["api"])


@pytest.mark.parametrize("component", OURS)
def test_a_service_has_time_to_finish_or_to_hand_back(component: str) -> None:
    """Longer than SHUTDOWN_GRACE and the slowest call to ESA together."""
    slowest_s = float(DEFAULTS["worker"]["ESA_PRELOAD_CALL_TIMEOUT"]) if component == "worker" else 0
    grace_s = float(DEFAULTS[component]["ESA_PRELOAD_SHUTDOWN_GRACE"])
    assert seconds(SERVICES[component]["stop_grace_period"]) > grace_s + slowest_s


def test_only_workers_and_api_reach_the_queue_and_the_profile_is_the_sandbox_s() -> None:
    """The queue's network leads nowhere else; without the profile nothing simulated runs; two workers do."""
    assert DOCUMENT["networks"]["queue"] == {"internal": True}
    assert {name for name, one in SERVICES.items() if "queue" in one["networks"]} == {"valkey", *OURS}
    assert SERVICES["valkey"]["networks"] == ["queue"]
    assert {name for name, one in SERVICES.items() if "profiles" in one} == {"sandbox"}
    assert SERVICES["worker"]["deploy"]["replicas"] == 2
    for name in ("sandbox", *OURS):
        parse(SERVICES[name]["command"])


async def test_the_queue_starts_as_it_is_told_and_is_probed_as_its_users_are_allowed() -> None:
    """The packaged Valkey with that command: synced at each write, nobody evicted, and the sandbox's users can log in."""
    with tempfile.TemporaryDirectory(prefix="esap-") as name:
        directory = Path(name)
        _, config, *arguments = [
            word.replace("/run/secrets", str(SANDBOX)).replace("/etc/valkey", str(ROOT / "deploy" / "redis"))
            for word in SERVICES["valkey"]["command"]
        ]
        socket = directory / "s"
        own = ["--bind", "127.0.0.1", "--port", "0", "--unixsocket", str(socket), "--dir", name]
        users = (SANDBOX / "users.acl").read_text(encoding="utf-8")
        (directory / "users.acl").write_text(f"{users}user test on >test ~* &* +@all\n", encoding="utf-8")
        arguments[arguments.index("--aclfile") + 1] = str(directory / "users.acl")
        async with started(str(valkey_binary()), config, *arguments, *own, env=environment()):
            await wait_until(socket.exists)
            for user in ("esa-worker", "esa-api", "esa-monitor"):
                client = connect(f"unix://{user}:sandbox-only@{socket}")
                assert await command(client, "PING") is True
                await client.aclose()
            admin = connect(f"unix://test:test@{socket}")
            names = ("appendonly", "appendfsync", "maxmemory-policy", "protected-mode")
            shown = await command(admin, "CONFIG", "GET", *names)
            flags = (await command(admin, "ACL", "GETUSER", "default"))[1]
            await admin.aclose()
    assert sorted(map(as_text, shown)) == sorted([*names, "yes", "always", "noeviction", "yes"])
    assert list(map(as_text, flags)) == ["off"], "with `nopass` who comes from another host is refused"


def test_the_sandbox_s_token_is_the_one_that_is_told() -> None:
    """The file of tokens is one that the API reads, and its one token is the one in sandbox.env; Kubernetes' has the same."""
    told = re.search(r"esap_[\w-]+", (COMPOSE / "sandbox.env").read_text(encoding="utf-8"))
    assert told
    for path in (SANDBOX / "api" / "tokens.json", ROOT / "deploy/kubernetes/overlays/dev/tokens.json"):
        (token,) = read_tokens(path)
        assert (token.sha256, token.role, token.sites) == (digest_of(told[0]), "operator", None)
