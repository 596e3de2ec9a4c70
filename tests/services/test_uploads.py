"""Multipart forms while they stream: what survives, what is refused, and where limits bite."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from app.errors import (
    InvalidRequest,
    NoRoom,
    PixToolsError,
    TruncatedRequest,
    UploadTooLarge,
)
from app.services.intake import uploads
from app.services.intake.uploads import (
    FieldTooLong,
    FormLimits,
    Gate,
    MissingPart,
    ReceivedForm,
    UnknownPart,
    boundary_of,
    check_content_length,
    receive,
)
from tests.support.sampling import SHARE, WHOLE

LIMITS = FormLimits(file_bytes=1_000_000, fields={"operations": 100, "webhook_url": 50})
OPERATIONS = '["convert_webp"]'
URL = "http://pixtools.test/process"


def form(file: bytes | None = b"image", filename: str | None = "photo.jpg", **fields: str) -> tuple[bytes, str]:
    """A body as a real client writes it, and its boundary."""
    files: list[Any] = [("file", (filename, file))] if file is not None else []
    files += [(name, (None, value.encode())) for name, value in fields.items()]
    request = httpx.Request("POST", URL, files=files)
    return request.read(), boundary_of(request.headers["content-type"])


def by_hand(*parts: str, end: str = "--b--\r\n") -> tuple[bytes, str]:
    return ("".join(f"--b\r\nContent-Disposition: form-data; {part}\r\n" for part in parts) + end).encode(), "b"


async def chunks(body: bytes, sizes: Iterator[int]) -> AsyncIterator[bytes]:
    position = 0
    while position < len(body):
        size = next(sizes)
        yield body[position : position + size]
        position += size


def every(size: int) -> Iterator[int]:
    while True:
        yield size


def received(
    body: bytes, boundary: str, folder: Path, sizes: Iterator[int] | None = None, limits: FormLimits = LIMITS
) -> tuple[ReceivedForm, bytes]:
    """The form and the content of its file; the file is closed."""
    found = asyncio.run(receive(chunks(body, sizes or every(len(body))), boundary, limits, folder, Gate()))
    try:
        found.file.seek(0)
        return found, found.file.read()
    finally:
        found.close()


# -- what survives -----------------------------------------------------------------------------------------------------


def test_a_form_is_taken_apart(tmp_path: Path) -> None:
    body, boundary = form(b"content", "Räder am Fluß.jpg", operations=OPERATIONS, webhook_url="http://ä.test/")
    found, content = received(body, boundary, tmp_path)
    assert content == b"content"
    assert (found.filename, found.size) == ("Räder am Fluß.jpg", 7)
    assert found.sha256 == hashlib.sha256(b"content").hexdigest()
    assert found.fields == {"operations": OPERATIONS, "webhook_url": "http://ä.test/"}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=300) | st.sampled_from([b"\r\n--", b"\r\n" * 50, b"--", b"\r"]),
    text=st.text(st.characters(codec="utf-8"), max_size=20),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_content_survives_however_the_body_is_cut(tmp_path: Path, content: bytes, text: str, sizes: list[int]) -> None:
    body, boundary = form(content, operations=text)

    def endless() -> Iterator[int]:
        while True:
            yield from sizes

    found, stored = received(body, boundary, tmp_path, endless())
    assert stored == content
    assert (found.size, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert found.fields == {"operations": text}


@pytest.mark.parametrize("size", [1, 7, 64 * 1024, 10_000_000])
def test_large_content_survives(tmp_path: Path, size: int) -> None:
    length = 5_000 if size < 64 else 800_000
    content = b"\r\n--".join(hashlib.sha256(str(n).encode()).digest() for n in range(length // 36))
    body, boundary = form(content, operations=OPERATIONS)
    found, stored = received(body, boundary, tmp_path, every(size))
    assert stored == content
    assert (found.size, found.sha256) == (len(content), hashlib.sha256(content).hexdigest())


def test_an_empty_file_is_taken_for_the_check_of_images_to_refuse(tmp_path: Path) -> None:
    found, content = received(*form(b"", operations=OPERATIONS), tmp_path)
    assert (found.size, content) == (0, b"")


def test_the_order_of_the_parts_does_not_matter(tmp_path: Path) -> None:
    parts = (f'name="operations"\r\n\r\n{OPERATIONS}', 'name="file"; filename="a.jpg"\r\n\r\nimage')
    for body, boundary in (by_hand(*parts), by_hand(*reversed(parts))):
        found, content = received(body, boundary, tmp_path)
        assert (content, found.fields) == (b"image", {"operations": OPERATIONS})


def test_the_file_has_no_name_on_disk(tmp_path: Path) -> None:
    async def main() -> ReceivedForm:
        body, boundary = form(operations=OPERATIONS)
        return await receive(chunks(body, every(10)), boundary, LIMITS, tmp_path, Gate())

    found = asyncio.run(main())
    assert list(tmp_path.iterdir()) == []
    found.close()


# -- what is refused ---------------------------------------------------------------------------------------------------


def refused(kind: type[PixToolsError], body: bytes, boundary: str, folder: Path, **options: Any) -> PixToolsError:
    with pytest.raises(kind) as error:
        received(body, boundary, folder, **options)
    assert type(error.value) is kind
    assert list(folder.iterdir()) == []
    return error.value


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    error = refused(MissingPart, *form(None, operations=OPERATIONS), tmp_path)
    assert (error.code, error.status, error.pointer) == ("missing_field", 422, "#/file")


def test_an_unknown_part_is_named(tmp_path: Path) -> None:
    error = refused(UnknownPart, *form(webhook="x"), tmp_path)
    assert (error.code, error.status, error.pointer) == ("unknown_field", 422, "#/webhook")


@pytest.mark.parametrize("part", ['name="file"; filename="b.jpg"\r\n\r\nx', 'name="operations"\r\n\r\n[]'])
def test_a_part_that_is_there_twice_is_refused(tmp_path: Path, part: str) -> None:
    once = ('name="file"; filename="a.jpg"\r\n\r\nx', 'name="operations"\r\n\r\n[]')
    assert "twice" in refused(UnknownPart, *by_hand(*once, part), tmp_path).message


def test_a_field_that_is_too_long_is_refused_with_its_limit(tmp_path: Path) -> None:
    received(*form(operations="x" * 100), tmp_path)
    body, boundary = form(operations="x" * 101)
    for size in (1, 1000):
        error = refused(FieldTooLong, body, boundary, tmp_path, sizes=every(size))
        assert (error.status, error.pointer, error.limit, error.value) == (413, "#/operations", 100, 101)


def test_a_field_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    body, boundary = by_hand('name="file"; filename="a.jpg"\r\n\r\nx', 'name="operations"\r\n\r\n[]')
    error = refused(InvalidRequest, body.replace(b"[]", b"\xff\xff"), boundary, tmp_path)
    assert error.pointer == "#/operations"


def test_a_file_of_the_largest_size_is_taken_and_no_larger_one(tmp_path: Path) -> None:
    limits = FormLimits(file_bytes=1000, fields={})
    assert received(*form(bytes(1000)), tmp_path, limits=limits)[0].size == 1000
    error = refused(UploadTooLarge, *form(bytes(1001)), tmp_path, limits=limits)
    assert (error.status, error.pointer, error.limit, error.value) == (413, "#/file", 1000, 1001)


def test_a_file_that_is_too_large_is_refused_while_it_arrives(tmp_path: Path) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\n'
        while True:
            sent += 1000
            yield bytes(1000)

    async def main() -> None:
        await receive(endless(), "b", FormLimits(file_bytes=50_000, fields={}), tmp_path, Gate())

    with pytest.raises(UploadTooLarge):
        asyncio.run(main())
    assert sent <= 60_000


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 1000])
def test_a_form_that_ends_early_is_refused_wherever_it_ends(tmp_path: Path, size: int) -> None:
    body, boundary = form(b"image", operations=OPERATIONS)
    ends = range(1, len(body) - 2)  # the closing boundary is complete without the line break after it
    for end in ends if size > 1 or WHOLE else ends[::SHARE]:
        refused(TruncatedRequest, body[:end], boundary, tmp_path, sizes=every(size))


def test_a_body_that_is_no_form_is_refused(tmp_path: Path) -> None:
    refused(InvalidRequest, b"hello world\r\n" * 50, "b", tmp_path)


def test_too_many_parts_are_refused(tmp_path: Path) -> None:
    names = [f"field{n}" for n in range(20)]
    limits = FormLimits(file_bytes=100, fields=dict.fromkeys(names, 10))
    body, boundary = by_hand(*(f'name="{name}"\r\n\r\nx' for name in names))
    refused(InvalidRequest, body.replace(b"x--b", b"x\r\n--b"), boundary, tmp_path, limits=limits)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200), st.sampled_from([b"", b"--b\r\n", b'--b\r\nContent-Disposition: form-data; name="file'])
)
def test_any_body_is_a_form_or_refused(tmp_path: Path, body: bytes, start: bytes) -> None:
    with pytest.raises(PixToolsError) as error:
        received(start + body, "b", tmp_path)
    assert error.value.status in {400, 413, 422}


def test_a_disconnected_client_is_no_crash(tmp_path: Path) -> None:
    async def gone() -> AsyncIterator[bytes]:
        yield b"--b\r\n"
        raise ClientDisconnect

    with pytest.raises(TruncatedRequest):
        asyncio.run(receive(gone(), "b", LIMITS, tmp_path, Gate()))


def test_a_folder_that_is_missing_is_the_servers_trouble(tmp_path: Path) -> None:
    body, boundary = form(b"image", operations=OPERATIONS)
    with pytest.raises(NoRoom):
        received(body, boundary, tmp_path / "no" / "such" / "folder")


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("whole", [True, False])
def test_a_full_disk_is_the_servers_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, whole: bool
) -> None:
    """Also where nothing is written before the file is closed: a small upload is still in the buffer then."""
    opened: list[Any] = []

    def full(_: Path) -> Any:
        opened.append(Path("/dev/full").open("w+b"))  # noqa: SIM115 - the code under test closes it
        return opened[-1]

    monkeypatch.setattr(uploads, "_temporary_file", full)
    body, boundary = form(bytes(size), operations=OPERATIONS)
    with pytest.raises(NoRoom if whole or size > 100_000 else TruncatedRequest) as error:
        received(body if whole else body[:-40], boundary, tmp_path)
    assert error.value.status == (503 if isinstance(error.value, NoRoom) else 400)
    assert opened[0].closed


def test_a_foreign_message_does_not_reach_the_client(tmp_path: Path) -> None:
    body = b"--b\r\nContent-Disposition\r\n\r\nx\r\n--b--\r\n"
    with pytest.raises(InvalidRequest) as caught:
        received(body, "b", tmp_path)
    assert caught.value.message == "The body is not a well-formed multipart form."


def test_a_client_that_goes_away_leaves_nothing_behind(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n\r\nimage'
        raise asyncio.CancelledError

    async def main() -> None:
        await receive(broken(), "b", LIMITS, tmp_path, Gate())

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


# -- before the body ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ('multipart/form-data; boundary="a b"', "a b"),
        ("Multipart/Form-Data; charset=utf-8; Boundary=abc", "abc"),
    ],
)
def test_the_boundary_is_read_from_the_content_type(content_type: str, boundary: str) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "application/json",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=a",
    ],
)
def test_another_content_type_is_refused(content_type: str | None) -> None:
    with pytest.raises(InvalidRequest):
        boundary_of(content_type)


def test_an_announced_length_is_refused_only_when_it_cannot_fit() -> None:
    largest = LIMITS.body_bytes
    assert largest > LIMITS.file_bytes + 150
    for fine in (None, "", "no number", "0", str(largest)):
        check_content_length(fine, LIMITS)
    with pytest.raises(UploadTooLarge) as error:
        check_content_length(str(largest + 1), LIMITS)
    assert (error.value.limit, error.value.value) == (LIMITS.file_bytes, largest + 1)
