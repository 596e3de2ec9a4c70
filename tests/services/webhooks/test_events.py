"""The event of a job: who gets it, once, and what its body says."""

import json
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import select, update

from app.database import Database
from app.models import (
    Event,
    EventType,
    Job,
    JobStatus,
    WebhookDelivery,
)
from app.services import jobs, steps
from app.services.finalizer import finalize
from app.services.webhooks import events
from tests.support.receiver import (
    receiving,
)
from tests.support.webhooks import LINKS, NOWHERE, delivery_of, ended, read, registered, sender
from tests.support.work import (
    OUTCOME,
    accept,
    change,
    claimed,
    crash_after,
    in_parallel,
    job_of,
    messages,
)


def test_the_end_of_a_job_its_event_and_its_deliveries_are_one_transaction(database: Database) -> None:
    registered(database, NOWHERE)
    job_id = accept(database, ["convert_png"], webhook_url="http://job.test/")
    held = claimed(database, job_id, "0")
    crash_after(database, lambda session: steps.succeed(session, held, {"0": [OUTCOME]}))
    assert job_of(database, job_id).status == JobStatus.PROCESSING
    with database.session(read_only=True) as session:
        assert session.scalars(select(Event)).all() == []
        assert session.scalars(select(WebhookDelivery)).all() == []
    assert messages(database) == []


def test_every_outcome_is_told_once(database: Database) -> None:
    job_id = ended(database)
    assert in_parallel([lambda: _finalized(database, job_id)] * 3) == [False] * 3
    with database.session(read_only=True) as session:
        (event,) = session.scalars(select(Event).where(Event.job_id == job_id))
        assert event.type == EventType.COMPLETED
        assert event.data["status"] == "completed"
        assert len(session.scalars(select(WebhookDelivery)).all()) == 1


def _finalized(database: Database, job_id: UUID) -> bool:
    with database.session() as session:
        return finalize(session, job_id)


def test_a_cancelled_job_is_told_and_a_deleted_one_is_not(database: Database) -> None:
    cancelled = accept(database, ["convert_png"], webhook_url=NOWHERE)
    with database.session() as session:
        jobs.cancel(session, cancelled)
    deleted = accept(database, ["convert_png"], webhook_url=NOWHERE)
    with database.session() as session:
        jobs.stop(session, deleted)
    with database.session(read_only=True) as session:
        assert [(event.type, event.job_id) for event in session.scalars(select(Event))] == [
            (EventType.CANCELLED, cancelled)
        ]


def test_what_is_said_of_a_job_is_erased_with_it_and_that_it_ended_is_told_all_the_same(database: Database) -> None:
    with receiving() as receiver:
        registered(database, receiver.url)
        job_id = ended(database, None)
        for _ in range(2):
            with database.session() as session:
                events.forget(session, job_id)
        with database.session() as session:
            jobs.stop(session, job_id)
            jobs.remove(session, job_id)
        sender(database).attempt(delivery_of(database, job_id).id, "worker")
    (request,) = receiver.requests
    assert request.event["type"] == "job.completed"
    assert request.event["data"] == {"id": str(job_id), "status": "completed", "deleted": True}
    assert read(database)[0] == [str(job_id)]


def test_a_body_says_what_the_job_was_when_it_ended_with_fresh_urls(database: Database) -> None:
    job_id = ended(database, tree=["convert_png"])
    change(database, update(Job).where(Job.id == job_id).values(status="pending"))  # repeated since
    body = json.loads(body_of(database, job_id))
    assert (body["type"], body["data"]["status"], body["data"]["id"]) == ("job.completed", "completed", str(job_id))
    assert datetime.fromisoformat(body["timestamp"]) == job_of(database, job_id).finished_at
    (result,) = body["data"]["results"]
    assert result["url"].startswith(f"http://pixtools.test/jobs/{job_id}/results/")
    assert datetime.fromisoformat(result["expires_at"]) > datetime.now(UTC)


def test_a_result_that_is_gone_has_no_url(database: Database) -> None:
    job_id = ended(database)
    with database.session() as session:
        jobs.remove(session, job_id)
    (result,) = json.loads(body_of(database, job_id))["data"]["results"]
    assert (result["url"], result["expires_at"], result["sha256"]) == (None, None, "0" * 64)


def body_of(database: Database, job_id: UUID) -> bytes:
    with database.session(read_only=True) as session:
        event = session.scalars(select(Event).where(Event.job_id == job_id)).one()
        return events.body(session, event, LINKS)


def test_a_body_stays_below_the_limit_whatever_the_job_is(database: Database) -> None:
    job_id = ended(database)
    assert "left_out" not in json.loads(body_of(database, job_id))["data"]
    with database.session() as session:
        event = session.scalars(select(Event).where(Event.job_id == job_id)).one()
        data = event.data
        step, result = data["steps"][0], data["results"][0]
        event.data = {
            **data,
            "operations": [{"op": "resize", "as": "ä" * 60_000}],
            "steps": [{**step, "report": {"text": "x" * 2000}}] * 32,
            "results": [{**result, "name": f"n{number}" * 12, "filename": "€" * 80} for number in range(32)],
        }
    body = body_of(database, job_id)
    shown = json.loads(body)["data"]
    assert len(body) <= events.MAX_BODY
    assert shown["left_out"][0] == "operations"
    assert "operations" not in shown
    assert shown["id"] == str(job_id)
    assert shown["input"]["filename"] == "photo.jpg"
