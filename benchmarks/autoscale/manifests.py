"""Reads the workers and their scaling by KEDA from the manifests in k8s/, for the simulation."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
COOLDOWN = 300  # seconds; KEDA's default


@dataclass(frozen=True)
class Policy:
    """The most pods, or the largest share of the pods, that may come or go within a period."""

    pods: int
    percent: int
    seconds: int


@dataclass(frozen=True)
class Rules:
    """A ScaledObject, and the Deployment that it scales. Times are in seconds."""

    #: tasks that a pod runs at the same time
    slots: int
    #: CPUs that a pod requests
    cpu: float
    #: number of messages per pod, waiting or in work, that KEDA aims for
    target: int
    #: least and greatest number of pods
    least: int
    most: int
    #: interval at which KEDA checks an empty queue; otherwise the HPA queries it
    polling: int
    #: time that the queue must be empty before the last pod ends
    cooldown: int
    #: stabilization window: the HPA scales down to the most that it wanted within this time
    window: int
    up: Policy
    down: Policy


def rules(name: str) -> Rules:
    """The rules of a worker, by the name of its Deployment."""
    (spec,) = (found["spec"] for found in _read("keda/scaledobject.yaml") if found["metadata"]["name"] == name)
    (deployment,) = _read(f"workers/{name}.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    trigger, *_ = spec["triggers"]  # the others are for short tasks
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert behavior["scaleUp"]["stabilizationWindowSeconds"] == 0
    return Rules(
        slots=int(container["command"][container["command"].index("-c") + 1]),
        cpu=int(container["resources"]["requests"]["cpu"].removesuffix("m")) / 1000,
        target=int(trigger["metadata"]["value"]),
        least=spec["minReplicaCount"],
        most=spec["maxReplicaCount"],
        polling=spec["pollingInterval"],
        cooldown=spec.get("cooldownPeriod", COOLDOWN),
        window=behavior["scaleDown"]["stabilizationWindowSeconds"],
        up=_policy(behavior["scaleUp"]["policies"]),
        down=_policy(behavior["scaleDown"]["policies"]),
    )


def drain_seconds() -> int:
    """The seconds from SIGTERM until a worker hands back its running tasks."""
    lines = (K8S / "settings.env").read_text().splitlines()
    (value,) = (line.split("=")[1] for line in lines if line.startswith("PIXTOOLS_DRAIN_SECONDS="))
    return int(value)


def _read(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((K8S / path).read_text()))


def _policy(found: list[dict[str, Any]]) -> Policy:
    values = {policy["type"]: policy["value"] for policy in found}
    (seconds,) = {policy["periodSeconds"] for policy in found}
    return Policy(values.get("Pods", 0), values.get("Percent", 0), seconds)
