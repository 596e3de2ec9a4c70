"""Keys and tenants on the command line, what a server says at its start, and the key that commands send."""

import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from pixtools_client import Client, protocol
from pixtools_client.environment import key_of_environment
from pixtools_client.errors import Refused

from app.config import Settings
from app.database import Database
from app.errors import CannotStart
from app.server import _check_access
from app.services.access import tenants
from app.services.storage.local import LocalFolder
from app.services.upkeep import erasure
from tests.support.commands import Run
from tests.support.deployment import embedded, free_port, run_bare
from tests.support.schema import migrated_file
from tests.support.tenants import new_key

PUBLIC = "203.0.113.9"  # of documentation; nothing is sent there


def test_a_server_that_others_reach_says_in_a_line_that_it_needs_a_key(tmp_path: Path) -> None:
    ran = run_bare(tmp_path, "app", "serve", PIXTOOLS_HOST=PUBLIC)
    assert ran.returncode == 1
    assert ran.stderr.count("\n") == 1
    assert re.search(r"PIXTOOLS_HOST=203\.0\.113\.9 .*pixtools keys create.*PIXTOOLS_OPEN_ACCESS=yes", ran.stderr)


def test_keys_are_made_listed_and_revoked_before_the_first_start(pixtools: Run, tmp_path: Path) -> None:
    settings = Settings(_env_file=None, host=PUBLIC, data_dir=tmp_path)
    with pytest.raises(CannotStart):
        _check_access(settings)
    made = pixtools("keys", "create", "--scope", "admin", "--days", "1", "--description", "first")
    assert re.fullmatch(r"pxt_\w{12}_\w{49}\n", made.stdout), made.output
    _check_access(settings)
    listed = pixtools("keys", "list").stdout
    assert re.fullmatch(r"\w{12}  default\s+never used\s+valid\s+admin  first\n", listed)
    assert made.stdout[20:].strip() not in listed
    assert pixtools("keys", "revoke", made.stdout.split("_")[1]).exit_code == 0
    assert "revoked" in pixtools("keys", "list").stdout
    _check_access(settings)  # a revoked key does not open the server again


def test_tenants_are_made_listed_and_erased(pixtools: Run) -> None:
    assert pixtools("tenants", "create", "acme").exit_code == 0
    assert pixtools("keys", "create", "--tenant", "acme").exit_code == 0
    assert re.search(r"^acme +\d{4}-\d\d-\d\d  1 keys$", pixtools("tenants", "list").stdout, re.MULTILINE)
    secrets = {pixtools("webhooks", "secret", "--tenant", name).stdout for name in ("acme", "default")}
    assert len(secrets) == 2
    assert pixtools("tenants", "delete", "acme").exit_code == 1, "without a yes"
    assert "1  API keys" in pixtools("tenants", "delete", "acme", "--yes").stdout
    assert "acme" not in pixtools("tenants", "list").stdout


@pytest.mark.parametrize("settings", [{"host": "127.0.0.1"}, {"host": "::1"}, {"host": PUBLIC, "open_access": True}])
def test_a_server_in_the_open_starts_where_nobody_else_is_or_where_it_is_told_to(
    settings: dict[str, object], tmp_path: Path
) -> None:
    _check_access(Settings(_env_file=None, data_dir=tmp_path, **settings))


def test_the_port_of_metrics_is_another_one(tmp_path: Path) -> None:
    with pytest.raises(CannotStart, match="PIXTOOLS_METRICS_PORT"):
        _check_access(Settings(_env_file=None, data_dir=tmp_path, metrics_port=8000))


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("tenants", "create", "No Name"), "1 to 63 lower-case letters"),
        (("keys", "create", "--tenant", "absent"), "pixtools tenants create"),
        (("keys", "create", "--scope", "jobs:eat"), "the scopes are jobs:write"),
        (("keys", "revoke", "x"), "There is no key 'x'"),
        (("tenants", "delete", "default", "--yes"), "cannot be erased"),
        (("webhooks", "secret", "--tenant", "absent"), "There is no tenant 'absent'"),
    ],
)
def test_mistakes_of_commands_are_explained(
    pixtools: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, arguments: tuple[str, ...], shown: str
) -> None:
    migrated_file(tmp_path / "pixtools.db", tmp_path_factory.getbasetemp() / "migrated.db")
    ran = pixtools(*arguments)
    assert ran.exit_code != 0
    assert shown in " ".join(f"{ran.output} {ran.exception}".split())


