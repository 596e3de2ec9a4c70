"""The Python client against a running server: its page of documentation, and what that does not show."""

import asyncio
import base64
import io
import json
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pixtools_client import (
    AssetNotFound,
    AsyncClient,
    Client,
    Conflict,
    DownloadFailed,
    ExternalIdTaken,
    FileExists,
    Invalid,
    InvalidSignature,
    JobExpired,
    JobNotFound,
    LimitReached,
    Refused,
    ServerAway,
    StoreNotFound,
    TemplateNotFound,
    Unauthorized,
    WaitTimeout,
    environment,
    errors,
    verify,
)
from standardwebhooks import Webhook

from app.errors import PixToolsError
from tests.conftest import make_photo
from tests.support.deployment import ROOT, Deployment, embedded
from tests.support.receiver import answer, hang, receiving
from tests.support.waiting import until

pytestmark = pytest.mark.integration

PAGE = ROOT / "docs" / "client-python.md"
PHOTO = make_photo(320, 200)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with embedded(tmp_path_factory.mktemp("client")).running() as deployment:
        yield deployment


@pytest.fixture
def client(server: Deployment) -> Iterator[Client]:
    with Client(server.url) as opened:
        yield opened


def test_every_example_of_the_page_runs(
    server: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PIXTOOLS_URL", server.url)
    monkeypatch.delenv("PIXTOOLS_KEY", raising=False)
    monkeypatch.chdir(tmp_path)
    for name, size in (("photo.jpg", 320), ("second.jpg", 300)):
        Path(name).write_bytes(make_photo(size, 200))
    examples = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(examples) >= 10
    names: dict[str, Any] = {"__name__": "example"}
    with receiving(answer(200, PHOTO)) as site:
        for example in examples:
            here = example.replace("https://images.example", site.origin)
            exec(compile(here, str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert "small webp 320 x 200" in said
    assert "shop@1 hero 100 x 6" in said
    assert "#/operations/0/width #/operations/1/op" in said
    assert "invalid_parameter #/operations/0/width" in said
    assert "photo-convert_png-2.png" in said
    assert Path("results/photo-convert_png.png").read_bytes() == b"mine"
    assert "['completed', 'completed']" in said
    body, at = json.dumps({"type": "job.completed", "data": {"id": "7"}}).encode(), int(time.time())
    secret, headers = signed(body, at)
    assert names["receive"](headers, body, secret) == 204
    assert names["receive"](headers, body + b" ", secret) == 401


def signed(body: bytes, at: int) -> tuple[str, dict[str, str]]:
    """A secret, and the headers that the public library makes with it."""
    secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    signature = Webhook(secret).sign("msg_1", datetime.fromtimestamp(at, UTC), body.decode())
    return secret, {"Webhook-Id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": signature}


def test_webhooks_are_verified_as_the_public_library_signs_them() -> None:
    body, now = b'{"type": "job.failed"}', int(time.time())
    secret, headers = signed(body, now)
    assert verify(secret, headers, body) == {"id": "msg_1", "type": "job.failed"}
    old_secret, old = signed(body, now - 400)
    for given, sent in ((old_secret, old), (old_secret, headers), (secret, {}), ("whsec_!", headers)):
        with pytest.raises(InvalidSignature):
            verify(given, sent, body)
    assert verify(old_secret, old, body, tolerance=500)["id"] == "msg_1"


def test_errors_have_the_code_of_the_server(client: Client) -> None:
    with pytest.raises(JobNotFound) as missing:
        client.job("0198f3c2-0000-7000-8000-000000000000")
    assert missing.value.code == "job_not_found"
    job = client.wait(client.submit(PHOTO, "convert_png"))
    with pytest.raises(Conflict) as ended:
        client.cancel(job["id"])
    assert ended.value.code == "job_already_finished"
    with pytest.raises(Invalid) as invalid:
        client.submit(PHOTO, [{"op": "resize", "width": -1}])
    assert invalid.value.errors[0]["pointer"] == "#/operations/0/width"
    with pytest.raises(Refused):
        client.job("..")
    with pytest.raises(Refused, match="No such file"):
        client.submit("/nowhere/photo.jpg", "convert_png")
    with pytest.raises(Unauthorized), Client(client.server, key="pxt_wrong") as other:
        list(other.jobs())


def test_codes_and_their_exceptions_are_those_of_the_server() -> None:
    statuses: dict[str, int] = {}
    known: list[type[PixToolsError]] = [PixToolsError]
    for kind in known:
        statuses[kind.code] = kind.status
        known += kind.__subclasses__()
    assert {"job_expired", "external_id_taken"} <= errors.BY_CODE.keys()
    for code, exception in errors.BY_CODE.items():
        assert issubclass(exception, errors.BY_STATUS[statuses[code]]), code
    assert issubclass(JobExpired, JobNotFound), "code that handled the one handles the other"


def test_what_the_server_fetches_gives_what_an_upload_gives(client: Client) -> None:
    kept: dict[str, Any] = {"tags": {"sku": "7"}, "keep_seconds": 600}
    with receiving(answer(200, PHOTO)) as site:
        url = f"{site.origin}/2026/fetched.jpg"
        named = client.run(url, "convert_png,flip", external_id="fetched", **kept)
        client.run({"url": url, "headers": {"Authorization": "Bearer s3cret"}}, ["flip"])
    assert [each.headers.get("authorization") for each in site.requests] == [None, "Bearer s3cret"]
    assert (named["input"]["filename"], named["input"]["source"]) == ("fetched.jpg", {"url": url})
    sent = client.run(PHOTO, "convert_png,flip", external_id="sent", **kept)
    assert [each["sha256"] for each in named["results"]] == [each["sha256"] for each in sent["results"]]
    for job, name in ((named, "fetched"), (sent, "sent")):
        assert (job["tags"], job["external_id"]) == ({"sku": "7"}, name)
        assert job["expires_at"] is not None
        assert job["finished_at"] is not None
        kept_for = datetime.fromisoformat(job["expires_at"]) - datetime.fromisoformat(job["finished_at"])
        assert kept_for == timedelta(seconds=600)
    second = client.run({"job": named["id"], "result": "convert_png"}, '["flip"]')
    assert (second["input"]["format"], second["input"]["sha256"]) == ("png", named["results"][0]["sha256"])
    with pytest.raises(ExternalIdTaken) as taken:
        client.submit(PHOTO, ["flip"], external_id="sent")
    assert taken.value.job_id == sent["id"]
    for source in (url, PHOTO):
        with pytest.raises(Refused) as refused:
            client.submit(source, "[{")
        assert "not valid JSON" in str(refused.value)


def test_jobs_are_found_by_what_was_said_of_them(client: Client) -> None:
    job = client.submit(PHOTO, ["flip"], filename="found.jpg", external_id="found", tags={"sku": "8", "shop": "a:b"})
    now = datetime.now(UTC)
    for filters in (
        {"tag": "sku:8"},
        {"tag": "shop:a:b"},
        {"external_id": "found"},
        {"filename": "found.jpg", "created_after": now - timedelta(minutes=1)},
    ):
        assert [each["id"] for each in client.jobs(**filters)] == [job["id"]], filters
    assert list(client.jobs(filename="found.jpg", created_before=now - timedelta(minutes=1))) == []


def test_a_plan_tells_what_comes_out_and_every_mistake(client: Client) -> None:
    tree = [{"op": "resize", "width": 100, "then": ["convert_webp"]}]
    facts = {"format": "jpeg", "width": 320, "height": 200, "bytes": len(PHOTO)}
    shown = [client.plan(source, tree) for source in (PHOTO, io.BytesIO(PHOTO), {"facts": facts})]
    assert shown[0] == shown[1] == shown[2]
    [result] = shown[0]["results"]
    assert (result["name"], result["format"], result["width"]) == ("resize.convert_webp", "webp", 100)
    unseen = client.plan("http://127.0.0.1:9/a.jpg", template="thumbnails", params={"small": 40})
    assert (unseen["template"], unseen["cpu_seconds"]) == ("thumbnails@1", None)
    for source in (PHOTO, "http://127.0.0.1:9/a.jpg"):
        with pytest.raises(Invalid) as wrong:
            client.plan(source, [{"op": "resize", "width": -1}, "explode"], tags={"": "x"})
        assert {"#/operations/0/width", "#/operations/1/op", "#/tags/"} <= {
            each["pointer"] for each in wrong.value.errors
        }


def test_templates_are_stored_in_versions_named_and_deleted(client: Client) -> None:
    tree = [{"op": "resize", "width": {"param": "width"}, "then": ["convert_png"]}]
    params = {"properties": {"width": {"type": "integer", "default": 50}}}
    for text in (tree, json.dumps(tree)):
        assert client.put_template("mine", text, params=params)["template"] == "mine@1"
    assert client.put_template("mine", "convert_webp")["version"] == 2
    assert client.template("mine@1")["operations"] == tree
    assert "mine@2" in [each["template"] for each in client.templates()]
    job = client.run(PHOTO, template="mine@1", params={"width": 60})
    assert (job["template"], job["results"][0]["width"]) == ("mine@1", 60)
    client.delete_template("mine")
    with pytest.raises(TemplateNotFound):
        client.template("mine")
    with pytest.raises(Invalid) as unknown:
        client.submit(PHOTO, template="mine")
    assert unknown.value.code == "unknown_template"


def test_assets_and_stores_that_are_not_there_are_errors_of_their_own(client: Client) -> None:
    client.put_asset("logo.png", make_photo(20, 20, format_="PNG"))
    assert client.asset("logo.png")["width"] == 20
    client.delete_asset("logo.png")
    with pytest.raises(AssetNotFound):
        client.asset("logo.png")
    assert client.stores() == []
    for use in (
        lambda: client.store("none"),
        lambda: client.delete_store("none"),
        lambda: client.submit({"store": "none", "key": "a"}, ["flip"]),
        lambda: client.submit(PHOTO, ["flip"], output={"store": "none", "key": "{name}.{ext}"}),
    ):
        with pytest.raises(StoreNotFound):
            use()


def test_a_path_is_no_url_and_a_url_no_path(client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("http:").write_bytes(PHOTO)
    assert client.plan(Path("http:"), ["flip"])["input"]["width"] == 320
    pixel = f"data:image/png;base64,{base64.b64encode(make_photo(4, 3, format_='PNG')).decode()}"
    assert client.plan(pixel, ["flip"])["input"]["width"] == 4
    with pytest.raises(Invalid) as refused:
        client.submit("ftp://127.0.0.1/a.jpg", ["flip"])
    assert refused.value.code == "invalid_source_url"


def test_lists_go_on_over_pages(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(5):
        client.submit(PHOTO, ["convert_png"])
    monkeypatch.setattr("pixtools_client.protocol.MAX_PAGE", 2)
    for limit in (1, 2, 3, 5):
        listed = [job["id"] for job in client.jobs(limit=limit)]
        page = httpx.get(f"{client.server}/jobs", params={"limit": limit}, timeout=30).json()
        assert listed == [job["id"] for job in page["data"]]


def test_lists_end(client: Client) -> None:
    assert list(client.deliveries(job="00000000-0000-7000-8000-000000000000")) == []
    assert list(client.dead_letters()) == []


def test_a_result_is_written_once_and_replaces_nothing(client: Client, tmp_path: Path) -> None:
    [result] = client.run(io.BytesIO(PHOTO), "convert_png", filename="a.jpg")["results"]
    path = client.download(result, tmp_path)
    assert path == tmp_path / "a-convert_png.png"
    before = path.stat().st_mtime_ns
    assert client.download(result, tmp_path) == path
    assert path.stat().st_mtime_ns == before
    path.write_bytes(b"mine")
    with pytest.raises(FileExists):
        client.download(result, tmp_path)
    assert client.download(result, tmp_path, if_exists="skip").read_bytes() == b"mine"
    renamed = client.download(result, tmp_path, if_exists="rename")
    assert (renamed.name, path.read_bytes()) == ("a-convert_png-2.png", b"mine")
    assert client.download(result, tmp_path, if_exists="replace").read_bytes() == client.read(result)
    with pytest.raises(DownloadFailed, match="differs from what the server has stored"):
        client.download({**result, "sha256": "0" * 64}, tmp_path / "other.png")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a-convert_png-2.png", "a-convert_png.png"]
    archive = client.archive(result["url"].split("/jobs/")[1].split("/")[0], tmp_path)
    assert archive.read_bytes()[:2] == b"PK"


def test_a_wait_that_is_over_says_so_and_leaves_the_job(client: Client) -> None:
    job = client.submit(make_photo(1500, 1000), ["denoise"])
    began = time.monotonic()
    with pytest.raises(WaitTimeout):
        client.wait(job, timeout=0.5)
    assert time.monotonic() - began < 10
    assert client.cancel(job["id"])["status"] == "cancelled"


@contextmanager
def answering(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that answers each connection with the next of these, and then no more."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def answer() -> None:
            for each in answers:
                connection, _ = listening.accept()
                with connection:
                    heard.append(connection.recv(65_536))
                    connection.sendall(each)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", heard


def http(status: str, body: Any, *headers: str) -> bytes:
    content = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "connection: close", f"content-length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def test_an_upload_whose_answer_was_lost_is_repeated_with_its_key() -> None:
    busy = http("503 Service Unavailable", {"code": "too_much_work", "detail": "Later."})
    shown: list[str] = []
    accepted = http("202 Accepted", {"id": "1"})
    with (
        answering(b"", busy, accepted) as (url, heard),
        Client(url, on_retry=lambda error, _: shown.append(error.code)) as client,
    ):
        assert client.submit(b"image", "convert_png")["id"] == "1"
    keys = {re.search(rb"idempotency-key: (\S+)", each, re.IGNORECASE)[1] for each in heard}  # type: ignore[index]
    assert (len(heard), len(keys)) == (3, 1)
    assert shown == ["server_away", "too_much_work"]


def test_patience_has_an_end_and_what_changes_something_is_sent_once() -> None:
    busy = http("503 Service Unavailable", {"code": "too_much_work", "detail": "Later."})
    with answering(busy, busy) as (url, heard):
        with Client(url, patience=0) as client:
            with pytest.raises(ServerAway) as away:
                client.job("1")
            assert away.value.code == "too_much_work"
        with Client(url) as client, pytest.raises(ServerAway):
            client.retry("1")
    assert len(heard) == 2


JOB = {"id": "1", "status": "processing", "steps": []}


def test_where_there_are_no_live_events_a_job_is_asked_for() -> None:
    """An older server, or one that holds as many streams as it may."""
    for refusal in (
        http("404 Not Found", {"code": "not_found", "detail": "No such path."}),
        http("429 Too Many Requests", {"code": "too_many_listeners", "detail": "Too many."}),
    ):
        ended = http("200 OK", {**JOB, "status": "completed"})
        with answering(http("200 OK", JOB), refusal, ended) as (url, heard), Client(url) as client:
            assert client.wait("1")["status"] == "completed"
            assert b"prefer: wait=20" in heard[2].lower()


def test_a_wait_ends_in_time_though_its_stream_is_never_silent() -> None:
    closed = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def comment() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):  # it ends when the client leaves
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n")
                while not closed.wait(0.05):
                    connection.sendall(b": nothing yet\n\n")

        thread = threading.Thread(target=comment, daemon=True)
        thread.start()
        with Client(f"http://127.0.0.1:{listening.getsockname()[1]}") as client, pytest.raises(WaitTimeout):
            client.wait(JOB, timeout=0.3)  # type: ignore[arg-type]
        closed.set()
        thread.join(10)


def test_a_limit_of_the_tenant_is_an_error_of_its_own() -> None:
    refused = http("429 Too Many Requests", {"code": "rate_limited", "detail": "Slowly."})
    with answering(refused) as (url, _), Client(url, patience=0) as client, pytest.raises(LimitReached) as limit:
        client.job("1")
    assert limit.value.code == "rate_limited"


def test_a_job_is_followed_over_a_restart(server: Deployment) -> None:
    with receiving(hang, answer(200, PHOTO)) as site, Client(server.url, patience=60) as client:
        job = client.submit(f"{site.origin}/a.jpg", ["flip"])
        states: list[str] = []
        following = threading.Thread(target=lambda: states.extend(each["status"] for each in client.follow(job)))
        following.start()
        site.await_requests(1)
        until(lambda: 'pixtools_listeners{kind="job"} 1.0' in httpx.get(f"{server.url}/metrics", timeout=30).text)
        server.kill()
        server.start()
        following.join(90)
    assert states[-1] == "completed"


def test_the_asynchronous_client_does_the_same(server: Deployment, tmp_path: Path) -> None:
    async def use() -> list[Any]:
        async with AsyncClient(server.url) as client:
            job = await client.run(PHOTO, "convert_webp", filename="b.jpg", to=tmp_path)
            events = [event async for event in client.events()]
            lines = await client.timeline(job["id"])
            await client.delete(job["id"])
            return [job, events, lines]

    job, events, lines = asyncio.run(use())
    assert (tmp_path / "b-convert_webp.webp").stat().st_size == job["results"][0]["bytes"]
    assert events[-1]["data"]["id"] == job["id"]
    assert "is completed" in lines[0]


def test_the_local_server_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIXTOOLS_URL", "PIXTOOLS_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert environment.server_of_environment() == "http://127.0.0.1:8000"
    Path(".env").write_text("# local\nPIXTOOLS_PORT=8123  # mine\nPIXTOOLS_HOST=127.0.0.1\n")
    assert environment.server_of_environment() == "http://127.0.0.1:8123"
    monkeypatch.setenv("PIXTOOLS_PORT", "8124")
    assert environment.server_of_environment() == "http://127.0.0.1:8124"
    monkeypatch.setenv("PIXTOOLS_URL", "https://images.example")
    assert environment.server_of_environment() == "https://images.example"
    assert "PIXTOOLS_URL" in os.environ
