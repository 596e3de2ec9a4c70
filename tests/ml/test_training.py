"""The runtime agrees with PyTorch, and a training can be stopped and resumed. `make test` installs PyTorch apart."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.config import CAMERA_WEIGHTS, FAST_WEIGHTS, WEIGHTS
from app.ml import dncnn, unet
from app.ml.denoiser import Denoiser, DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import NoiseLevel
from tests.support.preloaded import Preloaded

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-training" / "bin" / "python"

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="`make test` installs PyTorch; it is not here")


Run = Callable[..., str]


@pytest.fixture(scope="module")
def run_training() -> Iterator[Run]:
    """Run PyTorch's Python with these arguments, `-m` or `-c` first; what it prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # several would take CPU time while they wait for one another
        modules = ("torch", "torch._dynamo", "numpy", "PIL.Image")  # each optimizer imports _dynamo
        preloaded = Preloaded(modules, PYTHON)

    def run(*arguments: str) -> str:
        done = preloaded.run(arguments, os.environ, timeout=150)
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    preloaded.close()


SAVE = """
import sys, torch
from training.model import DnCNN
zipped, legacy = sys.argv[1:]
torch.manual_seed(1)
state = DnCNN().state_dict()
torch.save(state, zipped)
torch.save(state, legacy, _use_new_zipfile_serialization=False)
"""


@pytest.mark.parametrize("trained", [True, pytest.param(False, marks=pytest.mark.full)])
def test_parity_with_pytorch(run_training: Run, tmp_path: Path, trained: bool) -> None:
    checkpoint = WEIGHTS
    if not trained:
        checkpoint = tmp_path / "random.pth"
        run_training("-c", SAVE, str(checkpoint), str(tmp_path / "legacy.pth"))
    noisy = np.random.default_rng(0).random((49, 67, 3), np.float32)
    np.save(tmp_path / "noisy.npy", noisy)
    run_training("-m", "training.reference", str(checkpoint), str(tmp_path / "noisy.npy"), str(tmp_path / "noise.npy"))
    expected = np.load(tmp_path / "noise.npy")
    found = Denoiser(DenoiserConfig(weights=checkpoint, memory_bytes=100_000_000))._noise(noisy)
    assert np.abs(expected).max() > 0.01
    assert np.abs(found - expected).max() < 1e-4


def test_what_pytorch_saves_can_be_read_in_both_of_its_formats(run_training: Run, tmp_path: Path) -> None:
    zipped, legacy = tmp_path / "zipped.pth", tmp_path / "legacy.pth"
    run_training("-c", SAVE, str(zipped), str(legacy))
    assert dncnn.load(zipped) == dncnn.load(legacy)


