"""Secrets in the database: encrypted, bound to their rows, readable with every key that the settings name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from sqlalchemy import select, text, update

from app.database import Database
from app.errors import CannotStart, InvalidDownloadLink, UnreadableSecret
from app.keyring import Keyring, context_of
from app.migrations import upgrade
from app.models import Job, Result, WebhookSecret
from app.schemas import without_query
from app.services import stores
from app.services.intake.validation import short
from app.services.storage.links import ApiLinks
from app.services.upkeep import secrets
from app.services.webhooks import endpoints, sealing
from app.tenancy import DEFAULT_TENANT
from tests.support.commands import Run
from tests.support.deployment import ApiClient, Deployment, embedded, run_bare
from tests.support.receiver import receiving
from tests.support.work import KEYS, crash_after

OLD, NEW = "the old key of these tests", "the new key of these tests"
PLACE = context_of("table", 1)
TOKEN = "t0k3n-0f-a-r3ceiver"
PLAIN = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
ENDPOINT = (
    "INSERT INTO webhook_endpoints (id, url, description, events, enabled, created_at) "
    "VALUES ('ep_1', 'http://127.0.0.1:1/', '', '[]', true, '2026-11-01 12:00:00.000000')"
)
SECRET = (
    "INSERT INTO webhook_secrets (endpoint_id, secret, created_at) "
    "VALUES ('ep_1', :secret, '2026-11-01 12:00:00.000000')"
)
NO_SERVER = {
    "PIXTOOLS_BROKER_URL": "amqp://127.0.0.1:1//",
    "PIXTOOLS_DATABASE_URL": "postgresql://127.0.0.1:1/pixtools",
    "PIXTOOLS_STORAGE_URL": "s3://pixtools",
}


@contextmanager
def with_keys(database: Database, keys: str) -> Iterator[Database]:
    """The same database as a process with other settings sees it."""
    keyring = Keyring.of(keys)
    other = Database(database.url().render_as_string(hide_password=False), keyring=lambda: keyring)
    yield other
    other.close()


def stored(database: Database) -> dict[int, str]:
    with database.session(read_only=True) as session:
        return {row.id: row.secret for row in session.scalars(select(WebhookSecret))}


def registered(database: Database) -> tuple[str, str]:
    with database.session(tenant=DEFAULT_TENANT) as session:
        endpoint, secret = endpoints.create(session, url="http://127.0.0.1:1/", events=(), description="")
        return endpoint.id, secret


def read(database: Database, endpoint_id: str | None) -> list[str]:
    with database.session(read_only=True) as session:
        return endpoints.secrets(session, endpoint_id, DEFAULT_TENANT)


def test_what_is_encrypted_can_be_read_with_any_of_the_keys_and_is_never_twice_the_same() -> None:
    sealed = Keyring.of(OLD).encrypt(PLAIN, PLACE)
    assert PLAIN not in sealed
    assert Keyring.of(OLD).encrypt(PLAIN, PLACE) != sealed
    for keys in (OLD, f"{NEW},{OLD}", f"{OLD} , {NEW}"):
        assert Keyring.of(keys).decrypt(sealed, PLACE) == PLAIN
    assert sealed.startswith(Keyring.of(f"{OLD},{NEW}").prefix)
    assert not sealed.startswith(Keyring.of(f"{NEW},{OLD}").prefix)


def test_it_cannot_be_read_without_its_key_in_another_place_or_changed() -> None:
    sealed = Keyring.of(OLD).encrypt(PLAIN, PLACE)
    flipped = sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]
    prefix = Keyring.of(OLD).prefix
    for keys, text_, place in (
        (NEW, sealed, PLACE),
        (OLD, sealed, context_of("table", 2)),
        (OLD, flipped, PLACE),
        (OLD, prefix, PLACE),
        (OLD, f"{prefix}no base64", PLACE),
    ):
        with pytest.raises(UnreadableSecret):
            Keyring.of(keys).decrypt(text_, place)


def test_what_was_stored_before_is_returned_as_it_is() -> None:
    assert Keyring.of(OLD).decrypt(PLAIN, PLACE) == PLAIN


@pytest.mark.parametrize("keys", ["short", f"{OLD},short", " , ", f"short,{OLD}"])
def test_a_key_that_could_be_guessed_is_refused_and_not_repeated(keys: str) -> None:
    with pytest.raises(CannotStart) as refused:
        Keyring.of(keys)
    assert "PIXTOOLS_SECRET_KEY" in refused.value.message
    assert "short" not in refused.value.message


def test_a_keyring_shows_none_of_its_keys() -> None:
    assert OLD not in repr(Keyring.of(OLD))


def test_links_of_an_older_key_hold_until_it_is_left_out() -> None:
    job, result = Job(id=UUID(int=1), base_url="http://pixtools.test"), Result(name="hero")
    url, _ = ApiLinks(b"old", 60).url(job, result)
    query = parse_qs(urlsplit(url).query)
    given = (str(job.id), "hero", int(query["expires"][0]), query["signature"][0])
    ApiLinks(b"new", 60, (b"old",)).check(*given)
    with pytest.raises(InvalidDownloadLink):
        ApiLinks(b"new", 60).check(*given)


def test_a_secret_is_stored_encrypted_and_bound_to_its_row(database: Database) -> None:
    (first, secret), (second, _) = registered(database), registered(database)
    assert read(database, first) == [secret]
    assert not [text_ for text_ in stored(database).values() if secret.removeprefix("whsec_") in text_]
    with database.session() as session:
        of_first = select(WebhookSecret.secret).where(WebhookSecret.endpoint_id == first).scalar_subquery()
        session.execute(update(WebhookSecret).where(WebhookSecret.endpoint_id == second).values(secret=of_first))
    with pytest.raises(UnreadableSecret):
        read(database, second)
    with database.session() as session:
        moved = update(WebhookSecret).where(WebhookSecret.endpoint_id == first).values(endpoint_id=second)
        session.execute(moved)
    with pytest.raises(UnreadableSecret):
        read(database, second)


def test_a_process_without_a_key_writes_no_secret(database: Database) -> None:
    without = Database(database.url().render_as_string(hide_password=False))
    before = stored(database)
    with pytest.raises(CannotStart, match="PIXTOOLS_SECRET_KEY"):
        registered(without)
    without.close()
    assert stored(database) == before


def test_rotating_encrypts_plain_and_older_secrets_in_batches_and_can_be_repeated(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH", 2)
    with with_keys(database, OLD) as before:
        made = dict(registered(before) for _ in range(4))
    plain, _ = registered(database)
    with database.session() as session:
        session.execute(update(WebhookSecret).where(WebhookSecret.endpoint_id == plain).values(secret=PLAIN))
    with with_keys(database, f"{NEW},{OLD}") as during:
        assert {id_: read(during, id_) for id_ in made} == {id_: [secret] for id_, secret in made.items()}
        assert read(during, plain) == [PLAIN]
        crash_after(during, sealing.rotate)
        with during.session(read_only=True) as session:
            assert secrets.outdated(session) >= 5
        assert secrets.rotate_all(during).sealed >= 5
    with with_keys(database, NEW) as after:
        assert {id_: read(after, id_) for id_ in made} == {id_: [secret] for id_, secret in made.items()}
        assert read(after, plain) == [PLAIN]
        assert secrets.rotate_all(after).sealed == 0


def test_rotating_encrypts_the_credentials_of_stores_in_batches(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "BATCH", 2)
    names = [f"rotated-{number}" for number in range(3)]
    connection = stores.Connection(
        url="s3://photos",
        endpoint=None,
        region="eu-west-1",
        credentials={"access_key_id": "A", "secret_access_key": "B"},
    )
    with with_keys(database, OLD) as before, before.session(tenant=DEFAULT_TENANT) as session:
        for name in names:
            stores.put(session, name, connection)
    with with_keys(database, f"{NEW},{OLD},{KEYS}") as during:
        assert secrets.rotate_all(during).sealed >= len(names)
    with with_keys(database, NEW) as after, after.session(tenant=DEFAULT_TENANT) as session:
        assert [stores.connection(session, name) for name in names] == [connection] * len(names)
        for name in names:
            stores.delete(session, name)


def test_what_no_key_can_read_is_counted_and_left_alone(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealing, "BATCH", 1)
    with with_keys(database, "a key that has been lost") as lost:
        endpoint_id, secret = registered(lost)
        other, kept = registered(database)
        with with_keys(database, f"{NEW},{KEYS}") as new:
            rotated = secrets.rotate_all(new)
            assert rotated.unreadable == 1
            assert read(new, other) == [kept]
        assert read(lost, endpoint_id) == [secret]


def test_a_url_is_shown_without_its_query() -> None:
    assert without_query(f"https://hooks.example/in?token={TOKEN}#{TOKEN}") == "https://hooks.example/in"
    assert without_query("https://hooks.example:8443/in") == "https://hooks.example:8443/in"
    assert TOKEN not in str(short(f"https://h.example/?{TOKEN}"))
    assert short("a?b") == "a?b"


def test_the_query_of_a_webhook_reaches_its_receiver_and_is_shown_nowhere(
    deployment: Deployment, api: ApiClient, photo: bytes
) -> None:
    with receiving() as receiver:
        url = f"{receiver.url}?token={TOKEN}"
        made = api.http.post("/webhooks", json={"url": url})
        path = made.headers["location"]
        api.http.patch(path, json={"description": "the query stays"})
        api.run(photo, ["flip"], webhook_url=f"{receiver.url}other?token={TOKEN}")
        receiver.await_requests(2)
        answers = [made, *(api.http.get(each) for each in ("/webhooks", path, "/deliveries", "/events", "/jobs"))]
        answers.append(api.http.post("/webhooks", json={"url": f"http://127.0.0.1:1:1/?token={TOKEN}"}))
        answers.append(api.http.post("/webhooks", json={"url": [f"http://127.0.0.1/?token={TOKEN}"]}))
        assert api.http.delete(path).status_code == 204
    assert made.json()["url"] == receiver.url
    assert {request.path.partition("?")[2] for request in receiver.requests} == {f"token={TOKEN}"}
    for answer in answers:
        assert TOKEN not in answer.text, answer.request.url
    secret = made.json()["secret"].removeprefix("whsec_")
    assert not [answer.request.url for answer in answers[1:] if secret in answer.text]
    log = deployment.log.read_text()
    assert TOKEN not in log
    assert secret not in log


@pytest.mark.parametrize(
    "command",
    [
        ("app", "api"),
        ("celery", "-A", "app.tasks.celery_app", "worker", "-Q", "webhook_queue"),
        pytest.param(("app", "worker", "--queue", "webhook_queue"), marks=pytest.mark.full),  # which runs that one
    ],
    ids=["api", "worker", "worker of the command line"],
)
def test_a_part_of_a_cluster_that_needs_the_key_does_not_start_without(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    ran = run_bare(tmp_path, *command, **NO_SERVER)
    assert ran.returncode != 0
    said = [line for line in ran.stderr.splitlines() if "PIXTOOLS_SECRET_KEY" in line]
    assert len(said) == 1, ran.stderr[-2000:]
    assert "Traceback" not in ran.stderr


def test_the_single_process_makes_a_key_and_the_command_encrypts_with_the_first_one(
    pixtools: Run, tmp_path: Path
) -> None:
    assert pixtools("migrate").exit_code == 0
    assert pixtools("secrets", "rotate").stdout.startswith("0 encrypted"), "nothing was ever in plain"
    shown = run_bare(tmp_path, "app", "webhooks", "secret", PIXTOOLS_DATA_DIR=str(tmp_path)).stdout
    assert shown.startswith("whsec_")
    file = tmp_path / "secret.key"
    assert file.stat().st_mode & 0o077 == 0
    assert shown.strip().removeprefix("whsec_").encode() not in (tmp_path / "pixtools.db").read_bytes()
    old = file.read_text()
    file.write_text(f"{NEW},{old}")
    assert "1 encrypted" in pixtools("secrets", "rotate").stdout
    file.write_text(NEW)
    assert pixtools("webhooks", "secret").stdout == shown
    file.write_text(old)
    lost = run_bare(tmp_path, "app", "webhooks", "secret", PIXTOOLS_DATA_DIR=str(tmp_path))
    assert (lost.returncode, lost.stdout, len(lost.stderr.splitlines())) == (1, "", 1)
    assert pixtools("secrets", "rotate").exit_code == 1


def test_what_an_earlier_version_stored_is_encrypted_at_the_next_start_of_the_single_process(tmp_path: Path) -> None:
    running = embedded(tmp_path)
    (tmp_path / "data").mkdir(mode=0o700)
    url = f"sqlite:///{tmp_path / 'data' / 'pixtools.db'}"
    upgrade(url, "0011")
    database = Database(url)
    with database.engine.begin() as connection:
        (made,) = connection.execute(text("SELECT secret FROM webhook_secrets")).scalars()
        connection.execute(text(ENDPOINT))
        connection.execute(text(SECRET), {"secret": PLAIN})
    running.start()
    running.stop()
    assert all(each.startswith("enc1:") for each in stored(database).values())
    keyring = Keyring.of((tmp_path / "data" / "secret.key").read_text())
    with Database(url, keyring=lambda: keyring).session(read_only=True) as session:
        assert endpoints.secrets(session, "ep_1", DEFAULT_TENANT) == [PLAIN]
        assert endpoints.secrets(session, None, DEFAULT_TENANT) == [made], "receivers that know it go on"
    database.close()
