"""Whose turn it is: what waits in the database, the window of it that the broker has, and how that is topped up."""

import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from app.database import Database, from_now
from app.models import DueTask, Job, JobStatus
from app.operations import Queue
from app.services import jobs
from app.services.dag_builder import NARROW
from app.services.dispatch import canvas_for
from app.services.outbox import START_JOB, Message
from app.services.scheduling import dispatcher as dispatcher_module
from app.services.scheduling import due
from app.services.scheduling.dispatcher import Dispatcher, LocalDispatcher
from app.services.scheduling.due import LANES, WHOLE, Lane
from app.services.scheduling.window import Depth, Depths, Sizes
from app.services.upkeep import reconciler
from app.tasks.celery_app import celery_app
from tests.support.work import (
    LONG_AGO,
    ON_POSTGRESQL,
    OVER,
    accept,
    change,
    claimed,
    job_of,
    messages,
    run_task,
)

SMALL, PIXELS, NETWORK, _ = LANES
GIANT: list[Any] = [{"op": "convert_avif", "effort": 9, "as": f"r{number}"} for number in range(8)]
LARGE = (4000, 3000)  # pixels: nothing of it is small


@dataclass
class FakeWindow:
    """Has so many places in each queue."""

    places: dict[str, int] = field(default_factory=dict)
    has_spare: bool = False

    def take(self, queue: str, places: int = 1) -> bool:
        free = self.places.get(queue, 0) >= places
        if free:
            self.places[queue] -= places
        return free

    def note_due(self, queues: Collection[str]) -> None:
        pass


@pytest.fixture
def no_room(database: Database) -> Iterator[None]:
    """All that is accepted waits for its turn."""
    database.hooks.window = FakeWindow()
    yield
    database.hooks.window = None


def owned(database: Database, tenant: str, tree: Sequence[Any] = ("convert_webp",), **options: Any) -> UUID:
    """A job of a tenant that waits for its turn."""
    job_id = accept(database, list(tree), size=LARGE, **options)
    for table in (Job.__table__.update().where(Job.id == job_id), update(DueTask).where(DueTask.job_id == job_id)):
        change(database, table.values(tenant=tenant))
    return job_id


def turns(database: Database, room: int, lane: Lane = PIXELS) -> list[due.Turn]:
    """Whose turn it is; they are sent."""
    with database.session() as session:
        found = due.claim(session, lane, room)
    with database.session() as session:
        if found:
            due.settle(session, found)
    return found


def tenants(found: Sequence[due.Turn]) -> str:
    return "".join(turn.tenant for turn in found)


def due_tasks(database: Database) -> dict[UUID, list[str]]:
    with database.session(read_only=True) as session:
        rows = session.execute(select(DueTask.job_id, DueTask.task).order_by(DueTask.position)).all()
    found: dict[UUID, list[str]] = {}
    for job_id, task in rows:
        found.setdefault(job_id, []).append(task)
    return found


# -- the order ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("room", [1, 2, 3, 20])
def test_tenants_take_turns_whatever_the_room(database: Database, room: int) -> None:
    for tenant in "aaaaaabbbc":
        owned(database, tenant)
    order = ""
    while found := turns(database, room):
        order += tenants(found)
    assert len(order) == 10
    assert [set(order[:3]), set(order[3:5]), set(order[5:7])] == [set("abc"), set("ab"), set("ab")]
    assert order[7:] == "aaa"


@pytest.mark.usefixtures("no_room")
def test_a_newcomer_is_next_though_thousands_came_before(database: Database) -> None:
    for _ in range(30):
        owned(database, "a")
    assert tenants(turns(database, 4)) == "aaaa"
    owned(database, "b")
    assert tenants(turns(database, 1)) == "b"
    owned(database, "b")
    assert tenants(turns(database, 2)) == "ab", "who was served last is not served first again"


@pytest.mark.usefixtures("no_room")
def test_the_highest_priority_goes_first_within_its_tenant_alone(database: Database) -> None:
    low, high = owned(database, "a", priority=0), owned(database, "a", GIANT, priority=9)
    other = owned(database, "b", priority=0)
    order = [turn.job_id for turn in turns(database, 100)]
    assert order[:2] in ([high, other], [other, high])
    assert order[2:] == [high] * (len(GIANT) - 1) + [low]


@pytest.mark.usefixtures("no_room")
@pytest.mark.parametrize("room", [1, 3, 100])
def test_jobs_of_equal_priority_take_turns(database: Database, room: int) -> None:
    giant, other = owned(database, "a", GIANT), owned(database, "a", GIANT)
    order: list[UUID] = [turn.job_id for turn in turns(database, 4)]
    newcomer = owned(database, "a")
    while found := turns(database, room):
        order += [turn.job_id for turn in found]
    assert order.index(newcomer) <= 4 + 2
    without = [job_id for job_id in order if job_id != newcomer]
    assert all(set(without[n : n + 2]) == {giant, other} for n in range(0, 2 * len(GIANT), 2))


