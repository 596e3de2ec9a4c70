"""Webhooks from outside, the same in both modes: endpoints, deliveries, replays, the log, and killed workers."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
from pixtools_client import ClientError
from standardwebhooks import Webhook

from app.config import Settings
from app.services.webhooks.breakers import HostFailed, HostPaused
from app.wiring import Resources
from tests.conftest import in_one_mode, make_photo
from tests.support.commands import run
from tests.support.deployment import ApiClient, Deployment, cluster, embedded
from tests.support.endpoints import SOON, delivery_in, finished_replay, registered
from tests.support.processes import pixtools
from tests.support.proxy import TcpProxy
from tests.support.receiver import Behaviour, answer, hang, receiving
from tests.support.servers import Redis
from tests.support.waiting import until

pytestmark = pytest.mark.integration

FAILURES = 4  # in a row, which open a breaker


def test_an_endpoint_is_told_of_jobs_and_can_check_that_it_is_us(api: ApiClient, photo: bytes) -> None:
    api.await_all()  # what is small overtakes other work
    with receiving() as receiver, registered(api, receiver, "job.completed") as endpoint:
        job = api.run(photo, ["convert_png"])
        (request,) = receiver.await_requests(1)
        delivery = delivery_in(api, "delivered", endpoint=endpoint["id"])
        (attempt,) = api.http.get(f"/deliveries/{delivery['id']}").json()["attempts"]
    event = Webhook(endpoint["secret"]).verify(request.body, request.headers)
    assert (event["type"], event["data"]["id"]) == ("job.completed", job["id"])
    assert event["data"]["results"][0]["sha256"] == job["results"][0]["sha256"]
    assert api.http.get(event["data"]["results"][0]["url"]).status_code == 200
    assert (delivery["webhook_id"], delivery["job_id"]) == (request.headers["webhook-id"], job["id"])
    assert (delivery["attempt_count"], attempt["status_code"]) == (1, 204)
    assert delivery["next_attempt_at"] is None


def test_the_secret_is_shown_once(api: ApiClient) -> None:
    with receiving() as receiver, registered(api, receiver) as endpoint:
        assert endpoint["secret"].startswith("whsec_")
        assert "secret" not in api.http.get(f"/webhooks/{endpoint['id']}").json()
        assert "whsec_" not in api.http.get("/webhooks").text
        new = api.http.post(f"/webhooks/{endpoint['id']}/rotate").json()["secret"]
        api.http.post(f"/webhooks/{endpoint['id']}/test")
        (request,) = receiver.await_requests(1)
    for secret in (endpoint["secret"], new):
        assert Webhook(secret).verify(request.body, request.headers)["type"] == "webhook.test"


@in_one_mode()
def test_every_outcome_reaches_those_who_want_it(api: ApiClient, photo: bytes) -> None:
    broken = make_photo()[:-4000] + bytes(3998) + b"\xff\xd9"
    big = {"op": "resize", "width": 4000, "height": 4000, "fit": "fill", "enlarge": True}
    with receiving() as every, receiving() as some, registered(api, every), registered(api, some, "job.failed"):
        api.run(photo, ["convert_png"])
        api.run(broken, ["convert_png"])
        api.run(photo, ["convert_png", big])
        with receiving(hang) as site:
            body = {"input": {"url": f"{site.origin}/1.jpg"}, "operations": ["convert_png"]}
            job_id = api.http.post("/process", json=body).json()["id"]
            api.http.post(f"/jobs/{job_id}/cancel")
        shown = [request.event["type"] for request in every.await_requests(4)]
        (failed,) = some.await_requests(1)
    assert sorted(shown) == ["job.cancelled", "job.completed", "job.completed_with_errors", "job.failed"]
    assert failed.event["data"]["error"]["code"] == "corrupt_image"


def test_endpoints_are_changed_switched_off_and_removed(api: ApiClient, photo: bytes) -> None:
    since = datetime.now(UTC).isoformat()
    with receiving() as receiver, registered(api, receiver) as endpoint:
        path = f"/webhooks/{endpoint['id']}"
        assert api.http.get(path).json() | {"secret": endpoint["secret"]} == endpoint
        changed = api.http.patch(path, json={"enabled": False, "description": "old"}).json()
        assert (changed["enabled"], changed["description"], changed["url"]) == (False, "old", receiver.url)
        refused = api.http.post(f"{path}/test")
        assert (refused.status_code, refused.json()["code"]) == (409, "endpoint_disabled")
        missed = api.run(photo, ["convert_png"])
        api.http.patch(path, json={"enabled": True})
        answered = api.http.post(f"{path}/replay", json={"since": since, "missed_only": True})
        assert (answered.status_code, answered.headers["location"]) == (202, f"{path}/replays")
        deadline = time.monotonic() + SOON
        while missed["id"] not in {request.event["data"].get("id") for request in receiver.requests}:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        replay = finished_replay(api, endpoint["id"])
        assert (replay["id"], replay["missed_only"]) == (answered.json()["id"], True)
        assert replay["events"] >= 1
        assert api.http.delete(path).status_code == 204
        assert api.http.get(path).json()["code"] == "endpoint_not_found"


def test_a_bad_entry_is_told_with_the_name_of_its_list(api: ApiClient) -> None:
    body = {"url": "http://8.8.8.8/", "events": ["job.failed", "x"]}
    assert api.http.post("/webhooks", json=body).json()["detail"].startswith("events[1] must be 'job.completed', ")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"url": "http://10.0.0.1/"}, "webhook_url_refused", "#/url"),
        ({"url": "http://169.254.169.254/"}, "webhook_url_refused", "#/url"),
        ({"url": "ftp://127.0.0.1/"}, "invalid_webhook_url", "#/url"),
        ({"url": "http://127.0.0.1:9/", "events": ["job.done"]}, "invalid_parameter", "#/events/0"),
        ({"url": "http://127.0.0.1:9/", "secret": "x"}, "invalid_parameter", "#/secret"),
        ({"url": "http://127.0.0.1:9/", "events": ["webhook.test"]}, "invalid_parameter", "#/events/0"),
        ({"url": "http://127.0.0.1:9/", "events": ["job.failed"] * 5}, "invalid_parameter", "#/events"),
        ({"url": "http://127.0.0.1:9/", "description": "x" * 201}, "invalid_parameter", "#/description"),
        ({"url": "http://127.0.0.1:9/", "description": "a\0b"}, "invalid_parameter", "#/description"),
        ({}, "invalid_parameter", "#/url"),
    ],
)
def test_a_bad_endpoint_is_refused_with_its_reason(api: ApiClient, body: Any, code: str, pointer: str) -> None:
    response = api.http.post("/webhooks", json=body)
    problem = response.json()
    assert (response.status_code, problem["code"], problem["errors"][0]["pointer"]) == (422, code, pointer)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://[::ffff:127.0.0.1]/", "webhook_url_refused"),
        ("http://10.0.0.1/", "webhook_url_refused"),
        ("http://user:secret@127.0.0.1/", "invalid_webhook_url"),
    ],
)
def test_a_job_with_a_url_that_leads_inside_is_refused(api: ApiClient, photo: bytes, url: str, code: str) -> None:
    response = api.process(photo, ["convert_png"], webhook_url=url)
    assert (response.status_code, response.json()["code"]) == (422, code)
    assert "secret" not in response.text


@in_one_mode()
def test_deliveries_are_listed_in_pages_shown_and_replayed(api: ApiClient, photo: bytes) -> None:
    with receiving() as receiver:
        jobs = [api.run(photo, ["convert_png"], webhook_url=receiver.url)["id"] for _ in range(3)]
        receiver.await_requests(3)
        first = api.http.get("/deliveries", params={"limit": 2})
        page = first.json()
        assert [delivery["job_id"] for delivery in page["data"]] == [jobs[2], jobs[1]]
        assert page["has_more"]
        assert f"cursor={page['next_cursor']}" in first.headers["link"]
        second = api.http.get("/deliveries", params={"limit": 1, "cursor": page["next_cursor"]}).json()
        assert second["data"][0]["job_id"] == jobs[0]
        delivery = delivery_in(api, "delivered", job=jobs[0])
        again = api.http.post(f"/deliveries/{delivery['id']}/replay")
        assert (again.status_code, again.headers["location"]) == (202, f"/deliveries/{delivery['id']}")
        receiver.await_requests(4)
        assert receiver.ids.count(delivery["webhook_id"]) == 2
    assert api.http.get("/deliveries/dlv_0").json()["code"] == "delivery_not_found"
    assert api.http.get("/deliveries", params={"cursor": "x"}).json()["code"] == "invalid_cursor"
    assert api.http.get("/deliveries", params={"status": "lost"}).status_code == 422


@in_one_mode()
def test_the_log_tells_the_same_to_who_asks(api: ApiClient, photo: bytes) -> None:
    after = "0"
    while (page := api.http.get("/events", params={"after": after, "limit": 100}).json())["data"]:
        after = page["next_after"]
    with receiving() as receiver:
        jobs = [api.run(photo, ["convert_png"], webhook_url=receiver.url)["id"] for _ in range(3)]
        receiver.await_requests(3)
        page = api.http.get("/events", params={"after": after, "limit": 2}).json()
        rest = api.http.get("/events", params={"after": page["next_after"], "limit": 2}).json()
        shown = {request.headers["webhook-id"]: request.event for request in receiver.requests}
    found = page["data"] + rest["data"]
    assert ([event["data"]["id"] for event in found], page["has_more"], rest["has_more"]) == (jobs, True, False)
    assert {event["id"]: event["data"]["id"] for event in found} == {id_: e["data"]["id"] for id_, e in shown.items()}
    other = api.http.get("/events", params={"after": after, "type": "job.failed"}).json()
    assert (other["data"], other["next_after"]) == ([], after)
    assert page["next_after"] == page["data"][-1]["id"]
    assert api.http.get("/events", params={"after": found[0]["id"]}).json()["data"][0]["id"] == found[1]["id"]
    assert api.http.get("/events", params={"after": "-1"}).json()["code"] == "invalid_cursor"


def test_who_waits_for_an_event_gets_it_at_once(api: ApiClient, photo: bytes) -> None:
    after = "0"
    while (page := api.http.get("/events", params={"after": after, "limit": 100}).json())["data"]:
        after = page["next_after"]
    job_id: list[str] = []
    thread = threading.Thread(target=lambda: (time.sleep(0.5), job_id.append(api.run(photo, ["convert_png"])["id"])))
    thread.start()
    response = api.http.get("/events", params={"after": after}, headers={"Prefer": "wait=30"})
    thread.join()
    assert [event["data"]["id"] for event in response.json()["data"]] == job_id
    assert response.headers["preference-applied"] == "wait=30"


@in_one_mode()
def test_the_command_line_does_all_of_it(
    deployment: Deployment, api: ApiClient, photo: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here and, where the database matters, in a process."""
    monkeypatch.setenv("PIXTOOLS_URL", deployment.url)
    with receiving() as receiver:
        endpoint = json.loads(run("webhooks", "create", receiver.url, "--event", "job.failed").stdout)
        assert f"{endpoint['id']}  {receiver.url}  job.failed  enabled" in run("webhooks", "list").stdout
        tested = run("webhooks", "test", endpoint["id"])
        assert (tested.exit_code, json.loads(tested.stdout)["status"]) == (0, "delivered")
        assert json.loads(run("webhooks", "rotate", endpoint["id"]).stdout)["secret"] != endpoint["secret"]
        off = json.loads(run("webhooks", "update", endpoint["id"], "--disable").stdout)
        assert off["enabled"] is False
        job = api.run(photo, ["convert_png"], webhook_url=receiver.url)
        receiver.await_requests(2)
        delivery_id = run("deliveries", "list", "--job", job["id"]).stdout.split()[0]
        assert json.loads(run("deliveries", "show", delivery_id).stdout)["job_id"] == job["id"]
        assert run("deliveries", "replay", delivery_id).exit_code == 0
        receiver.await_requests(3)
        secret = pixtools(deployment, "webhooks", "secret").stdout.strip()
        Webhook(secret).verify(receiver.requests[-1].body, receiver.requests[-1].headers)
        events = [json.loads(line) for line in run("events").stdout.splitlines()]
        assert events[-1]["data"]["id"] == job["id"]
        assert run("webhooks", "delete", endpoint["id"]).exit_code == 0
        gone = run("webhooks", "test", endpoint["id"]).exception
        assert isinstance(gone, ClientError)
        assert gone.code == "endpoint_not_found"


