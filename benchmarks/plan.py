"""What /plan predicts of CPU time and memory, against what the same work takes; and the constants that fit best.

    python -m benchmarks plan [folder] [--trees 100] [--seed 1] [--fit]

Random trees (tests/support/trees.py) are planned and run on photographs of a folder, or on made ones. Each task runs in
a process of its own on one thread, as a worker's does, after a small image that starts threads and codecs: its CPU time
and the peak of its address space are measured, and names, sizes and formats are compared. `--fit` prints the constants
of app/services/intake/costs.py that leave the least relative error on these trees; judge them by another seed.

Peaks are those of the growth of a process, in addition to an idle one. The first line is the setting of this
machine, PIXTOOLS_REFERENCE_DECODE_SECONDS: the least of several decodes of docs/sample.jpg.
"""

import argparse
import json
import os
import random
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from app.imaging import pipeline
from app.imaging.memory import BASE
from app.imaging.probe import probe
from app.imaging.recipe import INTERMEDIATE, INTERMEDIATE_SUFFIX, Limits, Stage, Target, When
from app.operations import OPERATIONS, Queue
from app.references import resolve
from app.services.dag_builder import Plan, PlannedTask, plan
from app.services.intake import costs
from app.services.intake.costs import Estimate, Input, estimate
from app.services.intake.operation_tree import TreeLimits, parse_tree
from benchmarks.photograph import QUALITY, photograph
from tests.support.trees import random_tree

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "docs" / "sample.jpg"
LIMITS = Limits(pixels=100_000_000, side=20_000)
TREES = TreeLimits(nodes=64, depth=8, bytes=65_536)
ROUNDS = 7  # of the reference decode
WITHIN = 0.3  # of what was measured


@dataclass(frozen=True)
class Measured:
    """A tree that was run."""

    plan: Plan
    given: Input
    cpu_seconds: float
    #: bytes of address space, of the process that had most
    peak: int
    results: dict[str, tuple[str, int, int]]


def in_a_process(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What some work answers, done in a process of its own, with its CPU seconds and its peak."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        pyvips.concurrency_set(1)
        pyvips.cache_set_max(0)
        _warm()
        began, held = time.process_time(), _memory("VmPeak")
        answer = work()
        answer |= {"cpu": time.process_time() - began, "peak": BASE + _memory("VmPeak") - held}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answers:
        text = answers.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text)
    return found


def _warm() -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "small.png"
        pyvips.Image.gaussnoise(64, 64).cast("uchar").pngsave(str(source))
        for op in costs.ENCODE:
            params = OPERATIONS[op].params().model_dump()
            pipeline.render(source, [], [Target(Path(folder) / "out", op, params)], LIMITS)


