"""Terraform as a user runs it, in a copy of infra/, with the provider from a folder of this machine, and k8s/."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.operations import Queue
from tests.support.deployment import ROOT
from tests.support.kubernetes import api_server, kinds

from .manifests import CRDS, K8S, VERSIONS, Json, Pod, kustomize, option, pods_of

INFRA = ROOT / "infra"
TOOLS = ROOT / ".venv-infra" / "bin"
NAMESPACE, PROVIDER = "hashicorp", "aws"
FOLDERS = (Path("/opt"), Path("/usr/share"), Path("/usr/local/share"), Path.home())
DEPTH = 3
# Every required variable; the images are never pulled.
STAND_IN = hashlib.sha256((INFRA / "tests" / "artifacts" / "k3s").read_bytes()).hexdigest()
VARIABLES = f"""
simulator = true
artifacts = "./tests/artifacts"
k3s = {{ version = "v1.36.4+k3s1", sha256 = {{ x86_64 = "{STAND_IN}", arm64 = "{STAND_IN}" }} }}
protected = false
alert_emails = ["operator@example.org"]
addon_images = {{
  termination_handler = "images.example/aws-node-termination-handler:v1.25.3"
  cluster_autoscaler  = "images.example/cluster-autoscaler:v1.36.1"
}}
"""


def tool(name: str) -> str:
    """A program of .venv-infra."""
    if not (TOOLS / name).exists():
        pytest.skip(f"{name} is not in .venv-infra: `make infra-test` installs it")
    return str(TOOLS / name)


def checkov(framework: str, *arguments: str | Path) -> set[str]:
    """Checks that fail."""
    command = [tool("checkov"), "--framework", framework, "--skip-download", "--compact", "--quiet", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    failed = set(re.findall(r"^Check: (\w+):", result.stdout, re.MULTILINE))
    assert (result.returncode == 0) == (not failed), result.stderr
    return failed


@cache
def plugin_folder() -> Path | None:
    """The parent of the folder that is named after the providers' registry.

    TF_PLUGIN_DIR or TF_PLUGIN_CACHE_DIR name it; otherwise it is looked for.
    """
    named = [Path(os.environ[name]) for name in ("TF_PLUGIN_DIR", "TF_PLUGIN_CACHE_DIR") if os.environ.get(name)]
    for folder in named or FOLDERS:
        for depth in range(1, DEPTH + 2):
            for provider in folder.glob("*/" * depth + f"{NAMESPACE}/{PROVIDER}"):
                return provider.parents[2]
    return None


@dataclass
class Terraform:
    """A working folder of Terraform."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=self.variables(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, (result.stdout + result.stderr)[-6000:]
        return result

    def variables(self) -> dict[str, str]:
        """Nothing of this machine's configuration or credentials."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        return kept | {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", **self.environment}


@pytest.fixture(scope="session")
def terraform(tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """infra/, initialized offline."""
    if shutil.which("terraform") is None:
        pytest.skip("no terraform on this machine: infra/ is NOT tested")
    plugins = plugin_folder()
    if plugins is None:
        pytest.skip("no folder with the AWS provider (TF_PLUGIN_DIR): infra/ is NOT tested")
    folder = tmp_path_factory.mktemp("terraform") / "infra"
    shutil.copytree(INFRA, folder, ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*", "*.tfvars"))
    running = Terraform(folder)
    running("init", "-input=false", f"-plugin-dir={plugins}")
    return running


def differences(before: Any, after: Any, unknown: Any = None, path: str = "") -> Iterator[str]:
    """Paths of what a plan would change. What is not known before the apply is no change, nor is nothing for empty."""
    if unknown is True or (before or None) == (after or None):
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            inner = unknown.get(key) if isinstance(unknown, dict) else None
            yield from differences(before.get(key), after.get(key), inner, f"{path}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, pair in enumerate(zip(before, after, strict=True)):
            inner = unknown[index] if isinstance(unknown, list) and index < len(unknown) else None
            yield from differences(*pair, inner, path)
    else:
        yield path


@pytest.fixture(scope="session")
def text() -> str:
    return kustomize(K8S)


@pytest.fixture(scope="session")
def objects(text: str) -> list[Json]:
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="session")
def pods(objects: list[Json]) -> list[Pod]:
    return pods_of(objects)


@pytest.fixture(scope="session")
def workers(pods: list[Pod]) -> dict[str, Pod]:
    """By the queue that their command consumes."""
    found = [pod for pod in pods if pod.component.startswith("worker-")]
    taken = {option(pod.spec["containers"][0]["command"], "-Q"): pod for pod in found}
    (spare,) = (pod for pod in found if "--spare" in pod.spec["containers"][0]["command"])
    return {**taken, Queue.SMALL: spare}


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    definitions = list(TOOLS.parent.glob(f"lib/*/site-packages/kubernetes_validate/*/v{VERSIONS[0]}.0-local-strict"))
    if not definitions:
        pytest.skip("kubernetes-validate is not in .venv-infra: `make infra-test` installs it")
    with api_server(kinds(definitions[0] / "_definitions.json", CRDS.glob("*.yaml"))) as url:
        yield url
