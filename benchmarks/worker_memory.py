"""Does a pixel worker's memory grow? Its resident memory over 1000 mixed jobs, and the peak of single large ones.

    python -m benchmarks memory [--jobs 1000] [--allocators] [--plot docs/images/worker-memory.svg]

The jobs use every pixel operation except `denoise`, every encoder and every input format, with 0.1 to 12 megapixels.
They are drawn from a seed, so that each run has the same jobs. The pixel process of the embedded mode is replaced after
some renders; it also runs all jobs without replacement, to show whether its memory stays level. The Celery worker of
the cluster gets the jobs through the API and is never replaced. `--allocators` adds the pixel process without the limit
on glibc's arenas, and with jemalloc if that is installed.

Resident memory is read after each job, and drawn as a plot.
"""

import argparse
import ctypes.util
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pyvips
from PIL import Image

from app.errors import PixToolsError
from app.imaging.recipe import Limits, Stage, Target
from app.services.execution import sandbox
from benchmarks.photograph import QUALITY, photograph
from benchmarks.processes import peaks, resident
from tests.support.deployment import ROOT, cluster
from tests.support.fixtures import ServerPool

FORMATS = ("jpeg", "png", "webp", "avif", "gif", "tiff")
MEGAPIXELS = {0.1: 6, 0.26: 5, 0.7: 4, 1.8: 3, 4.6: 2, 12.0: 1}  # to their weights in the draw
LIMITS = Limits(pixels=50_000_000, side=16384)
ADDRESS_SPACE = 2_100_000_000  # bytes; the default of the embedded mode
TIMEOUT = 300.0  # seconds
MEGABYTE = 1e6
PLOT = ROOT / "docs" / "images" / "worker-memory.svg"
AIM = 300  # MB, the goal for a photograph of 12 megapixels

Job = tuple[Path, list[dict[str, Any]]]  # a source and its operations, of which the last encodes
Run = Callable[[Job], bool]

PIXELS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    lambda draw: {"op": "resize", "width": draw.randint(100, 1600)},
    lambda draw: {
        "op": "resize",
        "width": draw.randint(100, 800),
        "height": 300,
        "fit": "cover",
        "gravity": "attention",
    },
    lambda draw: {"op": "resize", "width": draw.randint(100, 800), "height": 400, "fit": "contain"},
    lambda draw: {"op": "resize", "width": draw.randint(100, 800), "linear": True},
    lambda draw: {"op": "crop", "width": draw.randint(100, 1600), "height": draw.randint(100, 1200)},
    lambda draw: {"op": "rotate", "angle": draw.choice((90, 180, 7.5))},
    lambda draw: {"op": "flip", "direction": draw.choice(("horizontal", "vertical"))},
    lambda _: {"op": "trim"},
    lambda draw: {"op": "blur", "sigma": draw.uniform(0.5, 6)},
    lambda draw: {"op": "sharpen", "sigma": draw.uniform(0.5, 2)},
)
ENCODERS: tuple[Callable[[random.Random], dict[str, Any]], ...] = (
    lambda draw: {"op": "convert_webp", "effort": draw.randint(0, 4)},
    lambda draw: {"op": "convert_avif", "effort": draw.randint(0, 2)},
    lambda draw: {"op": "convert_jpeg", "quality": draw.randint(50, 95)},
    lambda draw: {"op": "convert_png", "compression": draw.randint(1, 6)},
    lambda draw: {"op": "convert_gif", "effort": draw.randint(1, 5)},
    lambda draw: {"op": "convert_tiff", "compression": draw.choice(("none", "lzw", "deflate"))},
)
SINGLE = {  # jobs on a photograph of 12 megapixels
    "resize to 1280, WebP": [{"op": "resize", "width": 1280}, {"op": "convert_webp"}],
    "resize to 1280, AVIF": [{"op": "resize", "width": 1280}, {"op": "convert_avif"}],
    "WebP": [{"op": "convert_webp"}],
    "JPEG": [{"op": "convert_jpeg"}],
    "AVIF": [{"op": "convert_avif"}],
    "PNG": [{"op": "convert_png"}],
    "GIF": [{"op": "convert_gif"}],
    "TIFF": [{"op": "convert_tiff"}],
    "rotate by 90, JPEG": [{"op": "rotate", "angle": 90}, {"op": "convert_jpeg"}],
    "rotate by 7.5, JPEG": [{"op": "rotate", "angle": 7.5}, {"op": "convert_jpeg"}],
    "trim, JPEG": [{"op": "trim"}, {"op": "convert_jpeg"}],
    "blur, sharpen, JPEG": [{"op": "blur", "sigma": 3}, {"op": "sharpen"}, {"op": "convert_jpeg"}],
    "JPEG of SSIM 0.97": [{"op": "convert_jpeg", "min_ssim": 0.97}],
}


