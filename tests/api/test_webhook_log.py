"""What lasts, from outside: odd ids and times, a server that stops, followers of the log, a replay that is killed."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from app.database import Database
from app.models import Event, EventType
from app.services.webhooks import events
from app.tenancy import DEFAULT_TENANT
from tests.conftest import in_one_mode
from tests.support import preloaded
from tests.support.commands import Run, run
from tests.support.deployment import ApiClient, Deployment, embedded
from tests.support.endpoints import SOON, delivery_in, finished_replay, registered
from tests.support.receiver import receiving
from tests.support.small_batches import BATCH
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


@in_one_mode()
@pytest.mark.parametrize("command", [["deliveries", "show"], ["webhooks", "test"], ["jobs", "show"]])
def test_commands_that_lack_an_id_say_so(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    monkeypatch.setenv("PIXTOOLS_URL", deployment.url)
    ran = run(*command, "")
    assert (ran.exit_code, str(ran.exception)) == (1, "An id is missing: '' is not an id.")


def test_commands_that_lack_a_database_say_so_in_a_line(
    pixtools: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXTOOLS_DATABASE_URL", f"sqlite:///{tmp_path}/nowhere/pixtools.db")
    said = str(pixtools("webhooks", "secret").exception)
    assert ("cannot be used" in said, "unable to open database file" in said) == (True, True)
    url = "postgresql://someone:secret@127.0.0.1:9/z"
    ended = preloaded.run(["app", "webhooks", "secret"], {**os.environ, "PIXTOOLS_DATABASE_URL": url})
    (line,) = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert ("cannot be used" in line, "refused" in line, "secret@" in line) == (True, True, False)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A server that a test stops and starts again; it kills itself in the second batch of a replay."""
    folder = tmp_path_factory.mktemp("stopped")
    fault = {"CHAOS_POINT": "app.services.webhooks.replays:run_batch:after", "CHAOS_EVERY": "2", "CHAOS_KILLS": "1"}
    deployment = embedded(folder, PIXTOOLS_RECONCILE_SECONDS="1", CHAOS_COUNT=str(folder / "count"), **fault)
    deployment.commands = [["tests.chaos.run", "tests.support.small_batches", "app", "serve"]]
    with deployment.running():
        yield deployment


NEVER = f"msg_{'f' * 32}"  # an event that is yet to come


def test_when_a_server_stops_who_waits_is_answered_and_who_follows_goes_on_later(
    running: Deployment, photo: bytes, tmp_path: Path
) -> None:
    with running.client() as api:
        first = api.run(photo, ["convert_png"])["id"]
    server, seen = running.processes[0], tmp_path / "seen"
    seen.touch()
    command = ["app", "events", "--follow", "--type", "job.completed", "--server", running.url]
    follower = preloaded.start(command, running.variables(), seen)
    try:
        until(lambda: first in seen.read_text())
        with socket.create_connection(("127.0.0.1", running.port), 60) as waiting:
            asked = f"GET /events?after={NEVER} HTTP/1.1\r\nHost: 127.0.0.1\r\nPrefer: wait=30\r\n\r\n"
            waiting.sendall(asked.encode())
            process = psutil.Process(server.pid)
            own = waiting.getsockname()[1]
            until(lambda: own in {each.raddr.port for each in process.net_connections("tcp") if each.raddr})
            time.sleep(1)
            began = time.monotonic()
            server.terminate()
            came = b"".join(iter(lambda: waiting.recv(65536), b""))
        assert came.startswith(b"HTTP/1.1 200 ")
        assert json.loads(came.partition(b"\r\n\r\n")[2])["data"] == []
        server.wait(30)
        assert time.monotonic() - began < 20, "it waited for its own limit of 30 s"
        assert "Traceback" not in running.log.read_text()
        until(lambda: "does not answer" in seen.read_text())
        running.start()
        with running.client() as api:
            second = api.run(photo, ["convert_png"])["id"]
        until(lambda: second in seen.read_text())
    finally:
        follower.kill()
    printed = [json.loads(line)["data"]["id"] for line in seen.read_text().splitlines() if line.startswith("{")]
    assert printed == [first, second]


MANY = 3 * BATCH


def test_a_replay_that_is_killed_in_the_middle_reaches_its_end(running: Deployment) -> None:
    """Of failed jobs, of which there are no others."""
    write_events(running, MANY)
    with receiving() as receiver, running.client() as api, registered(api, receiver, "job.failed") as endpoint:
        answered = api.http.post(f"/webhooks/{endpoint['id']}/replay", json={"since": EPOCH})
        assert answered.status_code == 202
        assert running.processes[0].wait(SOON) == -signal.SIGKILL
        assert len(set(receiver.ids)) <= BATCH
        running.start()
        deadline = time.monotonic() + 3 * SOON
        while len(set(receiver.ids)) < MANY:
            assert time.monotonic() < deadline, f"{len(set(receiver.ids))} of {MANY}"
            time.sleep(0.2)
        assert finished_replay(api, endpoint["id"])["events"] == MANY


def write_events(running: Deployment, count: int) -> None:
    database = Database(f"sqlite:///{running.folder / 'data' / 'pixtools.db'}")
    ended = datetime.now(UTC) - timedelta(minutes=5)
    with database.session() as session:
        for _ in range(count):
            event = Event(id=events.new_id(), type=EventType.FAILED, job_id=uuid4(), run=1, created_at=ended)
            event.tenant, event.data = DEFAULT_TENANT, {"status": "failed"}
            session.add(event)
    database.close()
