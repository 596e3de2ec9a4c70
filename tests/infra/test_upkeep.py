"""What servers do every minute: infra/templates/boot.sh with stand-ins for AWS and Kubernetes."""

import base64
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from .nodes import ARTIFACTS, Node, running_server

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"

pytestmark = pytest.mark.skipif(not shutil.which("jq"), reason="no jq: the script of nodes is NOT tested")


def node_object(name: str, instance: str, ready: str, provider: str = "aws:///us-east-1a/") -> dict[str, object]:
    return {
        "metadata": {"name": name},
        "spec": {"providerID": f"{provider}{instance}"},
        "status": {"conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}]},
    }


def test_upkeep_forgets_nodes_whose_instance_is_gone_and_no_others(tmp_path: Path) -> None:
    node = running_server(tmp_path)
    nodes = [
        node_object("works", "i-1", "True"),
        node_object("terminated", "i-2", "Unknown"),
        node_object("unknown-to-aws", "i-3", "False"),
        node_object("restarts", "i-4", "False"),
        node_object("cannot-be-asked", "i-5", "Unknown"),
        node_object("elsewhere", "box", "Unknown", provider="k3s://"),
    ]
    (node.state / "nodes.json").write_text(json.dumps({"items": nodes}))
    # No file for i-5: the question fails.
    for instance, state in (("i-1", "running"), ("i-2", "terminated"), ("i-3", ""), ("i-4", "running")):
        (node.state / "instances" / instance).write_text(state)
    result = node.run("upkeep")
    assert result.returncode == 0, result.stderr
    deleted = [line.split()[4] for line in node.commands() if line.startswith("k3s kubectl delete node ")]
    assert deleted == ["terminated", "unknown-to-aws"]
    assert node.results() == []


def claim(name: str, volume: str) -> dict[str, Any]:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": "pixtools"},
        "spec": {"volumeName": volume},
    }


def volume(name: str, *nodes: str) -> dict[str, Any]:
    """As the provisioner of local paths makes them; those of other storage name no node."""
    there = {"key": "kubernetes.io/hostname", "operator": "In", "values": list(nodes)}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [there]}]}}
    return {
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {"nodeAffinity": affinity} if nodes else {},
        # What is left of an earlier claim of the same name must not cost the claim of today.
        "status": {"phase": "Bound"},
    }


def pod(name: str, claimed: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"volumes": [{"persistentVolumeClaim": {"claimName": claimed}}, {}]}}


def write(node: Node, name: str, items: list[dict[str, Any]]) -> None:
    (node.state / name).write_text(json.dumps({"items": items}))


def deleted(node: Node) -> list[str]:
    lines = [line.split("delete ")[1] for line in node.commands() if " delete " in line]
    return [" ".join(line.split()[:2]) for line in lines]


def test_claims_on_the_disk_of_a_node_that_is_gone_are_forgotten_and_no_others(tmp_path: Path) -> None:
    node = running_server(tmp_path)
    write(node, "nodes.json", [node_object("here", "i-1", "True")])
    (node.state / "instances" / "i-1").write_text("running")
    claims = [
        claim("data-rabbitmq-0", "lost"),
        claim("data-redis-0", "kept"),
        claim("elsewhere", "network"),
        claim("waits", ""),
    ]
    volumes = [
        volume("lost", "gone"),
        volume("kept", "here"),
        volume("network"),
        volume("old", "gone"),  # was bound to data-redis-0 once
    ]
    write(node, "volumes.json", [*claims, *volumes])
    write(node, "pods.json", [pod("rabbitmq-0", "data-rabbitmq-0"), pod("redis-0", "data-redis-0")])
    result = node.run("upkeep")
    assert result.returncode == 0, result.stderr
    assert deleted(node) == ["persistentvolumeclaim data-rabbitmq-0", "persistentvolume lost", "pod rabbitmq-0"]


@pytest.mark.parametrize("broken", ["nodes.json", "volumes.json"])
def test_nothing_is_forgotten_while_kubernetes_does_not_answer(tmp_path: Path, broken: str) -> None:
    node = running_server(tmp_path)
    write(node, "nodes.json", [])
    write(node, "volumes.json", [claim("data-rabbitmq-0", "lost"), volume("lost", "gone")])
    (node.state / f"broken-{broken}").touch()
    node.run("upkeep")
    assert deleted(node) == []


