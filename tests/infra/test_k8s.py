"""k8s/ as `kubectl kustomize` builds it: schemas, scanners, agreement with the code, and what operators change."""

import re
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from app import __version__
from app.config import Settings
from app.operations import Queue

from .conftest import INFRA, ROOT, checkov, tool
from .manifests import K8S, VERSIONS, Json, Pod, configuration, kustomize, of_kind, option, pods_of, secret_settings

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine: k8s/ is NOT tested")


REQUIRED = {"PIXTOOLS_DATABASE_URL", "PIXTOOLS_BROKER_URL", "PIXTOOLS_RESULT_BACKEND", "PIXTOOLS_STORAGE_URL"}
SPOT_NOTICE = 120  # seconds


################################################################################
# What others say of it
################################################################################


@pytest.mark.parametrize("version", VERSIONS)
def test_it_matches_the_schemas_of_kubernetes(text: str, version: str, tmp_path: Path) -> None:
    """KEDA's kinds are unknown there; the next test has them."""
    manifest = tmp_path / "k8s.yaml"
    manifest.write_text(text)
    command = [tool("kubernetes-validate"), "--strict", "--kubernetes-version", version, manifest]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    passed = re.findall(r"passed for resource", checked.stdout)
    assert len(passed) == text.count("\nkind: ") - text.count("\napiVersion: keda.sh/")


