"""What `pipeline.render` is asked for and what it answers: plain data without libvips, for anyone to import."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INTERMEDIATE = "intermediate"  # `Target.op` of a lossless file that another task continues from


@dataclass(frozen=True)
class Stage:
    """One operation on the way to the targets."""

    op: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One file to write: `op` is an operation with an output format, or `INTERMEDIATE`."""

    path: Path
    op: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Limits:
    """The largest image that is opened or made."""

    #: width times height
    pixels: int
    #: the longer of width and height
    side: int


@dataclass(frozen=True)
class Rendered:
    """One file that was written."""

    format: str
    width: int
    height: int
