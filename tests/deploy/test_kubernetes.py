"""The manifests: valid, agreeing with the settings, with one another, and with what the pods need to run safely."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, cast

import kubernetes_validate
import pytest
import yaml

from deploy.alert_cases import on_all, waits
from deploy.command_lines import parse
from deploy.manifests import (
    KUBERNETES,
    Manifest,
    Object,
    container_of,
    documents,
    environment_of,
    kustomizations,
    manifests,
    of_kind,
    pod_of,
    reached_by,
    the,
)
from deploy.programs import PROMTOOL, program
from deploy.setting_names import DEFAULTS, is_known
from esa_preload_worker.metrics import Metrics

if TYPE_CHECKING:
    from pathlib import Path

OLDEST, NEWEST = "1.29", "1.37"
OVERLAYS = ("dev", "production")
OURS = ("worker", "api")


def deployment(component: str) -> Manifest:
    """Return the deployment of a component of ours."""
    return the("Deployment", f"esa-preload-{component}")


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize("manifest", [one for one in manifests() if not one.is_custom], ids=str)
def test_a_manifest_is_valid_for_the_oldest_and_the_newest_release(manifest: Manifest, release: str) -> None:
    """Against Kubernetes' own schemas, where a field that is not known is an error, too."""
    kubernetes_validate.validate(manifest.document, release, strict=True)


@pytest.mark.parametrize("manifest", [one for one in manifests() if one.is_custom], ids=str)
def test_a_custom_resource_parses_and_has_a_name__its_schema_is_in_no_package(manifest: Manifest) -> None:
    """Kustomizations, and resources of the Prometheus operator and KEDA, are not held to a schema here: only read."""
    if manifest.kind not in ("Kustomization", "Component"):
        assert manifest.name
        assert manifest.spec


@pytest.mark.parametrize("path", kustomizations(), ids=lambda path: str(path.parent.relative_to(KUBERNETES)))
def test_a_kustomization_names_files_and_objects_that_exist__kustomize_is_not_run(path: Path) -> None:
    """Resources, components, patches and files are there; what a patch or a merge is for is among the base's objects."""
    (document,) = documents(path)
    for name in [*document.get("resources", []), *document.get("components", [])]:
        assert (path.parent / name).exists(), name
    base = [*reached_by(KUBERNETES / "base" / "kustomization.yaml"), *reached_by(path)]
    known = {(one.kind, one.name) for one in base}
    for patch in document.get("patches", []):
        target = patch["target"]
        found = [
            name for kind, name in known if kind == target["kind"] and re.fullmatch(target["name"], name)
        ]
        assert found, target
        text = patch.get("patch") or (path.parent / patch["path"]).read_text(encoding="utf-8")
        for operation in _operations(yaml.safe_load(text)):
            for name in found:
                _resolve(
                    next(one.document for one in base if (one.kind, one.name) == (target["kind"], name)),
                    operation,
                )
    for generator in [*document.get("configMapGenerator", []), *document.get("secretGenerator", [])]:
        for name in generator.get("files", []):
            assert (path.parent / name.partition("=")[2]).exists(), name


def _operations(patch: Any) -> list[dict[str, Any]]:
    return cast("list[dict[str, Any]]", patch) if isinstance(patch, list) else []


