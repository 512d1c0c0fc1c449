"""Read the manifests of deploy/kubernetes, as files and as kustomizations put them together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

KUBERNETES = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
CUSTOM_GROUPS = ("monitoring.coreos.com/", "keda.sh/", "kustomize.config.k8s.io/")
"""Of operators: no package holds their schemas."""

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """An object, and the file it is in."""

    path: Path
    document: Object

    def __str__(self) -> str:
        name = self.document.get("metadata", {}).get("name", "")
        return f"{self.path.relative_to(KUBERNETES)}:{self.kind}:{name}"

    @property
    def kind(self) -> str:
        """What it is."""
        return str(self.document["kind"])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.document["metadata"]["name"])

    @property
    def spec(self) -> Object:
        """What it asks for."""
        return cast("Object", self.document["spec"])

    @property
    def labels(self) -> dict[str, str]:
        """What it is found by."""
        return cast("dict[str, str]", self.document["metadata"].get("labels", {}))

    @property
    def is_custom(self) -> bool:
        """Tell whether an operator defines its kind."""
        return str(self.document["apiVersion"]).startswith(CUSTOM_GROUPS)


def documents(path: Path) -> list[Any]:
    """Return the documents of a YAML file."""
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def manifests() -> list[Manifest]:
    """Return every object in deploy/kubernetes; patches, which are lists, are none."""
    return [
        Manifest(path, cast("Object", document))
        for path in sorted(KUBERNETES.rglob("*.yaml"))
        for document in documents(path)
        if isinstance(document, dict)
    ]


def of_kind(*kinds: str) -> list[Manifest]:
    """Return the objects of these kinds."""
    return [manifest for manifest in manifests() if manifest.kind in kinds]


def the(kind: str, name: str) -> Manifest:
    """Return the one object of this kind and name."""
    (found,) = [manifest for manifest in of_kind(kind) if manifest.name == name]
    return found


def pod_of(deployment: Manifest) -> Object:
    """Return the spec of the pods of a deployment."""
    return cast("Object", deployment.spec["template"]["spec"])


def container_of(deployment: Manifest) -> Object:
    """Return the one container of a deployment's pods."""
    (container,) = pod_of(deployment)["containers"]
    return cast("Object", container)


def environment_of(container: Object) -> dict[str, str]:
    """Return the variables that a container is given by name."""
    return {each["name"]: each["value"] for each in container.get("env", [])}


def kustomizations() -> list[Path]:
    """Return every kustomization.yaml."""
    return sorted(KUBERNETES.rglob("kustomization.yaml"))


def reached_by(kustomization: Path) -> Iterator[Manifest]:
    """Yield the objects that a kustomization takes in, through those it is made of."""
    (document,) = documents(kustomization)
    for name in [*document.get("resources", []), *document.get("components", [])]:
        path = (kustomization.parent / name).resolve()
        if path.is_dir():
            yield from reached_by(path / "kustomization.yaml")
        else:
            yield from (Manifest(path, each) for each in documents(path))
