"""Connections of every kind that a store can have, to private servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.services.storage.destinations import Connection

from .azurite import Azurite
from .google import Google, google_before
from .servers import ObjectStoreServer

SERVER = pytest.mark.integration
CLOUDS = [
    pytest.param("s3", marks=SERVER),
    pytest.param("gs", marks=SERVER),
    pytest.param("az", marks=[SERVER, pytest.mark.full]),
]


@pytest.fixture(scope="module")
def google(object_store_server: ObjectStoreServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Google]:
    with google_before(object_store_server, tmp_path_factory.mktemp("google")) as server:
        yield server


def of_server(server: ObjectStoreServer) -> Connection:
    """A connection to an S3 bucket."""
    own = {"access_key_id": server.access_key, "secret_access_key": server.secret_key}
    return Connection(url=f"s3://{server.bucket}", endpoint=server.endpoint, region="us-east-1", credentials=own)


@pytest.fixture(params=CLOUDS)
def connection(request: pytest.FixtureRequest) -> Connection:
    """A connection to a bucket of each provider, or to a folder for tests that ask for `file`."""
    if request.param == "file":
        folder: Path = request.getfixturevalue("tmp_path") / "root" / "a folder"
        folder.mkdir(parents=True)
        return Connection(url=folder.as_uri(), endpoint=None, region="", credentials={})
    if request.param == "s3":
        return of_server(request.getfixturevalue("object_store_server"))
    if request.param == "gs":
        google: Google = request.getfixturevalue("google")
        account: dict[str, Any] = json.loads(google.service_account.read_text())
        own = {name: account[name] for name in ("client_email", "private_key", "private_key_id")}
        return Connection(url=f"gs://{google.bucket}", endpoint=google.endpoint, region="us-east-1", credentials=own)
    azurite: Azurite = request.getfixturevalue("azurite")
    own = {"account": azurite.account, "account_key": azurite.key}
    return Connection(url=f"az://{azurite.container}", endpoint=azurite.endpoint, region="us-east-1", credentials=own)
