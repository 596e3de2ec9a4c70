"""The manifests of k8s/ agree with themselves: references, probes, selectors, and who may talk to whom."""

import json
import re
import shutil
from collections.abc import Iterator

import pytest

from .manifests import K8S, Json, Pod, of_kind, selects

pytestmark = pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on this machine: k8s/ is NOT tested")


# Of other namespaces: what K3s brings, and KEDA
ELSEWHERE = {
    "kube-system": [{"k8s-app": "kube-dns"}, {"app.kubernetes.io/name": "traefik"}],
    "keda": [{"app": "keda-operator"}],
}


METADATA = "169.254.0.0/16"


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
    assert len(spools) == 4
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
    clients = {"api", "relay", "worker-standard", "worker-ml", "worker-webhook", "worker-fetch"}
    scraped = dict.fromkeys(clients, 8001)
    expected = {
        **{(client, "rabbitmq"): {5672} for client in (*clients, "celery-exporter")},
        **{(client, "redis"): {6379} for client in clients},
        ("rabbitmq", "rabbitmq"): {4369, 25672},
        **{("prometheus", target): {port} for target, port in scraped.items()},
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


def test_webhooks_and_alerts_alone_leave_and_nobody_reaches_the_metadata_address(
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
    assert outside == {"worker-webhook", "worker-fetch", "alertmanager"}
