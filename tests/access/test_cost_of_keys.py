"""What a key costs a request: nothing in the database while it is kept, and then one look."""

import json

import httpx
import pytest

from app.database import Database
from app.services.access import door
from app.tenancy import DEFAULT_TENANT
from tests.support.cost import Meter
from tests.support.tenants import TREE, Service, new_key, picture
from tests.support.work import accept

SUBMISSION = {"data": {"operations": json.dumps(TREE)}, "files": {"file": ("own.png", picture())}}


def test_a_request_with_a_key_costs_the_database_what_it_did_without(
    service: Service, database: Database, meter: Meter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door, "KEPT_SECONDS", 3600.0)  # a busy machine may take longer than the usual seconds
    job = accept(database, TREE)

    async def measure(key: str | None) -> list[tuple[int, int, int]]:
        """Status, statements and commits of each request, the first one twice."""
        found = []
        async with service.client(key) as client:
            for method, path in (("GET", "/jobs"),) * 2 + (("GET", f"/jobs/{job}"), ("POST", "/process")):
                meter.reset()
                answer: httpx.Response = await client.request(method, path, **(SUBMISSION if method == "POST" else {}))
                found.append((answer.status_code, len(meter.statements), meter.commits))
        return found

    before = service.ask(measure(None))
    key = new_key(database, DEFAULT_TENANT)
    after = service.ask(measure(key))
    assert [status for status, _, _ in before] == [200, 200, 200, 202]
    assert after[1:] == before[1:], "statements and commits of requests with a key that is known"
    assert after[0][1] == after[1][1] + 1, "the first request of a key looks it up"
