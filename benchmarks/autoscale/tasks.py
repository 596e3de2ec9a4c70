"""Measures task times for the simulation: CPU seconds of jobs in the embedded mode.

    python -m benchmarks autoscale-tasks

writes benchmarks/autoscale/samples.json in two minutes. It counts the CPU time of the whole service from the upload to
the end of each job, so that other load on the machine has little effect.
"""

import io
import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.photograph import QUALITY, photograph
from benchmarks.processes import cpu_seconds, family
from tests.support.deployment import ApiClient, Deployment, embedded

SAMPLES = Path(__file__).parent / "samples.json"
SIZES = ((1600, 1200), (2800, 2100), (4000, 3000))
SMALL = ((320, 240), (640, 480))
SETTLE = 0.4  # seconds after the end of a job that still count
REPEATS = 2
RESIZE = {"op": "resize", "width": 1280}
TREES: list[list[object]] = [
    [{**RESIZE, "then": ["convert_webp"]}],
    [{**RESIZE, "then": ["convert_jpeg"]}],
    [{**RESIZE, "then": ["convert_avif"]}],
    [{**RESIZE, "then": ["convert_webp", "convert_jpeg", "convert_avif"]}],
    [{"op": "resize", "width": 320, "height": 320, "fit": "cover", "then": ["convert_webp"]}],
]


def jpeg(size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    photograph(*size).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def cost(deployment: Deployment, api: ApiClient, image: bytes, tree: list[object]) -> float:
    def used() -> float:
        return cpu_seconds(family([process.pid for process in deployment.processes]))

    before = used()
    job = api.process(image, tree, headers={"Prefer": "wait=60"}).json()
    assert api.ended(job["id"], timeout=300)["status"] == "completed", job
    time.sleep(SETTLE)
    return round(used() - before, 3)


def main() -> None:
    found: dict[str, list[float]] = {"standard": [], "ml": []}
    with tempfile.TemporaryDirectory() as name:
        deployment = embedded(Path(name))
        try:
            deployment.start()
            with deployment.client() as api:
                for kind, sizes, trees in (("standard", SIZES, TREES), ("ml", SMALL, [["denoise"]])):
                    images = [jpeg(size) for size in sizes]
                    cost(deployment, api, images[0], trees[0])  # a warm-up, which is not counted
                    for image in images * REPEATS:
                        found[kind] += [cost(deployment, api, image, tree) for tree in trees]
        finally:
            deployment.kill()
    SAMPLES.write_text(json.dumps({"cores": os.cpu_count(), **found}, indent=1) + "\n")
    for kind, values in found.items():
        print(f"{kind}: {len(values)} jobs, {min(values):.3f} to {max(values):.3f} CPU seconds")