def test_no_node_at_all_is_no_answer(tmp_path: Path) -> None:
    node = running_server(tmp_path)
    write(node, "volumes.json", [claim("data-rabbitmq-0", "lost"), volume("lost", "gone")])
    assert node.run("upkeep").returncode == 0
    assert deleted(node) == []


def test_pods_can_pull_from_a_private_registry(tmp_path: Path) -> None:
    node = running_server(tmp_path, REGISTRY=REGISTRY)
    result = node.run("upkeep")
    secrets = [found for found in node.applied() if found["kind"] == "Secret"]
    assert {found["metadata"]["namespace"] for found in secrets} == {"kube-system", "pixtools"}
    for found in secrets:
        assert found["metadata"]["name"] == "pixtools-registry"
        assert found["type"] == "kubernetes.io/dockerconfigjson"
        shown = json.loads(found["stringData"][".dockerconfigjson"])
        assert shown == {"auths": {REGISTRY: {"username": "AWS", "password": "pull-password"}}}
    assert "pull-password" not in "\n".join([*node.commands(), result.stdout, result.stderr])
    node.run("upkeep")
    assert sum("get-login-password" in line for line in node.commands()) == len(secrets), "it is good for hours"
    (stamp,) = (node.root / "var/lib/rancher/k3s").glob("pixtools-*-pull-secret")
    past = time.time() - 5 * 3600
    os.utime(stamp, (past, past))
    node.run("upkeep")
    assert sum("get-login-password" in line for line in node.commands()) == 2 * len(secrets)


def test_a_registry_is_asked_for_no_password_without_one(tmp_path: Path) -> None:
    node = running_server(tmp_path)
    assert node.run("upkeep").returncode == 0
    assert not any("ecr" in line for line in node.commands())


def test_pods_get_the_certificates_of_the_database(tmp_path: Path) -> None:
    node = running_server(tmp_path)
    assert node.run("upkeep").returncode == 0
    (found,) = (found for found in node.applied() if found["kind"] == "ConfigMap")
    assert found["metadata"]["name"] == "database-ca"
    assert base64.b64decode(found["data"]["ca.pem"]) == ARTIFACTS["rds-ca.pem"]


def test_storage_is_let_through_by_the_ranges_of_aws_again_every_day(tmp_path: Path) -> None:
    node = running_server(tmp_path)
    assert node.run("upkeep").returncode == 0
    (policy,) = (found for found in node.applied() if found["kind"] == "NetworkPolicy")
    assert policy["metadata"] == {"name": "s3", "namespace": "pixtools"}
    assert [peer["ipBlock"]["cidr"] for peer in policy["spec"]["egress"][0]["to"]] == [
        "192.0.2.0/24",
        "198.51.100.0/24",
    ]
    commands = node.commands()
    assert any("Values=com.amazonaws.us-east-1.s3" in line for line in commands)
    assert any("--prefix-list-id pl-1" in line for line in commands)
    node.run("upkeep")
    assert len(node.applied()) == 2, "once a day"


def test_what_cannot_be_applied_yet_is_applied_later(tmp_path: Path) -> None:
    """The namespace comes after the cluster."""
    node = running_server(tmp_path)
    (node.state / "refuse").touch()
    assert node.run("upkeep").returncode == 0
    assert node.applied() == []
    (node.state / "refuse").unlink()
    assert node.run("upkeep").returncode == 0
    assert {found["kind"] for found in node.applied()} == {"ConfigMap", "NetworkPolicy"}


@pytest.mark.parametrize(("servers", "scaled"), [("1", False), ("2", True)])
def test_names_are_answered_by_two_pods_where_there_are_two_servers(tmp_path: Path, servers: str, scaled: bool) -> None:
    node = running_server(tmp_path, SERVERS=servers)
    assert node.run("upkeep").returncode == 0
    assert any("scale deployment coredns" in line for line in node.commands()) is scaled