def dry_run(server: str, cache: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    kubectl = ["kubectl", f"--server={server}", "--kubeconfig=/dev/null", f"--cache-dir={cache}"]
    apply = [*kubectl, "apply", "--dry-run=server", *arguments]
    return subprocess.run(apply, capture_output=True, text=True, check=False, timeout=120)


def test_an_api_server_takes_all_of_it(server: str, objects: list[Json], tmp_path: Path) -> None:
    applied = dry_run(server, tmp_path, "-k", K8S)
    assert applied.returncode == 0, applied.stderr
    assert len(re.findall(r" created \(server dry run\)$", applied.stdout, re.MULTILINE)) == len(objects)


@pytest.mark.parametrize(
    ("kind", "found", "wrong"),
    [
        ("ScaledObject", "pollingInterval: 15", "polingInterval: 15"),
        ("ScaledObject", "maxReplicaCount: 20", "maxReplicaCount: many"),
        ("TriggerAuthentication", "parameter: username", "paramater: username"),
        ("Deployment", "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true"),
    ],
)
def test_that_server_would_refuse_what_is_wrong(
    server: str, objects: list[Json], kind: str, found: str, wrong: str, tmp_path: Path
) -> None:
    manifests = [yaml.safe_dump(manifest) for manifest in objects if manifest["kind"] == kind]
    right = next(manifest for manifest in manifests if found in manifest)
    changed = tmp_path / "changed.yaml"
    changed.write_text(right.replace(found, wrong))
    applied = dry_run(server, tmp_path / "cache", "-f", changed)
    assert applied.returncode == 1
    assert "is invalid" in applied.stderr


def test_checkov_finds_nothing(text: str, tmp_path: Path) -> None:
    manifest = tmp_path / "k8s.yaml"
    manifest.write_text(text)
    assert checkov("kubernetes", "--file", manifest, "--config-file", K8S / ".checkov.yaml") == set()


def test_every_skip_of_checkov_is_needed_and_says_why(text: str, tmp_path: Path) -> None:
    everywhere = (K8S / ".checkov.yaml").read_text()
    explained = re.findall(r"^  # \S.+\n(?:  # .+\n)*  - (CKV\w+)$", everywhere, re.MULTILINE)
    assert explained == yaml.safe_load(everywhere)["skip-check"]
    single = re.findall(r"checkov\.io/skip\d+: (CKV\w+)=\S.+", text)
    manifest = tmp_path / "k8s.yaml"
    manifest.write_text(re.sub(r"checkov\.io/skip", "checkov.io/not", text))
    assert checkov("kubernetes", "--file", manifest) == {*explained, *single}


################################################################################
# The code, the images and the manifests are of one mind
################################################################################


def test_every_queue_has_a_worker_and_nothing_else_has(workers: dict[str, Pod]) -> None:
    assert set(workers) == set(Queue)
    assert {pod.component for pod in workers.values()} == {
        "worker-standard",
        "worker-ml",
        "worker-webhook",
        "worker-fetch",
    }


def test_every_queue_has_a_trigger_for_its_worker(objects: list[Json], workers: dict[str, Pod]) -> None:
    scaled = of_kind(objects, "ScaledObject").values()
    triggers = [(trigger, found["spec"]) for found in scaled for trigger in found["spec"]["triggers"]]
    targets = {trigger["metadata"]["queueName"]: spec for trigger, spec in triggers}
    assert len(targets) == len(triggers)
    assert {queue: spec["scaleTargetRef"]["name"] for queue, spec in targets.items()} == {
        queue: pod.name for queue, pod in workers.items()
    }
    assert targets[Queue.ML]["minReplicaCount"] == 0
    assert targets[Queue.DEFAULT]["minReplicaCount"] == targets[Queue.WEBHOOK]["minReplicaCount"] == 1


def test_triggers_count_what_runs_and_scale_to_what_a_pod_takes(objects: list[Json], workers: dict[str, Pod]) -> None:
    services = of_kind(objects, "Service")
    for scaled in of_kind(objects, "ScaledObject").values():
        trigger, *others = scaled["spec"]["triggers"]
        shown = trigger["metadata"]
        for other in others:
            assert other == {**trigger, "metadata": {**shown, "queueName": other["metadata"]["queueName"]}}
        assert trigger["type"] == "rabbitmq"
        assert (shown["protocol"], shown["mode"], shown["excludeUnacknowledged"]) == ("http", "QueueLength", "false")
        assert shown["value"] == option(workers[shown["queueName"]].spec["containers"][0]["command"], "-c")
        service, namespace, port = re.fullmatch(r"http://(\w+)\.(\w+)\.svc:(\d+)/", shown["host"]).groups()  # type: ignore[union-attr]
        assert namespace == scaled["metadata"]["namespace"]
        assert int(port) in {entry["port"] for entry in services[service]["spec"]["ports"]}
        assert trigger["authenticationRef"]["name"] in of_kind(objects, "TriggerAuthentication")
        down = scaled["spec"]["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 300


def test_the_window_grows_as_far_as_the_workers_may(objects: list[Json]) -> None:
    spec = of_kind(objects, "ScaledObject")["worker-standard"]["spec"]
    given = configuration(objects)
    takes, most = (
        int(given.get(f"PIXTOOLS_{name.upper()}", Settings.model_fields[name].default))
        for name in ("worker_takes", "most_workers")
    )
    assert (str(takes), most) == (spec["triggers"][0]["metadata"]["value"], spec["maxReplicaCount"])


def test_nothing_but_an_autoscaler_sets_the_number_of_what_it_scales(objects: list[Json], pods: list[Pod]) -> None:
    scaled = chain(of_kind(objects, "ScaledObject").values(), of_kind(objects, "HorizontalPodAutoscaler").values())
    names = {found["spec"]["scaleTargetRef"]["name"] for found in scaled}
    assert names == {pod.name for pod in pods if "replicas" not in pod.owner["spec"] and pod.owner["kind"] != "Job"}


def test_every_variable_is_a_setting(text: str, objects: list[Json]) -> None:
    known = {f"PIXTOOLS_{name.upper()}" for name in Settings.model_fields}
    used = set(re.findall(r"\bPIXTOOLS_[A-Z0-9_]+\b", text))
    assert used | set(configuration(objects)) | secret_settings() <= known


def test_what_a_cluster_needs_reaches_every_container(objects: list[Json], pods: list[Pod]) -> None:
    names = {
        source: set(keys) for source, keys in (("pixtools", configuration(objects)), ("secret", secret_settings()))
    }
    for pod in (pod for pod in pods if pod.ours):
        for container in pod.spec["containers"]:
            config, secret = container["envFrom"]
            assert secret["secretRef"]["name"] == "pixtools-settings"
            assert config["configMapRef"]["name"] in of_kind(objects, "ConfigMap")
            given = {variable["name"] for variable in container["env"]}
            assert names["pixtools"] | names["secret"] | given >= REQUIRED, pod.name


def test_a_setting_has_one_source(objects: list[Json]) -> None:
    assert not set(configuration(objects)) & secret_settings()


def test_terraform_prints_the_secret_settings() -> None:
    printed = re.findall(r"^(PIXTOOLS_\w+)=", (INFRA / "settings.sh").read_text(), re.MULTILINE)
    assert set(printed) == secret_settings()


def test_no_secret_is_in_here(objects: list[Json]) -> None:
    assert not of_kind(objects, "Secret")
    assert not re.search(r"^\w+=\S", (K8S / "secrets.example.env").read_text(), re.MULTILINE)


def test_settings_are_accepted(objects: list[Json], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in configuration(objects).items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    assert str(settings.metrics_port) == configuration(objects)["PIXTOOLS_METRICS_PORT"]


def test_images_are_those_of_the_dockerfile_in_this_version(pods: list[Pod]) -> None:
    targets = set(re.findall(r"^FROM runtime AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
    used = {container["image"] for pod in pods if pod.ours for container in pod.containers()}
    assert used == {f"pixtools-{target}:{__version__}" for target in targets}


def test_images_are_those_of_the_compose_file(pods: list[Pod]) -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())["services"].values()
    composed = {service["image"] for service in services}
    images = {container["image"] for pod in pods for container in pod.containers()}
    ours = {image.split(":")[0] for image in images if image.startswith("pixtools-")}
    theirs = {image for image in images if not image.startswith("pixtools-")}
    assert theirs - composed == {"registry.k8s.io/kube-state-metrics/kube-state-metrics:v2.17.0"}
    assert ours <= composed


def test_the_ports_are_those_of_the_images_and_settings(objects: list[Json], pods: list[Pod]) -> None:
    exposed = re.findall(r"^EXPOSE (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    metrics = configuration(objects)["PIXTOOLS_METRICS_PORT"]
    for pod in (pod for pod in pods if pod.ours and pod.component != "migrate"):
        ports = [str(port["containerPort"]) for port in pod.spec["containers"][0]["ports"]]
        assert ports == ([exposed[0]] if pod.component == "api" else []) + [metrics]
    assert [port["port"] for port in of_kind(objects, "Service")["pixtools-api"]["spec"]["ports"]] == [int(exposed[0])]


def test_the_job_is_named_after_the_version_that_it_migrates_to(objects: list[Json]) -> None:
    (job,) = of_kind(objects, "Job").values()
    assert (
        job["metadata"]["name"] == "migrate-" + job["spec"]["template"]["spec"]["containers"][0]["image"].split(":")[1]
    )


def test_everything_of_ours_waits_for_the_schema(pods: list[Pod]) -> None:
    for pod in (pod for pod in pods if pod.ours and pod.owner["kind"] == "Deployment"):
        assert [container["command"] for container in pod.spec["initContainers"]] == [["pixtools", "migrate", "--wait"]]


def test_the_public_url_is_the_host_of_the_ingress(objects: list[Json]) -> None:
    (ingress,) = of_kind(objects, "Ingress").values()
    (rule,) = ingress["spec"]["rules"]
    assert configuration(objects)["PIXTOOLS_PUBLIC_URL"] == f"https://{rule['host']}"
    assert ingress["spec"]["tls"][0]["hosts"] == [rule["host"]]


def test_nodes_are_those_of_terraform(workers: dict[str, Pod]) -> None:
    boot = (INFRA / "templates" / "boot.sh").read_text()
    classes = {pod.spec["nodeSelector"]["pixtools.io/node-class"] for pod in workers.values()}
    assert classes == {"standard", "ml"}
    assert "pixtools.io/node-class=" in boot
    assert "pixtools.io/spot=true:NoSchedule" in boot
    spot = {"key": "pixtools.io/spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    assert all(spot in pod.spec["tolerations"] for pod in workers.values())
    assert workers[Queue.ML].spec["priorityClassName"] != workers[Queue.DEFAULT].spec["priorityClassName"]


def test_workers_end_between_the_drain_and_the_machine(objects: list[Json], workers: dict[str, Pod]) -> None:
    drain = float(configuration(objects)["PIXTOOLS_DRAIN_SECONDS"])
    for pod in workers.values():
        assert drain + 10 <= pod.spec["terminationGracePeriodSeconds"] <= SPOT_NOTICE - 10
        assert pod.spec["containers"][0]["command"][0] == "celery"  # no shell between it and SIGTERM
        assert option(pod.spec["containers"][0]["command"], "-n") == "worker@%h"


################################################################################
# What an operator changes in kustomization.yaml
################################################################################


def changed(folder: Path, *changes: tuple[str, str]) -> list[Json]:
    """k8s/ with other text in its kustomization."""
    copy = folder / "k8s"
    shutil.copytree(K8S, copy)
    path = copy / "kustomization.yaml"
    text = path.read_text()
    for before, after in changes:
        assert text.count(before) == 1
        text = text.replace(before, after)
    path.write_text(text)
    return list(yaml.safe_load_all(kustomize(copy)))


@pytest.mark.parametrize(
    "registry",
    [
        pytest.param("registry.example", marks=pytest.mark.full),
        pytest.param("registry.example:5000", marks=pytest.mark.full),
        "registry.example:5000/team",
    ],
)
def test_the_migration_is_named_by_its_version_whatever_the_registry(tmp_path: Path, registry: str) -> None:
    entry = "  - name: pixtools-api\n    newTag: 0.1.0\n"
    other = f"  - name: pixtools-api\n    newName: {registry}/pixtools-api\n    newTag: 1.2.3\n"
    objects = changed(tmp_path, (entry, other))
    assert set(of_kind(objects, "Job")) == {"migrate-1.2.3"}
    (job,) = (pod for pod in pods_of(objects) if pod.owner["kind"] == "Job")
    assert job.spec["containers"][0]["image"] == f"{registry}/pixtools-api:1.2.3"


def amount(quantity: str) -> float:
    """Of Kubernetes: processors, or bytes."""
    units = {"m": 1e-3, "Mi": 2**20, "Gi": 2**30}
    number, unit = re.fullmatch(r"(\d+)(\w*)", quantity).groups()  # type: ignore[union-attr]
    return float(number) * units.get(unit, 1)


def test_all_of_it_fits_on_one_small_machine(server: str, tmp_path: Path) -> None:
    objects = changed(tmp_path, ("resources:\n", "components: [single-node]\nresources:\n"))
    pods = [pod for pod in pods_of(objects) if pod.owner["kind"] != "Job"]
    assert not [pod.name for pod in pods if "nodeSelector" in pod.spec]
    requests = [container["resources"]["requests"] for pod in pods for container in pod.spec["containers"]]
    assert sum(amount(wanted["cpu"]) for wanted in requests) <= 2
    assert sum(amount(wanted["memory"]) for wanted in requests) <= 4 * 2**30
    assert {scaled["spec"]["maxReplicaCount"] for scaled in of_kind(objects, "ScaledObject").values()} == {1}
    applied = dry_run(server, tmp_path / "cache", "-k", tmp_path / "k8s")
    assert applied.returncode == 0, applied.stderr
