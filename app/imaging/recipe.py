"""The requests and answers of `pipeline.render`: plain data without libvips, which any module may import."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

INTERMEDIATE = "intermediate"  # `Target.op` of a lossless file that another task continues from
INTERMEDIATE_SUFFIX = ".between"  # suffix of such a file; only there the embedded description of the origin is trusted
SUFFIX = re.compile(r"[a-z0-9]{1,32}\.[a-z0-9]{1,8}")


@dataclass(frozen=True)
class Stage:
    """One operation on the way to the targets."""

    op: str
    params: Mapping[str, Any]
    #: further files, by the parameter that names them
    files: Mapping[str, Path] = field(default_factory=dict)


class When(StrEnum):
    """When a target is written."""

    ALWAYS = "always"
    #: only if the image is small and nothing fails; otherwise another task writes the target
    CHEAP = "cheap"
    #: only if a `CHEAP` target was left out
    OTHERWISE = "otherwise"


@dataclass(frozen=True)
class Target:
    """One file to write: `op` is an operation with an output format, or `INTERMEDIATE`."""

    path: Path
    op: str
    params: Mapping[str, Any]
    when: When = When.ALWAYS
    #: number of the stage that reports about it; None: the last one
    stage: int | None = None
    #: name of the result, for files that refer to one another
    name: str = ""

    def path_of(self, part: "Part") -> Path:
        """The path of one of its files, for a target with several files."""
        return self.path.with_name(f"{self.path.name}.{part.suffix}")


@dataclass(frozen=True)
class Limits:
    """The size of the largest image that may be opened or produced, in pixels."""

    #: width times height
    pixels: int
    #: the longer of width and height
    side: int


@dataclass(frozen=True)
class Part:
    """One file of a target."""

    #: suffix of its name, such as `320.avif`; empty: the only file
    suffix: str
    format: str
    #: pixels; None: it is not an image
    width: int | None = None
    height: int | None = None

    def __post_init__(self) -> None:
        # the suffix becomes part of a path and comes from a process that decodes untrusted files
        if self.suffix and not SUFFIX.fullmatch(self.suffix):
            raise ValueError(f"{self.suffix!r} is no end of a file's name")


@dataclass(frozen=True)
class Rendered:
    """The outcome for a target: one file, or several parts."""

    format: str
    #: pixels; None: the file is not an image
    width: int | None
    height: int | None
    parts: tuple[Part, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Rendered":
        return cls(**{**data, "parts": tuple(Part(**part) for part in data["parts"])})


#: called from time to time with the progress, 0..1, or None if it is unknown; an exception ends the work
OnProgress = Callable[[float | None], None]


def _ignore(_share: float | None) -> None:
    pass


@dataclass(frozen=True)
class Monitor:
    """The progress and the reports of a render."""

    on_progress: OnProgress = _ignore
    #: reports of the stages, by number of the stage
    reports: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: `pixels` that were read, and the `cpu_seconds` of the process that did the work
    used: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """The context of an operation besides pixels and parameters."""

    monitor: Monitor
    #: number of the stage
    stage: int
    #: further files, by the parameter that names them
    files: Mapping[str, Path] = field(default_factory=dict)

    def progress(self, share: float) -> None:
        self.monitor.on_progress(share)

    def report(self, **values: Any) -> None:
        """Add values to the report of this step for the client; they must be representable in JSON."""
        self.monitor.reports.setdefault(self.stage, {}).update(values)
