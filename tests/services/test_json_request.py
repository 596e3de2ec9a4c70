"""The JSON body of POST /process: what is taken, and where each mistake is pointed at."""

import base64
import json
from typing import Any

import pytest

from app.errors import InvalidJson, PixToolsError
from app.services.intake.json_request import read_request
from app.services.intake.sources import DATA_BYTES, DataSource

INPUT = {"url": "data:,abc"}


def body(**members: Any) -> bytes:
    return json.dumps({"input": INPUT, "operations": ["flip"], **members}).encode()


def refused(sent: bytes) -> tuple[str, str | None]:
    with pytest.raises(PixToolsError) as caught:
        read_request(sent)
    error = caught.value
    listed = error.extra.get("errors", [{}])
    return error.code, error.pointer or listed[0].get("pointer")


def content(url: str) -> bytes:
    read = read_request(body(input={"url": url})).input
    assert isinstance(read, DataSource)
    return read.content


def test_members_that_are_left_out_or_null_have_their_defaults() -> None:
    for sent in (body(), body(webhook_url=None, priority=None)):
        read = read_request(sent)
        assert (read.operations, read.webhook_url, read.priority) == ('["flip"]', None, 5)
        assert read.sent == json.loads(sent), "null is a part of what the fingerprint is of"


@pytest.mark.parametrize(
    ("sent", "code", "pointer"),
    [
        (b"{", "invalid_json", None),
        (b'{"input": {"url": "data:,"}, "input": {}, "operations": []}', "invalid_json", None),
        (b'{"input": {"url": "data:,", "url": "data:,"}, "operations": []}', "invalid_json", None),
        (b'{"priority": NaN}', "invalid_json", None),
        (b'{"priority": 1e999}', "invalid_json", None),
        (b'{"webhook_url": "\\ud800"}', "invalid_json", None),
        (b'{"webhook_url": "\xff"}', "invalid_json", None),
        (b"[" * 200_000, "invalid_json", None),
        (b"[]", "invalid_parameter", "#"),
        (b"{}", "invalid_parameter", "#/input"),
        (body(**{"a/b~": 1}), "invalid_parameter", "#/a~1b~0"),
        (body(webhook_url=7), "invalid_parameter", "#/webhook_url"),
        *((body(priority=value), "invalid_parameter", "#/priority") for value in (10, -1, "5", True, 5.0)),
        *((body(input=value), "invalid_source", "#/input") for value in ("data:,", [], 7)),
        (body(input={}), "invalid_source", "#/input/url"),
        (body(input={"url": 7}), "invalid_source", "#/input/url"),
        (body(input={"url": "data:image/png"}), "invalid_source", "#/input/url"),
        (body(input={"url": "data:;base64,%"}), "invalid_source", "#/input/url"),
        (body(input={**INPUT, "else": 1}), "invalid_source", "#/input/else"),
    ],
)
def test_every_mistake_has_its_code_and_its_place(sent: bytes, code: str, pointer: str | None) -> None:
    assert refused(sent) == (code, pointer)


def test_all_unknown_members_are_told() -> None:
    with pytest.raises(PixToolsError) as caught:
        read_request(body(one=1, two=2))
    assert [mistake["pointer"] for mistake in caught.value.extra["errors"]] == ["#/one", "#/two"]


def test_the_content_of_data_urls() -> None:
    raw = bytes(range(256))
    packed = base64.b64encode(raw).decode()
    assert content(f"data:image/png;base64,{packed}") == raw
    assert content(f"DATA:;BASE64,{packed.rstrip('=')}") == raw
    assert content(f"data:image/png;name=a.png;base64,{base64.urlsafe_b64encode(raw).decode()}") == raw
    assert content(f"data:;base64,{packed[:100]}\r\n {packed[100:]}") == raw
    assert content(f"data:;base64,{packed.replace('=', '%3D').replace('+', '%2B')}") == raw
    assert content("data:," + "".join(f"%{byte:02x}" for byte in raw)) == raw
    assert content("data:,") == b""


def test_a_data_url_that_is_too_long_names_limit_and_value() -> None:
    def of(size: int) -> bytes:
        return body(input={"url": f"data:;base64,{base64.b64encode(bytes(size)).decode()}"})

    read = read_request(of(DATA_BYTES)).input
    assert isinstance(read, DataSource)
    assert len(read.content) == DATA_BYTES
    with pytest.raises(PixToolsError) as caught:
        read_request(of(DATA_BYTES + 1))
    error = caught.value
    assert (error.code, error.limit, error.value) == ("upload_too_large", DATA_BYTES, DATA_BYTES + 1)


def test_a_body_that_is_not_read_says_why() -> None:
    with pytest.raises(InvalidJson, match="line 1, column 2"):
        read_request(b"{x")