def test_no_secret_and_no_query_of_a_url_is_in_the_log(deployment: Deployment, api: ApiClient, photo: bytes) -> None:
    before = deployment.log.read_text().count("webhook_attempt")
    with receiving(answer(500)) as receiver, registered(api, receiver) as endpoint:
        api.run(photo, ["convert_png"], webhook_url=f"{receiver.origin}/hook?token=very-secret")
        receiver.await_requests(2)
        until(lambda: deployment.log.read_text().count("webhook_attempt") >= before + 2)
    log = deployment.log.read_text()
    assert "very-secret" not in log
    assert endpoint["secret"] not in log


# -- killed ------------------------------------------------------------------------------------------------------------

QUICK = {
    "PIXTOOLS_WEBHOOK_RETRY_SECONDS": "1,1,1,1,1,1",
    "PIXTOOLS_WEBHOOK_TIMEOUT_SECONDS": "3",
    "PIXTOOLS_WEBHOOK_BREAKER_FAILURES": "100",
    "PIXTOOLS_RECONCILE_SECONDS": "0.5",
}


@pytest.fixture(scope="module", params=[pytest.param("embedded", marks=pytest.mark.full), "cluster"])
def killable(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A deployment of its own for each mode, which sends and does nothing else."""
    folder = tmp_path_factory.mktemp(f"killed-{request.param}")
    if request.param == "embedded":
        running = embedded(folder, **QUICK)
    else:
        running = cluster(folder, request.getfixturevalue("cluster_servers"), ["webhook_queue"], **QUICK)
    with running.running():
        yield running


def kill_sender(running: Deployment) -> None:
    """SIGKILL for the process that delivers, and its start as by a supervisor."""
    number = next((n for n, command in enumerate(running.commands) if "webhook_queue" in command), 0)
    process = running.processes[number]
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    running.processes[number] = running.restart(number)


def taken_then_killed(kill: threading.Event) -> Behaviour:
    """The receiver has the event; the sender dies before it hears the answer."""

    def behave(handler: Any) -> None:
        kill.set()
        hang(handler)

    return behave


def test_a_sender_that_is_killed_while_it_waits_sends_again_with_the_same_id(killable: Deployment) -> None:
    kill = threading.Event()
    with (
        receiving(taken_then_killed(kill), answer(204)) as receiver,
        killable.client() as api,
        registered(api, receiver) as endpoint,
    ):
        api.http.post(f"/webhooks/{endpoint['id']}/test")
        assert kill.wait(SOON)
        kill_sender(killable)
        receiver.await_requests(2, timeout=60)
        killable.await_ready()
        delivery = delivery_in(api, "delivered", endpoint=endpoint["id"])
    assert set(receiver.ids) == {delivery["webhook_id"]}


@pytest.mark.full
def test_senders_that_are_killed_again_and_again_lose_nothing(killable: Deployment) -> None:
    with receiving() as receiver, killable.client() as api, registered(api, receiver) as endpoint:
        sent: list[str] = []
        for _ in range(2):
            sent += [api.http.post(f"/webhooks/{endpoint['id']}/test").json()["webhook_id"] for _ in range(5)]
            time.sleep(0.4)
            kill_sender(killable)
            killable.await_ready()
        deadline = time.monotonic() + 90
        while missing := set(sent) - set(receiver.ids):
            assert time.monotonic() < deadline, f"{len(missing)} of {len(sent)} not delivered"
            time.sleep(0.1)
    assert set(receiver.ids) == set(sent), "whatever is sent again has its id"


def test_processes_share_what_they_know_of_a_host(patient_redis: Redis, tmp_path: Path) -> None:
    settings = Settings(
        _env_file=None, data_dir=tmp_path, redis_url=patient_redis.url, webhook_breaker_failures=FAILURES
    )
    one, other = (Resources(settings).breakers for _ in range(2))
    origin = f"http://{uuid4()}.test:80"
    for _ in range(FAILURES):
        with pytest.raises(HostFailed), one.guard(origin):
            raise HostFailed
    with pytest.raises(HostPaused), other.guard(origin):
        pytest.fail("the host was asked")


@pytest.mark.full
def test_a_breaker_is_seen_by_every_worker_and_others_are_delivered_meanwhile(
    tmp_path: Path, request: pytest.FixtureRequest, photo: bytes
) -> None:
    """Two sending processes share what they know of a host."""
    settings = {
        "PIXTOOLS_WEBHOOK_BREAKER_FAILURES": str(FAILURES),
        "PIXTOOLS_WEBHOOK_BREAKER_SECONDS": "3",
        "PIXTOOLS_WEBHOOK_RETRY_SECONDS": "1,1,1,1,1,1,1",
    }
    running = cluster(
        tmp_path, request.getfixturevalue("cluster_servers"), ["default_queue", "webhook_queue"], **settings
    )
    running.commands.append([*running.commands[-1][:-1], "second@%h"])
    with receiving(answer(500)) as dead, receiving() as healthy:
        try:
            running.start()
            with running.client() as api:
                jobs = [api.run(photo, ["convert_png"], webhook_url=dead.url)["id"] for _ in range(6)]
                opened = dead.await_requests(FAILURES)[FAILURES - 1].at
                settled, until = opened + 2, opened + 6  # what was on its way is there by then
                time.sleep(max(0, until - time.monotonic()))
                probes = [sent for sent in dead.requests if settled < sent.at < until]
                assert len(probes) <= 2, "one each three seconds"
                began = time.monotonic()
                api.run(photo, ["convert_png"], webhook_url=healthy.url)
                healthy.await_requests(1)
                assert time.monotonic() - began < 10
                dead.behave(answer(204))
                for job_id in jobs:
                    delivery_in(api, "delivered", 90, job=job_id)
        finally:
            running.stop()


def test_the_servers_own_address_is_no_receiver(api: ApiClient, deployment: Deployment, photo: bytes) -> None:
    for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::1]"):
        url = f"http://{host}:{deployment.port}/webhooks/ep_1/test"
        refused = api.http.post("/webhooks", json={"url": url})
        assert (refused.status_code, refused.json()["code"]) == (422, "webhook_url_refused"), refused.text
    url = f"http://127.0.0.1:{deployment.port}/process"
    assert api.process(photo, ["convert_png"], webhook_url=url).json()["code"] == "webhook_url_refused"


@in_one_mode()
def test_an_endpoint_that_leads_back_by_another_way_does_not_feed_itself(
    api: ApiClient, deployment: Deployment
) -> None:
    with TcpProxy("127.0.0.1", deployment.port) as way:
        created = api.http.post("/webhooks", json={"url": f"http://localhost:{way.port}/", "events": ["job.failed"]})
        endpoint = created.json()["id"]
        try:
            url = f"http://localhost:{way.port}/webhooks/{endpoint}/test"
            assert api.http.patch(f"/webhooks/{endpoint}", json={"url": url}).status_code == 200
            api.http.post(f"/webhooks/{endpoint}/test")
            deadline = time.monotonic() + SOON
            while not (shown := api.http.get("/deliveries", params={"endpoint": endpoint}).json()["data"])[0]["error"]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(1)
            (delivery,) = api.http.get("/deliveries", params={"endpoint": endpoint}).json()["data"]
            assert delivery["error"] == shown[0]["error"] == "answered 403"
            (attempt, *_) = api.http.get(f"/deliveries/{delivery['id']}").json()["attempts"]
            assert "own_webhook" in attempt["answer"]
        finally:
            api.http.delete(f"/webhooks/{endpoint}")
