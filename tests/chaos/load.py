"""Clients that submit jobs and retry through every fault."""

import hashlib
import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.conftest import make_photo

IMAGES = [make_photo(64, 48, seed=seed) for seed in range(4)]
TREE: list[Any] = [
    {
        "op": "resize",
        "width": 32,
        "then": ["convert_webp", {"op": "flip", "then": ["convert_png", {"op": "convert_jpeg", "as": "small"}]}],
    }
]
CLIENTS = 8
PATIENCE = 120.0  # seconds that a client retries a request
RETRIED = {408, 409, 500, 502, 503, 504}
#: shared, since each new client loads the certificates; without keep-alive, since servers die
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0))


@dataclass(frozen=True)
class Submitted:
    """An accepted job."""

    id: str
    image: int


def submit_all(url: str, count: int, webhook_url: str) -> list[Submitted]:
    """Submit jobs from several clients at once."""

    def one(number: int) -> Submitted:
        image = number % len(IMAGES)
        data = {"operations": json.dumps(TREE), "webhook_url": webhook_url}
        return Submitted(accepted(url, data=data, files={"file": ("photo.jpg", IMAGES[image])}), image)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(count)))


def accepted(url: str, **request: Any) -> str:
    """Submit a job, with retries under the same idempotency key until it is accepted; returns its id."""
    headers = {"Idempotency-Key": uuid4().hex}
    deadline = time.monotonic() + PATIENCE
    while True:
        with suppress(httpx.HTTPError):
            answer = HTTP.post(f"{url}/process", headers=headers, timeout=30, **request)
            if answer.status_code == 202:
                job_id: str = answer.json()["id"]
                return job_id
            if answer.status_code not in RETRIED:
                raise RuntimeError(f"{answer.status_code}: {answer.text}")
        if time.monotonic() > deadline:
            raise RuntimeError("not accepted in time")
        time.sleep(0.3)


def job(url: str, job_id: str) -> dict[str, Any] | None:
    """The job from the API, or None while the API does not answer."""
    try:
        answer = HTTP.get(f"{url}/jobs/{job_id}", timeout=10)
    except httpx.HTTPError:
        return None
    return answer.json() if answer.status_code == 200 else None


def digests(found: dict[str, Any]) -> dict[str, str]:
    """For each result by name, the digest in the job and that of the downloaded object."""
    stored = {}
    for result in found["results"]:
        content = HTTP.get(result["url"], timeout=30).content
        stored[result["name"]] = f"{result['sha256']} {hashlib.sha256(content).hexdigest()}"
    return stored