def _memory(name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def reference_seconds() -> float:
    """CPU time of the reference decode on this machine."""

    def decode() -> dict[str, Any]:
        seconds = []
        for _ in range(ROUNDS):
            began = time.process_time()
            pyvips.Image.jpegload(str(SAMPLE)).write_to_memory()
            seconds.append(time.process_time() - began)
        return {"seconds": min(seconds)}

    return float(in_a_process(decode)["seconds"])


def photographs(folder: Path | None, into: Path) -> list[Path]:
    """JPEG files of several sizes."""
    if folder is not None:
        return sorted(path for path in folder.iterdir() if path.suffix.lower() in {".jpg", ".jpeg"})
    made = []
    for number, side in enumerate((600, 1200, 2000, 3000)):
        path = into / f"{side}.jpg"
        photograph(side, side * 3 // 4, seed=number).save(path, quality=QUALITY)
        made.append(path)
    return made


def run(planned: Plan, photo: Path, folder: Path) -> Iterator[dict[str, Any]]:
    """Every task, as an executor would have it done."""
    done: set[str] = set()
    for task in planned.tasks:
        if task.id not in done:
            answer = in_a_process(lambda task=task: _render(planned, task, photo, folder))
            done.update(answer["results"])
            yield answer


def _render(planned: Plan, task: PlannedTask, photo: Path, folder: Path) -> dict[str, Any]:
    source = photo if task.is_first else folder / f"{task.parent}{INTERMEDIATE_SUFFIX}"
    targets = _targets(planned, task, folder)
    stages = [Stage(step.op, step.params) for step in task.steps]
    rendered = pipeline.render(source, stages, list(targets.values()), LIMITS)
    found = {name: image for name, image in zip(targets, rendered, strict=True) if image and name != INTERMEDIATE}
    return {"results": {name: (image.format, image.width, image.height) for name, image in found.items()}}


def _targets(planned: Plan, task: PlannedTask, folder: Path) -> dict[str, Target]:
    inline = planned.inline_children(task)
    targets = {}
    for other in (task, *inline):
        if other.result:
            when = When.ALWAYS if other is task else When.CHEAP
            targets[other.id] = Target(folder / f"{other.id}.out", other.result.encoder, other.result.params, when)
    if task.intermediate:
        when = When.OTHERWISE if len(inline) == len(planned.children(task.id)) else When.ALWAYS
        targets[INTERMEDIATE] = Target(folder / f"{task.id}{INTERMEDIATE_SUFFIX}", INTERMEDIATE, {}, when)
    return targets


def measure(chance: random.Random, photos: list[Path], folder: Path) -> Measured:
    """Plan and run one random tree."""
    _, branches = parse_tree(json.dumps(random_tree(chance)), TREES)
    photo = chance.choice(photos)
    with photo.open("rb") as file:
        header = probe(file)
    planned = plan(branches, header.format)
    answers = list(run(planned, photo, folder))
    names = {task.id: task.result.name for task in planned.tasks if task.result}
    results = {names[task]: tuple(found) for answer in answers for task, found in answer["results"].items()}
    return Measured(
        plan=planned,
        given=Input(format=header.format, size=(header.width, header.height)),
        cpu_seconds=sum(answer["cpu"] for answer in answers),
        peak=max(answer["peak"] for answer in answers),
        results=results,
    )


def _planned(measured: Measured, reference: float) -> Estimate:
    return estimate(measured.plan, measured.given, reference)


def report(found: list[Measured], reference: float) -> None:
    """How far plans are off."""
    cpu, memory, same = [], [], 0
    for measured in found:
        planned = _planned(measured, reference)
        cpu.append((planned.cpu_seconds or 0) / measured.cpu_seconds - 1)
        memory.append((planned.memory_bytes or 0) / measured.peak - 1)
        outcomes = {one.name: (one.format, *(one.size or ())) for one in planned.outcomes}
        same += outcomes == measured.results
    print(f"names, sizes and formats equal: {same} of {len(found)}")
    for name, errors in (("CPU", cpu), ("memory", memory)):
        off = np.abs(errors)
        within = float(np.mean(off <= WITHIN))
        middle, tenth = np.quantile(off, (0.5, 0.9))
        print(f"{name}: {within:.0%} within {WITHIN:.0%}; off by {middle:.0%} in the median, {tenth:.0%} at 90 %")


#: tables of constants; each value is one, or two
TABLES: dict[str, dict[Any, Any]] = {
    "DECODE": costs.DECODE,
    "DECODE_SHRUNK": costs.DECODE_SHRUNK,
    "WORK": costs.WORK,
    "ENCODE": costs.ENCODE,
}
ALONE = ("TASK_SECONDS", "INTERMEDIATE_READ", "INTERMEDIATE_WRITE")


def _cells() -> Iterator[tuple[str, Any, int | None]]:
    for table, values in TABLES.items():
        for key, value in values.items():
            for part in range(len(value)) if isinstance(value, tuple) else (None,):
                yield table, key, part
    for name in ALONE:
        yield name, None, None


def fit(found: list[Measured], reference: float) -> None:
    """Print the constants that leave the least relative error: the time is linear in all of them."""
    cells = list(_cells())
    scale = 1.0  # what is printed holds where the reference decode takes as long as here
    kept = {name: dict(values) for name, values in TABLES.items()}
    columns = []
    for cell in cells:
        _set_all(kept, None)
        _set(cell, 1.0 if cell[0] == "TASK_SECONDS" else 1e6)
        divided = 1.0 if cell[0] == "TASK_SECONDS" else 1e6
        columns.append([(_planned(one, costs.REFERENCE_SECONDS).cpu_seconds or 0) / divided for one in found])
    matrix = np.array(columns).T * scale
    wanted = np.array([one.cpu_seconds for one in found])
    used = matrix.any(axis=0)
    solved = _nonnegative(matrix[:, used] / wanted[:, None], np.ones(len(found)))
    for cell, value in zip([cell for cell, one in zip(cells, used, strict=True) if one], solved, strict=True):
        print(f"  {cell[0]}[{cell[1]}][{cell[2]}] = {value:.4g}")


def _nonnegative(matrix: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Least squares without negative values: projected gradients, scaled by the columns."""
    scale = np.linalg.norm(matrix, axis=0)
    scaled = matrix / scale
    step = 1 / np.linalg.norm(scaled, 2) ** 2
    value = np.zeros(scaled.shape[1])
    for _ in range(50_000):
        value = np.maximum(0, value - step * scaled.T @ (scaled @ value - wanted))
    return np.asarray(value / scale)


def _set_all(kept: dict[str, dict[Any, Any]], _: None) -> None:
    for name, values in kept.items():
        for key, value in values.items():
            TABLES[name][key] = (0.0, 0.0) if isinstance(value, tuple) else 0.0
    for name in ALONE:
        setattr(costs, name, 0.0)


def _set(cell: tuple[str, Any, int | None], value: float) -> None:
    table, key, part = cell
    if table in ALONE:
        setattr(costs, table, value)
    elif part is None:
        TABLES[table][key] = value
    else:
        TABLES[table][key] = tuple(value if number == part else 0.0 for number in range(2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fit", action="store_true")
    given = parser.parse_args()
    for operation in OPERATIONS.values():
        if operation.queue is Queue.DEFAULT:  # loaded before anything is measured, as in a worker
            resolve(operation.handler)
    reference = reference_seconds()
    print(f"PIXTOOLS_REFERENCE_DECODE_SECONDS={reference:.4f}")
    chance = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        photos = photographs(given.folder, Path(folder))
        found = [measure(chance, photos, Path(folder)) for _ in range(given.trees)]
    report(found, reference)
    if given.fit:
        fit(found, reference)


if __name__ == "__main__":
    main()
