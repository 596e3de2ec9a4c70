"""Object stores: one suite that every peer passes, against a real server of its protocol or one that speaks it."""

import asyncio
import hashlib
import io
import os
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import obstore
import pytest

from app.config import Settings
from app.database import Database
from app.errors import ObjectIncomplete, ObjectNotFound, PixToolsError, StoreUnavailable
from app.private import OTHERS
from app.services.intake.submission import PARALLEL_STORES
from app.services.intake.uploads import _temporary_file
from app.services.s3 import S3Bucket
from app.services.storage import object_store
from app.services.storage.azure import AzureContainer
from app.services.storage.filenames import content_disposition
from app.services.storage.gcs import GoogleBucket
from app.services.storage.keys import HEALTH, JOBS, input_key, intermediate_key, job_prefix, result_key
from app.services.storage.local import LocalFolder
from app.services.storage.object_store import PART_SIZE, CloudPeer, ObjectStore
from app.services.upkeep.retention import find_orphans
from app.wiring import Resources
from tests.support.azurite import Azurite
from tests.support.deployment import free_port
from tests.support.servers import ObjectStoreServer

JOB_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
KEY = f"jobs/{JOB_ID}/input"
SERVER = pytest.mark.integration
CLOUDS = [
    pytest.param("s3", marks=SERVER),
    pytest.param("gcs", marks=SERVER),
    pytest.param("azure", marks=[SERVER, pytest.mark.full]),
]
ON_CLOUDS = pytest.mark.parametrize("store", CLOUDS, indirect=True)
ON_SIGNING_CLOUDS = pytest.mark.parametrize("store", [CLOUDS[0], CLOUDS[2]], indirect=True)
ON_FOLDER = pytest.mark.parametrize("store", ["local"], indirect=True)


def s3_bucket(server: ObjectStoreServer) -> S3Bucket:
    return S3Bucket(
        bucket=server.bucket,
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )


def azure_container(server: Azurite) -> AzureContainer:
    return AzureContainer(
        bucket=server.container, endpoint=server.endpoint, account=server.account, account_key=server.key
    )


@pytest.fixture(params=["local", *CLOUDS])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "azure":
        return azure_container(request.getfixturevalue("azurite"))
    if request.param == "local":
        return LocalFolder(tmp_path / "my objects")
    if request.param == "s3":
        return s3_bucket(request.getfixturevalue("object_store_server"))
    google = request.getfixturevalue("google")
    return GoogleBucket(bucket=google.bucket, endpoint=google.endpoint, service_account=google.service_account)


@pytest.fixture
def job_id() -> UUID:
    return uuid4()


def put(store: ObjectStore, key: str, content: bytes) -> None:
    asyncio.run(store.upload_raw(key, io.BytesIO(content)))


def get(store: ObjectStore, key: str, folder: Path, sha256: str | None = None) -> bytes:
    path = folder / "downloaded"
    store.download_raw(key, path, sha256=sha256)
    return path.read_bytes()


def streamed(store: ObjectStore, key: str, start: int = 0, end: int | None = None) -> bytes:
    async def main() -> bytes:
        return b"".join([piece async for piece in store.stream(key, start=start, end=end)])

    return asyncio.run(main())


def size(store: ObjectStore, key: str) -> int | None:
    return asyncio.run(store.size(key))


