"""The network with the noise as an input: the input matters, tiles give what the whole image gives."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.config import FAST_WEIGHTS
from app.errors import InvalidWeights
from app.ml import unet
from app.ml.denoiser import GUIDED_BYTES_PER_PIXEL, DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import NoiseLevel, noise_level
from app.ml.tiles import smallest_side
from tests.imaging.conftest import photograph
from tests.support.checkpoints import random_unet, write_checkpoint
from tests.support.pictures import picture
from tests.support.sampling import sampled

SHAPE = unet.Shape(channels=(8, 16), outer=1, inner=4)
LEVEL = NoiseLevel(slope=np.array([0.01, -0.005, 0], np.float32), base=np.array([0.002, 0.01, 0.004], np.float32))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "unet.pth", random_unet(SHAPE))


@pytest.fixture(scope="module")
def small_tiles(weights: Path) -> GuidedDenoiser:
    return GuidedDenoiser(DenoiserConfig(weights=weights, memory_bytes=1))


@pytest.fixture(scope="module")
def one_tile(weights: Path) -> GuidedDenoiser:
    return GuidedDenoiser(DenoiserConfig(weights=weights, memory_bytes=700 * 700 * GUIDED_BYTES_PER_PIXEL))


@settings(max_examples=sampled(50))
@given(height=st.integers(1, 600), width=st.integers(1, 600), seed=st.integers(0, 9))
def test_tiled_equals_untiled(
    small_tiles: GuidedDenoiser, one_tile: GuidedDenoiser, height: int, width: int, seed: int
) -> None:
    tiled, whole = picture(height, width, seed=seed), picture(height, width, seed=seed)
    shares: list[float] = []
    sigmas = [small_tiles.denoise(tiled, LEVEL, on_tile=shares.append), one_tile.denoise(whole, LEVEL)]
    assert sigmas[0] == pytest.approx(sigmas[1], rel=1e-4)
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert (len(shares) > 1) == (height * width > (4 * SHAPE.halo) ** 2)


SIZES = [tuple(size) for size in np.random.default_rng(50).integers(1, 500, (50, 2)).tolist()]
SAMPLED = [20, 30]  # what `make test` tries: a size in one tile, and one in several of both directions


@pytest.fixture(scope="module")
def fast() -> tuple[GuidedDenoiser, GuidedDenoiser]:
    """With the weights of the profile: in the smallest tiles, and in one tile for every size."""
    budgets = (1, 500 * 500 * GUIDED_BYTES_PER_PIXEL)
    tiled, whole = (GuidedDenoiser(DenoiserConfig(weights=FAST_WEIGHTS, memory_bytes=budget)) for budget in budgets)
    return tiled, whole


@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=[pytest.mark.full] * (i not in SAMPLED)) for i, size in enumerate(SIZES)]
)
def test_the_profile_fast_gives_in_tiles_what_it_gives_at_once(
    fast: tuple[GuidedDenoiser, GuidedDenoiser], size: tuple[int, int]
) -> None:
    height, width = size
    noise = np.random.default_rng(0).standard_normal((height, width, 3)) * 25
    source = np.clip(np.rint(photograph(width, height) + noise), 0, 255).astype(np.uint8)
    level = noise_level(source)
    answers, tiles = [source.copy(), source.copy()], [0, 0]
    for which, network in enumerate(fast):
        shares: list[float] = []
        network.denoise(answers[which], level, on_tile=shares.append)
        tiles[which] = len(shares)
    halo = unet.shape_of(unet.load(FAST_WEIGHTS)).halo
    assert tiles[1] == 1
    assert (tiles[0] > 1) == (height * width > smallest_side(halo) ** 2)
    difference = np.abs(answers[0].astype(int) - answers[1])
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_strength_is_a_share_of_the_noise(one_tile: GuidedDenoiser) -> None:
    source = picture(50, 40)
    untouched, half, full = source.copy(), source.copy(), source.copy()
    one_tile.denoise(untouched, LEVEL, strength=0)
    one_tile.denoise(half, LEVEL, strength=0.5)
    one_tile.denoise(full, LEVEL)
    assert (untouched == source).all()
    inside = (full > 0) & (full < 255)
    assert np.abs(half - (source.astype(float) + full) / 2)[inside].max() <= 1


def test_tiled_equals_untiled_before_rounding(small_tiles: GuidedDenoiser, one_tile: GuidedDenoiser) -> None:
    tiled, whole = picture(611, 473, dtype=np.uint16), picture(611, 473, dtype=np.uint16)
    small_tiles.denoise(tiled, LEVEL)
    one_tile.denoise(whole, LEVEL)
    assert np.abs(tiled.astype(int) - whole).max() <= 1, "of 65535"


@pytest.mark.parametrize(
    "shape",
    [SHAPE, unet.Shape(channels=(8,), outer=0, inner=3), unet.Shape(channels=(8, 8, 8), outer=1, inner=1)],
)
def test_nothing_beyond_the_halo_matters(tmp_path: Path, shape: unet.Shape) -> None:
    path = write_checkpoint(tmp_path / "unet.pth", random_unet(shape))
    network = GuidedDenoiser(DenoiserConfig(weights=path, memory_bytes=10**9))
    reaches = []
    for begin in range(shape.align):  # where in its place a pixel is
        first = picture(240, 240).astype(np.float32) / 255
        second = first.copy()
        second[120 + begin, 120 + begin] = 1 - first[120 + begin, 120 + begin].round()
        difference = np.abs(network._noise(first, LEVEL) - network._noise(second, LEVEL)).sum(axis=2)
        rows, columns = np.nonzero(difference)
        reaches.append(max(abs(rows - 120 - begin).max(), abs(columns - 120 - begin).max()))
    assert shape.halo - 2 * shape.align < max(reaches) <= shape.halo


def test_the_project_weights_keep_the_halo_small() -> None:
    assert unet.shape_of(unet.load(FAST_WEIGHTS)).halo <= 64


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_further_channels_stay(one_tile: GuidedDenoiser, channels: int) -> None:
    source = picture(41, 50, channels)
    pixels = source.copy()
    one_tile.denoise(pixels, LEVEL)
    colours = 3 if channels >= 3 else 1
    assert (pixels[:, :, colours:] == source[:, :, colours:]).all()
    assert (pixels[:, :, :colours] != source[:, :, :colours]).any()


def test_where_the_noise_differs_the_answer_does(one_tile: GuidedDenoiser) -> None:
    # the same variance at every light, or only at some: equal where the light is the one at which the lines meet
    flat = NoiseLevel(slope=np.zeros(3, np.float32), base=np.full(3, 0.01, np.float32))
    steep = NoiseLevel(slope=np.full(3, 0.02, np.float32), base=np.zeros(3, np.float32))
    half = np.full((200, 200, 3), 0.5, np.float32)
    assert np.abs(one_tile._noise(half, flat) - one_tile._noise(half, steep)).max() < 1e-6
    assert np.abs(one_tile._noise(half / 2, flat) - one_tile._noise(half / 2, steep)).max() > 1e-4


def lacking(weights: dict[str, np.ndarray]) -> None:
    del weights["inner.2.second.bias"]


def too_much(weights: dict[str, np.ndarray]) -> None:
    weights["model.0.weight"] = np.zeros((1, 1), np.float32)


def of_another_size(weights: dict[str, np.ndarray]) -> None:
    weights["tail.weight"] = weights["tail.weight"][:, :4].copy()


def without_size(weights: dict[str, np.ndarray]) -> None:
    weights["head.weight"] = np.array(1, np.float32)


@pytest.mark.parametrize("damage", [lacking, too_much, of_another_size, without_size, dict.clear])
def test_other_networks_are_refused(tmp_path: Path, damage: Callable[[dict[str, np.ndarray]], None]) -> None:
    content = random_unet(SHAPE)
    damage(content)
    with pytest.raises(InvalidWeights, match="residual U-Net"):
        unet.load(write_checkpoint(tmp_path / "unet.pth", content))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    content = random_unet(SHAPE)
    content["tail.bias"][3] = np.inf
    path = write_checkpoint(tmp_path / "unet.pth", content)
    with pytest.raises(InvalidWeights, match="not finite"):
        GuidedDenoiser(DenoiserConfig(weights=path, memory_bytes=10**6))