RESUME = """
import sys
from pathlib import Path
from training.data import Patches, load_images
from training.train import Stage, Training
folder = Path(sys.argv[1])
stages = [Stage(depth=4, steps=2, rate=1e-3, last_rate=1e-4), Stage(depth=6, steps=3, rate=1e-3, last_rate=1e-4)]
def training(name):
    (folder / name).mkdir(exist_ok=True)
    return Training(stages, Patches(load_images(folder), side=16, batch=2, seed=1), folder / name, "cpu")
through = training("through")
losses = [through.advance() for _ in range(5)]
assert through.finished
first = training("stopped")
stopped = [first.advance() for _ in range(3)]
first.save()
second = training("stopped")
stopped += [second.advance() for _ in range(2)]
assert stopped == losses, (stopped, losses)
second.export(folder / "exported.pth")
"""


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(run_training: Run, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    run_training("-c", RESUME, str(tmp_path))
    assert (tmp_path / "exported.pth").exists()


REFINE = """
import sys
from pathlib import Path
import torch
from training.data import Patches, load_images
from training.model import DnCNN
from training.train import Stage, Training, _finished
folder, weights = Path(sys.argv[1]), Path(sys.argv[2])
stages = [Stage(depth=20, steps=3, rate=1e-4, last_rate=1e-6)]
def training():
    return Training(stages, Patches(load_images(folder), side=16, batch=1, seed=1), folder, "cpu", _finished(weights))
first = training()
state = torch.load(weights, weights_only=True)
assert all(torch.equal(state[key], value) for key, value in first.net.state_dict().items())
first.advance()
first.save()
assert training().step == 1
"""


def test_finished_weights_can_be_refined(run_training: Run, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    run_training("-c", REFINE, str(tmp_path), str(WEIGHTS))


def test_a_deepened_network_computes_the_same(run_training: Run, tmp_path: Path) -> None:
    run_training(
        "-c",
        "import torch; from training.model import *;"
        "net = fresh(5, torch.Generator().manual_seed(0)); deep = deepened(net.state_dict(), 20);"
        "x = torch.rand(1, 3, 30, 40); assert (net(x) - deep(x)).abs().max() < 1e-5;"
        "assert len(deep.state_dict()) == 40",
    )


# -- the networks with the noise as an input ---------------------------------------------------------------------------

FRESH = """
import sys, torch
from training.networks import CANDIDATES, fresh
name, file = sys.argv[1:]
net = fresh(CANDIDATES[name], torch.Generator().manual_seed(1)).to(memory_format=torch.channels_last)
with torch.no_grad():
    net.tail.weight.mul_(20)
from pathlib import Path
from training.train_network import save_weights
save_weights(Path(file), net)
"""


@pytest.mark.parametrize("name", ["plain-64", "unet-48-96-160", pytest.param("unet-64-128", marks=pytest.mark.full)])
def test_a_guided_network_agrees_with_pytorch(run_training: Run, tmp_path: Path, name: str) -> None:
    checkpoint = tmp_path / "fresh.pth"
    run_training("-c", FRESH, name, str(checkpoint))
    assert_agreement(run_training, tmp_path, name, checkpoint)


def test_the_weights_of_fast_agree_with_pytorch(run_training: Run, tmp_path: Path) -> None:
    assert_agreement(run_training, tmp_path, "unet-64-128", FAST_WEIGHTS)


def test_the_weights_of_camera_agree_with_pytorch(run_training: Run, tmp_path: Path) -> None:
    assert_agreement(run_training, tmp_path, "unet-64-128", CAMERA_WEIGHTS)


def test_the_quantized_network_is_the_one_that_was_trained(run_training: Run, tmp_path: Path) -> None:
    """Bytes are rounded alike but for ties: far less apart than the float network is from either.

    CPUs with AVX2 but without dot products of bytes add pairs of products in 16 bits, and cut large sums off.
    """
    quantized = unet.quantized_file(FAST_WEIGHTS)
    exact = predicted(run_training, tmp_path, "unet-64-128", FAST_WEIGHTS)
    trained = predicted(run_training, tmp_path, "unet-64-128", quantized)
    runs = GuidedDenoiser(DenoiserConfig(weights=FAST_WEIGHTS, memory_bytes=100_000_000, int8="yes"))
    found = runs._noise(*given(tmp_path))
    assert runs.arithmetic == "int8"
    assert rms(found - trained) < rms(exact - trained) * (3 if cuts_sums_off() else 0.5)
    assert rms(exact - trained) < rms(exact) / 10


def cuts_sums_off() -> bool:
    known = Path("/proc/cpuinfo")
    flags = set(known.read_text().split()) if known.exists() else set[str]()
    return "avx2" in flags and not flags & {"avx512_vnni", "avx_vnni"}


def assert_agreement(run_training: Run, tmp_path: Path, name: str, checkpoint: Path) -> None:
    expected = predicted(run_training, tmp_path, name, checkpoint)
    network = GuidedDenoiser(DenoiserConfig(weights=checkpoint, memory_bytes=100_000_000))
    found = network._noise(*given(tmp_path))
    assert np.abs(expected).max() > 0.01
    assert np.abs(found - expected).max() < 1e-4


def predicted(run_training: Run, tmp_path: Path, name: str, checkpoint: Path) -> np.ndarray:
    """What PyTorch says of `given`."""
    given(tmp_path)
    files = [str(tmp_path / f"{part}.npy") for part in ("noisy", "level", "noise")]
    run_training("-m", "training.reference_network", name, str(checkpoint), *files)
    noise: np.ndarray = np.load(tmp_path / "noise.npy")
    return noise


def given(tmp_path: Path) -> tuple[np.ndarray, NoiseLevel]:
    """A picture and its noise, also as files."""
    noisy = np.random.default_rng(0).random((48, 72, 3), np.float32)
    level = np.array([[0.01, -0.02, 0.005], [0.001, 0.015, 0.002]], np.float32)
    np.save(tmp_path / "noisy.npy", noisy)
    np.save(tmp_path / "level.npy", level)
    return noisy, NoiseLevel(slope=level[0], base=level[1])


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


RESUME_NETWORK = """
import math, sys, torch
from pathlib import Path
from training.data import load_images
from training.noise import NoisyPatches
from training.train_network import NOISES, Schedule, Training
folder, noise = Path(sys.argv[1]), NOISES[sys.argv[2]]
def training(name, decay=None):
    (folder / name).mkdir(exist_ok=True)
    patches = NoisyPatches(load_images(folder), noise, side=32, batch=2, seed=1)
    return Training("unet-48-96-160", patches, folder / name, Schedule(decay=decay))
through = training("through")
losses = [through.advance() for _ in range(5)]
through.save()
first = training("stopped")
stopped = [first.advance() for _ in range(3)]
first.save()
second = training("stopped")
stopped += [second.advance() for _ in range(2)]
assert stopped == losses, (stopped, losses)
ending = training("ending", decay=4)
ending.start_from(folder / "through" / "checkpoint.pt")
ended = [ending.advance() for _ in range(2)]
ending.save()
again = training("ending", decay=4)
again.start_from(folder / "through" / "checkpoint.pt")
assert (again.begin, again.step) == (5, 7)
assert again.rate == 0.5 * again.full_rate, (again.rate, again.full_rate)
again._schedule = Schedule(rate=4e-4, decay=4)
assert math.isclose(again.rate, 2e-4 * 8 / 100), (again.rate, "half of the rate, in the warm-up")
def holds(name, net):
    saved = torch.load(folder / name / "weights.pth", weights_only=True)
    return all((saved[key] == value).all() for key, value in net.state_dict().items())
assert holds("through", through.mean) and not holds("through", through.net)
assert holds("ending", ending.net) and not holds("ending", ending.mean)
for one in (through, first, second, ending, again):
    one.close()
"""


@pytest.mark.parametrize("noise", [pytest.param("gaussian", marks=pytest.mark.full), "camera"])
def test_a_guided_training_that_was_stopped_goes_on_as_if_it_had_not_been(
    run_training: Run, tmp_path: Path, noise: str
) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (260, 280, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    run_training("-c", RESUME_NETWORK, str(tmp_path), noise)


CAMERA_TEST = """
import sys, hashlib
from pathlib import Path
import numpy as np
from PIL import Image
from training import camera_test
folder = Path(sys.argv[1])
Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 500, 3), dtype=np.uint8)).save(
    folder / "clic-00.webp", lossless=True)
camera_test.NAMES = ("clic-00",)
digests = [hashlib.sha256(b"".join(p.noisy.tobytes() + p.clean.tobytes() for p in camera_test.pairs(folder))).digest()
           for _ in range(2)]
assert digests[0] == digests[1]
pairs = list(camera_test.pairs(folder))
errors = [float(np.square(pair.noisy.astype(float) - pair.clean).mean()) for pair in pairs]
assert [pair.iso for pair in pairs] == [400, 1600, 6400]
assert {pair.noisy.shape for pair in pairs} == {(384, 384, 3)}
"""


def test_the_camera_test_gives_the_same_pairs_again(run_training: Run, tmp_path: Path) -> None:
    run_training("-c", CAMERA_TEST, str(tmp_path))


RESUME_QUANTIZED = """
import sys
from pathlib import Path
import torch
from training.data import load_images
from training.noise import GAUSSIAN, NoisyPatches
from training.networks import CANDIDATES, fresh
from training.quantized import Quantizing
folder = Path(sys.argv[1])
start = folder / "start.pt"
torch.save({"net": fresh(CANDIDATES["unet-48-96-160"], torch.Generator().manual_seed(1)).state_dict()}, start)
def training(name):
    (folder / name).mkdir(exist_ok=True)
    patches = NoisyPatches(load_images(folder), GAUSSIAN, side=16, batch=1, seed=1)
    return Quantizing("unet-48-96-160", start, patches, folder / name, 4)
through = training("through")
losses = [through.advance() for _ in range(4)]
first = training("stopped")
stopped = [first.advance() for _ in range(2)]
first.save()
second = training("stopped")
stopped += [second.advance() for _ in range(2)]
assert stopped == losses, (stopped, losses)
second.save()
"""


def test_a_stopped_training_of_a_quantized_network_goes_on_too(run_training: Run, tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "picture.png")
    run_training("-c", RESUME_QUANTIZED, str(tmp_path))
    assert unet.load(tmp_path / "stopped" / "weights.pth", quantized=True)
