"""k8s/ in operation: readiness, alerts on their way to people, disks that go with a node, exporters."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.config import Settings

from .conftest import INFRA
from .manifests import K8S, Json, Pod, kustomize, of_kind, option, pods_of

MONITORING = K8S / "monitoring"
ROUTES = MONITORING / "alertmanager" / "routes.yaml"
RECEIVERS = MONITORING / "alertmanager" / "receivers.example.yaml"
SLOW_UPLOAD = 1_000_000 / 8  # bytes a second: a phone with a poor connection

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine: k8s/ is NOT tested")


@pytest.fixture(scope="module")
def objects() -> list[Json]:
    return list(yaml.safe_load_all(kustomize(K8S)))


@pytest.fixture(scope="module")
def pods(objects: list[Json]) -> dict[str, Pod]:
    return {pod.name: pod for pod in pods_of(objects)}


def main_container(pod: Pod) -> Json:
    (container,) = pod.spec["containers"]
    return dict(container)


def workers(pods: dict[str, Pod]) -> list[Pod]:
    return [pod for pod in pods.values() if pod.component.startswith("worker-")]


def test_readiness_of_a_worker_is_no_message_to_all_of_them(pods: dict[str, Pod]) -> None:
    assert len(workers(pods)) == 4
    for pod in workers(pods):
        container = main_container(pod)
        assert container["readinessProbe"]["httpGet"] == {"path": "/metrics", "port": "metrics"}
        assert not any("exec" in container[probe] for probe in ("startupProbe", "livenessProbe", "readinessProbe"))


def test_workers_do_not_talk_to_each_other(pods: dict[str, Pod]) -> None:
    for pod in workers(pods):
        assert {"--without-gossip", "--without-mingle"} <= set(main_container(pod)["command"])


def test_every_claim_comes_back_by_itself(objects: list[Json], pods: dict[str, Pod]) -> None:
    """Upkeep removes those whose disk is gone with a node; only a StatefulSet makes them anew."""
    assert not of_kind(objects, "PersistentVolumeClaim")
    assert not [
        volume for pod in pods.values() for volume in pod.spec.get("volumes", ()) if "persistentVolumeClaim" in volume
    ]
    claiming = {
        name for name, found in of_kind(objects, "StatefulSet").items() if found["spec"]["volumeClaimTemplates"]
    }
    assert claiming == {"rabbitmq", "redis", "prometheus"}


def test_claims_fit_on_one_server_with_room_for_the_rest(objects: list[Json]) -> None:
    claims = [
        claim for found in of_kind(objects, "StatefulSet").values() for claim in found["spec"]["volumeClaimTemplates"]
    ]
    gib = sum(int(claim["spec"]["resources"]["requests"]["storage"].removesuffix("Gi")) for claim in claims)
    (disk,) = re.findall(
        r"disk_gib      = optional\(number, (\d+)\) # 20 of claims", (INFRA / "variables.tf").read_text()
    )
    assert gib == 20
    assert gib + 30 <= int(disk)


def test_those_who_tell_of_a_lost_server_are_not_on_it(pods: dict[str, Pod]) -> None:
    for name in ("prometheus", "alertmanager"):
        (avoided,) = pods[name].spec["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        labels = avoided["podAffinityTerm"]["labelSelector"]["matchLabels"]
        assert labels.items() <= pods["rabbitmq"].labels.items()


def test_pods_know_the_databases_authority_where_infra_puts_it(pods: dict[str, Pod]) -> None:
    (root,) = re.findall(r"sslmode=verify-full&sslrootcert=(\S+)", (INFRA / "settings.sh").read_text())
    (name, key) = re.findall(
        r"create configmap (\S+) --from-file=(\S+?)=", (INFRA / "templates" / "boot.sh").read_text()
    )[0]
    for pod in (pod for pod in pods.values() if pod.ours):
        (volume,) = (found for found in pod.spec["volumes"] if found.get("configMap", {}).get("name") == name)
        assert volume["configMap"]["optional"] is True, "elsewhere there is none"
        for container in pod.containers():
            (mount,) = (found for found in container["volumeMounts"] if found["name"] == volume["name"])
            assert f"{mount['mountPath']}/{key}" == root


def test_pods_that_run_our_images_can_pull_them_from_a_private_registry(
    objects: list[Json], pods: dict[str, Pod]
) -> None:
    accounts = of_kind(objects, "ServiceAccount")
    pulling = [
        pod for pod in pods.values() if any(found["image"].startswith("pixtools-") for found in pod.containers())
    ]
    assert len(pulling) == 8
    for pod in pulling:
        assert accounts[pod.spec["serviceAccountName"]]["imagePullSecrets"] == [{"name": "pixtools-registry"}]
    assert 'name: "pixtools-registry"' in (INFRA / "templates" / "boot.sh").read_text()
    assert "docker-registry pixtools-registry" in (K8S / "README.md").read_text()


def test_the_ingress_waits_for_a_slow_upload_of_the_largest_image() -> None:
    config = yaml.safe_load((INFRA / "addons" / "traefik.yaml.tftpl").read_text().replace("${replicas}", "2"))
    values = yaml.safe_load(config["spec"]["valuesContent"])
    timeouts = values["ports"]["websecure"]["transport"]["respondingTimeouts"]
    seconds = int(timeouts["readTimeout"].removesuffix("s"))
    assert seconds >= Settings.model_fields["max_upload_bytes"].default / SLOW_UPLOAD


def test_keda_is_the_release_whose_definitions_are_tested() -> None:
    version = re.findall(r'default     = "(2\.\d+)\.\d+"', (INFRA / "variables.tf").read_text())
    assert f"KEDA {version[0]}" in (Path(__file__).parent / "crds" / "README.md").read_text()
    assert f"--version {version[0]}." in (K8S / "README.md").read_text()


################################################################################
# Alerts, from Prometheus to people
################################################################################


def route_of(labels: dict[str, str], route: Json) -> str:
    """The receiver of an alert, by the matchers that routes.yaml uses."""
    for inner in route.get("routes", ()):
        pairs = [matcher.split(" = ") for matcher in inner["matchers"]]
        if all(labels.get(name) == value for name, value in pairs):
            return route_of(labels, inner)
    return str(route["receiver"])


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "prometheus" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def test_every_alert_has_somebody_who_hears_it() -> None:
    routes, receivers = (yaml.safe_load(path.read_text()) for path in (ROUTES, RECEIVERS))
    named = {found["name"] for found in receivers["receivers"]}
    heard = {
        rule["alert"]: route_of({"alertname": rule["alert"], **rule["labels"]}, routes["route"]) for rule in alerts()
    }
    assert set(heard.values()) == named == {"page", "ticket", "watchdog"}
    for rule in alerts():
        expected = "watchdog" if rule["labels"]["severity"] == "heartbeat" else rule["labels"]["severity"]
        assert heard[rule["alert"]] == expected


def test_the_watchdog_reaches_its_receiver_every_minute() -> None:
    (watchdog,) = (
        found for found in yaml.safe_load(ROUTES.read_text())["route"]["routes"] if found["receiver"] == "watchdog"
    )
    assert watchdog["group_interval"] == watchdog["repeat_interval"] == "1m"


@pytest.mark.parametrize("name", ["compose", "kubernetes"])
def test_prometheus_knows_alertmanager(name: str, objects: list[Json]) -> None:
    config = yaml.safe_load((MONITORING / "prometheus" / f"{name}.yaml").read_text())
    (manager,) = config["alerting"]["alertmanagers"]
    (target,) = manager["static_configs"][0]["targets"]
    host, port = target.split(":")
    assert host in of_kind(objects, "Service")
    assert int(port) in {entry["port"] for entry in of_kind(objects, "Service")[host]["spec"]["ports"]}


def test_the_example_is_taken_by_alertmanager(tmp_path: Path) -> None:
    if not shutil.which("amtool"):
        pytest.skip("no amtool: the configuration of Alertmanager is NOT checked")
    config = tmp_path / "alertmanager.yaml"
    config.write_text(ROUTES.read_text() + RECEIVERS.read_text())
    checked = subprocess.run(["amtool", "check-config", config], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_exporter_listens_where_prometheus_asks(pods: dict[str, Pod]) -> None:
    pod = pods["celery-exporter"]
    container = main_container(pod)
    variables = {one["name"]: one.get("value") for one in container["env"]}
    assert container["command"] == ["pixtools", "celery-exporter"]
    (port,) = container["ports"]
    assert int(variables["PIXTOOLS_METRICS_PORT"]) == port["containerPort"]
    assert pod.owner["spec"]["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])


def test_a_worker_has_one_name_in_the_cluster(pods: dict[str, Pod]) -> None:
    """RabbitMQ gives the queue of a worker's name to one connection alone."""
    for pod in workers(pods):
        assert option(main_container(pod)["command"], "-n").endswith("@%h")
