"""CPU time of `web` compared with that of its encodes, and the results of `bytes_step`, on photographs.

    python -m benchmarks web [folder] [--photos 24] [--rounds 5] [--step 30000] [--format avif]

The photographs are those of a folder, or synthetic ones (benchmarks/photograph.py). Formats other than JPEG are
converted to JPEG of quality 92, similar to cameras. Each runs in a separate process on one thread, as in a worker.

The first table has the CPU seconds of a set with fixed widths and quality, including decoding, and the part of its
encodes: of images that are already resized and in memory. Both are of the same run, because the speed of a shared
machine changes within a second; of several runs, the one with the median ratio counts. The second table has, for
`bytes_step`, the widths, the largest step between two neighbours, the least number of images with equal steps, and the
number of encodes of the search. A step that is larger than requested is an error.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from app.imaging import libvips, pipeline, web
from app.imaging.recipe import Limits, Monitor, Stage, Target
from app.imaging.responsive.breakpoints import DEFAULT_WIDTHS
from app.imaging.writing import Written
from benchmarks.photograph import QUALITY
from benchmarks.plan import in_a_process, photographs

LIMITS = Limits(pixels=100_000_000, side=20_000)
FORMATS = ("avif", "webp", "jpeg")
JPEG = (".jpg", ".jpeg")
SUFFIXES = (*JPEG, ".png", ".webp")


def _photographs(given: Path | None, into: Path) -> list[Path]:
    """JPEG files of the photographs, in the order of their names."""
    if given is None:
        return photographs(None, into)
    found = []
    for path in sorted(path for path in given.iterdir() if path.suffix.lower() in SUFFIXES):
        found.append(path if path.suffix.lower() in JPEG else into / f"{path.stem}.jpg")
        if found[-1] != path:
            with Image.open(path) as image:  # libvips must not start threads in this process, which forks
                image.convert("RGB").save(found[-1], quality=QUALITY)
    return found


def _set(photo: Path, folder: Path, params: dict[str, Any]) -> dict[str, Any]:
    """Make a set; returns its manifest, with the report of the step."""
    target, monitor = Target(folder / "set", "web", params, name="set"), Monitor()
    pipeline.render(photo, [Stage("web", params)], [target], LIMITS, monitor)
    manifest: dict[str, Any] = json.loads((folder / "set.manifest.json").read_text())
    return {**manifest, "report": monitor.reports[0]}


def _measure(photo: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """CPU seconds of a whole set and of its encodes, in the round with the median ratio."""
    libvips.configure(1)
    params: dict[str, Any] = {"widths": list(DEFAULT_WIDTHS), "formats": list(FORMATS)}
    manifest = _set(photo, folder, params)  # imports modules
    runs = []
    for _ in range(rounds):
        began = time.process_time()
        with _timed_encodes() as spent:
            _set(photo, folder, params)
        runs.append((time.process_time() - began, sum(spent)))
    together, encodes = sorted(runs, key=lambda run: run[0] / run[1])[rounds // 2]
    return {"set": together, "encodes": encodes, "pixels": manifest["width"] * manifest["height"]}


@contextmanager
def _timed_encodes() -> Iterator[list[float]]:
    """The CPU seconds of each encode of a set within the block."""
    spent: list[float] = []
    write = web.write

    def timed(*arguments: Any) -> Written:
        began = time.process_time()
        try:
            return write(*arguments)
        finally:
            spent.append(time.process_time() - began)

    web.write = timed
    try:
        yield spent
    finally:
        web.write = write


def _steps(photo: Path, folder: Path, step: int, name: str) -> dict[str, Any]:
    """The results of `bytes_step`."""
    libvips.configure(1)
    found = _set(photo, folder, {"bytes_step": step, "max_images": 50, "formats": [name]})
    images = found["images"]
    sizes = [image["bytes"] for image in images]
    return {
        "widths": [image["width"] for image in images],
        "largest": max((larger - smaller for smaller, larger in pairwise(sizes)), default=0),
        "least": 1 + max(1, math.ceil((sizes[-1] - sizes[0]) / step)) if len(sizes) > 1 else 1,
        "encodes": found["report"]["encodes"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, help="JPEG files; default: made ones")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--step", type=int, default=30_000, help="bytes")
    parser.add_argument("--format", choices=FORMATS, default="avif", help="that steps are measured in")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = _photographs(options.folder, folder)[: options.photos]
        _show_costs(photos, folder, options.rounds)
        _show_steps(photos, folder, options.step, options.format)


def _show_costs(photos: list[Path], folder: Path, rounds: int) -> None:
    print(f"{'photograph':<24} {'MP':>5} {'set':>8} {'encodes':>8} {'ratio':>6}")
    ratios, together, encodes = [], 0.0, 0.0
    for photo in photos:
        found = in_a_process(lambda photo=photo: _measure(photo, folder, rounds))
        ratios.append(found["set"] / found["encodes"])
        together += found["set"]
        encodes += found["encodes"]
        megapixels = found["pixels"] / 1e6
        print(
            f"{photo.stem[:24]:<24} {megapixels:>5.1f} {found['set']:>8.3f} {found['encodes']:>8.3f} {ratios[-1]:>6.3f}"
        )
    print(f"ratio: of all {together / encodes:.3f}, median {statistics.median(ratios):.3f}, most {max(ratios):.3f}\n")


def _show_steps(photos: list[Path], folder: Path, step: int, name: str) -> None:
    print(f"{'photograph':<24} {'images':>6} {'least':>5} {'encodes':>7} {'largest step':>12}  widths")
    worst = 0
    for photo in photos:
        found = in_a_process(lambda photo=photo: _steps(photo, folder, step, name))
        worst = max(worst, found["largest"])
        widths = " ".join(map(str, found["widths"]))
        counts = f"{len(found['widths']):>6} {found['least']:>5} {found['encodes']:>7} {found['largest']:>12}"
        print(f"{photo.stem[:24]:<24} {counts}  {widths}")
    print(f"the largest step has {worst} bytes of {step}")
    if worst > step:
        raise SystemExit("a step is larger than asked")


if __name__ == "__main__":
    main()
