"""Peak memory of denoising large images with the whole pipeline, in a separate process per image.

    python -m benchmarks denoise-memory [--whole]

Without `--whole` the network runs only on the first tiles, and the other pixels stay as they are: since all tiles have
the same size, memory has reached its peak by then.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import pyvips

ROOT = Path(__file__).parent.parent
SIZES = ((4000, 3000), (8000, 6000))
TILES = 12  # tiles that the network runs on

ONE = """
import resource, sys
from pathlib import Path
from app.config import Settings
from app.imaging import libvips
from app.imaging.pipeline import render
from app.imaging.recipe import Limits, Monitor, Stage, Target
from app.ml import denoise, denoiser
source, target, tiles = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
settings = Settings()
libvips.configure(2)
weights = {"exact": str(settings.denoise_weights)}
denoise.configure(weights=weights, memory_bytes=settings.denoise_memory_bytes, threads=0)
noise, done = denoiser.Denoiser._noise, []
def some(self, colours):
    done.append(1)
    return noise(self, colours) if not tiles or len(done) <= tiles else 0 * colours
denoiser.Denoiser._noise = some
render(source, [Stage("denoise", {})], [Target(target, "convert_png", {})], Limits(50_000_000, 16384), Monitor())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def main() -> None:
    tiles = 0 if "--whole" in sys.argv else TILES
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for width, height in SIZES:
            for suffix, bits in (("jpg", 8), ("png", 16)):
                source = folder / f"source.{suffix}"
                image = pyvips.Image.gaussnoise(width, height, mean=128, sigma=30).bandjoin([128, 64])
                image = image.cast("uchar").copy(interpretation="srgb")
                if bits == 16:
                    image = (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
                image.write_to_file(str(source))
                command = [sys.executable, "-c", ONE, str(source), str(folder / "target"), str(tiles)]
                peak = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
                print(f"{width * height / 1e6:3.0f} MP, {bits:2} bit: {int(peak):5} MiB", flush=True)
