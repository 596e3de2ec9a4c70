"""What `kubectl kustomize k8s/` builds, as tests look at it."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.deployment import ROOT

K8S = ROOT / "k8s"
CRDS = Path(__file__).parent / "crds"
VERSIONS = ("1.32", "1.36")  # the oldest that is supported, and that of infra/
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


def configuration(objects: list[Json]) -> Json:
    """Of the settings that are not secret."""
    maps = [found for name, found in of_kind(objects, "ConfigMap").items() if name.startswith("pixtools-")]
    assert len(maps) == 1
    data: Json = maps[0]["data"]
    return data


def secret_settings() -> set[str]:
    return set(re.findall(r"^(PIXTOOLS_\w+)=", (K8S / "secrets.example.env").read_text(), re.MULTILINE))


def selects(selector: Json | None, labels: Json) -> bool:
    """Whether a selector of Kubernetes matches; an empty one matches everything."""
    wanted = (selector or {}).get("matchLabels", {})
    expressions = (selector or {}).get("matchExpressions", ())
    assert all(expression["operator"] == "In" for expression in expressions)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
