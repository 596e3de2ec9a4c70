"""What pixels and metadata become on the way through the whole service, the same in both modes."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image
from pixtools_client import ClientError
from typer.testing import Result

from app.imaging.pipeline import Limits, Stage, Target, render
from tests.conftest import in_one_mode, make_photo
from tests.support.commands import run
from tests.support.deployment import ApiClient, Deployment
from tests.support.fonts import font

pytestmark = pytest.mark.integration


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def results(api: ApiClient, job: dict[str, Any]) -> dict[str, bytes]:
    return {result["name"]: api.download(result).content for result in job["results"]}


@in_one_mode()
def test_an_animation_goes_through_a_tree(api: ApiClient) -> None:
    frames = [opened(make_photo(80, 60, seed=seed)) for seed in range(4)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=[40, 80, 120, 160])
    tree = [{"op": "resize", "width": 40, "then": ["convert_webp", "convert_png", "flip"]}]
    job = api.run(buffer.getvalue(), tree, filename="dance.gif")
    assert job["status"] == "completed"
    files = {name: opened(content) for name, content in results(api, job).items()}
    assert {name: (image.format, getattr(image, "n_frames", 1)) for name, image in files.items()} == {
        "resize.convert_webp": ("WEBP", 4),
        "resize.convert_png": ("PNG", 1),
        "resize.flip": ("GIF", 4),
    }
    reports = {step["op"]: step["report"] for step in job["steps"]}
    assert reports["convert_png"] == {"lost": {"animation": {"reason": "format", "frames": 4, "written": 1}}}
    assert reports["convert_webp"] is None


def test_metadata_is_a_result_like_any_other(api: ApiClient, photo: bytes) -> None:
    job = api.run(photo, ["metadata", {"op": "resize", "width": 100, "then": ["metadata", "convert_webp"]}])
    assert job["status"] == "completed"
    result = next(result for result in job["results"] if result["name"] == "metadata")
    assert (result["format"], result["content_type"], result["filename"]) == (
        "json",
        "application/json",
        "photo-metadata.json",
    )
    answer = api.download(result)
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    assert (found["format"], found["width"], found["exif"]["image"]["Orientation"]) == (
        "jpeg",
        640,
        "Horizontal (normal)",
    )


def test_nothing_continues_from_metadata(api: ApiClient, photo: bytes) -> None:
    answer = api.process(photo, [{"op": "metadata", "then": ["convert_png"]}])
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "#/operations/0/then"


def assets(deployment: Deployment, *arguments: str) -> Result:
    return run("assets", *arguments, "--server", deployment.url)


def test_a_watermark_is_stored_named_and_removed(
    api: ApiClient, deployment: Deployment, tmp_path: Path, photo: bytes
) -> None:
    unknown = api.process(photo, [{"op": "watermark", "image": "mark.png"}])
    assert unknown.status_code == 422
    error = unknown.json()["errors"][0]
    assert (error["code"], error["pointer"], error["value"]) == (
        "unknown_asset",
        "#/operations/0/image",
        "mark.png",
    )

    logo = tmp_path / "mark.png"
    Image.fromarray(np.full((20, 40, 3), (255, 0, 255), np.uint8)).save(logo)
    assert assets(deployment, "put", str(logo)).stdout == "mark.png\n"
    assert assets(deployment, "list").stdout.split() == [str(logo.stat().st_size), "image", "mark.png"]
    tree = [{"op": "watermark", "image": "mark.png", "opacity": 1, "margin": 0, "then": ["convert_png"]}]
    job = api.run(photo, tree)
    [content] = results(api, job).values()
    assert opened(content).convert("RGB").getpixel((639, 479)) == (255, 0, 255)

    assets(deployment, "delete", "mark.png")
    assert assets(deployment, "list").stdout == ""
    assert api.process(photo, tree).status_code == 422


@in_one_mode()
def test_a_text_is_set_in_a_stored_font(api: ApiClient, tmp_path: Path) -> None:
    ground = io.BytesIO()
    Image.new("RGB", (280, 120), "#282828").save(ground, "PNG")
    own = font("Hamburg", family="DejaVu Sans")
    mark = {"op": "watermark", "text": "Hamburg", "opacity": 1, "scale": 0.5}

    def drawn(*operations: dict[str, Any]) -> list[bytes]:
        job = api.run(ground.getvalue(), operations, filename="ground.png")
        assert job["status"] == "completed", job["error"]
        return [opened(content).convert("RGB").tobytes() for content in results(api, job).values()]

    before = drawn(mark)
    assert api.http.put("/assets/own.ttf", content=own).status_code == 201
    [stored] = drawn({**mark, "font": "own.ttf"})
    assert stored != before[0]
    assert drawn(mark) == before, "a font of that name is for those who name its file"
    assert drawn({**mark, "font": "own.ttf", "keep": True, "then": [mark]})[0] == stored
    assert api.http.delete("/assets/own.ttf").status_code == 204

    source, path = tmp_path / "ground.png", tmp_path / "own.ttf"
    source.write_bytes(ground.getvalue())
    path.write_bytes(own)
    stage = Stage("watermark", {name: value for name, value in mark.items() if name != "op"}, {"font": path})
    render(source, [stage], [Target(tmp_path / "result", "convert_png", {})], Limits(1_000_000, 1000))
    assert opened((tmp_path / "result").read_bytes()).tobytes() == stored


@in_one_mode()
@pytest.mark.parametrize("name", ["../up.png", "a/b.png", ".hidden"])
def test_no_name_leads_out_of_the_assets(deployment: Deployment, tmp_path: Path, photo: bytes, name: str) -> None:
    (tmp_path / "logo.png").write_bytes(photo)
    before = assets(deployment, "list").stdout
    done = assets(deployment, "put", str(tmp_path / "logo.png"), "--name", name)
    assert (done.exit_code, done.stdout) == (1, "")
    assert assets(deployment, "list").stdout == before


def test_only_images_and_fonts_are_stored(deployment: Deployment, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("no image")
    done = assets(deployment, "put", str(tmp_path / "text.txt"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert isinstance(done.exception, ClientError)
    assert done.exception.code == "unsupported_asset"


@in_one_mode()
def test_heic_comes_in_and_leaves_as_jpeg(api: ApiClient) -> None:
    buffer = io.BytesIO()
    pillow_heif.from_pillow(opened(make_photo()).convert("RGB")).save(buffer, quality=90)
    job = api.run(buffer.getvalue(), [{"op": "resize", "width": 320}], filename="IMG_1.HEIC")
    assert job["input"]["format"] == "heic"
    [result] = job["results"]
    assert (result["format"], result["filename"]) == ("jpeg", "IMG_1-resize.jpg")
    red, green, _ = opened(api.download(result).content).getpixel((10, 10))  # type: ignore[misc]
    assert red > 180 > green


def test_a_character_without_a_glyph_is_refused_by_its_number(api: ApiClient, photo: bytes) -> None:
    answer = api.process(photo, [{"op": "watermark", "text": "\U00012000"}])
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert "U+12000" in error["detail"]
    assert error["pointer"].startswith("#/operations/0")