def _resolve(document: Object, operation: dict[str, Any]) -> None:
    """Follow the path of a JSON patch as far as it must exist."""
    *parents, last = operation["path"].strip("/").split("/")
    here: Any = document
    for name in parents:
        here = here[int(name) if isinstance(here, list) else name]
    if operation["op"] == "add":
        assert last == "-" if isinstance(here, list) else last not in here
    else:
        assert last in here


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_kustomize_puts_an_overlay_together_and_all_of_it_is_valid(overlay: str) -> None:
    """By kubectl, where it is installed: no name is left behind, no secret is without its source, all in one namespace."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip(
            "kubectl is not installed, and in no package of Debian's; the test before this one reads the same files"
        )
    done = subprocess.run(
        [kubectl, "kustomize", str(KUBERNETES / "overlays" / overlay)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "eprecated" not in done.stderr
    rendered = [Manifest(KUBERNETES / overlay, one) for one in yaml.safe_load_all(done.stdout)]
    for manifest in rendered:
        if not manifest.is_custom:
            kubernetes_validate.validate(manifest.document, NEWEST, strict=True)
    spaces = {one.document["metadata"].get("namespace") for one in rendered if one.kind != "Namespace"}
    assert spaces == {next(one.name for one in rendered if one.kind == "Namespace")}
    made = {one.name for one in rendered if one.kind in ("Secret", "ConfigMap")}
    wanted = {"esa-preload-worker", "esa-preload-api"} if overlay == "production" else set[str]()
    used = {name for one in rendered if one.kind == "Deployment" for name in _sources_of(one)}
    assert used == made | wanted


def _sources_of(manifest: Manifest) -> list[str]:
    """Return the names of the secrets and maps that a deployment reads."""
    maps = [each["configMapRef"]["name"] for each in container_of(manifest).get("envFrom", [])]
    volumes = pod_of(manifest).get("volumes", [])
    sources = [source for volume in volumes for source in volume.get("projected", {}).get("sources", [])]
    return [*maps, *(source["secret"]["name"] for source in sources if "secret" in source)]


def test_every_variable_is_a_setting_or_a_name_of_alibaba_cloud() -> None:
    """In containers, in patches and in generators: a name that is misspelt would be a setting that does nothing."""
    texts = [path.read_text(encoding="utf-8") for path in KUBERNETES.rglob("*.yaml")]
    names = {
        name for text in texts for name in re.findall(r"\b(?:ESA_PRELOAD|ALIBABA_CLOUD)_[A-Z_]+\b", text)
    }
    assert len(names) > 10
    assert [name for name in sorted(names) if not is_known(name)] == []


@pytest.mark.parametrize("component", OURS)
def test_ports_are_those_of_the_settings(component: str) -> None:
    """What the process listens on, what is declared, and what the services and the policy name are the same."""
    container = container_of(deployment(component))
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (
        str(ports["ops"])
        == environment_of(container)["ESA_PRELOAD_OPS_PORT"]
        == DEFAULTS[component]["ESA_PRELOAD_OPS_PORT"]
    )
    if component == "api":
        assert str(ports["http"]) == DEFAULTS["api"]["ESA_PRELOAD_HTTP_PORT"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == "ops"
    for service in of_kind("Service"):
        if service.spec["selector"].get("app.kubernetes.io/component") == component:
            assert {port["targetPort"] for port in service.spec["ports"]} <= ports.keys()
    policy = the("NetworkPolicy", f"esa-preload-{component}")
    named = {port["port"] for rule in policy.spec["ingress"] for port in rule["ports"]}
    assert named == ports.keys()


@pytest.mark.parametrize("component", OURS)
def test_a_pod_has_time_to_finish_or_to_hand_back(component: str) -> None:
    """Longer than the pause before SIGTERM, SHUTDOWN_GRACE and the slowest call to ESA together."""
    (base,) = documents(KUBERNETES / "base" / "kustomization.yaml")
    literals = dict(one.split("=", 1) for one in base["configMapGenerator"][0]["literals"])
    grace_s = float(literals["ESA_PRELOAD_SHUTDOWN_GRACE"])
    assert grace_s == float(DEFAULTS[component]["ESA_PRELOAD_SHUTDOWN_GRACE"])
    pause = (
        container_of(deployment(component))
        .get("lifecycle", {})
        .get("preStop", {})
        .get("exec", {})
        .get("command")
    )
    slowest_s = float(DEFAULTS["worker"]["ESA_PRELOAD_CALL_TIMEOUT"]) if component == "worker" else 0
    needed_s = grace_s + slowest_s + (float(pause[1]) if pause else 0)
    assert pod_of(deployment(component))["terminationGracePeriodSeconds"] > needed_s


@pytest.mark.parametrize("manifest", of_kind("Deployment"), ids=str)
def test_every_pod_keeps_to_the_restricted_profile_and_more(manifest: Manifest) -> None:
    """Not root, no rights to gain, no capability, a read-only root, the runtime's filter of calls, no token, a limit of memory."""
    pod, container = pod_of(manifest), container_of(manifest)
    context = pod["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] > 0
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "they would be ESA_PRELOAD_… variables that are no settings"
    assert container["resources"]["limits"].keys() == {"memory"}
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(not {"hostPath"} & volume.keys() for volume in pod.get("volumes", []))


def test_selectors_find_the_pods_they_are_for() -> None:
    """Each deployment, service, budget, policy and spread selects the pods of exactly one deployment."""
    pods = {one.name: one.spec["template"]["metadata"]["labels"] for one in of_kind("Deployment")}

    def selected(labels: dict[str, str]) -> list[str]:
        return [name for name, has in pods.items() if labels.items() <= has.items()]

    for one in of_kind("Deployment"):
        assert selected(one.spec["selector"]["matchLabels"]) == [one.name]
        for spread in pod_of(one).get("topologySpreadConstraints", []):
            assert selected(spread["labelSelector"]["matchLabels"]) == [one.name]
    for one in of_kind("Service"):
        assert len(selected(one.spec["selector"])) == 1
    for one in of_kind("PodDisruptionBudget"):
        assert selected(one.spec["selector"]["matchLabels"]) == [one.name]
    for one in of_kind("NetworkPolicy"):
        assert selected(one.spec["podSelector"]["matchLabels"]) == [one.name]


@pytest.mark.parametrize("component", OURS)
def test_the_policy_lets_prometheus_in_and_names_be_looked_up(component: str) -> None:
    """Scrapes of the ops port from the monitoring namespace come in; DNS by both protocols, and Redis, go out; the worker's calls, too."""
    spec = the("NetworkPolicy", f"esa-preload-{component}").spec
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    scrapes = [rule for rule in spec["ingress"] if {"port": "ops"} in rule["ports"]]
    assert [rule["from"] for rule in scrapes] == [
        [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]
    ]
    out = [(port["port"], port.get("protocol", "TCP")) for rule in spec["egress"] for port in rule["ports"]]
    wanted = {(53, "UDP"), (53, "TCP"), (6379, "TCP")}
    if component == "worker":
        wanted.add((443, "TCP"))
    assert set(out) == wanted
    assert all("to" not in rule for rule in spec["egress"])


def test_the_service_monitor_finds_the_ops_ports() -> None:
    """It selects the services of worker and API that have a port of that name, and no other."""
    (monitor,) = of_kind("ServiceMonitor")
    selector = monitor.spec["selector"]
    (expression,) = selector["matchExpressions"]
    found = [
        one
        for one in of_kind("Service")
        if selector["matchLabels"].items() <= one.labels.items()
        and one.labels.get(expression["key"]) in expression["values"]
    ]
    assert {one.name for one in found} == {"esa-preload-worker", "esa-preload-api-ops"}
    (endpoint,) = monitor.spec["endpoints"]
    assert all({port["name"] for port in one.spec["ports"]} == {endpoint["port"]} for one in found)
    assert endpoint["path"] == "/metrics"


def test_what_scales_asks_for_metrics_that_exist_and_is_the_only_one_to_say_how_many() -> None:
    """KEDA's query names our metrics; its component takes the number out of the deployment that it scales."""
    (scaled,) = of_kind("ScaledObject")
    assert scaled.spec["scaleTargetRef"]["name"] == deployment("worker").name
    (trigger,) = scaled.spec["triggers"]
    names = set(re.findall(r"esa_preload_\w+", trigger["metadata"]["query"]))
    known = {metric.name for metric in Metrics(version="0", max_sites=1).registry.collect()}
    assert names
    assert names <= known
    (component,) = documents(scaled.path.parent / "kustomization.yaml")
    (patch,) = component["patches"]
    assert yaml.safe_load(patch["patch"]) == [{"op": "remove", "path": "/spec/replicas"}]
    assert scaled.spec["minReplicaCount"] == deployment("worker").spec["replicas"]


def test_what_is_held_scales_nothing(tmp_path: Path) -> None:
    """Workers are added for the oldest URL that another worker could take: not for a paused site's, and none in a cooldown."""
    (scaled,) = of_kind("ScaledObject")
    query = scaled.spec["triggers"][0]["metadata"]["query"]
    held = waits("paused") | on_all("oldest_pending_seconds", "9000x9", site="1")
    works = on_all("oldest_pending_seconds", "400x9", site="2")
    cooldown = on_all("cooldown_seconds", "5x9", operation="CreateScheduledPreloadJob")
    for series, found in ((held | works, [400]), (held, []), (works | cooldown, [])):
        test = {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "promql_expr_test": [
                {"expr": query, "eval_time": "5m", "exp_samples": [{"value": value} for value in found]}
            ],
        }
        path = tmp_path / "tests.yml"
        path.write_text(json.dumps({"tests": [test]}), encoding="utf-8")
        done = subprocess.run(
            [program(PROMTOOL), "test", "rules", path], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_a_role_s_variables_are_those_that_the_official_library_reads() -> None:
    """RRSA: role, provider and token by the library's own names, the token for the audience of Alibaba Cloud's STS."""
    (patch,) = documents(KUBERNETES / "components" / "rrsa" / "patch.yaml")
    values = [operation["value"] for operation in patch]
    variables = {value["name"]: value["value"] for value in values if "value" in value}
    assert {
        "ALIBABA_CLOUD_ROLE_ARN",
        "ALIBABA_CLOUD_OIDC_PROVIDER_ARN",
        "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED",
    } == variables.keys()
    assert all(is_known(name) for name in variables)
    (mount,) = [value for value in values if "mountPath" in value]
    (volume,) = [value for value in values if "projected" in value]
    (source,) = volume["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert token["audience"] == "sts.aliyuncs.com"
    assert f"{mount['mountPath']}/{token['path']}" == variables["ALIBABA_CLOUD_OIDC_TOKEN_FILE"]


def test_what_our_containers_run_is_a_command_of_ours() -> None:
    """Worker, API and sandbox by commands and options that exist."""
    ours = [container_of(one) for one in of_kind("Deployment") if container_of(one)["image"] == "esa-preload"]
    assert len(ours) == 3
    for container in ours:
        parse(container["args"])


def test_images_are_pinned() -> None:
    """Ours is given its tag by the kustomization that takes its file in; another has a full version."""
    for manifest in of_kind("Deployment"):
        image = container_of(manifest)["image"]
        assert image == "esa-preload" or re.fullmatch(r"valkey/valkey:\d+\.\d+\.\d+-alpine", image)
    for path in kustomizations():
        (document,) = documents(path)
        tags = {image["name"]: image["newTag"] for image in document.get("images", [])}
        assert all(re.fullmatch(r"\d+\.\d+\.\d+", tag) for tag in tags.values())
        files = [path.parent / name for name in document.get("resources", []) if name.endswith(".yaml")]
        objects = [Manifest(file, each) for file in files for each in documents(file)]
        images = {container_of(one)["image"] for one in objects if one.kind == "Deployment"}
        assert {image for image in images if ":" not in image} <= tags.keys(), path
