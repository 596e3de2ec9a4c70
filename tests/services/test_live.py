"""A listener gets everything once and in order, whatever others do, at the cost of one reader for all."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event

from app.backoff import Backoff
from app.database import Database
from app.errors import Stopping, TooManyListeners
from app.models import EventType, Scope
from app.routers.streams import Stream
from app.services import jobs, live
from app.services.access import keys
from app.services.access.door import Door
from app.services.access.principal import ANYBODY, Principal
from app.services.live import Live, Wanted
from app.services.storage.links import ApiLinks
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT
from tests.support.tenants import new_key
from tests.support.work import accept, run_task

LONG = 60.0  # seconds
TREE = ["convert_webp"]
#: set when a stream knows where it begins: its place in the log, or the state of its job
BEGUN = threading.Event()


def live_of(database: Database, *, most: int = 100, of_tenant: int = 100) -> Live:
    door = Door(database, open_access=True)
    return Live(database, ApiLinks(b"key", 60), door, most, of_tenant, threading.Event())


def stream(told_by: Live, *, cursor: str | None = None, seconds: float = LONG, **wanted: Any) -> Stream:
    own = told_by.database.of(wanted.get("principal", ANYBODY).tenant)
    named = Wanted(**{"principal": ANYBODY, **wanted})
    return Stream(live=told_by, own=own, wanted=named, cursor=cursor, seconds=seconds)


async def chunks(listening: Stream, until: int | None = None) -> list[bytes]:
    """What a client is sent until the stream ends, or until it has so many chunks."""
    async with listening.opened() as (listener, first):
        sent = [first]
        if not listening.wanted.job_id:
            BEGUN.set()
        async for chunk in listening.chunks(listener):
            BEGUN.set()
            sent.append(chunk)
            if len(sent) == until:
                break
        return sent


def parsed(sent: list[bytes]) -> list[tuple[str, str | None, Any]]:
    """Name, id and data of each event."""
    shown = []
    for chunk in b"".join(sent).decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in chunk.splitlines() if not line.startswith(":"))
        if "data" in fields:
            shown.append((fields["event"], fields.get("id"), json.loads(fields["data"])))
    return shown


def run(database: Database, listening: Any, meanwhile: Callable[[], object] = lambda: None) -> Any:
    """Listen while something else happens in another thread, as soon as a stream has begun."""

    async def both() -> Any:
        BEGUN.clear()
        task = asyncio.ensure_future(listening)
        while not (BEGUN.is_set() or task.done()):  # noqa: ASYNC110 - it may be set in another thread
            await asyncio.sleep(0.01)
        await asyncio.to_thread(meanwhile)
        try:
            return await asyncio.wait_for(task, 30)
        finally:
            await database.aclose()

    return asyncio.run(both())


def ids(database: Database) -> list[str]:
    with database.session() as session:
        while events.number(session):
            pass
        return [entry.id for entry in events.behind(session, 0)]


def cancel(database: Database, *job_ids: UUID) -> None:
    for job_id in job_ids:
        with database.session() as session:
            jobs.cancel(session, job_id)


def test_a_job_is_told_at_once_at_every_change_and_at_its_end_behind_its_event(
    database: Database, database_url: str
) -> None:
    job_id, other = accept(database, TREE), Database(database_url)  # another process does the work
    shown = parsed(
        run(database, chunks(stream(live_of(database), job_id=job_id)), lambda: run_task(other, job_id, "0"))
    )
    other.close()
    assert [name for name, *_ in shown][-2:] == ["log", "job"]
    states = [data["status"] for name, _, data in shown if name == "job"]
    assert (states[0], states[-1]) == ("pending", "completed")
    assert shown[-1][2]["results"][0]["url"]
    assert [(id_, data["type"]) for name, id_, data in shown if name == "log"] == [(ids(database)[0], "job.completed")]


def test_progress_is_a_change(database: Database) -> None:
    from app.services import steps

    job_id = accept(database, TREE)
    with database.session() as session:
        held = steps.claim(session, job_id, "0", owner="me", lease_seconds=60, max_attempts=3)
        assert held

    def progress() -> None:
        with database.session() as session:
            steps.renew(session, held, 60, progress=0.4)

    shown = parsed(run(database, chunks(stream(live_of(database), job_id=job_id), until=3), progress))
    assert [data["steps"][0]["progress"] for _, _, data in shown] == [0.0, 0.4]


def test_a_job_that_has_ended_is_told_with_its_event_and_no_more(database: Database) -> None:
    job_id = accept(database, TREE)
    cancel(database, job_id)
    shown = parsed(run(database, chunks(stream(live_of(database), job_id=job_id))))
    assert [name for name, *_ in shown] == ["log", "job"]
    again = stream(live_of(database), job_id=job_id, cursor=shown[0][1])
    assert [name for name, *_ in parsed(run(database, chunks(again)))] == ["job"]


def test_a_job_that_is_deleted_ends_its_streams(database: Database) -> None:
    job_id = accept(database, TREE)

    def delete() -> None:
        with database.session() as session:
            jobs.stop(session, job_id)
            jobs.remove(session, job_id)

    shown = parsed(run(database, chunks(stream(live_of(database), job_id=job_id)), delete))
    assert shown[0][2]["status"] == "pending"


def test_the_log_goes_on_where_a_client_was_and_tells_each_event_once(database: Database) -> None:
    accepted = [accept(database, TREE) for _ in range(7)]
    cancel(database, *accepted[:4])
    known = ids(database)
    listening = stream(live_of(database), cursor=known[0])
    shown = parsed(run(database, chunks(listening, until=7), lambda: cancel(database, *accepted[4:])))
    assert [id_ for _, id_, _ in shown] == ids(database)[1:]


def test_without_a_cursor_the_log_begins_now_and_says_where(database: Database) -> None:
    accepted = [accept(database, TREE) for _ in range(2)]
    cancel(database, accepted[0])
    known = ids(database)
    sent = run(database, chunks(stream(live_of(database)), until=2), lambda: cancel(database, accepted[1]))
    assert f"id: {known[0]}\n\n".encode() in sent[0]  # so that a client that is cut off now misses nothing
    assert [id_ for _, id_, _ in parsed(sent)] == ids(database)[1:]


def test_only_events_of_the_type_are_told(database: Database) -> None:
    accepted = [accept(database, TREE) for _ in range(2)]

    def meanwhile() -> None:
        cancel(database, accepted[0])
        run_task(database, accepted[1], "0")

    listening = stream(live_of(database), type=EventType.COMPLETED)
    shown = parsed(run(database, chunks(listening, until=2), meanwhile))
    assert [data["data"]["id"] for _, _, data in shown] == [str(accepted[1])]


def test_a_listener_that_falls_behind_keeps_little_and_misses_nothing(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MOST_KEPT", 3)
    told_by, kept = live_of(database), 0
    listening = stream(told_by, cursor="0")

    async def slow() -> list[bytes]:
        nonlocal kept
        async with listening.opened() as (listener, _):
            BEGUN.set()
            sent: list[bytes] = []
            async for chunk in listening.chunks(listener):
                sent.append(chunk)
                while told_by._place < len(accepted):  # noqa: ASYNC110 - meanwhile all others come
                    await asyncio.sleep(0.01)
                kept = max(kept, len(listener.log))
                if len(sent) == 20:
                    return sent
        return []

    accepted = [accept(database, TREE) for _ in range(20)]
    shown = parsed(run(database, slow(), lambda: cancel(database, *accepted)))
    assert [id_ for _, id_, _ in shown] == ids(database)
    assert kept <= 3


@contextmanager
def queries(database: Database) -> Iterator[list[str]]:
    engine = database.engine if database.is_sqlite else database.async_engine.sync_engine
    seen: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    yield seen
    event.remove(engine, "before_cursor_execute", note)


def _have_begun(told_by: Live, number: int) -> bool:
    """Whether so many listeners have been sent all that there is at first."""
    listeners = told_by._listeners
    is_first = any(each.behind or each.state or (each.wanted.job_id and not each.mark) for each in listeners)
    return len(listeners) == number and not is_first


@pytest.mark.slow
def test_idle_listeners_share_one_reader(
    database: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they cost while nothing happens does not depend on their number."""
    for pause in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(live, pause, 0.05)
    job_ids, other = [accept(database, TREE) for _ in range(10)], Database(database_url)

    async def listen(number: int, own: Database) -> int:
        told_by = live_of(own)
        of_jobs = [chunks(stream(told_by, job_id=job_id)) for job_id in job_ids[: number // 2]]
        of_log = [chunks(stream(told_by)) for _ in range(number - len(of_jobs))]
        tasks = [asyncio.create_task(each) for each in (*of_jobs, *of_log)]
        while not _have_begun(told_by, number):  # noqa: ASYNC110 - no event says so
            await asyncio.sleep(0.01)
        with queries(own) as seen:
            await asyncio.sleep(0.4)
        told_by.stopping.set()
        await asyncio.gather(*tasks)
        return len(seen)

    async def both() -> list[int]:
        try:
            return await asyncio.gather(listen(2, database), listen(20, other))
        finally:
            await other.aclose()

    for _ in range(3):  # a pause of the machine at the wrong moment makes one count useless
        few, many = run(database, both())
        if few > 0 and many <= 2 * few:
            break
    other.close()
    assert few > 0
    assert many <= 2 * few


@pytest.mark.slow
def test_the_end_of_a_key_ends_its_streams_and_no_others(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEY_SECONDS", 0.05)
    monkeypatch.setattr(live, "LONGEST_PAUSE", 0.1)
    text = [new_key(database, DEFAULT_TENANT) for _ in range(2)]
    of_keys = [
        Principal(tenant=DEFAULT_TENANT, key_id=key.split("_")[1], scopes=frozenset({Scope.JOBS_READ})) for key in text
    ]
    told_by = live_of(database)

    async def both() -> bool:
        first, second = (asyncio.create_task(chunks(stream(told_by, principal=principal))) for principal in of_keys)
        await first
        done, _ = await asyncio.wait({second}, timeout=0.5)  # with several checks
        second.cancel()
        await asyncio.wait({second})  # it gives its connection back
        return not done

    def revoke() -> None:
        with database.session() as session:
            keys.revoke(session, text[0].split("_")[1])

    assert run(database, both(), revoke)


def test_the_first_key_ends_streams_without_one(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "KEY_SECONDS", 0.2)
    monkeypatch.setattr("app.services.access.door.KEPT_SECONDS", 0.2)
    began = time.monotonic()
    run(database, chunks(stream(live_of(database))), lambda: new_key(database, DEFAULT_TENANT))
    assert time.monotonic() - began < 20


def test_another_tenant_hears_nothing(database: Database) -> None:
    from app.services.access import tenants

    with database.session() as session:
        tenants.create(session, "ann")
    told_by, job_id = live_of(database), accept(database, TREE, tenant="ann")
    own = Principal(tenant="ann", key_id=None, scopes=frozenset({Scope.JOBS_READ}))

    async def both() -> tuple[list[bytes], int]:
        async with stream(told_by).opened() as (other, _):
            heard = await chunks(stream(told_by, principal=own), until=2)
            return heard, len(other.log)  # the reader gives an event to all whom it concerns at the same time

    heard, kept_for_another = run(database, both(), lambda: cancel(database, job_id))
    assert [data["data"]["id"] for _, _, data in parsed(heard)] == [str(job_id)]
    assert kept_for_another == 0


@pytest.mark.parametrize(("limits", "named"), [({"most": 2}, "max_"), ({"of_tenant": 2}, "tenant_max_")])
def test_listeners_are_bounded(database: Database, limits: dict[str, int], named: str) -> None:
    told_by = live_of(database, **limits)

    async def three() -> None:
        async with stream(told_by).opened(), stream(told_by).opened():
            await chunks(stream(told_by))

    with pytest.raises(TooManyListeners) as refused:
        run(database, three())
    assert refused.value.extra == {"limit_name": f"{named}listeners"}
    assert refused.value.retry_after
    assert not told_by._listeners


def test_a_process_that_stops_ends_its_streams(database: Database) -> None:
    told_by, began = live_of(database), time.monotonic()
    run(database, chunks(stream(told_by)), told_by.stopping.set)
    assert time.monotonic() - began < LONG / 2
    with pytest.raises(Stopping):
        run(database, chunks(stream(told_by)))


@pytest.mark.slow
def test_a_database_that_was_away_is_nothing_that_listeners_see(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    accepted = accept(database, TREE)
    real, failures = events.behind, iter(range(3))

    def away(*arguments: Any) -> Any:
        if next(failures, None) is not None:
            raise OSError
        return real(*arguments)

    monkeypatch.setattr(events, "behind", away)
    monkeypatch.setattr(live, "AWAY", Backoff(first=0.1, longest=0.2))
    shown = parsed(run(database, chunks(stream(live_of(database)), until=2), lambda: cancel(database, accepted)))
    assert [data["data"]["id"] for _, _, data in shown] == [str(accepted)]


def test_silence_is_filled_with_comments(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.routers.streams.COMMENT_SECONDS", 0.1)
    began = time.monotonic()
    first, *comments = run(database, chunks(stream(live_of(database)), until=5))
    assert first.startswith(b"retry: ")
    assert all(chunk.startswith(b":") for chunk in comments)
    assert time.monotonic() - began > 0.35, "each after a silence"


def test_a_job_that_is_not_there_ends_at_once(database: Database) -> None:
    assert parsed(run(database, chunks(stream(live_of(database), job_id=uuid4())))) == []
