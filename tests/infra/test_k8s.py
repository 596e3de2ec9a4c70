"""k8s/ as `kubectl kustomize` builds it: schemas, scanners, and whether it agrees with the code and with itself."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
import yaml

from app import __version__
from app.config import Settings
from app.operations import Queue
from tests.support.kubernetes import api_server, kinds

from .conftest import INFRA, ROOT, TOOLS, checkov, tool
from .manifests import K8S, Json, Pod, kustomize, of_kind, option, pods_of

CRDS = Path(__file__).parent / "crds"
VERSIONS = ("1.32", "1.36")  # the oldest that is supported, and that of infra/
REQUIRED = {"PIXTOOLS_DATABASE_URL", "PIXTOOLS_BROKER_URL", "PIXTOOLS_RESULT_BACKEND", "PIXTOOLS_STORAGE_URL"}
SPOT_NOTICE = 120  # seconds
# Of other namespaces: what K3s brings, and KEDA
ELSEWHERE = {
    "kube-system": [{"k8s-app": "kube-dns"}, {"app.kubernetes.io/name": "traefik"}],
    "keda": [{"app": "keda-operator"}],
}
METADATA = "169.254.0.0/16"

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine: k8s/ is NOT tested")


@pytest.fixture(scope="module")
def text() -> str:
    return kustomize(K8S)


@pytest.fixture(scope="module")
def objects(text: str) -> list[Json]:
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def pods(objects: list[Json]) -> list[Pod]:
    return pods_of(objects)


@pytest.fixture(scope="module")
def workers(pods: list[Pod]) -> dict[str, Pod]:
    """By the queue that their command consumes."""
    found = [pod for pod in pods if pod.component.startswith("worker-")]
    taken = {option(pod.spec["containers"][0]["command"], "-Q"): pod for pod in found}
    (spare,) = (pod for pod in found if "--spare" in pod.spec["containers"][0]["command"])
    return {**taken, Queue.SMALL: spare}


def configuration(objects: list[Json]) -> Json:
    """Of the settings that are no secret."""
    maps = [found for name, found in of_kind(objects, "ConfigMap").items() if name.startswith("pixtools-")]
    assert len(maps) == 1
    data: Json = maps[0]["data"]
    return data


def secret_settings() -> set[str]:
    return set(re.findall(r"^(PIXTOOLS_\w+)=", (K8S / "secrets.example.env").read_text(), re.MULTILINE))


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


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    definitions = list(TOOLS.parent.glob(f"lib/*/site-packages/kubernetes_validate/*/v{VERSIONS[0]}.0-local-strict"))
    if not definitions:
        pytest.skip("kubernetes-validate is not in .venv-infra: `make infra-test` installs it")
    with api_server(kinds(definitions[0] / "_definitions.json", CRDS.glob("*.yaml"))) as url:
        yield url


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
    assert {pod.component for pod in workers.values()} == {"worker-standard", "worker-ml", "worker-webhook"}


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
        told = trigger["metadata"]
        for other in others:
            assert other == {**trigger, "metadata": {**told, "queueName": other["metadata"]["queueName"]}}
        assert trigger["type"] == "rabbitmq"
        assert (told["protocol"], told["mode"], told["excludeUnacknowledged"]) == ("http", "QueueLength", "false")
        assert told["value"] == option(workers[told["queueName"]].spec["containers"][0]["command"], "-c")
        service, namespace, port = re.fullmatch(r"http://(\w+)\.(\w+)\.svc:(\d+)/", told["host"]).groups()  # type: ignore[union-attr]
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
        (port,) = pod.spec["containers"][0]["ports"]
        assert str(port["containerPort"]) == (exposed[0] if pod.component == "api" else metrics)
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
# The manifests agree with themselves
################################################################################


def test_every_container_is_closed_and_measured(pods: list[Pod]) -> None:
    for pod in pods:
        above = pod.spec["securityContext"]
        assert above["runAsNonRoot"] is True
        assert above["seccompProfile"]["type"] == "RuntimeDefault"
        assert above["runAsUser"] == 10001 or not pod.ours
        for container in pod.containers():
            own, resources = container["securityContext"], container["resources"]
            assert own["readOnlyRootFilesystem"] is True
            assert own["allowPrivilegeEscalation"] is False
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert {"cpu", "memory"} <= set(resources["requests"])
            assert "memory" in resources["limits"]


def test_only_prometheus_talks_to_kubernetes(pods: list[Pod], objects: list[Json]) -> None:
    with_token = {pod.name for pod in pods if pod.spec.get("automountServiceAccountToken") is not False}
    assert with_token == {"prometheus", "kube-state-metrics"}
    accounts = of_kind(objects, "ServiceAccount")
    assert {pod.spec["serviceAccountName"] for pod in pods if "serviceAccountName" in pod.spec} <= set(accounts)


def test_spools_are_bounded_and_on_disk(pods: list[Pod]) -> None:
    spools = [volume["emptyDir"] for pod in pods for volume in pod.spec.get("volumes", ()) if volume["name"] == "spool"]
    assert len(spools) == 3
    assert all(set(spool) == {"sizeLimit"} for spool in spools)


def test_probes_ask_named_ports(pods: list[Pod]) -> None:
    for pod in pods:
        for container in pod.containers():
            names = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                asked = container.get(probe, {})
                target = asked.get("httpGet") or asked.get("tcpSocket")
                assert target is None or target["port"] in names, (pod.name, probe)


def test_only_readiness_of_the_api_asks_for_more_than_the_process(pods: list[Pod]) -> None:
    (api,) = (pod.spec["containers"][0] for pod in pods if pod.ours and pod.component == "api")
    assert api["livenessProbe"]["httpGet"]["path"] == api["startupProbe"]["httpGet"]["path"] == "/health/live"
    assert api["readinessProbe"]["httpGet"]["path"] == "/health/ready"


def test_long_running_containers_have_probes(pods: list[Pod]) -> None:
    for pod in (pod for pod in pods if pod.owner["kind"] != "Job"):
        for container in pod.spec["containers"]:
            assert {"livenessProbe", "readinessProbe"} <= set(container), pod.name


def selects(selector: Json | None, labels: Json) -> bool:
    """Whether a selector of Kubernetes matches; an empty one matches everything."""
    wanted = (selector or {}).get("matchLabels", {})
    expressions = (selector or {}).get("matchExpressions", ())
    assert all(expression["operator"] == "In" for expression in expressions)
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def test_selectors_match_their_own_pods(pods: list[Pod]) -> None:
    for pod in (pod for pod in pods if pod.owner["kind"] != "Job"):
        selected = [other.name for other in pods if selects(pod.owner["spec"]["selector"], other.labels)]
        assert selected == [pod.name]
        for spread in pod.spec.get("topologySpreadConstraints", ()):
            assert selects(spread["labelSelector"], pod.labels)


def test_services_and_budgets_select_one_workload(objects: list[Json], pods: list[Pod]) -> None:
    for service in of_kind(objects, "Service").values():
        (chosen,) = (pod for pod in pods if selects({"matchLabels": service["spec"]["selector"]}, pod.labels))
        ports = [port for container in chosen.containers() for port in container.get("ports", ())]
        known = {port["name"] for port in ports} | {port["containerPort"] for port in ports}
        assert all(entry.get("targetPort", entry["port"]) in known for entry in service["spec"]["ports"])
    for budget in of_kind(objects, "PodDisruptionBudget").values():
        assert len([pod for pod in pods if selects(budget["spec"]["selector"], pod.labels)]) == 1


def references(pod: Pod) -> Iterator[tuple[str, str, str | None]]:
    """Kind, name and key of every ConfigMap and Secret that a pod needs."""
    for container in pod.containers():
        for source in container.get("envFrom", ()):
            yield from (
                ("ConfigMap" if field == "configMapRef" else "Secret", source[field]["name"], None) for field in source
            )
        for variable in container.get("env", ()):
            if found := variable.get("valueFrom", {}).get("secretKeyRef"):
                yield "Secret", found["name"], found["key"]
    volumes = pod.spec.get("volumes", ())
    mapped = (volume["configMap"] for volume in volumes if "configMap" in volume)
    yield from (("ConfigMap", found["name"], None) for found in mapped if not found.get("optional"))
    for secret in (volume["secret"] for volume in volumes if "secret" in volume):
        yield from (("Secret", secret["secretName"], item["key"]) for item in secret["items"])


def test_what_pods_refer_to_exists_or_is_documented(objects: list[Json], pods: list[Pod]) -> None:
    maps = of_kind(objects, "ConfigMap")
    documented = (K8S / "README.md").read_text()
    for pod in pods:
        for kind, name, key in references(pod):
            if kind == "ConfigMap":
                assert name in maps, (pod.name, name)
            else:
                assert name in documented
                assert key is None or re.search(f"--from-(literal|file)={key}=", documented), (pod.name, key)


def test_mounts_have_volumes(pods: list[Pod], objects: list[Json]) -> None:
    maps = of_kind(objects, "ConfigMap")
    for pod in pods:
        volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
        claimed = {claim["metadata"]["name"] for claim in pod.owner["spec"].get("volumeClaimTemplates", ())}
        for container in pod.containers():
            for mount in container.get("volumeMounts", ()):
                assert mount["name"] in set(volumes) | claimed
                if "subPath" in mount:
                    assert mount["subPath"] in maps[volumes[mount["name"]]["configMap"]["name"]]["data"]


def test_variables_that_others_are_made_of_come_before_them(pods: list[Pod]) -> None:
    """Kubernetes leaves `$(NAME)` as it is when NAME comes later."""
    for pod in pods:
        for container in pod.containers():
            seen: set[str] = set()
            for variable in container.get("env", ()):
                assert set(re.findall(r"\$\((\w+)\)", variable.get("value", ""))) <= seen, (pod.name, variable)
                seen.add(variable["name"])


def test_priorities_exist(objects: list[Json], pods: list[Pod]) -> None:
    used = {pod.spec["priorityClassName"] for pod in pods if "priorityClassName" in pod.spec}
    assert used == set(of_kind(objects, "PriorityClass"))


################################################################################
# Who may talk to whom
################################################################################


def policies(objects: list[Json]) -> dict[str, Json]:
    return {name: policy["spec"] for name, policy in of_kind(objects, "NetworkPolicy").items()}


def peers(policy: Json) -> Iterator[Json]:
    for direction, end in (("ingress", "from"), ("egress", "to")):
        for rule in policy.get(direction, ()):
            yield from rule[end]


def test_policies_select_something(objects: list[Json], pods: list[Pod]) -> None:
    for name, policy in policies(objects).items():
        assert any(selects(policy["podSelector"], pod.labels) for pod in pods), name
        for peer in peers(policy):
            selector = peer.get("podSelector")
            if "namespaceSelector" in peer:
                namespace = peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
                assert any(selects(selector, labels) for labels in ELSEWHERE[namespace]), name
            elif selector:
                assert any(selects(selector, pod.labels) for pod in pods), name


def test_components_that_policies_name_exist(objects: list[Json], pods: list[Pod]) -> None:
    named = re.findall(r'"values": (\[[^\]]*\])', json.dumps(policies(objects)))
    assert {name for names in named for name in json.loads(names)} <= {pod.component for pod in pods}


def test_by_default_nobody_may_do_anything(objects: list[Json]) -> None:
    assert policies(objects)["nothing"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def allowed(objects: list[Json], pod: Pod) -> Iterator[Json]:
    """Rules of what a pod may reach."""
    for policy in policies(objects).values():
        if selects(policy["podSelector"], pod.labels):
            yield from policy.get("egress", ())


def reaches(objects: list[Json], here: Pod, there: Pod) -> set[int]:
    """Ports of another pod that both sides let through."""
    out = {port for rule in allowed(objects, here) if _names(rule["to"], there) for port in _ports(rule, there)}
    into = set()
    for policy in policies(objects).values():
        if selects(policy["podSelector"], there.labels):
            rules = (rule for rule in policy.get("ingress", ()) if _names(rule["from"], here))
            into |= {port for rule in rules for port in _ports(rule, there)}
    return out & into


def _names(ends: list[Json], pod: Pod) -> bool:
    own = [peer for peer in ends if "podSelector" in peer and "namespaceSelector" not in peer]
    return any(selects(peer["podSelector"], pod.labels) for peer in own)


def _ports(rule: Json, pod: Pod) -> set[int]:
    declared = {port["name"]: port["containerPort"] for found in pod.containers() for port in found.get("ports", ())}
    given = {declared.get(entry["port"], entry["port"]) for entry in rule["ports"]}
    return {port for port in given if port in declared.values()}


def test_pods_reach_what_they_need_and_nothing_else(objects: list[Json], pods: list[Pod]) -> None:
    clients = {"api", "relay", "worker-standard", "worker-ml", "worker-webhook"}
    scraped = {"relay": 8001, "worker-standard": 8001, "worker-ml": 8001, "worker-webhook": 8001}
    expected = {
        **{(client, "rabbitmq"): {5672} for client in (*clients, "celery-exporter")},
        **{(client, "redis"): {6379} for client in clients},
        ("rabbitmq", "rabbitmq"): {4369, 25672},
        **{("prometheus", target): {port} for target, port in scraped.items()},
        ("prometheus", "api"): {8000},
        ("prometheus", "rabbitmq"): {15692},
        ("prometheus", "celery-exporter"): {9808},
        ("prometheus", "kube-state-metrics"): {8080},
        ("prometheus", "alertmanager"): {9093},
        ("grafana", "prometheus"): {9090},
    }
    pairs = {(here.component, there.component): reaches(objects, here, there) for here in pods for there in pods}
    assert {pair: ports for pair, ports in pairs.items() if ports} == expected


def test_prometheus_may_scrape_every_pod_that_asks_for_it(objects: list[Json], pods: list[Pod]) -> None:
    (prometheus,) = (pod for pod in pods if pod.component == "prometheus")
    for pod in pods:
        notes = pod.owner["spec"]["template"]["metadata"].get("annotations", {})
        if notes.get("prometheus.io/scrape") == "true":
            assert reaches(objects, prometheus, pod) == {int(notes["prometheus.io/port"])}


def blocks(rules: Iterator[Json]) -> Iterator[tuple[str, set[str], set[int]]]:
    """Range, what is taken out of it, and ports."""
    for rule in rules:
        for peer in rule["to"]:
            if block := peer.get("ipBlock"):
                yield block["cidr"], set(block.get("except", ())), {entry["port"] for entry in rule["ports"]}


def test_only_webhooks_and_alerts_leave_and_nobody_reaches_the_metadata_address(
    objects: list[Json], pods: list[Pod]
) -> None:
    private = {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"}
    outside = set()
    for pod in pods:
        for cidr, taken_out, ports in blocks(allowed(objects, pod)):
            if cidr == "0.0.0.0/0":
                outside.add(pod.component)
                assert {*private, METADATA} <= taken_out
                assert ports == ({443} if pod.component == "alertmanager" else {80, 443})
            else:
                assert cidr in private
                assert ports in ({5432}, {443}, {443, 6443}, {443, 6443, 10250})
    assert outside == {"worker-webhook", "alertmanager"}


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


@pytest.mark.parametrize("registry", ["registry.example", "registry.example:5000", "registry.example:5000/team"])
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
