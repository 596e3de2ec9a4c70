"""Object storage: one suite for the local folder and for S3."""

import asyncio
import hashlib
import io
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest

from app.database import Database
from app.errors import ObjectIncomplete, ObjectNotFound, PixToolsError, StoreUnavailable
from app.private import OTHERS
from app.services import s3
from app.services.intake.uploads import _temporary_file
from app.services.s3 import (
    PART_SIZE,
    ObjectStorage,
    StorageConfig,
    content_disposition,
    input_key,
    intermediate_key,
    job_prefix,
    result_key,
)
from app.services.upkeep.retention import find_orphans
from tests.support.deployment import free_port
from tests.support.servers import ObjectStoreServer

JOB_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
S3 = pytest.param("s3", marks=pytest.mark.integration)
ON_S3 = pytest.mark.parametrize("storage", [S3], indirect=True)
ON_FOLDER = pytest.mark.parametrize("storage", ["folder"], indirect=True)


def s3_config(server: ObjectStoreServer) -> StorageConfig:
    return StorageConfig(
        url=f"s3://{server.bucket}",
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
    )


@pytest.fixture(params=["folder", S3])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStorage:
    if request.param == "folder":
        return ObjectStorage(StorageConfig(url=f"file://{quote(str(tmp_path / 'my objects'))}"))
    return ObjectStorage(s3_config(request.getfixturevalue("object_store_server")))


@pytest.fixture
def job_id() -> UUID:
    return uuid4()


def put(storage: ObjectStorage, key: str, content: bytes) -> None:
    asyncio.run(storage.upload_raw(key, io.BytesIO(content)))


def get(storage: ObjectStorage, key: str, folder: Path, sha256: str | None = None) -> bytes:
    path = folder / "downloaded"
    storage.download_raw(key, path, sha256=sha256)
    return path.read_bytes()


def streamed(storage: ObjectStorage, key: str) -> bytes:
    async def main() -> bytes:
        return b"".join([chunk async for chunk in storage.stream(key)])

    return asyncio.run(main())


def there(storage: ObjectStorage, key: str) -> bool:
    try:
        streamed(storage, key)
    except ObjectNotFound:
        return False
    return True


