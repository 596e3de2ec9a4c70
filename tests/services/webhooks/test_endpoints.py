"""Endpoints: what they are sent, how many there may be, their keys, and their end."""

import threading
import time
from uuid import uuid4

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from app.database import Database, from_now
from app.errors import EndpointNotFound, TooManyEndpoints
from app.models import (
    Event,
    EventType,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookSecret,
)
from app.schemas import NewEndpoint
from app.services.webhooks import deliveries, endpoints, events, sealing
from app.tenancy import DEFAULT_TENANT
from tests.support.webhooks import NOWHERE, ended, registered
from tests.support.work import (
    ON_POSTGRESQL,
    in_parallel,
)

# -- the event ---------------------------------------------------------------------------------------------------------


def test_endpoints_get_the_types_that_they_want_and_each_url_is_told_once(database: Database) -> None:
    every, _ = registered(database, "http://all.test/")
    failures, _ = registered(database, "http://failures.test/", EventType.FAILED)
    off, _ = registered(database, "http://off.test/")
    with database.session() as session:
        endpoints.change(session, off, {"enabled": False})
    ended(database, "http://all.test/")
    with database.session(read_only=True) as session:
        assert [row.endpoint_id for row in session.scalars(select(WebhookDelivery))] == [every]
    assert failures != every


def test_there_is_an_end_to_endpoints(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 2)
    registered(database, NOWHERE)
    registered(database, NOWHERE)
    with pytest.raises(TooManyEndpoints) as refused:
        registered(database, NOWHERE)
    assert (refused.value.limit, refused.value.value) == (2, 2)


# -- endpoints ---------------------------------------------------------------------------------------------------------


@ON_POSTGRESQL
def test_a_job_ends_although_an_endpoint_is_deleted_at_that_moment(database: Database) -> None:
    endpoint_id, _ = registered(database, NOWHERE)

    def remove() -> None:
        with database.session() as session:
            endpoints.delete(session, endpoint_id)

    removing = threading.Thread(target=remove)
    with database.session() as session:
        event = Event(id=events.new_id(), type=EventType.COMPLETED, job_id=uuid4(), run=1, created_at=from_now())
        event.tenant, event.data = DEFAULT_TENANT, {}
        session.add(event)
        session.flush()
        (target,) = endpoints.targets(session, event.tenant, event.type, None)
        removing.start()
        time.sleep(0.5)
        deliveries.create(session, event, target)
    removing.join()
    with database.session(read_only=True) as session:
        assert session.scalars(select(WebhookEndpoint.id)).all() == []
        assert session.scalars(select(WebhookDelivery.id)).all() == []
        assert len(session.scalars(select(Event.id)).all()) == 1


@pytest.mark.parametrize("own", [True, False], ids=["endpoint", "server"])
def test_rotations_at_the_same_time_leave_two_keys_that_sign(database: Database, own: bool) -> None:
    endpoint_id = registered(database, NOWHERE)[0] if own else None

    def rotate() -> str:
        with database.session(tenant=DEFAULT_TENANT) as session:
            return endpoints.rotate(session, endpoint_id)

    made = in_parallel([rotate] * 6)
    with database.session(read_only=True) as session:
        signing = endpoints.secrets(session, endpoint_id, DEFAULT_TENANT)
        current = select(WebhookSecret).where(WebhookSecret.expires_at.is_(None))
        rows = session.scalars(current.where(WebhookSecret.endpoint_id == endpoint_id)).all()
        currents = [sealing.read(session, row) for row in rows]
    assert (len(signing), currents) == (2, signing[:1])
    assert set(signing) <= set(made)


def test_endpoints_that_are_registered_at_the_same_time_respect_the_limit(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 2)

    def register() -> bool:
        try:
            registered(database, NOWHERE)
        except TooManyEndpoints:
            return False
        return True

    assert sum(in_parallel([register] * 6)) == 2


def test_types_of_events_are_few_and_none_is_there_twice() -> None:
    asked = {"url": NOWHERE, "events": ["job.failed", "job.completed", "job.failed"]}
    assert NewEndpoint.model_validate(asked).events == ["job.completed", "job.failed"]
    for refused in (["webhook.test"], ["job.failed"] * 5):
        with pytest.raises(ValidationError):
            NewEndpoint.model_validate({"url": NOWHERE, "events": refused})


# -- deliveries end ----------------------------------------------------------------------------------------------------


def test_an_endpoint_goes_with_its_deliveries_a_batch_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "BATCH", 2)
    endpoint_id, _ = registered(database, NOWHERE)
    for _ in range(3):
        ended(database, None)
    with database.session() as session:
        endpoints.retire(session, endpoint_id)
    ended(database, None)
    for left in (2, 1, 0):
        with database.session() as session:
            assert endpoints.remove_deliveries(session, endpoint_id) == left
    with database.session() as session:
        endpoints.delete(session, endpoint_id)
    with database.session() as session, pytest.raises(EndpointNotFound):
        endpoints.retire(session, endpoint_id)
