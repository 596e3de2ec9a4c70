"""The operation within the pipeline: depth, grey and alpha stay as they were."""

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import pyvips

from app.config import CAMERA_WEIGHTS, FAST_WEIGHTS, WEIGHTS
from app.imaging.pipeline import render
from app.imaging.recipe import INTERMEDIATE, Limits, Monitor, Stage, Target
from app.ml import denoise
from app.ml.denoiser import Denoiser, GuidedDenoiser
from tests.imaging.conftest import photograph, pixels, similarity

ROOT = Path(__file__).parents[2]
LIMITS = Limits(pixels=1_000_000, side=2000)
MEMORY = 100_000_000  # bytes: enough for the pictures of these tests in one tile
STAGES = [Stage("denoise", {"strength": 0.5})]


@pytest.fixture(autouse=True)
def _network(checkpoint: Path) -> None:
    weights = {"exact": str(checkpoint), "fast": str(FAST_WEIGHTS)}
    denoise.configure(weights=weights, memory_bytes=MEMORY, threads=1)


def test_golden(tmp_path: Path) -> None:
    denoise.configure(weights={"exact": str(WEIGHTS)}, memory_bytes=MEMORY, threads=1)
    picture = photograph().astype(float)
    noisy = np.clip(np.rint(picture + np.random.default_rng(0).standard_normal(picture.shape) * 20), 0, 255)
    pyvips.Image.new_from_array(noisy.astype(np.uint8)).copy(interpretation="srgb").pngsave(str(tmp_path / "in.png"))
    result = tmp_path / "denoise.png"
    render(tmp_path / "in.png", [Stage("denoise", {})], [Target(result, "convert_png", {})], LIMITS)
    golden = ROOT / "tests" / "golden" / "denoise.png"
    if os.environ.get("PIXTOOLS_WRITE_GOLDEN"):
        golden.write_bytes(result.read_bytes())
    assert similarity(pixels(result), pixels(golden)) > 0.99


