"""Requests to the API within this process."""

import json
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from .tenants import Service, picture

Ask = Callable[[httpx.AsyncClient], Coroutine[Any, Any, Any]]


def asked(service: Service, work: Ask, key: str | None = None) -> Any:
    """Run requests with a key; returns their result."""

    async def run() -> Any:
        async with service.client(key) as client:
            return await work(client)

    return service.ask(run())


def call(service: Service, method: str, path: str, key: str | None = None, **options: Any) -> httpx.Response:
    """Send a request."""
    answer: httpx.Response = asked(service, lambda client: client.request(method, path, **options), key)
    return answer


def submit(
    service: Service,
    key: str | None = None,
    *,
    operations: Any = ("convert_webp",),
    headers: dict[str, str] | None = None,
    filename: str = "own.png",
    path: str = "/process",
    **fields: Any,
) -> httpx.Response:
    """Submit a form with an image. Fields other than strings are encoded as JSON, and None is left out."""
    given = {"operations": operations, **fields}
    data = {name: v if isinstance(v, str) else json.dumps(v) for name, v in given.items() if v is not None}
    files = {"file": (filename, picture())}
    return call(service, "POST", path, key, data=data, files=files, headers=headers)


def accepted(service: Service, key: str | None = None, **fields: Any) -> dict[str, Any]:
    """Submit a form, which must be accepted; returns the job."""
    answer = submit(service, key, **fields)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.json()
    return job
