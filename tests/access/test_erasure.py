"""`pixtools tenants delete` leaves nothing of one tenant and everything of the others."""

import pytest
from sqlalchemy import select

from app.database import Database
from app.errors import TenantNotFound, TenantStays
from app.models import TenantRecord
from app.services.upkeep import erasure
from app.services.webhooks import endpoints
from app.tenancy import DEFAULT_TENANT
from tests.support.tenants import Belongings, Service, everything, poison
from tests.support.work import messages


def test_nothing_is_left_of_a_tenant_and_the_count_is_told(
    service: Service, database: Database, ann: Belongings, bob: Belongings
) -> None:
    poison(database, ann.job, "0" * 64)
    with database.session() as session:
        endpoints.secrets(session, None, "ann")
    messages(database)  # what is in the outbox names jobs, and finds none
    others = everything(service.resources, bob)
    assert others
    erased = erasure.erase(database, service.resources.storage, "ann")
    assert erased == {
        "jobs": 2,
        "results": 1,
        "events": 1,
        "deliveries": 1,
        "endpoints": 1,
        "secrets": 2,
        "stores": 1,
        "dead letters": 2,  # that of `furnish` as well
        "API keys": 1,
        "idempotency keys": 0,
        "tombstones": 1,
        "templates": 1,
        "versions of templates": 1,
        "assets": 1,
        "days of usage": 2,
        "audit entries": 1,
    }
    messages(database)
    (left,) = everything(service.resources, ann)
    assert {"audit", "tenant.deleted", "operator", "ann"} <= set(left), "what the operator has done is in his log"
    assert everything(service.resources, bob) == others
    with database.session(read_only=True) as session:
        assert set(session.scalars(select(TenantRecord.name))) == {DEFAULT_TENANT, "bob"}
    with pytest.raises(TenantNotFound):
        erasure.erase(database, service.resources.storage, "ann")


def test_an_erasure_that_was_interrupted_goes_on(
    service: Service, database: Database, ann: Belongings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(erasure, "_in_transaction", stop)
        with pytest.raises(KeyboardInterrupt):
            erasure.erase(database, service.resources.storage, "ann")
    assert erasure.erase(database, service.resources.storage, "ann")["API keys"] == 1


def test_the_tenant_of_open_requests_stays(service: Service, database: Database) -> None:
    with pytest.raises(TenantStays):
        erasure.erase(database, service.resources.storage, DEFAULT_TENANT)
