"""Denoising from outside, the same in both modes."""

import io
import time
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.config import FAST_WEIGHTS, WEIGHTS, Settings
from app.errors import InvalidWeights
from app.ml.unet import quantized_file
from app.wiring import Resources
from tests.conftest import in_one_mode, make_photo
from tests.support.checkpoints import random_weights, write_checkpoint
from tests.support.deployment import ApiClient, run_bare

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
SIGMA = 25


def clean_picture(width: int, height: int) -> np.ndarray:
    with Image.open(ROOT / "docs" / "sample.jpg") as image:
        return np.asarray(image.resize((width, height), Image.Resampling.LANCZOS))


def noisy_upload(clean: np.ndarray) -> bytes:
    noise = np.random.default_rng(0).standard_normal(clean.shape) * SIGMA
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def plain_upload(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "gray").save(buffer, "PNG")
    return buffer.getvalue()


def psnr(content: bytes, clean: np.ndarray) -> float:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "RGB"
        return float(10 * np.log10(255**2 / np.mean((np.asarray(image).astype(float) - clean) ** 2)))


def test_a_noisy_photograph_gets_clean(api: ApiClient) -> None:
    clean = clean_picture(180, 120)
    upload = noisy_upload(clean)
    job = api.run(upload, ["denoise"], filename="night.png")
    assert job["status"] == "completed"
    [step] = job["steps"]
    assert (step["queue"], step["progress"], step["seconds_left"]) == ("ml_inference_queue", 1.0, None)
    assert (step["report"]["profile"], step["report"]["arithmetic"]) == ("exact", "float32")
    assert step["report"]["weights"] == sha256(WEIGHTS.read_bytes()).hexdigest()
    assert step["report"]["skipped"] is False
    assert step["report"]["noise_sigma"] == pytest.approx(SIGMA, rel=0.2)
    [result] = job["results"]
    assert (result["format"], result["filename"]) == ("png", "night-denoise.png")
    assert psnr(api.download(result).content, clean) > psnr(upload, clean) + 5


@in_one_mode()
def test_the_fast_network_is_there_for_who_asks(api: ApiClient) -> None:
    clean = clean_picture(180, 120)
    upload = noisy_upload(clean)
    tree = [{"op": "denoise", "profile": profile, "as": profile} for profile in ("exact", "fast", "auto")]
    job = api.run(upload, tree)
    assert job["status"] == "completed"
    reports = {step["report"]["profile"]: step["report"] for step in job["steps"]}
    assert set(reports) == {"exact", "fast"}, "even noise is left to the exact one by auto"
    file = {"float32": FAST_WEIGHTS, "int8": quantized_file(FAST_WEIGHTS)}[reports["fast"]["arithmetic"]]
    assert reports["fast"]["weights"] == sha256(file.read_bytes()).hexdigest()
    [fast] = [result for result in job["results"] if result["name"] == "fast"]
    assert psnr(api.download(fast).content, clean) > psnr(upload, clean) + 5


@in_one_mode()
def test_a_jpeg_is_denoised_to_a_lossless_png_unless_asked_otherwise(api: ApiClient) -> None:
    tree = ["denoise", {"op": "denoise", "then": [{"op": "resize", "width": 50, "then": ["convert_webp"]}]}]
    job = api.run(make_photo(120, 90), tree)
    assert {result["name"]: (result["format"], result["width"]) for result in job["results"]} == {
        "denoise": ("png", 120),
        "denoise.resize.convert_webp": ("webp", 50),
    }
    assert [step["queue"] for step in job["steps"]] == ["ml_inference_queue"] * 2 + ["default_queue"] * 2


@in_one_mode()
def test_a_clean_image_is_left_alone_when_asked(api: ApiClient) -> None:
    clean = clean_picture(300, 200)
    buffer = io.BytesIO()
    Image.fromarray(clean).save(buffer, "PNG")
    job = api.run(buffer.getvalue(), [{"op": "denoise", "if_noisy": 8}])
    assert job["steps"][0]["report"]["skipped"] is True
    assert psnr(api.download(job["results"][0]).content, clean + 1e-9) > 100


