"""Once there is a key, webhooks reach loopback only where the operator says so."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from app.config import Settings
from app.database import Database
from app.errors import WebhookUrlRefused
from app.tenancy import DEFAULT_TENANT
from app.wiring import Resources
from tests.support.tenants import new_key

LOOPBACK = "http://127.0.0.1:9/"


def resources(database_url: str, folder: Path, **settings: Any) -> Resources:
    return Resources(Settings(_env_file=None, database_url=database_url, data_dir=folder, **settings))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_loopback_is_a_place_for_events_until_there_is_a_key(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    asyncio.run(resources(database_url, tmp_path).egress.check(LOOPBACK))
    key = new_key(database, DEFAULT_TENANT)
    after = resources(database_url, tmp_path)
    with pytest.raises(WebhookUrlRefused):
        asyncio.run(after.egress.check(LOOPBACK))
    with pytest.raises(WebhookUrlRefused):  # a delivery that waits since before
        asyncio.run(after.egress.post(LOOPBACK, b"", {}, seconds=5))
    named = resources(database_url, tmp_path, webhook_allowed_networks="127.0.0.0/8")
    asyncio.run(named.egress.check(LOOPBACK))
    assert key