@pytest.mark.usefixtures("no_room")
def test_each_lane_takes_its_own_work(database: Database) -> None:
    small, large, network = accept(database, ["flip"]), owned(database, "a"), owned(database, "a", ["denoise"])
    assert [turn.job_id for turn in turns(database, 9, SMALL)] == [small]
    assert [turn.job_id for turn in turns(database, 9, NETWORK)] == [network]
    assert [turn.job_id for turn in turns(database, 9)] == [large]


@pytest.mark.usefixtures("no_room")
def test_small_work_goes_the_other_works_way_where_nobody_takes_it(database: Database) -> None:
    job_id = accept(database, ["flip"])
    (turn,) = turns(database, 1)
    assert turn.job_id == job_id
    message = turn.message(Queue.DEFAULT.value)
    assert (message.task, message.args, message.queue) == ("pixtools.flip", [str(job_id), "0"], "default_queue")


# -- what waits --------------------------------------------------------------------------------------------------------


def test_what_finds_a_place_is_sent_and_what_finds_none_waits(database: Database) -> None:
    sent: list[Message] = []
    database.hooks.window = FakeWindow({Queue.SMALL: 1, Queue.DEFAULT: 2})
    database.hooks.take_over = sent.append
    try:
        first, second, third, fourth = (accept(database, ["flip"]) for _ in range(4))
        tree = accept(database, ["flip", "convert_avif"])
        with database.session() as session:
            jobs.cancel(session, first)
        with database.session() as session:
            jobs.retry(session, first, kept_seconds=60)
    finally:
        database.hooks.window = database.hooks.take_over = None
    places = [(message.args[0], message.queue) for message in sent]
    assert places == [
        (str(first), "small_queue"),
        (str(second), "default_queue"),
        (str(third), "default_queue"),
    ]
    assert due_tasks(database) == {fourth: ["0"], tree: [WHOLE], first: [WHOLE]}


@pytest.mark.usefixtures("no_room")
def test_a_wide_tree_waits_task_by_task(database: Database) -> None:
    database.hooks.window = FakeWindow({Queue.DEFAULT: 100})
    job_id = owned(database, "a", GIANT)
    assert due_tasks(database) == {job_id: [str(number) for number in range(len(GIANT))]}
    assert messages(database) == []


def test_starting_a_wide_tree_makes_it_due(database: Database) -> None:
    job_id = accept(database, GIANT)
    run_task(database, job_id, "3")
    with database.session() as session:
        assert canvas_for(session, celery_app, job_id, None) is None
    assert due_tasks(database)[job_id] == ["0", "1", "2", "4", "5", "6", "7"]


def test_what_follows_a_task_widely_is_due_with_its_success(database: Database) -> None:
    job_id = accept(database, [{"op": "resize", "width": 100, "then": GIANT}])
    with database.session() as session:
        canvas = canvas_for(session, celery_app, job_id, None)
    assert [task.args for task in canvas.tasks] == [(str(job_id), "0")], "it does not send what follows"
    run_task(database, job_id, "0")
    assert due_tasks(database) == {job_id: [f"0.{number}" for number in range(len(GIANT))]}
    for number in range(len(GIANT)):
        run_task(database, job_id, f"0.{number}")
    assert job_of(database, job_id).status == JobStatus.COMPLETED


def test_a_narrow_tree_is_one_canvas(database: Database) -> None:
    job_id = accept(database, GIANT[:NARROW])
    with database.session() as session:
        canvas = canvas_for(session, celery_app, job_id, None)
    assert len(canvas.tasks) == NARROW
    assert due_tasks(database) == {}


def test_small_tasks_of_a_tree_go_to_the_spare_process_where_there_is_one(database: Database) -> None:
    job_id = accept(database, ["flip", {"op": "convert_avif", "effort": 9}])
    for spare, queue in ((True, "small_queue"), (False, "default_queue")):
        with database.session() as session:
            canvas = canvas_for(session, celery_app, job_id, None, spare=spare)
        assert [task.options["queue"] for task in canvas.tasks] == [queue, "default_queue"]


def test_tasks_of_a_tree_go_where_it_was_given_a_place(database: Database) -> None:
    """Else the spare process would have all small trees, while the others have nothing to do."""
    sent: list[Message] = []
    database.hooks.window = FakeWindow({Queue.SMALL: 1, Queue.DEFAULT: 2})
    database.hooks.take_over = sent.append
    try:
        first, second, third = (accept(database, ["flip", "grayscale"]) for _ in range(3))
    finally:
        database.hooks.window = database.hooks.take_over = None
    assert [message.args for message in sent] == [[str(first), None, True], [str(second)]]
    [turn] = turns(database, 1, SMALL)
    assert turn.message("small_queue").args == [str(third), None, True]
    assert turn.message("default_queue").args == [str(third)]


