"""What k8s/ says of workers and of how KEDA scales them: the simulation reads it instead of assuming it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

K8S = Path(__file__).parents[2] / "k8s"
COOLDOWN = 300  # seconds; KEDA's default


@dataclass(frozen=True)
class Policy:
    """So many pods, or so much of what there is, may come or go within a time."""

    pods: int
    percent: int
    seconds: int


@dataclass(frozen=True)
class Rules:
    """A ScaledObject, and the Deployment that it scales. Times are in seconds."""

    #: tasks that a pod works on at the same time
    slots: int
    #: processors that a pod asks for
    cpu: float
    #: messages, waiting or being worked on, for which KEDA wants one pod
    target: int
    #: pods that are always there, and that there may be
    least: int
    most: int
    #: how often KEDA looks at an empty queue; the HPA asks by itself
    polling: int
    #: an empty queue for so long ends the last pod
    cooldown: int
    #: the HPA follows the most that it wanted within this time
    window: int
    up: Policy
    down: Policy


def rules(name: str) -> Rules:
    """Of a worker, by the name of its Deployment."""
    (spec,) = (found["spec"] for found in _read("keda/scaledobject.yaml") if found["metadata"]["name"] == name)
    (deployment,) = _read(f"workers/{name}.yaml")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    trigger, *_ = spec["triggers"]  # the others are of what is soon done
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
    """What runs so long after SIGTERM is handed back."""
    lines = (K8S / "settings.env").read_text().splitlines()
    (value,) = (line.split("=")[1] for line in lines if line.startswith("PIXTOOLS_DRAIN_SECONDS="))
    return int(value)


def _read(path: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((K8S / path).read_text()))


def _policy(found: list[dict[str, Any]]) -> Policy:
    values = {policy["type"]: policy["value"] for policy in found}
    (seconds,) = {policy["periodSeconds"] for policy in found}
    return Policy(values.get("Pods", 0), values.get("Percent", 0), seconds)