def image_file(path: Path, bands: int, *, deep: bool, size: tuple[int, int] = (50, 65)) -> Path:
    random = np.random.default_rng(0)
    dtype, most = (np.uint16, 65535) if deep else (np.uint8, 255)
    pixels = random.integers(most // 4, most // 2, (*size, bands)).astype(dtype)
    grey, colour = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    image = pyvips.Image.new_from_array(pixels).copy(interpretation=grey if bands <= 2 else colour)
    image.pngsave(str(path))
    return path


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("bands", [1, 2, 3, 4])
def test_depth_grey_and_alpha_stay(tmp_path: Path, bands: int, deep: bool) -> None:
    source = image_file(tmp_path / "in.png", bands, deep=deep)
    result, between = tmp_path / "out.png", tmp_path / "between"
    monitor = Monitor()
    targets = [Target(result, "convert_png", {}), Target(between, INTERMEDIATE, {})]
    render(source, STAGES, targets, LIMITS, monitor)

    before = pyvips.Image.new_from_file(str(source)).numpy().reshape(50, 65, bands)
    for path in (result, between):
        after = pyvips.Image.new_from_file(str(path))
        assert (after.bands, after.format) == (bands, "ushort" if deep else "uchar")
        after = after.numpy().reshape(before.shape)
        assert (after != before).any()
        if bands in {2, 4}:
            assert (after[:, :, -1] == before[:, :, -1]).all()
    assert monitor.reports[0]["skipped"] is False


def test_an_intermediate_of_16_bits_goes_on_as_such(tmp_path: Path) -> None:
    source = image_file(tmp_path / "in.png", 3, deep=True)
    render(source, STAGES, [Target(tmp_path / "between", INTERMEDIATE, {})], LIMITS)
    targets = [Target(tmp_path / f"out.{op}", f"convert_{op}", {}) for op in ("png", "jpeg", "webp", "avif")]
    render(tmp_path / "between", [], targets, LIMITS)
    formats = {target.op: pyvips.Image.new_from_file(str(target.path)).format for target in targets}
    assert formats == {
        "convert_png": "ushort",
        "convert_jpeg": "uchar",
        "convert_webp": "uchar",
        "convert_avif": "uchar",
    }


def test_progress_is_told(tmp_path: Path, checkpoint: Path) -> None:
    denoise.configure(weights={"exact": str(checkpoint)}, memory_bytes=1, threads=1)
    shares: list[float] = []
    source = image_file(tmp_path / "in.png", 3, deep=False, size=(100, 130))
    render(source, STAGES, [Target(tmp_path / "out.png", "convert_png", {})], LIMITS, Monitor(shares.append))
    assert len(shares) > 2
    assert shares[-1] == 1


# -- profiles ----------------------------------------------------------------------------------------------------------


def noisy_file(path: Path, sigma: np.ndarray | float) -> Path:
    picture = photograph().astype(float)
    noisy = np.clip(np.rint(picture + np.random.default_rng(0).standard_normal(picture.shape) * sigma), 0, 255)
    pyvips.Image.new_from_array(noisy.astype(np.uint8)).copy(interpretation="srgb").pngsave(str(path))
    return path


def denoised(source: Path, **params: object) -> tuple[np.ndarray, dict[str, object]]:
    """The pixels, and the step's report."""
    monitor, result = Monitor(), source.with_name("out.png")
    render(source, [Stage("denoise", params)], [Target(result, "convert_png", {})], LIMITS, monitor)
    return pixels(result), monitor.reports[0]


@pytest.fixture
def _own_weights() -> None:
    weights = {"exact": str(WEIGHTS), "fast": str(FAST_WEIGHTS), "camera": str(CAMERA_WEIGHTS)}
    denoise.configure(weights=weights, memory_bytes=MEMORY, threads=1)


@pytest.mark.usefixtures("_own_weights")
@pytest.mark.parametrize(("profile", "file"), [("exact", WEIGHTS), ("fast", FAST_WEIGHTS), ("camera", CAMERA_WEIGHTS)])
def test_the_report_says_what_did_it(tmp_path: Path, profile: str, file: Path) -> None:
    source = noisy_file(tmp_path / "in.png", 20)
    after, report = denoised(source, profile=profile, if_noisy=10)
    assert report.keys() == {"noise_sigma", "skipped", "profile", "weights", "arithmetic", "lost"}
    assert (report["profile"], report["arithmetic"], report["skipped"]) == (profile, "float32", False)
    assert report["weights"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert report["noise_sigma"] == pytest.approx(20, rel=0.2)
    clean = photograph().astype(float)
    assert np.square(after - clean).mean() < np.square(pixels(source) - clean).mean() / 2


@pytest.mark.usefixtures("_own_weights")
def test_profiles_take_turns(tmp_path: Path) -> None:
    source = noisy_file(tmp_path / "in.png", 20)
    first, again = ([denoised(source, profile=profile)[0] for profile in ("exact", "fast", "camera")] for _ in range(2))
    assert all((one == other).all() for one, other in zip(first, again, strict=True))
    assert all((one != other).any() for one, other in pairwise(first))


@pytest.mark.usefixtures("_own_weights")
@pytest.mark.parametrize(("sigma", "profile"), [(20, "exact"), (np.array([30, 10, 20]), "fast")])
def test_auto_goes_by_the_noise(tmp_path: Path, sigma: np.ndarray | float, profile: str) -> None:
    source = noisy_file(tmp_path / "in.png", sigma)
    after, report = denoised(source, profile="auto")
    assert report["profile"] == profile
    assert (after == denoised(source, profile=profile)[0]).all()


@pytest.mark.usefixtures("_own_weights")
@pytest.mark.parametrize("profile", ["exact", "fast", "camera"])
def test_strength_is_the_share_that_is_taken_away(tmp_path: Path, profile: str) -> None:
    source = noisy_file(tmp_path / "in.png", 25)
    before = pixels(source).astype(float)
    none, half, full = (denoised(source, profile=profile, strength=strength)[0] for strength in (0, 0.5, 1))
    assert (none == before).all()
    inside = (full > 0) & (full < 255)
    assert np.abs(half - (before + full) / 2)[inside].max() <= 1


@pytest.mark.usefixtures("_own_weights")
def test_if_noisy_costs_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("no network was needed")

    monkeypatch.setattr(Denoiser, "denoise", unwanted)
    monkeypatch.setattr(GuidedDenoiser, "denoise", unwanted)
    source = noisy_file(tmp_path / "in.png", 5)
    for profile in ("exact", "fast", "camera", "auto"):
        after, report = denoised(source, profile=profile, if_noisy=10)
        assert report.keys() == {"noise_sigma", "skipped", "lost"}
        assert (report["noise_sigma"], report["skipped"]) == (pytest.approx(5, abs=1.5), True)
        assert (after == pixels(source)).all()


@pytest.mark.usefixtures("_own_weights")
def test_fast_leaves_a_clean_image_nearly_alone(tmp_path: Path) -> None:
    source = noisy_file(tmp_path / "in.png", 0.3)
    after, report = denoised(source, profile="fast")
    assert report["skipped"] is False
    assert np.abs(after.astype(float) - pixels(source)).mean() < 0.3


@pytest.mark.usefixtures("_own_weights")
@pytest.mark.parametrize("sigma", [5, 10])
def test_fast_makes_an_image_with_faint_noise_better(tmp_path: Path, sigma: float) -> None:
    source = noisy_file(tmp_path / "in.png", sigma)
    after, _ = denoised(source, profile="fast")
    clean = photograph().astype(float)
    assert np.square(after - clean).mean() < np.square(pixels(source) - clean).mean()


@pytest.mark.parametrize(("profile", "nothing", "everything"), [("fast", 0.3, 8), ("camera", 0.3, 1.5)])
def test_faint_noise_is_taken_away_by_degrees(profile: str, nothing: float, everything: float) -> None:
    assert denoise.share_of_faint(profile, 0) == 0
    assert denoise.share_of_faint(profile, nothing) < 0.01
    assert denoise.share_of_faint(profile, everything) > 0.99


@pytest.mark.usefixtures("_own_weights")
def test_auto_knows_the_noise_of_a_camera(tmp_path: Path) -> None:
    """Demosaicing spreads the noise of a pixel over its neighbours."""
    normal = np.random.default_rng(0).standard_normal((120, 160, 3))
    spread = sum(np.roll(normal, shift, axis=(0, 1)) for shift in ((0, 0), (0, 1), (1, 0), (1, 1))) / 2
    noisy = np.clip(np.rint(photograph().astype(float) + 20 * spread), 0, 255).astype(np.uint8)
    pyvips.Image.new_from_array(noisy).copy(interpretation="srgb").pngsave(str(tmp_path / "in.png"))
    assert denoised(tmp_path / "in.png", profile="auto")[1]["profile"] == "camera"
