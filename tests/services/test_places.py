"""The places of stores: one suite that buckets of every provider and folders pass."""

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import obstore
import pytest

from app.services.storage.destinations import Connection, open_bucket
from app.services.storage.object_store import PART_SIZE
from app.services.storage.places import FAULTS, NewObject, Places, Taken, is_missing
from tests.support.connections import CLOUDS

EVERY = pytest.mark.parametrize("connection", ["file", *CLOUDS], indirect=True)
ON_S3 = pytest.mark.parametrize("connection", CLOUDS[:1], indirect=True)
Make = Callable[..., NewObject]


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(roots=(tmp_path / "root",))


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(content: bytes, mark: str = "job/flip") -> NewObject:
        path = tmp_path / uuid4().hex
        path.write_bytes(content)
        return NewObject(
            path=path,
            sha256=hashlib.sha256(content).hexdigest(),
            content_type="image/webp",
            filename="1-flip.webp",
            cache_control="max-age=60",
            mark=mark,
        )

    return made


def content(places: Places, connection: Connection, key: str) -> bytes:
    reading = places.read(connection, key)
    try:
        found = b"".join(map(bytes, reading.pieces))
    finally:
        reading.close()
    assert len(found) == reading.size
    return found


@EVERY
@pytest.mark.parametrize("length", [1, 100_000, PART_SIZE, 2 * PART_SIZE + 12_345])
def test_content_survives(places: Places, connection: Connection, make: Make, length: int) -> None:
    key, sent = f"a b/{uuid4()}/ü.webp", (hashlib.sha256(b"x").digest() * (length // 32 + 1))[:length]
    places.write(connection, key, make(sent), replace=True)
    assert content(places, connection, key) == sent


@EVERY
def test_an_object_has_another_etag_when_it_has_changed(places: Places, connection: Connection, make: Make) -> None:
    tags = []
    for sent in (b"first", b"other"):
        places.write(connection, "changing.webp", make(sent), replace=True)
        reading = places.read(connection, "changing.webp")
        tags.append(reading.etag)
        reading.close()
    assert all(tags)
    assert len(set(tags)) == 2


@EVERY
def test_what_is_not_there_is_missing(places: Places, connection: Connection) -> None:
    for key in (f"{uuid4()}.webp", f"none/{uuid4()}/a.webp", "x" * 300):
        with pytest.raises(FAULTS) as caught:
            places.read(connection, key)
        assert is_missing(caught.value), key


@EVERY
def test_an_object_is_written_once_and_known_again(places: Places, connection: Connection, make: Make) -> None:
    key, own = f"out/{uuid4()}.webp", make(b"a result")
    for _ in range(2):  # the second time as after a death between the write and its row
        places.write(connection, key, own, replace=False)
    assert content(places, connection, key) == b"a result"


@EVERY
def test_what_others_have_there_stays_unless_it_is_to_be_replaced(
    places: Places, connection: Connection, make: Make
) -> None:
    key, own = f"out/{uuid4()}.webp", make(b"a result")
    places.write(connection, key, make(b"another one", "other/flip"), replace=True)
    with pytest.raises(Taken):
        places.write(connection, key, own, replace=False)
    assert content(places, connection, key) == b"another one"
    places.write(connection, key, own, replace=True)
    assert content(places, connection, key) == b"a result"


@pytest.mark.parametrize("connection", CLOUDS, indirect=True)
def test_nothing_is_sent_where_an_object_is_there(places: Places, connection: Connection, make: Make) -> None:
    key, other, own = f"out/{uuid4()}.webp", make(b"another one", "other/flip"), make(b"a result")
    places.write(connection, key, other, replace=True)
    other.path.unlink()
    own.path.unlink()
    with pytest.raises(Taken):
        places.write(connection, key, own, replace=False)
    places.write(connection, key, other, replace=False)


@EVERY
def test_only_one_of_many_writes_an_object(places: Places, connection: Connection, make: Make) -> None:
    if connection.scheme == "gs":
        pytest.skip("SeaweedFS is behind the proxy: one server is enough")
    key, results = f"out/{uuid4()}.webp", [make(str(number).encode(), f"job/{number}") for number in range(8)]

    def write(new: NewObject) -> bool:
        try:
            places.write(connection, key, new, replace=False)
        except Taken:
            return False
        return True

    with ThreadPoolExecutor(len(results)) as threads:
        written = list(threads.map(write, results))
    assert written.count(True) == 1
    assert content(places, connection, key) == str(written.index(True)).encode()


@ON_S3
def test_the_object_has_the_headers_of_the_result(places: Places, connection: Connection, make: Make) -> None:
    for replaced in (True, False):
        key = f"out/{uuid4()}.webp"
        places.write(connection, key, make(b"a result"), replace=replaced)
        found = obstore.get(open_bucket(connection), key).attributes
        assert (found["Content-Type"], found["Cache-Control"]) == ("image/webp", "max-age=60")
        assert found["Content-Disposition"].startswith("inline")