def test_wrong_parameters_are_named(api: ApiClient, photo: bytes) -> None:
    tree = [{"op": "denoise", "strength": 1.5, "if_noisy": -1, "profile": "slow"}]
    problem = api.process(photo, tree).json()
    assert problem["code"] == "invalid_parameter"
    assert {error["pointer"]: error.get("limit") for error in problem["errors"]} == {
        "#/operations/0/strength": 1,
        "#/operations/0/if_noisy": 0,
        "#/operations/0/profile": None,
    }


# the same code looks at the job between two tiles; in the cluster more processes have a part in it
@in_one_mode(mode="cluster")
def test_progress_is_told_images_pass_and_cancel_works_in_mid_image(api: ApiClient) -> None:
    large = api.accepted(plain_upload(2000, 1900), ["denoise"])
    step = await_progress(api, large["id"])
    assert 0 < step["progress"] < 1
    assert 0 < step["seconds_left"] < 3600

    # the image queue does not wait for the network
    assert api.run(make_photo(), [{"op": "resize", "width": 100}])["status"] == "completed"
    job = api.job(large["id"])
    assert job["status"] == "processing"

    rest = job["steps"][0]["seconds_left"]
    assert api.http.post(f"/jobs/{large['id']}/cancel").status_code == 200
    began = time.monotonic()
    assert api.run(make_photo(64, 64), ["denoise"])["status"] == "completed"
    assert time.monotonic() - began < max(20, rest / 2), "the rest of the cancelled image was not worked on"
    cancelled = api.job(large["id"])
    assert (cancelled["status"], cancelled["steps"][0]["status"]) == ("cancelled", "cancelled")
    assert cancelled["results"] == []


def await_progress(api: ApiClient, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        step: dict[str, Any] = api.job(job_id)["steps"][0]
        assert (step["seconds_left"] is None) == (step["progress"] == 0)
        if step["progress"]:
            return step
        time.sleep(0.2)
    pytest.fail("no progress")


# -- starting with wrong weights ---------------------------------------------------------------------------------------

WORKER = ["celery", "-A", "app.tasks.celery_app", "worker", "-Q", "ml_inference_queue", "-c", "1"]


def missing(folder: Path) -> Path:
    return folder / "nothing.pth"


def corrupt(folder: Path) -> Path:
    path = folder / "corrupt.pth"
    path.write_bytes(b"<html>not found</html>")
    return path


def too_short(folder: Path) -> Path:
    weights: dict[str, Any] = random_weights()
    return write_checkpoint(folder / "short.pth", {name: weights[name] for name in list(weights)[:34]})


FILES = [missing, corrupt, too_short]
WEIGHTS_SETTINGS = ["PIXTOOLS_DENOISE_WEIGHTS", "PIXTOOLS_DENOISE_FAST_WEIGHTS"]


@pytest.mark.parametrize("setting", WEIGHTS_SETTINGS)
@pytest.mark.parametrize("make", FILES)
def test_wrong_weights_are_refused_with_their_setting(tmp_path: Path, setting: str, make: Any) -> None:
    weights = make(tmp_path)
    given: dict[str, Any] = {setting.removeprefix("PIXTOOLS_").lower(): weights}
    with pytest.raises(InvalidWeights) as refused:
        Resources(Settings(_env_file=None, data_dir=tmp_path / "data", **given)).check_network()
    assert setting in refused.value.message
    assert str(weights) in refused.value.message


STARTS = list(product(WEIGHTS_SETTINGS, ["embedded", "worker"], FILES))
SAMPLE = {4, 8}  # each mode


@pytest.mark.parametrize(
    ("setting", "mode", "make"),
    [pytest.param(*start, marks=[pytest.mark.full] * (n not in SAMPLE)) for n, start in enumerate(STARTS)],
)
def test_wrong_weights_are_refused_at_the_start_in_one_line(tmp_path: Path, setting: str, mode: str, make: Any) -> None:
    weights = make(tmp_path)
    command = ["app", "serve"] if mode == "embedded" else WORKER
    settings = {} if mode == "embedded" else {"PIXTOOLS_BROKER_URL": "filesystem://"}  # fails at once
    done = run_bare(tmp_path, *command, **{setting: str(weights)}, **settings)
    assert done.returncode != 0
    said = [line for line in done.stderr.splitlines() if str(weights) in line]
    assert len(said) == 1
    assert setting in said[0]
    assert "Traceback" not in done.stderr