def test_a_tenants_work_in_one_process_from_its_key_to_its_end(tmp_path: Path, photo: bytes) -> None:
    """Over HTTP and by a command, on the metrics' port too."""
    metrics = free_port()
    running = embedded(tmp_path, PIXTOOLS_METRICS_PORT=str(metrics))
    database = Database(f"sqlite:///{tmp_path / 'data' / 'pixtools.db'}")
    try:
        running.start()
        with database.session() as session:
            tenants.create(session, "acme")
        key = new_key(database, "acme")
        with running.client() as open_, running.client(key) as api:
            assert _closes(open_.http)
            job = api.run(photo, ["convert_webp"])
            by_key = api.http.get(f"/jobs/{job['id']}/results/convert_webp")
            assert by_key.content == api.download(job["results"][0]).content
            running.environment |= {"PIXTOOLS_URL": running.url, "PIXTOOLS_KEY": key}
            assert job["id"] in running.command("jobs", "list")
            assert httpx.get(f"http://127.0.0.1:{metrics}/metrics", timeout=30).status_code == 200
            assert open_.http.get("/metrics").status_code == 401
            assert erasure.erase(database, LocalFolder(tmp_path / "data" / "objects"), "acme")["jobs"] == 1
            assert _closes(api.http)
        assert not list((tmp_path / "data" / "objects").rglob("*webp*"))
    finally:
        running.stop()
        database.close()


def _closes(http: httpx.Client) -> bool:
    """Whether requests are refused that come after the time that is promised."""
    deadline, is_late = time.monotonic() + 5, False
    while http.get("/jobs").status_code != 401:
        if is_late:
            return False
        time.sleep(0.1)
        is_late = time.monotonic() > deadline
    return True


def test_commands_send_the_key_to_their_server_and_to_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXTOOLS_KEY", "pxt_key")
    seen: list[tuple[str, str | None]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.url.host, request.headers.get("authorization")))
        return httpx.Response(200, json={})

    def answer_file(request: httpx.Request) -> httpx.Response:
        answer(request)
        return httpx.Response(200, content=b"")

    result: Any = {"url": "http://storage.test/result", "name": "result", "sha256": sha256(b"").hexdigest()}
    for respond in (answer, answer_file):
        http = httpx.Client(transport=httpx.MockTransport(respond))
        with Client("http://pixtools.test", http=http) as client:
            if respond is answer:
                client.call(protocol.get("/jobs", headers={"Prefer": "wait=1"}))
            else:
                client.read(result)
    assert seen == [("pixtools.test", "Bearer pxt_key"), ("storage.test", None)]


def test_a_key_file_is_for_its_owner_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PIXTOOLS_KEY", "PIXTOOLS_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert key_of_environment() is None
    file = tmp_path / "pixtools" / "key"
    file.parent.mkdir()
    file.write_text("pxt_of_the_file\n")
    file.chmod(0o600)
    assert key_of_environment() == "pxt_of_the_file"
    file.chmod(0o640)
    with pytest.raises(Refused, match="chmod 600"):
        key_of_environment()
    monkeypatch.setenv("PIXTOOLS_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(Refused, match="none"):
        key_of_environment()
    monkeypatch.setenv("PIXTOOLS_KEY", "pxt_of_the_variable")
    assert key_of_environment() == "pxt_of_the_variable"
