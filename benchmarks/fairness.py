"""How long a small job takes: alone, behind a thousand jobs of another tenant, and next to a long job.

    python -m benchmarks fairness [--jobs 1000] [--rounds 10] [--modes embedded,cluster]

starts all servers, the API and its workers, as the tests do, anew for each case. It measures one small job at a time, a
PNG of 8x8 pixels to WebP, from the request to the answer of `POST /process` with `Prefer: wait`. The other tenant's
jobs are thumbnails of a photograph; the long job has 32 AVIF files at the highest effort, which take seconds each. It
also prints how much of the other work still waited after the last round: without any, the result would be meaningless.
"""

import argparse
import io
import json
import sqlite3
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
from PIL import Image

from benchmarks.deployments import deployed
from tests.conftest import make_photo
from tests.support.deployment import ApiClient, Deployment

PATIENCE = 300  # seconds
WARM_UP = 5  # rounds
CLIENTS = 8  # of the other tenant, in parallel: the embedded mode would keep up with a single one
SMALL = ["convert_webp"]
THUMBNAIL = [{"op": "resize", "width": 320, "then": ["convert_webp"]}]
GIANT = [{"op": "convert_avif", "effort": 9, "as": f"file{number}"} for number in range(32)]
#: submits other work, as the tenant of the small job or as another one
Load = Callable[[ApiClient, ApiClient], None]
OPEN = "SELECT count(*) FROM job_steps WHERE status = 'pending'"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "#336699").save(buffer, "PNG")
    return buffer.getvalue()


def count_open(deployment: Deployment) -> int:
    """The number of steps that have not started."""
    url = deployment.environment.get("PIXTOOLS_DATABASE_URL")
    path = Path(deployment.environment["PIXTOOLS_DATA_DIR"]) / "pixtools.db"
    connection = psycopg.connect(url.replace("+psycopg", "")) if url else sqlite3.connect(path, timeout=30)
    with connection:
        return int((connection.execute(OPEN).fetchone() or [0])[0])


def seconds(api: ApiClient, image: bytes) -> float:
    began = time.monotonic()
    answer = api.process(image, SMALL, filename="small.png", headers={"Prefer": f"wait={PATIENCE}"})
    while answer.status_code == 202:
        answer = api.http.get(f"/jobs/{answer.json()['id']}", headers={"Prefer": "wait=60"})
    assert answer.json()["status"] == "completed", answer.text
    return time.monotonic() - began


def nothing(_own: ApiClient, _other: ApiClient) -> None:
    pass


def many(jobs: int) -> Load:
    def load(_own: ApiClient, other: ApiClient) -> None:
        photo = make_photo(640, 480)
        with ThreadPoolExecutor(CLIENTS) as clients:
            for accepted in [clients.submit(other.accepted, photo, THUMBNAIL) for _ in range(jobs)]:
                accepted.result()

    return load


def giant(own: ApiClient, _other: ApiClient) -> None:
    own.accepted(make_photo(600, 400), GIANT)
    time.sleep(2)  # until it occupies all processes


def measure(mode: str, name: str, load: Load, rounds: int) -> float:
    with deployed(mode) as deployment:
        own, other = deployment.new_key("small"), deployment.new_key("another")
        with deployment.client(own) as api, deployment.client(other) as another:
            image = png()
            for _ in range(WARM_UP):
                seconds(api, image)
            load(api, another)
            taken = [seconds(api, image) for _ in range(rounds)]
            left = count_open(deployment)
    median = statistics.median(taken)
    print(f"| {mode} | {name} | {median * 1000:.0f} | {max(taken) * 1000:.0f} | {left} |", flush=True)
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--modes", default="embedded,cluster")
    arguments = parser.parse_args()
    cases = {
        "alone": nothing,
        f"behind {arguments.jobs} jobs of another tenant": many(arguments.jobs),
        "next to 32 AVIF files of effort 9": giant,
    }
    print("| mode | a small job | median, ms | longest, ms | tasks still waiting |\n|---|---|---:|---:|---:|")
    medians = {}
    for mode in arguments.modes.split(","):
        for name, load in cases.items():
            medians[f"{mode}, {name}"] = measure(mode, name, load, arguments.rounds)
    print(json.dumps({name: round(value, 4) for name, value in medians.items()}))
