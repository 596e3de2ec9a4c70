"""Writing one image by an encoder: within the memory, and at the quality that its target asks for."""

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
    """How a file came about."""

    #: what a search for its quality has measured; empty: there was none
    measured: dict[str, Any] = field(default_factory=dict)
    #: whether its colours are coarser than was asked for, because of the memory
    is_frugal: bool = False


def write(image: pyvips.Image, operation: Operation, params: Any, path: Path, *, frames: int = 1) -> Written:
    """Write a file.

    Args:
        image: in memory, with the colours and the metadata that are to be written.
        operation: the encoder.
        params: its parameters.
        path: of the file.
        frames: of the image, one below the other.

    Raises:
        ImageTooLarge: the encoder would need more memory than there is.
        TargetUnreachable: no quality keeps what was asked of the file.
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
