"""Many simultaneous uploads: memory of the API, longest pause of its event loop, errors.

    python -m benchmarks uploads

starts the embedded mode in a new folder, sends 200 uploads of 5 MB at the same time, and prints their cost.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

UPLOADS = 200
SIDE = 1880  # pixels; noise of this size is a JPEG of about 5 MB
PORT = 8471
URL = f"http://127.0.0.1:{PORT}"


def noisy_jpeg() -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    with tempfile.TemporaryFile() as file:
        Image.fromarray(pixels).save(file, "JPEG", quality=97)
        file.seek(0)
        return file.read()


async def upload_all(image: bytes) -> list[int]:
    limits = httpx.Limits(max_connections=UPLOADS)
    async with httpx.AsyncClient(base_url=URL, timeout=300, limits=limits) as client:
        return list(await asyncio.gather(*(upload(client, image) for _ in range(UPLOADS))))


async def upload(client: httpx.AsyncClient, image: bytes) -> int:
    operations = json.dumps([{"op": "resize", "width": 64}])
    response = await client.post("/process", data={"operations": operations}, files={"file": ("a.jpg", image)})
    return response.status_code


async def watch(pid: int, stop: asyncio.Event, samples: dict[str, list[float]]) -> None:
    """Sample the memory of the process, and the time of a request that only needs the event loop."""
    process = psutil.Process(pid)
    async with httpx.AsyncClient(base_url=URL, timeout=60) as client:
        while not stop.is_set():
            samples["rss"].append(process.memory_info().rss / 1e6)
            start = time.perf_counter()
            await client.get("/health/live")
            samples["live"].append((time.perf_counter() - start) * 1000)
            await asyncio.sleep(0.02)


def start(folder: Path) -> subprocess.Popen[bytes]:
    environment = {
        **os.environ,
        "PIXTOOLS_PORT": str(PORT),
        "PIXTOOLS_DATA_DIR": str(folder),
        "MALLOC_ARENA_MAX": "2",  # as in `make run` and the images
    }
    command = [sys.executable, "-m", "benchmarks.watched_api"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, start_new_session=True)
    for _ in range(300):
        try:
            httpx.get(f"{URL}/health/ready").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.1)
        else:
            return process
    raise SystemExit("the API did not start")


async def measure(pid: int, folder: Path, image: bytes) -> None:
    samples: dict[str, list[float]] = {"rss": [], "live": []}
    stop = asyncio.Event()
    watcher = asyncio.create_task(watch(pid, stop, samples))
    await asyncio.sleep(1)
    before = samples["rss"][-1]
    (folder / "begun").touch()
    begin = time.perf_counter()
    codes = await upload_all(image)
    seconds = time.perf_counter() - begin
    stop.set()
    await watcher
    print(f"{UPLOADS} uploads of {len(image) / 1e6:.1f} MB in {seconds:.1f} s: {codes.count(202)} accepted")
    print(f"memory of the API: {before:.0f} MB before, at most {max(samples['rss']):.0f} MB")
    print(f"/health/live meanwhile: at most {max(samples['live']):.0f} ms")


def main() -> None:
    image = noisy_jpeg()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = start(folder)
        try:
            asyncio.run(measure(process.pid, folder, image))
            print(f"longest pause of its event loop: {(folder / 'longest-pause').read_text()}")
        finally:
            process.terminate()
            process.wait(30)
