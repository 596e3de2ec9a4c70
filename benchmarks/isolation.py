"""Do image operations wait for `denoise`? Measures resize jobs alone, and while denoise jobs of 12 megapixels wait.

    python -m benchmarks isolation

starts RabbitMQ, Redis, PostgreSQL, an S3 server, the API and a worker for each queue, as the tests do.
"""

import io
import statistics
import time

import numpy as np
from PIL import Image

from benchmarks.deployments import deployed
from tests.support.deployment import ApiClient

RESIZES = 30
DENOISES = 5


def jpeg(width: int, height: int) -> bytes:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x % 200, y % 180, (x + y) % 220], -1).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def median_of_resizes(api: ApiClient, image: bytes) -> float:
    seconds = []
    for _ in range(RESIZES):
        start = time.perf_counter()
        job = api.accepted(image, [{"op": "resize", "width": 1280}])
        while api.job(job["id"])["status"] in {"pending", "processing"}:
            time.sleep(0.01)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main() -> None:
    photo, large = jpeg(3000, 2000), jpeg(4000, 3000)
    with deployed() as deployment, deployment.client() as api:
        median_of_resizes(api, photo)
        alone = median_of_resizes(api, photo)
        waiting = [api.accepted(large, ["denoise"])["id"] for _ in range(DENOISES)]
        while not api.job(waiting[0])["steps"][0]["progress"]:
            time.sleep(0.1)
        together = median_of_resizes(api, photo)
        running = [api.job(job_id)["status"] for job_id in waiting]
    print(f"median of {RESIZES} resizes of 6 megapixels: alone {alone * 1000:.0f} ms, ", end="")
    print(f"with {DENOISES} denoise jobs {together * 1000:.0f} ms: {together / alone:.2f}x; then they were {running}")
