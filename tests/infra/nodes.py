"""Instances that run infra/templates/boot.sh, with stand-ins for AWS and K3s whose answers are files."""

import hashlib
import os
import shutil
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .conftest import INFRA

STUBS = Path(__file__).parent / "stubs"
BOOT = INFRA / "templates" / "boot.sh"
DATABASE = "database.example"
ADMINISTRATOR = "arn:rds!administrator"
AUTHORITY = "the certificate of this cluster\n"
ARTIFACTS = {"k3s-images.tar.zst": b"images", "rds-ca.pem": b"certificates\n"}
SUMS = {"k3s": "K3S_SHA256", "k3s-images.tar.zst": "IMAGES_SHA256", "rds-ca.pem": "CA_SHA256"}
METADATA = {
    "instance-id": "i-0aaa",
    "availability-zone": "us-east-1a",
    "local-ipv4": "10.20.0.9",
    "local-hostname": "ip-10-20-0-9.ec2.internal ip-10-20-0-9.example",
}
PARAMETERS = {
    "api-address": "balancer.example",
    "database-address": DATABASE,
    "database-administrator": ADMINISTRATOR,
}


@dataclass
class Node:
    """One instance: what AWS and Kubernetes know in `state`, its own files in `root`."""

    state: Path
    root: Path
    script: Path
    environment: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", self.script, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def config(self) -> dict[str, object]:
        path = self.root / "etc/rancher/k3s/config.yaml"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        content: dict[str, object] = yaml.safe_load(path.read_text())
        return content

    def secret(self, name: str) -> str:
        return (self.state / "secrets" / f"trial_{name}").read_text()

    def set_secret(self, name: str, value: str) -> None:
        (self.state / "secrets" / name).write_text(value)

    def let_join(self) -> None:
        """As if a server had started."""
        self.set_secret("trial_agent-token", "joined")
        self.set_secret("trial_authority", "0123")

    def commands(self) -> list[str]:
        path = self.state / "commands"
        return path.read_text().splitlines() if path.exists() else []

    def results(self) -> list[str]:
        """What the node reported to its group."""
        return [line.split()[-1] for line in self.commands() if "complete-lifecycle-action" in line]

    def applied(self) -> list[dict[str, Any]]:
        """Objects that were given to Kubernetes."""
        path = self.state / "applied"
        return [found for found in yaml.safe_load_all(path.read_text()) if found] if path.exists() else []


def make_node(folder: Path, node_class: str, *, settings: Mapping[str, str] = {}, **environment: str) -> Node:
    """One that has not booted yet."""
    state, root = folder / "state", folder / "root"
    for name in ("secrets", "instances", "artifacts"):
        (state / name).mkdir(parents=True, exist_ok=True)
    (root / "tmp").mkdir(parents=True, exist_ok=True)
    for kind, values in (("metadata", METADATA), ("parameters", PARAMETERS)):
        (state / kind).mkdir(exist_ok=True)
        for name, value in values.items():
            (state / kind / name).write_text(value)
    artifacts = {"k3s": (STUBS / "k3s").read_bytes(), **ARTIFACTS}
    for name, content in artifacts.items():
        (state / "artifacts" / name).write_bytes(content)
    (state / "authority").write_text(AUTHORITY)
    given = {
        "CLUSTER": "trial",
        "REGION": "us-east-1",
        "NODE_CLASS": node_class,
        "SERVERS": "2",
        "BUCKET": "trial-manifests",
        "REGISTRY": "",
        "MIRROR": "",
        **{variable: hashlib.sha256(artifacts[name]).hexdigest() for name, variable in SUMS.items()},
        **settings,
    }
    script = folder / "part-001"
    header = "".join(f"readonly {name}='{value}'\n" for name, value in given.items())
    script.write_text(f"#!/usr/bin/env bash\n{header}\n{BOOT.read_text()}")
    variables = {
        "PATH": f"{STUBS}:{os.environ['PATH']}",
        "STATE": str(state),
        "ROOT": str(root),
        "PAUSE": "0.1",
        **environment,
    }
    return Node(state, root, script, variables)


def running_server(folder: Path, **settings: str) -> Node:
    """A server that has booted: K3s is there, and so are the folders that boot makes."""
    node = make_node(folder, "server", settings=settings)
    for name in ("usr/local/bin", "etc/rancher/k3s", "var/lib/rancher/k3s/server/manifests/pixtools"):
        (node.root / name).mkdir(parents=True)
    shutil.copy(STUBS / "k3s", node.root / "usr/local/bin/k3s")
    (node.root / "etc/rancher/k3s/database-ca.pem").write_bytes(ARTIFACTS["rds-ca.pem"])
    return node
