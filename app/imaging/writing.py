"""Writing one image with an encoder: within the memory limit, and at the quality that meets its target."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyvips

from app.imaging.decoding.decode import load
from app.imaging.fitting import encode
from app.imaging.memory import Work
from app.imaging.quality_target import fulfil
from app.operations import Operation
from app.references import resolve


@dataclass
class Written:
    """How a file was written."""

    #: measurements of the search for its quality; empty: there was no search
    measured: dict[str, Any] = field(default_factory=dict)
    #: True: its colours are coarser than requested, to save memory
    is_frugal: bool = False


def write(image: pyvips.Image, operation: Operation, params: Any, path: Path, *, frames: int = 1) -> Written:
    """Encode an image into a file.

    Args:
        image: in memory, with the colours and the metadata to write.
        operation: the encoder.
        params: parameters of the encoder.
        path: where to write the file.
        frames: number of frames in the image, one below the other.

    Raises:
        ImageTooLarge: the encoder would need more memory than there is.
        TargetUnreachable: no quality meets the target of the file.
    """
    handler, written = resolve(operation.handler), Written()
    read_back = partial(load, format_=str(operation.format), pages=-1 if frames > 1 else 1)

    def work(task: Work) -> None:
        if params.is_unconstrained:
            handler(image, task.params, path)
        else:
            written.measured = fulfil(image, task.params, path, handler, read_back)

    written.is_frugal = encode(operation.name, params, image, work).params != params
    return written
