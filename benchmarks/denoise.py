"""Denoising: speed, CPU time and peak memory of PixTools, eager PyTorch on the whole image, and OpenCV.

    python -m benchmarks denoise [--small]

Each of them runs in a separate process, one after the other, on the same picture and on all cores.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "models" / "dncnn_color_blind.pth"
FAST_WEIGHTS = ROOT / "models" / "unet_fast.pth"
CAMERA_WEIGHTS = ROOT / "models" / "unet_camera.pth"
OWN_PYTHON, TRAINING_PYTHON = ROOT / ".venv" / "bin" / "python", ROOT / ".venv-training" / "bin" / "python"
SIZES = ((1000, 1000), (3000, 4000))  # rows and columns; PyTorch would need 6 GB for the whole second image

COMMON = """
import json, os, resource, sys, time
import numpy as np
rows, columns = int(sys.argv[1]), int(sys.argv[2])
y, x = np.mgrid[:rows, :columns]
clean = np.stack([x % 200, y % 180, (x + y) % 220], -1).astype(np.float32)
noisy = np.clip(clean + np.random.default_rng(0).standard_normal(clean.shape, dtype=np.float32) * 25, 0, 255)
noisy = np.rint(noisy).astype(np.uint8)
def report(work, warm):
    warm()
    start, used = time.perf_counter(), time.process_time()
    work()
    seconds, used = time.perf_counter() - start, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    pixels = rows * columns / 1e6
    print(json.dumps({"mp_per_s": pixels / seconds, "cpu_s_per_mp": used / pixels, "peak_mib": peak}))
"""
OURS = """
from pathlib import Path
from app.ml.denoiser import Denoiser, DenoiserConfig
denoiser = Denoiser(DenoiserConfig(weights=Path(sys.argv[3]), memory_bytes=256_000_000))
report(lambda: denoiser.denoise(noisy), lambda: denoiser.denoise(noisy[:480, :480].copy()))
"""
GUIDED = """
from pathlib import Path
from app.ml.denoiser import DenoiserConfig, GuidedDenoiser
from app.ml.noise_level import noise_level
denoiser = GuidedDenoiser(DenoiserConfig(weights=Path(sys.argv[3]), memory_bytes=256_000_000, int8="INT8"))
def run(pixels):
    denoiser.denoise(pixels, noise_level(pixels))
report(lambda: run(noisy), lambda: run(noisy[:480, :480].copy()))
"""
FLOAT, INT8 = GUIDED.replace("INT8", "no"), GUIDED.replace("INT8", "yes")
TORCH = """
import torch
from training.model import DnCNN
net = DnCNN()
net.load_state_dict(torch.load(sys.argv[3], weights_only=True))
torch.set_num_threads(len(os.sched_getaffinity(0)))
def run(pixels):
    with torch.inference_mode():
        net(torch.from_numpy(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255))
report(lambda: run(noisy), lambda: run(noisy[:480, :480]))
"""
OPENCV = """
import cv2
cv2.setNumThreads(len(os.sched_getaffinity(0)))
report(lambda: cv2.fastNlMeansDenoisingColored(noisy, None, 10, 10, 7, 21),
       lambda: cv2.fastNlMeansDenoisingColored(noisy[:200, :200].copy(), None, 10, 10, 7, 21))
"""
CONTENDERS = (
    ("PixTools, exact, in tiles", OWN_PYTHON, OURS, WEIGHTS),
    ("PixTools, fast, float32, in tiles", OWN_PYTHON, FLOAT, FAST_WEIGHTS),
    ("PixTools, fast, int8, in tiles", OWN_PYTHON, INT8, FAST_WEIGHTS),
    ("PixTools, camera, in tiles", OWN_PYTHON, FLOAT, CAMERA_WEIGHTS),
    ("PyTorch, eager, exact, whole image", TRAINING_PYTHON, TORCH, WEIGHTS),
    ("OpenCV fastNlMeansDenoisingColored", TRAINING_PYTHON, OPENCV, WEIGHTS),
)


def measure(python: Path, code: str, weights: Path, rows: int, columns: int) -> dict[str, float] | None:
    command = [python, "-c", COMMON + code, str(rows), str(columns), str(weights)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stderr[-500:])
        return None
    return json.loads(done.stdout)


def main() -> None:
    largest = SIZES[0] if "--small" in sys.argv else SIZES[-1]
    for rows, columns in SIZES:
        if rows * columns > largest[0] * largest[1]:
            continue
        print(f"{columns}x{rows} pixels")
        figures = {name: measure(python, code, weights, rows, columns) for name, python, code, weights in CONTENDERS}
        exact = figures[CONTENDERS[0][0]]
        for name, figure in figures.items():
            if figure is None:
                print(f"  {name:36} did not finish")
                continue
            ratio = f"{exact['cpu_s_per_mp'] / figure['cpu_s_per_mp']:.2f}x" if exact else ""
            speed = f"{figure['mp_per_s']:7.3f} MP/s {figure['cpu_s_per_mp']:7.2f} CPU s/MP {ratio:>6}"
            print(f"  {name:36} {speed} {figure['peak_mib']:6.0f} MiB", flush=True)