def pattern(length: int) -> bytes:
    return (b"".join(hashlib.sha256(bytes([n])).digest() for n in range(256)) * (length // 8192 + 1))[:length]


@pytest.mark.parametrize("length", [0, 1, 100_000, PART_SIZE, 2 * PART_SIZE + 12_345])
def test_content_survives(storage: ObjectStorage, job_id: UUID, tmp_path: Path, length: int) -> None:
    content = pattern(length)
    put(storage, input_key(job_id), content)
    assert get(storage, input_key(job_id), tmp_path, hashlib.sha256(content).hexdigest()) == content
    assert streamed(storage, input_key(job_id)) == content


def test_an_upload_is_stored_from_its_start_wherever_its_file_stands(
    storage: ObjectStorage, job_id: UUID, tmp_path: Path
) -> None:
    async def main() -> None:
        with tempfile.TemporaryFile(dir=tmp_path) as file:
            file.write(b"content")
            await storage.upload_raw(input_key(job_id), file)

    asyncio.run(main())
    assert get(storage, input_key(job_id), tmp_path) == b"content"


def test_a_download_overwrites_its_file(storage: ObjectStorage, job_id: UUID, tmp_path: Path) -> None:
    (tmp_path / "downloaded").write_bytes(b"something longer")
    put(storage, input_key(job_id), b"short")
    assert get(storage, input_key(job_id), tmp_path) == b"short"


def test_many_uploads_at_once_are_all_stored(storage: ObjectStorage, job_id: UUID, tmp_path: Path) -> None:
    keys = [f"{job_prefix(job_id)}{n}" for n in range(3 * s3.PARALLEL_UPLOADS)]

    async def main() -> None:
        await asyncio.gather(*(storage.upload_raw(key, io.BytesIO(key.encode())) for key in keys))

    asyncio.run(main())
    assert [get(storage, key, tmp_path) for key in keys] == [key.encode() for key in keys]


@pytest.mark.parametrize("content", [b"conten", b"contenT", b"", b"content and more"])
def test_a_cut_or_changed_object_is_an_error_that_may_pass(
    storage: ObjectStorage, job_id: UUID, tmp_path: Path, content: bytes
) -> None:
    put(storage, input_key(job_id), content)
    with pytest.raises(ObjectIncomplete) as error:
        get(storage, input_key(job_id), tmp_path, hashlib.sha256(b"content").hexdigest())
    assert error.value.retryable
    assert not error.value.waits, "it may stay so"


def test_a_missing_object_is_an_error_that_stays(storage: ObjectStorage, job_id: UUID, tmp_path: Path) -> None:
    with pytest.raises(ObjectNotFound) as error:
        get(storage, input_key(job_id), tmp_path)
    assert not error.value.retryable
    with pytest.raises(ObjectNotFound):
        streamed(storage, input_key(job_id))


@pytest.mark.parametrize("path", ["/dev/full", "/no/such/folder/source"])
def test_what_is_wrong_with_this_machines_disk_is_not_said_of_the_storage(
    storage: ObjectStorage, job_id: UUID, path: str
) -> None:
    put(storage, input_key(job_id), pattern(100_000))
    with pytest.raises(OSError, match=r"No space left|No such file") as error:
        storage.download_raw(input_key(job_id), Path(path))
    assert not isinstance(error.value, PixToolsError)


def test_an_output_that_is_lost_is_not_said_to_be_missing_in_the_storage(
    storage: ObjectStorage, job_id: UUID, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        storage.upload_processed(result_key(job_id, "0", "png"), tmp_path / "lost", content_type="image/png")


@pytest.mark.integration
def test_a_bucket_that_is_missing_is_a_storage_that_is_away(
    object_store_server: ObjectStoreServer, job_id: UUID, tmp_path: Path
) -> None:
    storage = ObjectStorage(replace(s3_config(object_store_server), url="s3://not-there"))
    with pytest.raises(StoreUnavailable) as error:
        storage.download_raw(input_key(job_id), tmp_path / "file")
    assert error.value.waits, error.value.message


def test_an_output_is_stored_and_overwritten(storage: ObjectStorage, job_id: UUID, tmp_path: Path) -> None:
    path = tmp_path / "output"
    key = result_key(job_id, "0.1", "webp")
    for content in (pattern(PART_SIZE + 1), b"again"):
        path.write_bytes(content)
        storage.upload_processed(key, path, content_type="image/webp", filename="a.webp")
        assert streamed(storage, key) == content
    storage.upload_processed(intermediate_key(job_id, "0"), path, content_type="application/octet-stream")
    assert streamed(storage, intermediate_key(job_id, "0")) == b"again"


def test_an_object_is_deleted_and_need_not_be_there(storage: ObjectStorage, job_id: UUID) -> None:
    put(storage, input_key(job_id), b"content")
    storage.delete(input_key(job_id))
    assert not there(storage, input_key(job_id))
    storage.delete(input_key(job_id))


def test_everything_of_a_job_is_deleted_and_nothing_else(
    storage: ObjectStorage, job_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3, "DELETE_BATCH", 2)
    mine = [input_key(job_id), intermediate_key(job_id, "0")]
    mine += [result_key(job_id, f"0.{n}", "png") for n in range(5)]
    other = input_key(uuid4())
    for key in (*mine, other):
        put(storage, key, b"content")

    assert asyncio.run(storage.delete_prefix(job_prefix(job_id))) == len(mine)
    assert [there(storage, key) for key in mine] == [False] * len(mine)
    assert there(storage, other)
    assert asyncio.run(storage.delete_prefix(job_prefix(job_id))) == 0


def test_a_storage_that_answers_passes_its_check(storage: ObjectStorage) -> None:
    asyncio.run(storage.check())


@ON_FOLDER
def test_an_object_in_a_folder_is_a_file(storage: ObjectStorage, job_id: UUID) -> None:
    put(storage, input_key(job_id), b"content")
    assert storage.is_local
    assert storage.local_path(input_key(job_id)).read_bytes() == b"content"


@ON_FOLDER
def test_an_upload_in_the_spool_becomes_its_object_without_being_copied(
    storage: ObjectStorage, job_id: UUID, tmp_path: Path
) -> None:
    async def main() -> None:
        for key in (input_key(job_id), f"{job_prefix(job_id)}other"):
            await storage.upload_raw(key, file)

    with _temporary_file(tmp_path) as file:
        file.write(b"content")
        asyncio.run(main())
        spooled = os.fstat(file.fileno())
    stored = storage.local_path(input_key(job_id))
    assert stored.read_bytes() == b"content"
    if sys.platform == "linux":  # elsewhere a file without a name cannot be given one
        assert stored.stat().st_ino == spooled.st_ino
    assert stored.stat().st_mode & OTHERS == 0


@ON_FOLDER
def test_an_object_that_is_there_is_replaced(storage: ObjectStorage, job_id: UUID, tmp_path: Path) -> None:
    put(storage, input_key(job_id), b"something longer")
    with _temporary_file(tmp_path) as file:
        file.write(b"content")
        asyncio.run(storage.upload_raw(input_key(job_id), file))
    assert storage.local_path(input_key(job_id)).read_bytes() == b"content"


@ON_FOLDER
def test_a_deleted_job_leaves_no_empty_folder(storage: ObjectStorage, job_id: UUID) -> None:
    put(storage, result_key(job_id, "0", "png"), b"content")
    asyncio.run(storage.delete_prefix(job_prefix(job_id)))
    assert not storage.local_path(job_prefix(job_id)).exists()


def processed(storage: ObjectStorage, folder: Path) -> str:
    path = folder / "output"
    path.write_bytes(b"pixels")
    key = result_key(uuid4(), "0", "webp")
    storage.upload_processed(key, path, content_type="image/webp", filename="Räder-hero.webp")
    return key


@ON_S3
def test_a_presigned_link_serves_the_object_with_type_and_file_name(storage: ObjectStorage, tmp_path: Path) -> None:
    answer = httpx.get(storage.presign(processed(storage, tmp_path), 60))
    assert (answer.status_code, answer.content) == (200, b"pixels")
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["content-disposition"] == content_disposition("Räder-hero.webp")


@ON_S3
def test_a_presigned_link_that_was_changed_is_refused(storage: ObjectStorage, tmp_path: Path) -> None:
    key, other = processed(storage, tmp_path), processed(storage, tmp_path)
    url = httpx.URL(storage.presign(key, 60))
    signature = url.params["X-Amz-Signature"]
    flipped = signature[:-1] + ("0" if signature[-1] != "0" else "1")
    changed = [
        url.copy_with(query=None),
        url.copy_with(path=url.path.replace(key, other)),
        url.copy_set_param("X-Amz-Expires", "6000"),
        url.copy_set_param("X-Amz-Signature", flipped),
    ]
    assert [httpx.get(one).status_code for one in changed] == [403] * 4
    assert httpx.delete(url).status_code == 403
    assert httpx.get(url).status_code == 200


@ON_S3
def test_a_presigned_link_names_the_public_address(
    storage: ObjectStorage, object_store_server: ObjectStoreServer
) -> None:
    public = ObjectStorage(replace(s3_config(object_store_server), public_endpoint="https://images.test"))
    assert public.presign("key", 60).startswith(f"https://images.test/{object_store_server.bucket}/key?")
    assert storage.presign("key", 60).startswith(f"{object_store_server.endpoint}/")


def failing(server: ObjectStoreServer) -> dict[str, StorageConfig]:
    return {
        "wrong secret": replace(s3_config(server), secret_key="wrong"),
        "nobody there": replace(s3_config(server), endpoint=f"http://127.0.0.1:{free_port()}"),
    }


@pytest.mark.integration
@pytest.mark.parametrize("fault", ["wrong secret", "nobody there"])
def test_a_storage_that_cannot_be_used_is_unavailable(
    object_store_server: ObjectStoreServer, tmp_path: Path, fault: str
) -> None:
    broken = ObjectStorage(failing(object_store_server)[fault])
    with pytest.raises(StoreUnavailable):
        put(broken, input_key(JOB_ID), b"content")
    with pytest.raises(StoreUnavailable):
        get(broken, input_key(JOB_ID), tmp_path)
    with pytest.raises(StoreUnavailable):
        asyncio.run(broken.check())


@pytest.mark.parametrize("url", ["", "/folder", "http://bucket", "gs://bucket"])
def test_another_kind_of_storage_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="file:// or s3://"):
        ObjectStorage(StorageConfig(url=url))


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


@ON_S3
def test_what_is_written_to_see_that_there_is_room_is_no_object_without_a_job(
    storage: ObjectStorage, database: Database
) -> None:
    asyncio.run(storage.check_writing())
    assert s3.HEALTH in {key for key, _ in storage.entries(s3.JOBS)}
    assert s3.HEALTH not in find_orphans(database, storage).objects
