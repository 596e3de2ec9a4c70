"""Users' buckets: each provider is opened with the user's own credentials, whatever the environment has."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import obstore
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.errors import InvalidStore, PixToolsError, StoreRefused
from app.services.execution.buckets import BucketClient
from app.services.execution.web import FetchLimits
from app.services.storage.destinations import PROVIDERS, Connection, check_answers, open_bucket
from app.services.storage.places import Places
from app.services.stores import checked
from app.services.webhooks.host_limits import HostLimits
from tests.support.connections import SERVER, of_server
from tests.support.receiver import answer, receiving
from tests.support.servers import ObjectStoreServer

#: what a node may have, and no user is to use or to learn of
AMBIENT = {
    "AWS_ACCESS_KEY_ID": "ambient",
    "AWS_SECRET_ACCESS_KEY": "ambient",
    "AWS_SESSION_TOKEN": "ambient",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1/ambient",
    "AWS_SKIP_SIGNATURE": "true",
    "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(
        {
            "client_email": "ambient@example.test",
            "private_key": rsa.generate_private_key(public_exponent=65537, key_size=2048)
            .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            .decode(),
            "private_key_id": "ambient",
            "gcs_base_url": "http://127.0.0.1:1/ambient",
        }
    ),
    "AZURE_STORAGE_ACCOUNT_NAME": "ambient",
    "AZURE_STORAGE_ACCOUNT_KEY": "YW1iaWVudA==",
    "AZURE_STORAGE_TOKEN": "ambient",
}
S3 = Connection(
    url="s3://photos",
    endpoint=None,
    region="eu-central-1",
    credentials={"access_key_id": "AK", "secret_access_key": "secret"},
)
LIMITS = FetchLimits(bytes=1_000_000, seconds=5.0, redirects=0)


@pytest.fixture
def pollute(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Gives the node what it may have; when the servers run, whose own clients would take it."""

    def give() -> None:
        for name, value in AMBIENT.items():
            monkeypatch.setenv(name, value)

    return give


def fetch(connection: Connection, key: str, path: Path, *, limit: int = 1_000_000) -> Any:
    client = BucketClient(places=Places(), host_limits=HostLimits(4, 16), limits=replace(LIMITS, bytes=limit))
    return client.fetch(connection, key, path, lambda _share: None)


def test_an_object_is_fetched_with_the_own_credentials_alone(
    connection: Connection, pollute: Callable[[], None], tmp_path: Path
) -> None:
    pollute()
    check_answers(connection)
    key, content = f"a b/{uuid4()}/ü.jpg", b"an image " * 200_000
    obstore.put(open_bucket(connection), key, content)
    fetched = fetch(connection, key, tmp_path / "input", limit=len(content))
    assert (fetched.size, bool(fetched.etag)) == (len(content), True)
    assert (tmp_path / "input").read_bytes() == content
    with pytest.raises(PixToolsError) as caught:
        fetch(connection, key, tmp_path / "input", limit=len(content) - 1)
    assert caught.value.code == "upload_too_large"
    with pytest.raises(PixToolsError) as caught:
        fetch(connection, f"{key}.not", tmp_path / "input")
    assert caught.value.code == "source_not_found"


def test_a_bucket_that_is_not_there_is_told(connection: Connection) -> None:
    if connection.scheme == "gs":
        pytest.skip("the proxy before SeaweedFS opens one bucket only")
    with pytest.raises(StoreRefused):
        check_answers(replace(connection, url=f"{connection.scheme}://pixtools-nowhere"))


@SERVER
def test_wrong_credentials_are_told_and_nobody_elses_are_tried(
    object_store_server: ObjectStoreServer,
    pollute: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    right = of_server(object_store_server)
    pollute()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", right.credentials["access_key_id"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", right.credentials["secret_access_key"])
    wrong = replace(right, credentials={"access_key_id": "AKother", "secret_access_key": "other"})
    with pytest.raises(StoreRefused) as caught:
        check_answers(wrong)
    assert caught.value.pointer == "#/credentials"
    with pytest.raises(PixToolsError) as failed:
        fetch(wrong, "a.jpg", tmp_path / "input")
    assert failed.value.code == "source_denied"


def test_a_store_that_does_not_answer_is_refused_when_it_is_saved(tmp_path: Path) -> None:
    with receiving(answer(500)) as site:
        connection = replace(S3, endpoint=site.origin)
        with pytest.raises(StoreRefused) as caught:
            check_answers(connection)
    assert caught.value.pointer == "#/endpoint"


def test_a_store_that_leads_elsewhere_is_refused_before_it_gets_credentials() -> None:
    with receiving(answer(307, location="http://169.254.169.254/")) as site:
        with pytest.raises(StoreRefused) as caught:
            check_answers(replace(S3, endpoint=site.origin))
        assert len(site.requests) == 1
        assert "authorization" not in site.requests[0].headers
    assert "another address" in caught.value.message


@pytest.mark.parametrize(
    ("changes", "code", "pointer"),
    [
        ({"url": "file:///etc"}, "invalid_store", "#/url"),
        ({"url": "http://photos"}, "invalid_store", "#/url"),
        ({"url": "s3://photos/below"}, "invalid_store", "#/url"),
        ({"url": "s3://user:pw@photos"}, "invalid_store", "#/url"),
        ({"url": "s3://photos:80"}, "invalid_store", "#/url"),
        ({"url": "s3://"}, "invalid_store", "#/url"),
        ({"region": "example.org#"}, "invalid_store", "#/region"),
        ({"region": "auto"}, "invalid_store", "#/region"),
        ({"endpoint": "http://169.254.169.254"}, "store_endpoint_refused", "#/endpoint"),
        ({"credentials": {}}, "invalid_store", "#/credentials/access_key_id"),
        ({"credentials": {**S3.credentials, "endpoint": "x"}}, "invalid_store", "#/credentials/endpoint"),
        ({"credentials": {**S3.credentials, "session_token": ""}}, "invalid_store", "#/credentials/session_token"),
        (
            {"url": "gs://photos", "credentials": {"client_email": "a", "private_key": "b"}},
            *("invalid_store", "#/credentials/private_key"),
        ),
        (
            {"url": "az://photos", "credentials": {"account": "a.evil", "account_key": "YQ=="}},
            *("invalid_store", "#/credentials/account"),
        ),
        (
            {"url": "az://photos", "credentials": {"account": "own", "account_key": "?"}},
            *("invalid_store", "#/credentials/account_key"),
        ),
    ],
)
def test_what_is_no_connection_is_refused(changes: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(InvalidStore) as caught:
        checked(replace(S3, **changes), {"http://127.0.0.1:9000"})
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


def test_the_providers_own_endpoints() -> None:
    assert checked(S3, ()).address == "https://s3.eu-central-1.amazonaws.com"
    assert replace(S3, region="cn-north-1").address == "https://s3.cn-north-1.amazonaws.com.cn"
    assert replace(S3, url="gs://photos").address == "https://storage.googleapis.com"
    own = {"account": "own", "account_key": "YQ=="}
    assert replace(S3, url="az://photos", credentials=own).address == "https://own.blob.core.windows.net"
    assert set(PROVIDERS) == {"s3", "gs", "az"}
    assert "secret" not in repr(S3)
