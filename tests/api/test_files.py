"""Odd, damaged and unsupported files on their way through the whole service: the right picture or an exact error."""

import io
import random
from typing import Any

import pytest
from PIL import Image

from tests.damage.originals import originals, picture, saved
from tests.support.deployment import ApiClient

pytestmark = pytest.mark.integration

HALF: list[Any] = [{"op": "resize", "width": 48, "then": ["convert_webp"]}]
WHOLE: list[Any] = ["convert_webp"]


def _damaged_jpeg() -> bytes:
    content = originals("jpeg")["420"]
    damaged = bytearray(content)
    chance = random.Random(4)
    for _ in range(3):
        damaged[chance.randrange(content.index(b"\xff\xda") + 14, len(content) - 2)] = chance.randrange(256)
    return bytes(damaged)


def _zstandard() -> bytes:
    """A TIFF that says that its pixels are compressed by Zstandard."""
    content = saved(picture(), "TIFF")
    entry = b"\3\1\3\0\1\0\0\0"
    at = content.index(entry) + 8
    return content[:at] + (50000).to_bytes(4, "little") + content[at + 4 :]


def _oriented(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(picture(1, 96, 72), kind, exif=exif)


@pytest.mark.parametrize("tree", [HALF, WHOLE], ids=["shrunk while decoding", "whole"])
def test_lost_pixels_are_never_delivered(api: ApiClient, tree: list[Any]) -> None:
    lacking = bytearray(originals("gif")["large"])
    lacking[-4000:-1000] = bytes(3000)
    png = originals("png")["rgb"]
    at = png.index(b"IDAT") + 40
    for content in (_damaged_jpeg(), bytes(lacking), png[:at] + b"\0\0\0\0" + png[at + 4 :]):
        job = api.run(content, tree, filename="picture")
        assert job["status"] == "failed"
        assert {step["error"]["code"] for step in job["steps"] if step["error"]} >= {"corrupt_image"}
        assert not job["results"]


@pytest.mark.parametrize("tree", [HALF, WHOLE], ids=["shrunk while decoding", "whole"])
def test_oddities_pass(api: ApiClient, tree: list[Any]) -> None:
    jpeg, gif = originals("jpeg")["420"], originals("gif")
    scan = jpeg.index(b"\xff\xda") + 11
    files = {
        "JFIF 2.01": jpeg.replace(b"JFIF\0\1\1", b"JFIF\0\2\1"),
        "scan parameters": jpeg[:scan] + bytes(3) + jpeg[scan + 3 :],
        "still without trailer": gif["still"][:-1],
        "animation without trailer": gif["animated"][:-1],
        "newline": originals("avif")["420"] + b"\n",
        "101 pages": saved(picture(), "TIFF", save_all=True, append_images=[picture()] * 100),
        "120 frames": saved(picture(), "AVIF", speed=10, save_all=True, append_images=[picture(1, 96, 72)] * 119),
    }
    for name, content in files.items():
        job = api.run(content, tree, filename=f"{name}.bin")
        assert job["status"] == "completed", (name, job)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_zstandard(), "Zstandard"),
        (saved(Image.new("LAB", (16, 16)), "TIFF"), "CIELAB"),
        (originals("jpeg")["420"].replace(b"\xff\xc0\x00\x11", b"\xff\xc3\x00\x11"), "lossless"),
    ],
)
def test_what_no_decoder_knows_is_unsupported_and_says_why(api: ApiClient, content: bytes, reason: str) -> None:
    answer = api.process(content, WHOLE)
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_image")
    assert reason in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_the_size_of_the_input_is_that_of_the_picture(api: ApiClient, kind: str, orientation: int) -> None:
    job = api.run(_oriented(kind, orientation), ["convert_png"])
    size = (72, 96) if orientation == 6 else (96, 72)
    assert (job["input"]["width"], job["input"]["height"]) == size
    with Image.open(io.BytesIO(api.download(job["results"][0]).content)) as image:
        assert image.size == size


def test_an_animated_png_says_that_it_lost_its_animation(api: ApiClient) -> None:
    job = api.run(originals("png")["animated"], ["convert_webp"])
    assert job["status"] == "completed"
    lost = job["steps"][0]["report"]["lost"]["animation"]
    assert (lost["frames"], lost["written"]) == (3, 1)
