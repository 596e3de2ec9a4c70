"""`Idempotency-Key` from outside, the same in both modes."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from tests.conftest import make_photo
from tests.support.deployment import ApiClient

pytestmark = pytest.mark.integration


def test_idempotency_key_replays_the_stored_answer(api: ApiClient, photo: bytes) -> None:
    key = str(uuid4())
    first = api.process(photo, ["convert_webp"], headers={"Idempotency-Key": key})
    api.ended(first.json()["id"])
    again = api.process(photo, ["convert_webp"], headers={"Idempotency-Key": f'"{key}"'})
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers


def test_idempotency_key_with_another_payload_is_refused(api: ApiClient, photo: bytes) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    api.accepted(photo, ["convert_webp"], headers=headers)
    for image, tree in ((photo, ["convert_png"]), (make_photo(seed=9), ["convert_webp"])):
        response = api.process(image, tree, headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ['""', '"unclosed', "a" * 256, "ä"])
def test_a_malformed_idempotency_key_is_refused(api: ApiClient, photo: bytes, key: str) -> None:
    response = api.process(photo, ["convert_webp"], headers={"Idempotency-Key": key.encode("latin-1")})  # type: ignore[dict-item]
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")


def test_fifty_concurrent_posts_with_one_key_make_one_job(api: ApiClient, photo: bytes) -> None:
    headers = {"Idempotency-Key": str(uuid4())}
    before = api.total_jobs()
    with ThreadPoolExecutor(50) as threads:
        answers = list(
            threads.map(lambda _: api.process(photo, ["convert_webp"], headers=headers), range(50)),
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" in answer.headers for answer in answers) == 49
    assert api.total_jobs() == before + 1


def test_two_idempotency_keys_are_refused(api: ApiClient, photo: bytes) -> None:
    files = {"file": ("a.jpg", photo), "operations": (None, '["convert_png"]')}
    headers = [("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    response = api.http.post("/process", files=files, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_idempotency_key")
