"""Outputs: what a request may say, the keys that come of it, and writing once whatever dies in between."""

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.database import Database
from app.errors import OutputFailed, PixToolsError
from app.models import Job
from app.services.execution.delivering import Deliverer, File
from app.services.intake.outputs import read_output
from app.services.outputs import Output, clash, key_of
from app.services.storage.destinations import Connection
from app.services.storage.places import Places
from tests.support.connections import CLOUDS
from tests.support.deployment import free_port

JOB = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
SHA256 = "0123456789abcdef" * 4
OUTPUT = {"store": "out", "key": "{name}.{ext}"}


def job(source: dict[str, str] | None = None, filename: str = "photo 1.jpg") -> Job:
    record = {"shown": source} if source else None
    return Job(
        id=JOB, created_at=datetime(2026, 11, 29, 23, 59, tzinfo=UTC), input_source=record, input_filename=filename
    )


def key(template: str, of: Job | None = None, *, name: str = "resize.convert_webp") -> str:
    return key_of(Output(store="out", key=template), of or job(), name=name, ext="webp", sha256=SHA256)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{name}.{ext}", "resize.convert_webp.webp"),
        ("{input.dir}/{input.stem}/{name}.{ext}", "2026/a b/1/resize.convert_webp.webp"),
        ("{date}/{job}/{sha256:12}.{ext}", f"2026-11-29/{JOB}/0123456789ab.webp"),
        ("/x//{input.dir}/../{sha256:64}", f"x/2026/a b/{SHA256}"),
    ],
)
def test_keys_are_made_by_the_template(template: str, expected: str) -> None:
    assert key(template, job({"store": "in", "key": "2026/a b/1.jpg"}, "1.jpg")) == expected


def test_the_extension_of_a_name_is_not_written_twice() -> None:
    assert key("{name}.{ext}", name="hero.640.webp") == "hero.640.webp"
    assert key("{name}.{ext}", name="hero.jpeg") == "hero.jpeg.webp"


def test_the_folder_of_an_input() -> None:
    assert key("{input.dir}/{name}", job({"url": "https://a.test/x/y%20z/1.jpg"})) == "x/y z/resize.convert_webp"
    assert key("{input.dir}/{name}", job({"url": "https://a.test/1.jpg"})) == "resize.convert_webp"
    assert key("{input.dir}/{name}", job({"url": "https://a.test/../../1.jpg"})) == "resize.convert_webp"
    assert key("{input.dir}/{input.stem}", job()) == "photo 1"


def test_a_key_that_would_be_too_long_fails() -> None:
    with pytest.raises(OutputFailed):
        key("{input.dir}/{name}", job({"store": "in", "key": "x" * 1010 + "/1.jpg"}))
    with pytest.raises(OutputFailed):
        key("{input.dir}/")


def test_what_is_left_out_has_its_default() -> None:
    assert read_output({**OUTPUT, "if_exists": None}, "#/output") == Output(store="out", key="{name}.{ext}")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"key": "{nam}"}, "#/output/key"),
        ({"key": "{sha256:0}"}, "#/output/key"),
        ({"key": "{sha256:65}"}, "#/output/key"),
        ({"key": "{name"}, "#/output/key"),
        ({"key": ""}, "#/output/key"),
        ({"key": "a\n"}, "#/output/key"),
        ({"key": "x" * 1025}, "#/output/key"),
        ({"key": 7}, "#/output/key"),
        ({"store": None}, "#/output/store"),
        ({"if_exists": "keep"}, "#/output/if_exists"),
        ({"cache_control": "a\r\nb"}, "#/output/cache_control"),
        ({"else": 1}, "#/output/else"),
    ],
)
def test_every_mistake_has_its_place(change: dict[str, Any], pointer: str) -> None:
    with pytest.raises(PixToolsError) as caught:
        read_output({**OUTPUT, **change}, "#/output")
    assert (caught.value.code, caught.value.pointer) == ("invalid_output", pointer)


@pytest.fixture
def file(tmp_path: Path) -> File:
    path = tmp_path / "result"
    path.write_bytes(b"a result")
    return File(path=path, name="flip", ext="webp", content_type="image/webp", filename="1-flip.webp", sha256=SHA256)


@pytest.fixture
def deliverer(tmp_path: Path) -> Deliverer:
    return Deliverer(Database("sqlite://"), Places(roots=(tmp_path / "root",)))


EVERY = pytest.mark.parametrize("connection", ["file", CLOUDS[0]], indirect=True)


@EVERY
def test_what_becomes_of_an_object_that_is_there(deliverer: Deliverer, connection: Connection, file: File) -> None:
    where, output = f"out/{uuid4()}.webp", Output(store="out", key="")

    def write(if_exists: str, name: str = "flip") -> bool:
        content = f"the result {name}".encode()
        file.path.write_bytes(content)
        new = replace(file, name=name, sha256=hashlib.sha256(content).hexdigest())
        return deliverer.write(connection, where, replace(output, if_exists=if_exists), new, mark=f"job/{name}")

    assert write("fail")
    for if_exists in ("skip", "fail", "replace"):  # as after a death between the write and its row
        assert write(if_exists)
    assert not write("skip", "other")
    with pytest.raises(OutputFailed) as caught:
        write("fail", "other")
    assert caught.value.code == "output_exists"
    assert write("replace", "other")


@pytest.mark.parametrize("connection", CLOUDS[:1], indirect=True)
def test_a_store_that_refuses_or_is_away(deliverer: Deliverer, connection: Connection, file: File) -> None:
    denied = replace(connection, credentials={"access_key_id": "AKother", "secret_access_key": "other"})
    away = replace(connection, endpoint=f"http://127.0.0.1:{free_port()}")
    for wrong, code, retryable in ((denied, "output_denied", False), (away, "output_unavailable", True)):
        for if_exists in ("replace", "fail"):
            with pytest.raises(OutputFailed) as caught:
                deliverer.write(wrong, "x", Output(store="out", key="x", if_exists=if_exists), file, mark="job/flip")
            assert (caught.value.code, caught.value.retryable) == (code, retryable)


RESULTS = [("hero.webp", "webp"), ("hero.png", "png"), ("flip", "jpg")]


@pytest.mark.parametrize(
    ("template", "found"),
    [
        ("{name}.{ext}", None),
        ("{ext}", None),
        ("{sha256:8}", None),
        ("x/{input.stem}/{name}", ("hero.webp", "hero.png", "x/{input.stem}/hero")),
        ("one", ("hero.webp", "hero.png", "one")),
    ],
)
def test_results_that_would_have_one_key_are_found(template: str, found: tuple[str, str, str] | None) -> None:
    assert clash(Output(store="out", key=template), RESULTS) == found
