"""What `kubectl kustomize k8s/` builds, as tests look at it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .conftest import ROOT

K8S = ROOT / "k8s"
WORKLOADS = {"Deployment", "StatefulSet", "Job"}
NAME, COMPONENT = "app.kubernetes.io/name", "app.kubernetes.io/component"
Json = dict[str, Any]


def kustomize(folder: Path) -> str:
    built = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return built.stdout


class Pod(NamedTuple):
    """What a workload makes."""

    owner: Json
    labels: Json
    spec: Json

    @property
    def name(self) -> str:
        return str(self.owner["metadata"]["name"])

    @property
    def component(self) -> str:
        return str(self.labels[COMPONENT])

    @property
    def ours(self) -> bool:
        return self.labels[NAME] == "pixtools"

    def containers(self) -> Iterator[Json]:
        yield from self.spec.get("initContainers", [])
        yield from self.spec["containers"]


def pods_of(objects: list[Json]) -> list[Pod]:
    found = [(owner, owner["spec"]["template"]) for owner in objects if owner["kind"] in WORKLOADS]
    return [Pod(owner, template["metadata"]["labels"], template["spec"]) for owner, template in found]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def of_kind(objects: list[Json], kind: str) -> dict[str, Json]:
    return {found["metadata"]["name"]: found for found in objects if found["kind"] == kind}
