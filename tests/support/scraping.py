"""What the metrics of a running process say."""

import time

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from .deployment import PLAIN

PATIENCE = 20.0  # seconds


def scrape(url: str) -> list[Metric]:
    answer = httpx.get(f"{url}/metrics", timeout=10, verify=PLAIN)
    assert answer.status_code == 200
    return list(text_string_to_metric_families(answer.text))


def summed(families: list[Metric], name: str, **labels: str) -> float:
    """The sum of all samples that have these labels."""
    samples = [sample for family in families for sample in family.samples]
    return sum(sample.value for sample in samples if sample.name == name and labels.items() <= sample.labels.items())


def total(url: str, name: str, **labels: str) -> float:
    return summed(scrape(url), name, **labels)


def await_total(url: str, expected: float, name: str, **labels: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while (seen := total(url, name, **labels)) != expected:
        assert time.monotonic() < deadline, f"{name}{labels} is {seen}, not {expected}"
        time.sleep(0.1)