@pytest.mark.usefixtures("no_room")
def test_a_job_that_waits_for_its_turn_is_not_lost(database: Database) -> None:
    job_id = owned(database, "a")
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))

    def swept() -> int:
        with database.session() as session:
            return reconciler.sweep(session, redispatch_seconds=900, waiting=lambda _: 0).silent

    assert swept() == 0
    assert len(turns(database, 1)) == 1
    assert swept() == 0, "it was sent a moment ago"
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    assert swept() == 1, "and its message is in no queue"
    assert messages(database) == [(START_JOB, [str(job_id)], 0)]


@pytest.mark.usefixtures("no_room")
def test_what_is_small_does_not_tell_how_far_a_queue_is(database: Database) -> None:
    """It may have gone another way than those who wait."""
    waiting = owned(database, "a")
    turns(database, 1)
    change(database, update(Job).values(dispatched_at=from_now(-LONG_AGO)))
    small, large = accept(database, ["flip"]), owned(database, "a")
    turns(database, 2)

    def swept() -> int:
        with database.session() as session:
            return reconciler.sweep(session, redispatch_seconds=900, waiting=lambda _: 7).silent

    claimed(database, small, "0")
    assert swept() == 0
    claimed(database, large, "0")
    assert swept() == 1
    assert messages(database) == [(START_JOB, [str(waiting)], 0)]


# -- topping up --------------------------------------------------------------------------------------------------------


@dataclass
class Broker:
    """Keeps what it is sent."""

    workers: dict[str, int] = field(default_factory=lambda: {Queue.DEFAULT: 1, Queue.SMALL: 1, Queue.ML: 1})
    down: bool = False
    sent: list[Message] = field(default_factory=list)

    def __call__(self, message: Message) -> None:
        if self.down:
            raise ConnectionError("refused")
        self.sent.append(message)

    def look(self) -> Depths:
        lengths = {queue: sum(message.queue == queue for message in self.sent) for queue in self.workers}
        return {queue: Depth(messages=lengths[queue], workers=found) for queue, found in self.workers.items()}

    def queues(self) -> Mapping[str, list[Any]]:
        return {queue: [m.args for m in self.sent if m.queue == queue] for queue in {m.queue for m in self.sent}}


def dispatcher(database: Database, broker: Broker, kind: type[Dispatcher] = Dispatcher) -> Dispatcher:
    return kind(database, broker, broker.look, Sizes(worker_takes=2, most_workers=20), pause=0.01)


@pytest.mark.usefixtures("no_room")
def test_the_window_is_filled_and_no_more(database: Database) -> None:
    for _ in range(9):
        owned(database, "a")
    broker = Broker()
    own = dispatcher(database, broker)
    assert own.top_up() is not None
    assert own.top_up() is not None
    assert len(broker.sent) == 4
    broker.sent.clear()
    while own.top_up() is not None:
        broker.sent.clear()
    assert due_tasks(database) == {}


@pytest.mark.usefixtures("no_room")
def test_the_only_process_forgets_what_it_sends(database: Database) -> None:
    jobs = [owned(database, tenant) for tenant in ("a", "a", "b")]
    broker = Broker()
    own = dispatcher(database, broker, LocalDispatcher)
    while own.top_up() is not None:
        pass
    assert [message.args[0] for message in broker.sent] == [str(jobs[0]), str(jobs[2]), str(jobs[1])]
    assert due_tasks(database) == {}


@pytest.mark.usefixtures("no_room")
def test_what_the_only_process_cannot_send_is_in_the_outbox(database: Database) -> None:
    job_id = owned(database, "a")
    dispatcher(database, Broker(down=True), LocalDispatcher).top_up()
    assert due_tasks(database) == {}
    assert [args for _, args, _ in messages(database)] == [[str(job_id), "0"]]


