"""The tiled network gives what the whole one gives, in bounded memory."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from app.config import WEIGHTS
from app.errors import InvalidWeights
from app.ml import dncnn
from app.ml.denoiser import BYTES_PER_PIXEL, MIN_TILE, Denoiser, DenoiserConfig
from tests.support.checkpoints import random_weights, write_checkpoint
from tests.support.pictures import picture
from tests.support.sampling import WHOLE

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
SIDES = st.integers(1, 260 if WHOLE else 120)


@pytest.fixture(scope="module")
def small_tiles(checkpoint: Path) -> Denoiser:
    return Denoiser(DenoiserConfig(weights=checkpoint, memory_bytes=1))


@pytest.fixture(scope="module")
def one_tile(checkpoint: Path) -> Denoiser:
    return Denoiser(DenoiserConfig(weights=checkpoint, memory_bytes=400 * 400 * BYTES_PER_PIXEL))


@settings(max_examples=30 if WHOLE else 4)
@given(height=SIDES, width=SIDES, seed=st.integers(0, 9))
@example(height=127, width=90, seed=0)  # tiles with neighbours on both sides
def test_tiled_equals_untiled(small_tiles: Denoiser, one_tile: Denoiser, height: int, width: int, seed: int) -> None:
    tiled, whole = picture(height, width, seed=seed), picture(height, width, seed=seed)
    shares: list[float] = []
    sigmas = [small_tiles.denoise(tiled, on_tile=shares.append), one_tile.denoise(whole)]
    assert sigmas[0] == pytest.approx(sigmas[1], rel=1e-4)
    # rounding to 8 bits turns a difference in the last float digit into one step, now and then
    difference = np.abs(tiled.astype(int) - whole)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert (len(shares) > 1) == (height * width > MIN_TILE**2)


def test_tiled_equals_untiled_before_rounding(small_tiles: Denoiser, one_tile: Denoiser) -> None:
    tiled, whole = picture(131, 97, dtype=np.uint16), picture(131, 97, dtype=np.uint16)
    small_tiles.denoise(tiled)
    one_tile.denoise(whole)
    assert np.abs(tiled.astype(int) - whole).max() <= 1, "of 65535"


def test_every_pixel_within_reach_matters(one_tile: Denoiser) -> None:
    # the halo is not larger than needed, nor smaller
    first = picture(61, 61).astype(np.float32) / 255
    second = first.copy()
    second[30, 30] += 0.5
    changed = np.abs(one_tile._noise(first) - one_tile._noise(second)).sum(axis=2) > 0
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (10, 50, 10, 50)
    assert dncnn.HALO == 20


def test_strength_is_a_share_of_the_noise(one_tile: Denoiser) -> None:
    source = picture(50, 40)
    untouched, half, full = source.copy(), source.copy(), source.copy()
    one_tile.denoise(untouched, strength=0)
    one_tile.denoise(half, strength=0.5)
    one_tile.denoise(full)
    assert (untouched == source).all()
    inside = (full > 0) & (full < 255)
    assert np.abs(half - (source.astype(float) + full) / 2)[inside].max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_further_channels_stay(one_tile: Denoiser, channels: int) -> None:
    source = picture(40, 50, channels)
    pixels = source.copy()
    one_tile.denoise(pixels)
    colours = 3 if channels >= 3 else 1
    assert (pixels[:, :, colours:] == source[:, :, colours:]).all()
    assert (pixels[:, :, :colours] != source[:, :, :colours]).any()


def test_grey_is_what_colour_gives_on_average(one_tile: Denoiser) -> None:
    grey = picture(40, 50, 1) // 4 + 96  # far from the limits, where clipping would come before the average
    colour = np.repeat(grey, 3, axis=2)
    one_tile.denoise(grey, strength=0.2)
    one_tile.denoise(colour, strength=0.2)
    assert np.abs(grey[:, :, 0] - colour.mean(axis=2)).max() <= 1


def test_what_the_callback_raises_ends_the_work(small_tiles: Denoiser) -> None:
    class Enough(Exception):
        pass

    calls = []

    def stop(share: float) -> None:
        calls.append(share)
        if len(calls) == 2:
            raise Enough

    with pytest.raises(Enough):
        small_tiles.denoise(picture(300, 300), on_tile=stop)
    assert len(calls) == 2


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """Its telemetry begins with a lasting id of the machine below the user's home."""
    code = "from app.config import WEIGHTS; from app.ml.denoise import configure;"
    code += "configure({'exact': WEIGHTS}, 10**8, 1)"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, cwd=ROOT, check=True, timeout=60)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    weights = random_weights()
    weights["model.38.bias"][1] = np.nan
    path = write_checkpoint(tmp_path / "w.pth", weights)
    with pytest.raises(InvalidWeights, match="not finite"):
        Denoiser(DenoiserConfig(weights=path, memory_bytes=MIB))


# -- what the project's own weights can do -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    with Image.open(ROOT / "docs" / "sample.jpg") as image:
        return np.asarray(image.resize((180, 120), Image.Resampling.LANCZOS))


@pytest.fixture(scope="module")
def trained() -> Denoiser:
    return Denoiser(DenoiserConfig(weights=WEIGHTS, memory_bytes=100 * MIB))


def psnr(first: np.ndarray, second: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((first.astype(float) - second) ** 2)))


@pytest.mark.parametrize(("sigma", "gain"), [(15, 4), (25, 5), (50, 8)])
def test_noise_goes_and_the_picture_stays(trained: Denoiser, photo: np.ndarray, sigma: int, gain: float) -> None:
    noise = np.random.default_rng(1).standard_normal(photo.shape) * sigma
    noisy = np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)
    pixels = noisy.copy()
    found = trained.denoise(pixels)
    assert psnr(pixels, photo) > psnr(noisy, photo) + gain
    assert found == pytest.approx(sigma, rel=0.2)


MEMORY = """
from pathlib import Path
import numpy as np
from app.config import WEIGHTS
from app.ml.denoiser import Denoiser, DenoiserConfig

class Enough(Exception): pass
done = []
def stop(share):
    done.append(share)
    if len(done) == 2: raise Enough

def peak():  # in MiB; that of `getrusage` begins with what the parent process had
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 1024
budget = 40
denoiser = Denoiser(DenoiserConfig(weights=WEIGHTS, memory_bytes=budget * 2**20))
pixels = np.full((1600, 400, 3), 128, np.uint8)
before = peak()
try: denoiser.denoise(pixels, on_tile=stop)
except Enough: pass
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_bounded_by_the_budget() -> None:
    # the whole image at once would take 0.7 GB
    done = subprocess.run([sys.executable, "-c", MEMORY], cwd=ROOT, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 40 + 15, "MiB; besides the budget one row of tiles as it was"