@dataclass(frozen=True)
class Way:
    """A way to run the jobs."""

    name: str
    colour: str
    renders_per_child: int | None = None  # None: the Celery worker
    #: changes to the pixel process's environment; None removes a variable
    environment: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True)
class Samples:
    resident: list[int]  # bytes, after each job
    peak: int  # bytes, the largest of all processes
    failed: int


NEVER = sys.maxsize
WAYS = (
    Way(f"pixel process, replaced after {sandbox.RENDERS_PER_CHILD} renders", "#1f77b4", sandbox.RENDERS_PER_CHILD),
    Way("pixel process, never replaced", "#d62728", NEVER),
    Way("Celery worker, never replaced", "#2ca02c"),
)
UNBOUND = Way("pixel process, MALLOC_ARENA_MAX unset", "#9467bd", NEVER, (("MALLOC_ARENA_MAX", None),))


def jemalloc() -> list[Way]:
    library = ctypes.util.find_library("jemalloc")
    return [Way("pixel process, jemalloc", "#ff7f0e", NEVER, (("LD_PRELOAD", library),))] if library else []


def sources(folder: Path) -> list[Path]:
    """Write a photograph in every format and size; returns the files."""
    folder.mkdir()
    whole, files = photograph(), []
    for megapixels in MEGAPIXELS:
        width = round(math.sqrt(megapixels * 1e6 * 4 / 3))
        image = whole.resize((width, width * 3 // 4), Image.Resampling.LANCZOS)
        for kind in FORMATS:
            path = folder / f"{megapixels}.{kind}"
            options = {"effort": 0} if kind == "avif" else {"effort": 1} if kind == "gif" else {}
            options |= {"Q": QUALITY} if kind in {"jpeg", "webp", "avif"} else {}
            pyvips.Image.new_from_array(image).write_to_file(str(path), **options)
            files.append(path)
    return files


def mixed(files: Sequence[Path], count: int) -> list[Job]:
    draw = random.Random(1)
    weights = [weight for weight in MEGAPIXELS.values() for _ in FORMATS]
    return [(source, _operations(draw)) for source in draw.choices(files, weights, k=count)]


def _operations(draw: random.Random) -> list[dict[str, Any]]:
    pixels = [draw.choice(PIXELS)(draw) for _ in range(draw.randint(0, 3))]
    return [*pixels, draw.choice(ENCODERS)(draw)]


@contextmanager
def pixel_process(way: Way, folder: Path) -> Iterator[tuple[Run, Callable[[], int]]]:
    """Yields a function that runs a job, and one that returns the id of the process that ran the last job, or 0."""
    inherited = sandbox._environment  # noqa: SLF001 - the benchmark's subject

    def environment(threads: int) -> dict[str, str]:
        changed = {**inherited(threads), **dict(way.environment)}
        return {name: value for name, value in changed.items() if value is not None}

    def run(job: Job) -> bool:
        source, operations = job
        stages = [Stage(entry["op"], {name: entry[name] for name in entry if name != "op"}) for entry in operations]
        target = Target(folder / "target", stages[-1].op, stages[-1].params)
        try:
            pixels.render(source, stages, [target], LIMITS, TIMEOUT)
        except PixToolsError:
            return False
        return True

    def pid() -> int:
        return max(
            (child.pid for child in psutil.Process().children() if "app.imaging.child" in child.cmdline()), default=0
        )

    with (
        patch.object(sandbox, "RENDERS_PER_CHILD", way.renders_per_child),
        patch.object(sandbox, "_environment", environment),
        # as many processes as in the embedded mode; one job at a time never starts more than one of them
        sandbox.Sandbox(os.cpu_count() or 1, ADDRESS_SPACE) as pixels,
    ):
        yield run, pid


@contextmanager
def celery_worker(folder: Path) -> Iterator[tuple[Run, Callable[[], int]]]:
    """Yields the same functions for a deployment with one worker process, which gets jobs through its API."""
    os.environ["MALLOC_ARENA_MAX"] = "2"  # as in the images
    pool = ServerPool(folder / "servers")
    try:
        deployment = cluster(
            folder,
            pool.cluster(),
        )
        api_command, worker, *_ = deployment.commands
        worker[worker.index("-c") + 1] = "1"
        deployment.commands = [api_command, worker]
        try:
            deployment.start()
            with deployment.client() as api:

                def run(job: Job) -> bool:
                    source, operations = job
                    tree: list[dict[str, Any]] = []
                    for entry in reversed(operations):
                        tree = [{**entry, "then": tree}]
                    answer = api.process(source.read_bytes(), tree, headers={"Prefer": "wait=60"})
                    assert answer.is_success, answer.text
                    return bool(answer.json()["status"] == "completed")

                yield run, lambda: psutil.Process(deployment.processes[1].pid).children()[0].pid
        finally:
            deployment.stop()
    finally:
        pool.stop()


@contextmanager
def opened(way: Way) -> Iterator[tuple[Run, Callable[[], int]]]:
    with (
        tempfile.TemporaryDirectory() as name,
        pixel_process(way, Path(name)) if way.renders_per_child else celery_worker(Path(name)) as both,
    ):
        yield both


def sample(way: Way, jobs: Sequence[Job]) -> Samples:
    """Run the jobs one after the other, and read the memory after each."""
    sizes: list[int] = []
    peak = failed = 0
    with opened(way) as (run, pid):
        for number, job in enumerate(jobs):
            if number % 100 == 0:
                print(f"{way.name}: {number} jobs", file=sys.stderr, flush=True)
            failed += not run(job)
            if process := pid():  # none right after a process was replaced
                peak = max(peak, *peaks([process]))
                sizes.append(resident(process))
            else:
                sizes.append(sizes[-1])
    return Samples(sizes, peak, failed)


def single(operations: list[dict[str, Any]], source: Path) -> int:
    """The peak memory in bytes of a new pixel process that does one job."""
    with tempfile.TemporaryDirectory() as name, pixel_process(WAYS[1], Path(name)) as (run, pid):
        assert run((source, operations))
        return peaks([pid()])[0]


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for row in (heading, ["---", *("---:" for _ in heading[1:])], *rows):
        print(f"| {' | '.join(row)} |")
    print()


def summary(way: Way, samples: Samples) -> list[str]:
    part = max(1, min(100, len(samples.resident) // 2))
    first, last = statistics.median(samples.resident[:part]), statistics.median(samples.resident[-part:])
    megabytes = [f"{size / MEGABYTE:.0f}" for size in (first, last, max(samples.resident), samples.peak)]
    return [way.name, *megabytes, str(samples.failed)]


def plot(curves: dict[Way, Samples]) -> str:
    """An SVG of the resident memory."""
    width, height, left, right, top, bottom = 960, 420, 60, 15, 20 + 20 * len(curves), 45
    count = max(len(samples.resident) for samples in curves.values())
    highest = math.ceil(max(max(samples.resident) for samples in curves.values()) / MEGABYTE / 50) * 50

    def x(job: float) -> float:
        return round(left + (width - left - right) * job / count, 1)

    def y(megabytes: float) -> float:
        return round(height - bottom - (height - top - bottom) * megabytes / highest, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for megabytes in range(0, highest + 1, 50):
        parts.append(f'<path d="M{left} {y(megabytes)}H{width - right}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y(megabytes) + 4}" text-anchor="end">{megabytes}</text>')
    parts.extend(
        f'<text x="{x(job)}" y="{height - bottom + 18}" text-anchor="middle">{job}</text>'
        for job in range(0, count + 1, max(1, count // 10))
    )
    parts.append(f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">jobs</text>')
    parts.append(f'<text x="{left - 8}" y="{top - 10}" text-anchor="end">MB</text>')
    for number, (way, samples) in enumerate(curves.items()):
        points = " ".join(f"{x(job)},{y(size / MEGABYTE)}" for job, size in enumerate(samples.resident, 1))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{way.colour}" stroke-opacity=".8"/>')
        parts.append(f'<text x="{left + 10}" y="{20 + 20 * number}" fill="{way.colour}">{way.name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--allocators", action="store_true")
    parser.add_argument("--plot", type=Path, default=PLOT)
    parser.add_argument("--image", type=Path, help="photograph for the single jobs")
    arguments = parser.parse_args()
    ways = [*WAYS, *([UNBOUND, *jemalloc()] if arguments.allocators else [])]
    with tempfile.TemporaryDirectory() as name:
        files = sources(Path(name) / "sources")
        photo = arguments.image or files[-len(FORMATS)]
        rows = [[what, f"{single(operations, photo) / MEGABYTE:.0f}"] for what, operations in SINGLE.items()]
        table([f"One job with 12 megapixels in a new process; the aim is {AIM}", "peak, MB"], rows)
        jobs = mixed(files, arguments.jobs)
        with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
            curves = dict(zip(ways, pool.map(sample, ways, [jobs] * len(ways)), strict=True))
    heading = ["MB", "median of the first 100 jobs", "of the last 100", "largest", "peak within a job", "failed jobs"]
    table(heading, [summary(way, samples) for way, samples in curves.items()])
    arguments.plot.write_text(plot(curves))