@pytest.mark.usefixtures("no_room")
def test_what_waits_for_a_full_queue_is_not_looked_at(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(9):
        owned(database, "a")
    broker = Broker()
    own = dispatcher(database, broker)
    own.top_up()
    asked: list[object] = []
    waiting = due.waiting

    def noted(session: Session) -> dict[str, int]:
        asked.append(session)
        return waiting(session)

    monkeypatch.setattr(due, "waiting", noted)
    assert own.top_up() == pytest.approx(0.01)
    assert not asked
    broker.sent.clear()
    own.top_up()
    assert asked


@pytest.mark.usefixtures("no_room")
def test_small_work_passes_a_full_queue(database: Database) -> None:
    for _ in range(9):
        owned(database, "a")
    small = accept(database, ["flip"])
    tree = accept(database, ["flip", "convert_jpeg"])
    broker = Broker()
    dispatcher(database, broker).top_up()
    assert broker.queues()["small_queue"] == [[str(small), "0"], [str(tree), None, True]]
    assert len(broker.queues()["default_queue"]) == 4


@pytest.mark.usefixtures("no_room")
def test_without_a_spare_process_nothing_is_sent_to_it(database: Database) -> None:
    accept(database, ["flip"])
    accept(database, ["flip", "convert_jpeg"])
    broker = Broker(workers={Queue.DEFAULT: 1, Queue.SMALL: 0, Queue.ML: 0})
    dispatcher(database, broker).top_up()
    assert [message.queue for message in broker.sent] == ["default_queue"] * 2


@pytest.mark.usefixtures("no_room")
def test_what_the_broker_does_not_take_is_due_as_before(database: Database) -> None:
    job_id = owned(database, "a")
    broker = Broker(down=True)
    own = dispatcher(database, broker)
    own.top_up()
    broker.down = False
    own.top_up()
    assert [message.args for message in broker.sent] == [[str(job_id), "0"]]
    assert due_tasks(database) == {}


@pytest.mark.usefixtures("no_room")
def test_what_a_killed_process_was_sending_is_sent_by_another(database: Database) -> None:
    job_id = owned(database, "a")
    with database.session() as session:
        assert len(due.claim(session, PIXELS, 1)) == 1  # and here it dies
    broker = Broker()
    dispatcher(database, broker).top_up()
    assert broker.sent == [], "it may be alive"
    change(database, update(DueTask).values(claimed_until=from_now(OVER)))
    dispatcher(database, broker).top_up()
    assert [message.args for message in broker.sent] == [[str(job_id), "0"]]
    assert due_tasks(database) == {}


@pytest.mark.usefixtures("no_room")
def test_what_is_on_its_way_takes_places(database: Database) -> None:
    for _ in range(9):
        owned(database, "a")
    with database.session() as session:
        assert len(due.claim(session, PIXELS, 4)) == 4
        assert due.claim(session, PIXELS, 4) == []
        assert len(due.claim(session, PIXELS, 5)) == 1


@ON_POSTGRESQL
@pytest.mark.usefixtures("no_room")
def test_one_process_at_a_time_chooses(database: Database) -> None:
    owned(database, "a")
    broker = Broker()
    with database.session() as session:
        assert due.may_choose(session)
        assert dispatcher(database, broker).top_up() is not None
        assert broker.sent == []
    dispatcher(database, broker).top_up()
    assert len(broker.sent) == 1


@pytest.mark.usefixtures("no_room")
def test_what_has_been_cancelled_is_not_sent(database: Database) -> None:
    cancelled, other = owned(database, "a"), owned(database, "a")
    with database.session() as session:
        jobs.cancel(session, cancelled)
    broker = Broker()
    dispatcher(database, broker).top_up()
    assert [message.args for message in broker.sent] == [[str(other), "0"]]
    assert due_tasks(database) == {}


def test_a_running_dispatcher_sends_what_becomes_due_and_sleeps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meter(Broker):
        looks = 0

        def look(self) -> Depths:
            self.looks += 1
            return super().look()

    broker = Meter()
    own = dispatcher(database, broker)
    database.hooks.take_over = broker
    usual = dispatcher_module.LOOK_SECONDS
    monkeypatch.setattr(dispatcher_module, "LOOK_SECONDS", 60)  # no look between a place that is taken and its message
    own.start()
    try:
        wait_until(lambda: own.places.has_spare)  # the first look
        arrived = [str(accept(database, ["convert_webp"], size=LARGE)) for _ in range(4)]
        waits = str(accept(database, ["convert_webp"], size=LARGE))
        wait_until(lambda: len(broker.sent) == 4)
        assert waits not in [message.args[0] for message in broker.sent]
        broker.sent.clear()
        wait_until(lambda: [message.args[0] for message in broker.sent] == [waits])
        wait_until(lambda: not due_tasks(database))
        assert all(arrived)
        monkeypatch.setattr(dispatcher_module, "LOOK_SECONDS", usual)
        settled = broker.looks
        threading.Event().wait(0.5)
        assert broker.looks <= settled + 2, "nothing is due"
    finally:
        own.stop()
        database.hooks.take_over = None


def wait_until(what: Any) -> None:
    for _ in range(1000):
        if what():
            return
        threading.Event().wait(0.02)
    raise AssertionError("it never came to that")