def pattern(length: int) -> bytes:
    return (b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * (length // 8192 + 1))[:length]


@pytest.mark.parametrize("length", [0, 1, 100_000, PART_SIZE, 2 * PART_SIZE + 12_345])
def test_content_survives(store: ObjectStore, job_id: UUID, tmp_path: Path, length: int) -> None:
    content = pattern(length)
    put(store, input_key(job_id), content)
    assert get(store, input_key(job_id), tmp_path, hashlib.sha256(content).hexdigest()) == content
    assert streamed(store, input_key(job_id)) == content
    assert size(store, input_key(job_id)) == length
    assert list(store.entries(job_prefix(job_id))) == [(input_key(job_id), length)]


@pytest.mark.parametrize(("start", "end"), [(0, 1), (3, 7), (5, None), (0, 10), (9, 10), (4, 4)])
def test_a_part_of_an_object_is_read(store: ObjectStore, job_id: UUID, start: int, end: int | None) -> None:
    put(store, input_key(job_id), b"0123456789")
    assert streamed(store, input_key(job_id), start, end) == b"0123456789"[start:end]


def test_an_upload_is_stored_from_its_start_wherever_its_file_stands(
    store: ObjectStore, job_id: UUID, tmp_path: Path
) -> None:
    async def main() -> None:
        with tempfile.TemporaryFile(dir=tmp_path) as file:
            file.write(b"content")
            await store.upload_raw(input_key(job_id), file)

    asyncio.run(main())
    assert get(store, input_key(job_id), tmp_path) == b"content"


def test_a_download_overwrites_its_file(store: ObjectStore, job_id: UUID, tmp_path: Path) -> None:
    (tmp_path / "downloaded").write_bytes(b"something longer")
    put(store, input_key(job_id), b"short")
    assert get(store, input_key(job_id), tmp_path) == b"short"


def test_many_uploads_at_once_are_all_stored(store: ObjectStore, job_id: UUID, tmp_path: Path) -> None:
    keys = [f"{job_prefix(job_id)}{n}" for n in range(3 * PARALLEL_STORES)]

    async def main() -> None:
        await asyncio.gather(*(store.upload_raw(key, io.BytesIO(key.encode())) for key in keys))

    asyncio.run(main())
    assert [get(store, key, tmp_path) for key in keys] == [key.encode() for key in keys]


@pytest.mark.parametrize("content", [b"conten", b"contenT", b"", b"content and more"])
def test_a_cut_or_changed_object_is_an_error_that_may_pass(
    store: ObjectStore, job_id: UUID, tmp_path: Path, content: bytes
) -> None:
    put(store, input_key(job_id), content)
    with pytest.raises(ObjectIncomplete) as error:
        get(store, input_key(job_id), tmp_path, hashlib.sha256(b"content").hexdigest())
    assert error.value.retryable
    assert not error.value.waits, "it may stay so"


def test_a_missing_object_is_an_error_that_stays(store: ObjectStore, job_id: UUID, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound) as error:
        get(store, input_key(job_id), tmp_path)
    assert not error.value.retryable
    with pytest.raises(ObjectNotFound):
        streamed(store, input_key(job_id))
    assert size(store, input_key(job_id)) is None
    assert list(store.entries(job_prefix(job_id))) == []


@pytest.mark.parametrize("path", ["/dev/full", "/no/such/folder/source"])
def test_what_is_wrong_with_this_machines_disk_is_not_said_of_the_store(
    store: ObjectStore, job_id: UUID, path: str
) -> None:
    put(store, input_key(job_id), pattern(100_000))
    with pytest.raises(OSError, match=r"No space left|No such file") as error:
        store.download_raw(input_key(job_id), Path(path))
    assert not isinstance(error.value, PixToolsError)


def test_an_output_that_is_lost_is_not_said_to_be_missing_in_the_store(
    store: ObjectStore, job_id: UUID, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        store.upload_processed(result_key(job_id, "0", "png"), tmp_path / "lost", content_type="image/png")


def test_an_output_is_stored_and_overwritten(store: ObjectStore, job_id: UUID, tmp_path: Path) -> None:
    path = tmp_path / "output"
    key = result_key(job_id, "0.1", "webp")
    for content in (pattern(PART_SIZE + 1), b"again"):
        path.write_bytes(content)
        store.upload_processed(key, path, content_type="image/webp", filename="a.webp")
        assert streamed(store, key) == content
    store.upload_processed(intermediate_key(job_id, "0"), path, content_type="application/octet-stream")
    assert streamed(store, intermediate_key(job_id, "0")) == b"again"


def test_an_object_is_deleted_and_need_not_be_there(store: ObjectStore, job_id: UUID) -> None:
    put(store, input_key(job_id), b"content")
    store.delete(input_key(job_id))
    assert size(store, input_key(job_id)) is None
    store.delete(input_key(job_id))


def test_everything_of_a_job_is_deleted_and_nothing_else(
    store: ObjectStore, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "DELETE_BATCH", 2)
    mine = [input_key(job_id), intermediate_key(job_id, "0")]
    mine += [result_key(job_id, f"0.{n}", "png") for n in range(5)]
    other = input_key(uuid4())
    for key in (*mine, other):
        put(store, key, b"content")
    assert sorted(key for key, _ in store.entries(job_prefix(job_id))) == sorted(mine)

    assert asyncio.run(store.delete_prefix(job_prefix(job_id))) == len(mine)
    assert [size(store, key) for key in mine] == [None] * len(mine)
    assert size(store, other) == len(b"content")
    assert asyncio.run(store.delete_prefix(job_prefix(job_id))) == 0


def test_two_may_delete_the_same_at_once(store: ObjectStore, job_id: UUID, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [f"{job_prefix(job_id)}{n}" for n in range(3)]
    for key in keys:
        put(store, key, b"content")
    delete = obstore.delete_async

    async def late(client: object, paths: list[str]) -> None:
        await asyncio.to_thread(store.delete, paths[0])
        await delete(client, paths)

    monkeypatch.setattr(obstore, "delete_async", late)
    asyncio.run(store.delete_prefix(job_prefix(job_id)))
    assert list(store.entries(job_prefix(job_id))) == []


def test_writing_is_checked(store: ObjectStore) -> None:
    asyncio.run(store.check_writing(HEALTH, b"sample"))
    assert store.folder is not None or size(store, HEALTH) == len(b"sample")


@ON_FOLDER
def test_an_object_in_a_folder_is_a_file(store: LocalFolder, job_id: UUID) -> None:
    put(store, input_key(job_id), b"content")
    assert (store.folder / input_key(job_id)).read_bytes() == b"content"


@ON_FOLDER
def test_an_upload_in_the_spool_becomes_its_object_without_being_copied(
    store: LocalFolder, job_id: UUID, tmp_path: Path
) -> None:
    async def main() -> None:
        for key in (input_key(job_id), f"{job_prefix(job_id)}other"):
            await store.upload_raw(key, file)

    with _temporary_file(tmp_path) as file:
        file.write(b"content")
        asyncio.run(main())
        spooled = os.fstat(file.fileno())
    stored = store.folder / input_key(job_id)
    assert stored.read_bytes() == b"content"
    if sys.platform == "linux":  # elsewhere a file without a name cannot be given one
        assert stored.stat().st_ino == spooled.st_ino
    assert stored.stat().st_mode & OTHERS == 0


@ON_FOLDER
def test_an_object_that_is_there_is_replaced(store: LocalFolder, job_id: UUID, tmp_path: Path) -> None:
    put(store, input_key(job_id), b"something longer")
    with _temporary_file(tmp_path) as file:
        file.write(b"content")
        asyncio.run(store.upload_raw(input_key(job_id), file))
    assert (store.folder / input_key(job_id)).read_bytes() == b"content"


@ON_FOLDER
def test_a_deleted_job_leaves_no_empty_folder(store: LocalFolder, job_id: UUID) -> None:
    put(store, result_key(job_id, "0", "png"), b"content")
    asyncio.run(store.delete_prefix(job_prefix(job_id)))
    assert not (store.folder / job_prefix(job_id)).exists()


def processed(store: ObjectStore, folder: Path) -> str:
    path = folder / "output"
    path.write_bytes(b"pixels")
    key = result_key(uuid4(), "0", "webp")
    store.upload_processed(key, path, content_type="image/webp", filename="Räder-hero.webp")
    return key


@ON_SIGNING_CLOUDS
def test_a_presigned_link_serves_the_object_with_type_and_file_name(store: CloudPeer, tmp_path: Path) -> None:
    answer = httpx.get(store.presign(processed(store, tmp_path), 60), timeout=30)
    assert (answer.status_code, answer.content) == (200, b"pixels")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-disposition"] == content_disposition("Räder-hero.webp")


SIGNATURES = {"X-Amz-Signature": "X-Amz-Expires", "sig": "se"}  # the parameter, and that of the expiry


@ON_SIGNING_CLOUDS
def test_a_presigned_link_that_was_changed_is_refused(store: CloudPeer, tmp_path: Path) -> None:
    key, other = processed(store, tmp_path), processed(store, tmp_path)
    url = httpx.URL(store.presign(key, 60))
    (name,) = SIGNATURES.keys() & url.params.keys()
    signature = url.params[name]
    flipped = ("0" if signature[0] != "0" else "1") + signature[1:]
    later = "6000" if name.startswith("X-") else "2099-01-01T00:00:00Z"
    changed = [
        url.copy_with(query=None),
        url.copy_with(path=url.path.replace(key, other)),
        url.copy_set_param(SIGNATURES[name], later),
        url.copy_set_param(name, flipped),
    ]
    assert {httpx.get(one, timeout=30).status_code for one in changed} <= {403, 404}
    assert httpx.delete(url).status_code == 403
    assert httpx.get(url, timeout=30).status_code == 200


@SERVER
def test_a_presigned_link_names_the_public_address(object_store_server: ObjectStoreServer) -> None:
    bucket = s3_bucket(object_store_server)
    public = replace(bucket, public_endpoint="https://images.test")
    assert public.presign("key", 60).startswith(f"https://images.test/{object_store_server.bucket}/key?")
    assert bucket.presign("key", 60).startswith(f"{object_store_server.endpoint}/")


@ON_CLOUDS
def test_a_store_that_does_not_answer_is_unavailable_and_worth_waiting_for(store: CloudPeer, tmp_path: Path) -> None:
    away = replace(store, endpoint=f"http://127.0.0.1:{free_port()}")
    (tmp_path / "output").write_bytes(b"content")
    calls: dict[str, Callable[[], object]] = {
        "upload_raw": lambda: put(away, KEY, b"content"),
        "upload_processed": lambda: away.upload_processed(KEY, tmp_path / "output", content_type="image/png"),
        "download_raw": lambda: get(away, KEY, tmp_path),
        "stream": lambda: streamed(away, KEY),
        "size": lambda: size(away, KEY),
        "entries": lambda: list(away.entries(JOBS)),
        "delete": lambda: away.delete(KEY),
        "delete_prefix": lambda: asyncio.run(away.delete_prefix(job_prefix(JOB_ID))),
        "check_writing": lambda: asyncio.run(away.check_writing(HEALTH, b"sample")),
    }
    with ThreadPoolExecutor(len(calls)) as threads:  # each of them tries several times
        trials = {name: threads.submit(call) for name, call in calls.items()}
    for name, trial in trials.items():
        error = trial.exception()
        assert isinstance(error, StoreUnavailable), (name, error)
        assert error.waits, (name, error.message)


@ON_CLOUDS
def test_a_bucket_that_is_missing_is_a_store_that_is_away(store: CloudPeer, tmp_path: Path) -> None:
    lost = replace(store, bucket="not-there")  # which the S3 server makes when it is written to
    for call in (lambda: get(lost, KEY, tmp_path), lambda: streamed(lost, KEY)):
        with pytest.raises(StoreUnavailable) as error:
            call()
        assert error.value.waits


@ON_SIGNING_CLOUDS
def test_a_wrong_key_is_a_store_that_is_unavailable(store: CloudPeer, tmp_path: Path) -> None:
    secret = {"secret_key": "wrong"} if isinstance(store, S3Bucket) else {"account_key": "d3Jvbmc="}
    wrong = replace(store, **secret)
    with pytest.raises(StoreUnavailable):
        put(wrong, KEY, b"content")
    with pytest.raises(StoreUnavailable):
        get(wrong, KEY, tmp_path)
    with pytest.raises(StoreUnavailable):
        size(wrong, KEY)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("s3://bucket", S3Bucket),
        ("gs://bucket", GoogleBucket),
        ("az://bucket", AzureContainer),
        ("file:///a/my%20folder", LocalFolder),
        (None, LocalFolder),
    ],
)
def test_the_settings_choose_a_store(url: str | None, kind: type[ObjectStore], tmp_path: Path) -> None:
    store = Resources(Settings(storage_url=url, data_dir=tmp_path)).storage
    assert type(store) is kind
    if url and url.startswith("file:"):
        assert store.folder == Path("/a/my folder")


@pytest.mark.parametrize("url", ["", "/folder", "http://bucket", "s3://", "file://host/folder"])
def test_another_kind_of_store_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="storage_url"):
        Settings(storage_url=url)


def test_keys_hold_ids_only_and_lie_below_their_job() -> None:
    assert input_key(JOB_ID) == f"jobs/{JOB_ID}/input"
    assert result_key(JOB_ID, "0.1", "jpg") == f"jobs/{JOB_ID}/results/0.1.jpg"
    assert intermediate_key(JOB_ID, "0.1") == f"jobs/{JOB_ID}/intermediates/0.1"
    assert job_prefix(JOB_ID) == f"jobs/{JOB_ID}/"


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("a.jpg", "attachment; filename=\"a.jpg\"; filename*=UTF-8''a.jpg"),
        ("Räder.jpg", "attachment; filename=\"R_der.jpg\"; filename*=UTF-8''R%C3%A4der.jpg"),
        ('a"b.jpg', "attachment; filename=\"a_b.jpg\"; filename*=UTF-8''a%22b.jpg"),
    ],
)
def test_a_file_name_of_any_script_fits_into_the_header(filename: str, header: str) -> None:
    assert content_disposition(filename) == header


@pytest.mark.parametrize("store", CLOUDS[:1], indirect=True)
def test_what_is_written_to_see_that_there_is_room_is_no_object_without_a_job(
    store: ObjectStore, database: Database
) -> None:
    asyncio.run(store.check_writing(HEALTH, b"sample"))
    assert HEALTH in {key for key, _ in store.entries(JOBS)}
    assert HEALTH not in find_orphans(database, store).objects
