"""The network on bytes: as good as the float one, in tiles as well, and only where it is faster."""

import hashlib
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from app.config import FAST_WEIGHTS
from app.errors import InvalidWeights
from app.ml import arithmetic, unet
from app.ml.denoiser import GUIDED_BYTES_PER_PIXEL, DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import noise_level
from app.ml.weights import Tensor
from tests.imaging.conftest import photograph
from tests.support.checkpoints import write_checkpoint

BYTES = unet.quantized_file(FAST_WEIGHTS)


def network(int8: arithmetic.Mode, weights: Path = FAST_WEIGHTS, memory_bytes: int = 100_000_000) -> GuidedDenoiser:
    return GuidedDenoiser(DenoiserConfig(weights=weights, memory_bytes=memory_bytes, int8=int8))


loaded = cache(network)


def noisy(height: int, width: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    clean = photograph(width, height)
    noise = np.random.default_rng(0).standard_normal(clean.shape) * sigma
    return clean, np.clip(np.rint(clean + noise), 0, 255).astype(np.uint8)


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


@pytest.mark.parametrize("sigma", [10, 25, 50])
def test_bytes_cost_little(sigma: int) -> None:
    clean, given = noisy(200, 280, sigma)
    reached = []
    for mode in ("no", "yes"):
        answer = given.copy()
        loaded(mode).denoise(answer, noise_level(given))
        reached.append(psnr(answer, clean))
    assert reached[0] > psnr(given, clean) + 3
    assert reached[1] > reached[0] - 0.75  # of a picture so smooth that 39 dB are reached; of photographs it is 0.1


@pytest.mark.parametrize(
    "size", [(7, 5), (497, 250), *(pytest.param(size, marks=pytest.mark.full) for size in ((123, 431), (384, 500)))]
)
def test_tiles_give_what_the_whole_image_gives(size: tuple[int, int]) -> None:
    _, given = noisy(*size, 25)
    level = noise_level(given)
    answers = [given.copy(), given.copy()]
    for answer, budget in zip(answers, (1, 500 * 500 * GUIDED_BYTES_PER_PIXEL), strict=True):
        network("yes", memory_bytes=budget).denoise(answer, level)
    assert np.abs(answers[0].astype(int) - answers[1]).max() <= 1


def test_the_arithmetic_and_its_file_are_told() -> None:
    shown = {mode: (network(mode).arithmetic, network(mode).fingerprint) for mode in ("no", "yes", "auto")}
    files = {"float32": FAST_WEIGHTS, "int8": BYTES}
    for found, fingerprint in shown.values():
        assert fingerprint == hashlib.sha256(files[found].read_bytes()).hexdigest()
    assert (shown["no"][0], shown["yes"][0]) == ("float32", "int8")


@pytest.mark.parametrize("mode", ["auto", "yes"])
def test_without_a_quantized_file_it_is_the_float_one(tmp_path: Path, mode: arithmetic.Mode) -> None:
    shutil.copy(FAST_WEIGHTS, tmp_path / "own.pth")
    assert network(mode, tmp_path / "own.pth").arithmetic == "float32"


class Runs:
    """A loaded network that takes its time by a clock of its own, and is wrong by a share of what it says."""

    now = 0.0

    def __init__(self, seconds: float, wrong_by: float = 0.0) -> None:
        self._seconds, self._wrong_by = seconds, wrong_by

    def run(self, _: list[str], given: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        Runs.now += self._seconds
        return [np.full_like(given["noisy"], 0.1 * (1 + self._wrong_by))]


@pytest.mark.parametrize(
    ("quantized", "pays"), [(Runs(0.002), True), (Runs(0.02), False), (Runs(0.002, wrong_by=0.5), False)]
)
def test_bytes_have_to_be_faster_and_right(quantized: Runs, pays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arithmetic, "time", SimpleNamespace(perf_counter=lambda: Runs.now))
    assert arithmetic._is_better(Runs(0.02), quantized) is pays


def test_what_was_found_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    first = network("auto").arithmetic
    monkeypatch.setattr(arithmetic, "_is_better", lambda *_: pytest.fail("tried again"))
    assert network("auto").arithmetic == first


@pytest.mark.parametrize("range_", [(0.0, 0.0), (0.5, 1.0), (1.0, -1.0), (float("nan"), 1.0), (0.0, float("inf"))])
def test_a_range_that_is_none_is_refused(tmp_path: Path, range_: tuple[float, float]) -> None:
    shutil.copy(FAST_WEIGHTS, tmp_path / "own.pth")
    state = unet.load(BYTES, quantized=True)
    state["inner.0.first.input_range"] = Tensor((2,), np.array(range_, np.float32).tobytes())
    write_checkpoint(tmp_path / "own_int8.pth", {name: _numbers(tensor) for name, tensor in state.items()})
    with pytest.raises(InvalidWeights, match=r"inner.0.first.input_range.* is no range"):
        network("yes", tmp_path / "own.pth")


def test_float_weights_are_no_quantized_ones() -> None:
    with pytest.raises(InvalidWeights, match="not a quantized residual U-Net"):
        unet.load(FAST_WEIGHTS, quantized=True)
    with pytest.raises(InvalidWeights, match="not a residual U-Net"):
        unet.load(BYTES)


def _numbers(tensor: Tensor) -> np.ndarray:
    return np.frombuffer(tensor.data, np.float32).reshape(tensor.shape)
