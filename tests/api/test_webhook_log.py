"""What lasts, from outside: odd ids and times, a server that stops, followers of the log, a replay that is killed."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psutil
import pytest

from app.database import Database
from app.models import Event, EventType
from app.services.webhooks import events, replays
from app.tenancy import DEFAULT_TENANT
from tests.support.deployment import ApiClient, Deployment, embedded
from tests.support.endpoints import SOON, delivery_in, registered
from tests.support.preloaded import run
from tests.support.processes import pixtools
from tests.support.receiver import receiving
from tests.support.waiting import until

pytestmark = pytest.mark.integration

EPOCH = datetime(2000, 1, 1, tzinfo=UTC).isoformat()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/webhooks/%00", 404),
        ("/webhooks/ep_%00/replays", 404),
        ("/deliveries/%00", 404),
        ("/deliveries?cursor=dlv_%00", 400),
        ("/deliveries?endpoint=%00", 422),
    ],
)
def test_ids_that_no_database_can_hold_are_unknown(api: ApiClient, path: str, status: int) -> None:
    assert api.http.get(path).status_code == status


@pytest.mark.parametrize("since", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:00"])
def test_a_time_out_of_range_is_refused(api: ApiClient, since: str) -> None:
    with receiving() as receiver, registered(api, receiver) as endpoint:
        refused = api.http.post(f"/webhooks/{endpoint['id']}/replay", json={"since": since})
        early = api.http.post(f"/webhooks/{endpoint['id']}/replay", json={"since": "0001-01-01T00:00:00Z"})
        assert early.json()["since"] == "0001-01-01T00:00:00Z"
    assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "#/since")


def test_of_a_deleted_job_nothing_is_told_but_its_end(api: ApiClient, photo: bytes) -> None:
    with receiving() as receiver, registered(api, receiver) as endpoint:
        job_id = api.run(photo, ["convert_png"])["id"]
        delivery = delivery_in(api, "delivered", endpoint=endpoint["id"])
        assert api.http.delete(f"/jobs/{job_id}").status_code == 204
        api.http.post(f"/deliveries/{delivery['id']}/replay")
        _, again = receiver.await_requests(2)
    assert again.event["data"] == {"id": job_id, "status": "completed", "deleted": True}
    assert again.headers["webhook-id"] == delivery["webhook_id"]


def test_commands_that_lack_an_id_or_a_database_say_so_in_a_line(deployment: Deployment, tmp_path: Path) -> None:
    for command in (["deliveries", "show"], ["webhooks", "test"], ["jobs", "show"]):
        without = pixtools(deployment, *command, "")
        assert (without.returncode, without.stderr.splitlines()) == (1, ["An id is missing: '' is not an id."])
    for url, reason in (
        (f"sqlite:///{tmp_path}/nowhere/pixtools.db", "unable to open database file"),
        ("postgresql://someone:secret@127.0.0.1:9/z", "refused"),
    ):
        environment = {**deployment.variables(), "PIXTOOLS_DATABASE_URL": url}
        ended = run(["app", "webhooks", "secret"], environment)
        (line,) = ended.stderr.splitlines()
        assert ended.returncode == 1
        assert "cannot be used" in line
        assert reason in line
        assert "secret@" not in line


SETTINGS = {"PIXTOOLS_WEBHOOK_CONCURRENCY": "2", "PIXTOOLS_RECONCILE_SECONDS": "1"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Deployment]:
    deployment = embedded(tmp_path, **SETTINGS)
    deployment.start()
    yield deployment
    deployment.stop()


@pytest.fixture(scope="module")
def stopping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """One that a test stops, and starts again if it needs to."""
    deployment = embedded(tmp_path_factory.mktemp("stopped"), **SETTINGS)
    deployment.start()
    yield deployment
    deployment.stop()


def test_who_waits_for_an_event_is_answered_when_the_server_stops(stopping: Deployment) -> None:
    answers: list[httpx.Response] = []

    def wait() -> None:
        answers.append(httpx.get(f"{stopping.url}/events", headers={"Prefer": "wait=30"}, timeout=60))

    waiting = threading.Thread(target=wait)
    waiting.start()
    server = psutil.Process(stopping.processes[0].pid)
    until(lambda: any(each.raddr for each in server.net_connections("tcp")))
    time.sleep(1)
    began = time.monotonic()
    os.kill(stopping.processes[0].pid, signal.SIGTERM)
    waiting.join(30)
    assert (answers[0].status_code, answers[0].json()["data"]) == (200, [])
    stopping.processes[0].wait(30)
    assert time.monotonic() - began < 8, "it did not wait for its own limit"
    assert "Traceback" not in stopping.log.read_text()


def test_who_follows_the_log_goes_on_when_the_server_is_back(stopping: Deployment, photo: bytes) -> None:
    if stopping.processes[0].poll() is not None:
        stopping.start()
    with stopping.client() as api:
        first = api.run(photo, ["convert_png"])["id"]
    command = [sys.executable, "-m", "app", "events", "--follow", "--server", stopping.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
        try:
            assert follower.stdout is not None
            assert follower.stderr is not None
            assert json.loads(follower.stdout.readline())["data"]["id"] == first
            stopping.stop()
            assert "does not answer" in follower.stderr.readline()
            stopping.start()
            with stopping.client() as api:
                second = api.run(photo, ["convert_png"])["id"]
            assert json.loads(follower.stdout.readline())["data"]["id"] == second
        finally:
            follower.kill()


MANY = replays.BATCH + 50


def test_a_replay_that_is_killed_in_the_middle_reaches_its_end(running: Deployment) -> None:
    write_events(running, MANY)
    with receiving() as receiver, running.client() as api:
        endpoint: dict[str, Any] = api.http.post("/webhooks", json={"url": receiver.url}).json()
        answered = api.http.post(f"/webhooks/{endpoint['id']}/replay", json={"since": EPOCH})
        assert answered.status_code == 202
        receiver.await_requests(20)
        running.kill()
        assert len(set(receiver.ids)) < MANY - 100
        running.start()
        deadline = time.monotonic() + 2 * SOON
        while len(set(receiver.ids)) < MANY:
            assert time.monotonic() < deadline, f"{len(set(receiver.ids))} of {MANY}"
            time.sleep(0.2)
        (replay,) = api.http.get(f"/webhooks/{endpoint['id']}/replays").json()["data"]
        assert (replay["events"], replay["finished_at"] is not None) == (MANY, True)


def write_events(running: Deployment, count: int) -> None:
    database = Database(f"sqlite:///{running.folder / 'data' / 'pixtools.db'}")
    ended = datetime.now(UTC) - timedelta(minutes=5)
    with database.session() as session:
        for _ in range(count):
            event = Event(id=events.new_id(), type=EventType.COMPLETED, job_id=uuid4(), run=1, created_at=ended)
            event.tenant, event.data = DEFAULT_TENANT, {"status": "completed"}
            session.add(event)
    database.close()
