"""A rough estimate of the time that a task takes, so that short work does not wait behind long work.

The estimate is pixels times a constant of each operation, measured on one core with a picture of two megapixels. Only
its order of magnitude matters: small work that is not recognized goes to `default_queue`, as does small work that is
sent while the small queue is full.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from app.models import Job
from app.operations import OPERATIONS, RESIZE, Queue
from app.parameters import QualityTarget, WebParams
from app.services.dag_builder import Plan, PlannedTask

SMALL_SECONDS = 0.2  # CPU time up to which a task is small
READING = 20.0  # nanoseconds per pixel to decode, and to write intermediates between tasks
DEAR = 100.0  # factor for an encoder that searches its quality or makes a special effort; measured: AVIF, effort 9: 107


@dataclass(frozen=True)
class Size:
    """The size of an upload."""

    width: int
    height: int
    frames: int = 1

    @property
    def pixels(self) -> int:
        """The pixels of all frames."""
        return self.width * self.height * self.frames


def size_of(job: Job) -> Size | None:
    """The size of a job's input; None until the input has been fetched."""
    if job.input_width is None or job.input_height is None:
        return None
    return Size(job.input_width, job.input_height, job.input_frames or 1)


def is_small(plan: Plan, task: PlannedTask, size: Size | None) -> bool:
    """Whether a libvips task takes little time, even for the largest image that the plan can produce."""
    if task.queue != Queue.DEFAULT.value or size is None:
        return False
    pixels = max(size.pixels, *_enlarged(plan, size), 0)
    return pixels * (READING + sum(_nanoseconds(task))) * 1e-9 <= SMALL_SECONDS


def _nanoseconds(task: PlannedTask) -> Iterator[float]:
    for step in task.steps:
        yield OPERATIONS[step.op].nanoseconds
    if task.result:
        encoder = OPERATIONS[task.result.encoder]
        params = encoder.params.model_validate(task.result.params)
        yield encoder.nanoseconds * (1.0 if isinstance(params, QualityTarget | WebParams) and params.is_quick else DEAR)


def _enlarged(plan: Plan, size: Size) -> Iterator[int]:
    """The pixel counts of intermediate images that may be larger than the upload."""
    for step in (step for task in plan.tasks for step in task.steps):
        if step.op == RESIZE.name and (step.params.get("enlarge") or step.params.get("fit") == "contain"):
            yield _target(step.params, size) * size.frames


def _target(params: dict[str, Any], size: Size) -> int:
    width: int = params.get("width") or params["height"] * size.width // size.height
    height: int = params.get("height") or width * size.height // size.width
    return width * height
