"""Webhook endpoints and deliveries through the API."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .deployment import ApiClient
from .receiver import Receiver
from .waiting import until

SOON = 30.0  # seconds


@contextmanager
def registered(api: ApiClient, receiver: Receiver, *types: str) -> Iterator[dict[str, Any]]:
    """An endpoint that exists within the block."""
    response = api.http.post("/webhooks", json={"url": receiver.url, "events": types})
    assert response.status_code == 201, response.text
    endpoint: dict[str, Any] = response.json()
    try:
        yield endpoint
    finally:
        api.http.delete(f"/webhooks/{endpoint['id']}")


def delivery_in(api: ApiClient, status: str, timeout: float = SOON, **query: str) -> dict[str, Any]:
    """Wait until the newest delivery of a query has a status; returns the delivery."""
    deadline = time.monotonic() + timeout
    while True:
        found: list[dict[str, Any]] = api.http.get("/deliveries", params=query).json()["data"]
        if found and found[0]["status"] == status:
            return found[0]
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def finished_replay(api: ApiClient, endpoint_id: str) -> dict[str, Any]:
    """Wait until the only replay of an endpoint has finished, which is a moment after its last delivery."""

    def finished() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.http.get(f"/webhooks/{endpoint_id}/replays").json()["data"]
        return [replay for replay in found if replay["finished_at"]]

    (replay,) = until(finished, SOON)
    return dict(replay)
